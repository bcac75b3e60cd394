"""95 % intervals: Wilson for shares, percentile bootstrap for average precision."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator

import numpy as np
from scipy.stats import norm

from .metrics import checked

RESAMPLES = 1000
_CHUNK = 4_000_000  # weights held at a time

BOOTSTRAPPED = ("ap", "accuracy", "real_accuracy", "fake_accuracy")


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of a share of ``successes`` among ``n``, within 0 … 1."""
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"{successes} of {n} is no share")
    z = float(norm.ppf(0.5 + confidence / 2))
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return low, high


def percentile_interval(values: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Return the central interval of bootstrap values (B,); NaN ones, undefined, are left out."""
    values = values[~np.isnan(values)]
    if not len(values):
        return math.nan, math.nan
    low, high = np.quantile(values, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return float(low), float(high)


def bootstrap(
    labels: np.ndarray,
    scores: np.ndarray,
    *,
    threshold: float = 0.5,
    resamples: int = RESAMPLES,
    seed: int = 0,
    key: str = "",
    clusters: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Return the metrics BOOTSTRAPPED over resamples of the images, each (resamples,).

    Reals and fakes are drawn apart, with replacement, so that their numbers stay (stratified).
    Where images depend on one another (crops of one photograph, frames of one film), give
    ``clusters`` (N,), any names: then whole clusters are drawn, and a resample that happens to
    hold no real or no fake gives NaN.

    key: names the generator; the draws are a function of the seed and the key, or of the seed and
    the clusters' names, so that generators made from the same photographs draw the same ones.
    A detector without any error has AP 1 in every resample: the interval is then a point.
    """
    labels, scores = checked(labels, scores, where=key)
    right = ((scores > threshold) == (labels == 1)).astype(np.float64)
    is_fake = labels.astype(np.float64)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in BOOTSTRAPPED}
    for weights in resample_weights(
        labels, clusters=clusters, key=key, resamples=resamples, seed=seed
    ):
        n_fake = weights @ is_fake
        n_real = weights @ (1 - is_fake)
        fakes_right, reals_right = weights @ (right * is_fake), weights @ (right * (1 - is_fake))
        with np.errstate(invalid="ignore", divide="ignore"):
            parts["ap"].append(weighted_average_precision(labels, scores, weights))
            parts["accuracy"].append((fakes_right + reals_right) / (n_fake + n_real))
            parts["real_accuracy"].append(reals_right / n_real)
            parts["fake_accuracy"].append(fakes_right / n_fake)
    return {name: np.concatenate(values) for name, values in parts.items()}


def weighted_average_precision(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return the average precision under each row of ``weights`` (B, N) ≥ 0, as (B,).

    Equal scores are one step of the curve, as in scikit-learn. NaN without any fake or any real.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    # The last image of each group of equal scores closes one step.
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    weights = weights[:, order]
    flagged = np.cumsum(weights, axis=1)[:, last]
    weights = weights * labels[order]
    hits = np.cumsum(weights, axis=1)[:, last]
    n_fake, n_all = hits[:, -1], flagged[:, -1]
    precision = np.divide(hits, flagged, out=np.zeros_like(hits), where=flagged > 0)
    gained = np.diff(hits, axis=1, prepend=0.0)
    defined = (n_fake > 0) & (n_fake < n_all)
    total = (gained * precision).sum(axis=1)
    return np.divide(total, n_fake, out=np.full(len(total), np.nan), where=defined)


def resample_weights(
    labels: np.ndarray,
    *,
    clusters: np.ndarray | None = None,
    key: str = "",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Iterator[np.ndarray]:
    """Yield how often each image is drawn, (rows, N), until ``resamples`` rows are made.

    What is drawn, and what ``key`` and ``clusters`` do to it: see :func:`bootstrap`.
    """
    drawn_by = key if clusters is None else "\n".join(sorted(map(str, set(clusters))))
    digest = hashlib.sha256(f"bootstrap\t{seed}\t{drawn_by}".encode())
    rng = np.random.default_rng(int.from_bytes(digest.digest(), "big"))
    n = len(labels)
    if clusters is None:
        strata = [np.flatnonzero(labels == label) for label in (0, 1)]
    else:
        names, cluster_of = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
        strata, n = [np.arange(len(names))], len(names)
    step = max(1, _CHUNK // len(labels))
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        counts = np.zeros((rows, n))
        for row in counts:  # drawn row by row, so that the chunk size changes no draw
            for members in strata:
                drawn = members[rng.integers(0, len(members), len(members))]
                row += np.bincount(drawn, minlength=n)
        yield counts if clusters is None else counts[:, cluster_of]
