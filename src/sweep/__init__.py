"""The one loop over image batches: one pass feeds many looks."""

from __future__ import annotations

from .exact import ExactSum, SignedSum
from .look import RGB, Look, Seen
from .partials import Partials
from .per_image import PerImage, PixelLook
from .repeats import first_alike
from .statistics import Rows, Statistic
from .sweep import BATCH_SIZE, SHARD, How, Pass, Progress, sweep, untold
