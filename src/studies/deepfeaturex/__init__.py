"""DeepFeatureX Net's protocols: robustness and generalisation sets, base models, backbones."""

from __future__ import annotations

from .filters import FILTERS, chosen_filters, write_filtered
from .generalisation import SETS, Families, generalisation, write_sets
from .measures import as_binary, balanced, measure, numbers, predictions, with_intervals
from .page import CLASS_WORDS
from .study import Study, compare, study
