"""Feature-map dropout and its controls; colour ablation."""

from __future__ import annotations

from .choice import default_grid
from .colour import ColourResult, checked_modes, colour, colour_of
from .colour_tables import box_table, colour_table
from .dropout import Controls, DropoutResult, dropout, held_out_threshold
from .effect import effect
from .magnitudes import magnitudes
from .masks import (
    BASELINE,
    ENSEMBLE,
    LAYER_MATCHED,
    LOW,
    LOWEST_NON_ZERO,
    MAGNITUDE_MATCHED,
    RANDOM,
    TOP,
    Mask,
    baseline,
    layer_matched_random_k,
    low_k,
    lowest_non_zero,
    magnitude_matched_random_k,
    random_k,
    top_k,
)
from .sentence import VALUES, sentence
from .tables import UNSEEN
from .transfer import Transfer, transfer
