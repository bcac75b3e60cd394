"""A published study on the user's data and weights, cell by cell beside what was published."""

from __future__ import annotations

from .parts import CENTRE, FFRS, MIN_CONFIDENCE, NATIVE, Protocol
from .run import Reproduction, reproduce_tff
from .tables import TABLES, published_ranking, reproduction_markdown, shown_rows, tally
from .weights import ALIASES, ARCHS, BASELINE, ROBUST, Slot, find_weights
