"""The colour tests where images depend on one another: crops of one photograph."""

from __future__ import annotations

import numpy as np
from scipy import stats

EXACT_CLUSTERS = 50  # up to here every pattern of signs is counted, as scipy does for pairs
EXACT_SIZE = 1_000_000  # largest sum of the counts for which it is


def flipped_p(signed: np.ndarray, clusters: np.ndarray) -> float:
    """Return the two-sided p of a sum of signed values when the signs of whole clusters turn.

    signed: (N,), signed ranks for the signed-rank test of Rosner, Glynn and Lee (2006, Biometrics
        62, 185-192), signs for the sign test; whole or half numbers. clusters: (N,), any names.

    Without an effect, what a cluster gives in colour minus grey would as well have come with the
    other sign, all its images together. The p is exact up to 50 clusters, else a normal one with
    the variance of the clusters' sums.
    """
    of = np.unique(clusters, return_inverse=True)[1]
    sums = np.bincount(of, weights=signed)
    steps = np.rint(2 * np.abs(sums)).astype(int)
    steps = steps[steps > 0]
    if not len(steps):
        return 1.0
    observed = abs(int(np.rint(2 * sums.sum())))
    reach = int(steps.sum())
    if len(steps) > EXACT_CLUSTERS or reach > EXACT_SIZE:
        return float(2 * stats.norm.sf(observed / np.sqrt((steps.astype(float) ** 2).sum())))
    chance = np.zeros(2 * reach + 1)  # of the sums -reach … reach
    chance[reach] = 1.0
    for step in steps:
        turned = np.zeros_like(chance)
        turned[step:] += chance[:-step] / 2
        turned[:-step] += chance[step:] / 2
        chance = turned
    far = np.abs(np.arange(-reach, reach + 1)) >= observed
    return float(min(chance[far].sum(), 1.0))


def clustered_mood(
    first: np.ndarray, second: np.ndarray, clusters: np.ndarray, ties: str = "below"
) -> float:
    """Return the p of Mood's median test with its χ² divided by the clusters' design effect.

    The design effect is that of the two shares above the grand median, at least 1 (Rao and Scott
    1981, J. Amer. Statist. Assoc. 76, 221-230); the reference is F with 1 and clusters − 1 degrees
    of freedom. As in the published test, the two samples count as different images. NaN where that
    one is undefined; 1 for a single cluster.
    """
    try:
        statistic = float(stats.median_test(first, second, ties=ties).statistic)
    except ValueError:  # see colour_tests.mood
        return float("nan")
    of = np.unique(clusters, return_inverse=True)[1]
    count = int(of.max()) + 1
    if count < 2:
        return 1.0
    middle = np.median(np.concatenate([first, second]))
    clustered = plain = 0.0
    for values in (first, second):
        kept = values != middle if ties == "ignore" else np.ones(len(values), dtype=bool)
        above = (values >= middle if ties == "above" else values > middle)[kept].astype(float)
        apart = np.bincount(of[kept], weights=above - above.mean(), minlength=count)
        clustered += count / (count - 1) * float((apart**2).sum()) / len(above) ** 2
        plain += float(above.var()) / len(above)
    effect = max(1.0, clustered / plain) if plain else 1.0
    return float(stats.f.sf(statistic / effect, 1, count - 1))
