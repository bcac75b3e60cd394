"""Feature-map dropout and its controls; colour ablation."""

from __future__ import annotations

from .apply import masked_logits, masked_parameters
from .colour import ColourResult, ColourScorer, colour
from .colour_tables import box_table, colour_table
from .dropout import DropoutResult, default_grid, dropout
from .effect import effect, permutation_p
from .magnitudes import magnitudes
from .masks import (
    BASELINE,
    ENSEMBLE,
    LAYER_MATCHED,
    LOW,
    LOWEST_NON_ZERO,
    MAGNITUDE_MATCHED,
    PUBLISHED_K,
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
from .sentence import sentence
from .tables import UNSEEN
from .transfer import Transfer, transfer

__all__ = [
    "BASELINE",
    "ENSEMBLE",
    "LAYER_MATCHED",
    "LOW",
    "LOWEST_NON_ZERO",
    "MAGNITUDE_MATCHED",
    "PUBLISHED_K",
    "RANDOM",
    "TOP",
    "UNSEEN",
    "ColourResult",
    "ColourScorer",
    "DropoutResult",
    "Mask",
    "Transfer",
    "baseline",
    "box_table",
    "colour",
    "colour_table",
    "default_grid",
    "dropout",
    "effect",
    "layer_matched_random_k",
    "low_k",
    "lowest_non_zero",
    "magnitude_matched_random_k",
    "magnitudes",
    "masked_logits",
    "masked_parameters",
    "permutation_p",
    "random_k",
    "sentence",
    "top_k",
    "transfer",
]
