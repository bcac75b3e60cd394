"""When a sentence may say that something stands out: p ≤ 0.05, corrected for what it tests."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

LEVEL = 0.05
EXCEEDANCES = 10  # draws at or above what was observed, after which no more are made


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


def permutation_p(observed: float, draws: np.ndarray) -> float:
    """Return the one-sided Monte-Carlo p-value (1 + #{draws ≥ observed}) / (1 + n).

    draws: the same number under n random choices; NaN if there are none. If the observed choice
    were one more random draw, p ≤ α would happen with probability at most α. The smallest value
    that n draws can give is 1 / (1 + n).
    """
    draws = np.asarray(draws, dtype=float)
    if not len(draws):
        return float("nan")
    return float((1 + (draws >= observed).sum()) / (1 + len(draws)))


def sequential_p(observed: float, draws: np.ndarray, most: int) -> float:
    """Return the p-value of draws that stop once ten reach ``observed``, or there are ``most``.

    Ten reached at the n-th draw: 10 / n; otherwise that of :func:`permutation_p` after ``most``
    (Besag and Clifford 1991, Biometrika 78: p ≤ α with probability at most α). Where draws stopped
    before either, for another reason, 10 / (1 + n), which neither can exceed later.
    """
    draws = np.asarray(draws, dtype=float)
    reached = np.flatnonzero(np.cumsum(draws >= observed) >= EXCEEDANCES)
    if len(reached):
        return EXCEEDANCES / (int(reached[0]) + 1)
    if len(draws) >= most:
        return permutation_p(observed, draws)
    return min(1.0, EXCEEDANCES / (1 + len(draws)))


def answered(observed: float, draws: np.ndarray, most: int) -> bool:
    """Say whether :func:`sequential_p` needs no more draws."""
    return len(draws) >= most or int((np.asarray(draws) >= observed).sum()) >= EXCEEDANCES
