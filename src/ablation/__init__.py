"""What stands in the place of feature maps, and what replacing them would do."""

from __future__ import annotations

from .ablate import VALUES, Ablation, Value, ablation
from .gradients import first_order
from .means import Means, load_means, means
from .pairs import Pairs, pairs_of, pixels_of
from .prefix import Prefix
from .put import put
from .sites import SITES, Site
