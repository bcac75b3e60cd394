"""Feature-map dropout and its controls."""

from __future__ import annotations

from .apply import masked_logits, masked_parameters
from .dropout import DropoutResult, default_grid, dropout
from .effect import effect, permutation_p
from .masks import (
    BASELINE,
    ENSEMBLE,
    LAYER_MATCHED,
    LOW,
    LOWEST_NON_ZERO,
    PUBLISHED_K,
    RANDOM,
    TOP,
    Mask,
    baseline,
    layer_matched_random_k,
    low_k,
    lowest_non_zero,
    random_k,
    top_k,
)
from .sentence import sentence
from .tables import UNSEEN

__all__ = [
    "BASELINE",
    "ENSEMBLE",
    "LAYER_MATCHED",
    "LOW",
    "LOWEST_NON_ZERO",
    "PUBLISHED_K",
    "RANDOM",
    "TOP",
    "UNSEEN",
    "DropoutResult",
    "Mask",
    "baseline",
    "default_grid",
    "dropout",
    "effect",
    "layer_matched_random_k",
    "low_k",
    "lowest_non_zero",
    "masked_logits",
    "masked_parameters",
    "permutation_p",
    "random_k",
    "sentence",
    "top_k",
]
