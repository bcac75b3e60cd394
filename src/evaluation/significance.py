"""When a sentence may say that something stands out: p ≤ 0.05, corrected for what it tests."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

LEVEL = 0.05


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return Holm's adjusted p-values (1979, Scand. J. Statist. 6); NaN stays and is not counted.

    To call significant those of at most α makes any false call with a chance of at most α,
    however the tests depend on one another.
    """
    p = np.asarray(p_values, dtype=np.float64)
    found = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    found[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return found


def benjamini_hochberg(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return Benjamini and Hochberg's adjusted p-values (1995, J. R. Statist. Soc. B 57).

    NaN stays and is not counted. Of those called at most α, no more than α are false in the mean,
    where the tests are independent or depend on one another positively.
    """
    p = np.asarray(p_values, dtype=np.float64)
    found = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    raised = p[order] * len(order) / np.arange(1, len(order) + 1)
    found[order] = np.minimum(np.minimum.accumulate(raised[::-1])[::-1], 1.0)
    return found


def draws_needed(comparisons: int = 1, level: float = LEVEL) -> int:
    """Return the fewest random draws whose least Monte-Carlo p, 1 / (1 + n), can be significant.

    comparisons: how many p-values the statement is corrected for.
    """
    return math.ceil(comparisons / level - 1e-9) - 1
