"""Published evaluations on published test sets: Wang et al.'s thirteen, NPR's suites."""

from __future__ import annotations

from .measure import Measured, Published, measure, published_scores
from .npr import reproduce_npr, weights_by_suite
from .npr_tables import wide_tables
from .suites import NPR_SUITES, WANG, Found, Suite, find_suites
from .wang import CROP, NO_CROP, published_layout, reproduce_wang, wang_weights
