"""DeepFeatureX Net's protocols: robustness and generalisation sets, base models, backbones."""

from __future__ import annotations

from .filters import FILTERS, chosen_filters, write_filtered
from .generalisation import SETS, Families, generalisation, write_sets
from .measures import as_binary, balanced, measure, numbers, predictions, with_intervals
from .page import CLASS_WORDS, write_page
from .study import Study, compare, study

__all__ = [
    "CLASS_WORDS",
    "FILTERS",
    "SETS",
    "Families",
    "Study",
    "as_binary",
    "balanced",
    "chosen_filters",
    "compare",
    "generalisation",
    "measure",
    "numbers",
    "predictions",
    "study",
    "with_intervals",
    "write_filtered",
    "write_page",
    "write_sets",
]
