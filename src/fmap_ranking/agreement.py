"""Are rankings alike? Agreement with intervals from photographs redrawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from ..records import FeatureMap, Ranking
from ..rng import keyed
from .buckets import BUCKETS, RESAMPLES, descending
from .scores import Scored

HALVES = 20  # random splits of one ranking's images, for what agreement can be at best
WITHIN = "halves of one"  # rows of a ranking with itself
BETWEEN = "two rankings"
MEASURES = {"spearman": -1.0, "overlap": 0.0}  # and the least that each can be

Pair = tuple[str, str]


def recentred(value: float, redrawn: np.ndarray, floor: float) -> tuple[float, float]:
    """Return the interval of an agreement from its redraws, moved to have their mean at ``value``.

    Redrawing adds the noise of one more sample, which lowers every agreement: the interval says how
    far the number would move with as many other images, not what endless images would give.
    """
    known = redrawn[~np.isnan(redrawn)]
    if len(known) < 2 or np.isnan(value):
        return np.nan, np.nan
    low, high = np.quantile(known, [0.025, 0.975]) - known.mean() + value
    return max(float(low), floor), min(max(float(high), value), 1.0)


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean of agreements and their 2.5 to 97.5 %; NaN of none."""
    if not len(values):
        return np.nan, np.nan, np.nan
    low, high = np.quantile(values, [0.025, 0.975])
    return float(np.mean(values)), float(low), float(high)


def halves(groups: int, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield random splits of the places 0 … groups − 1 into two halves; none below two groups."""
    for _ in range(HALVES if groups > 1 else 0):
        order = rng.permutation(groups)
        yield order[: groups // 2], order[groups // 2 :]


def alike_table(
    rankings: Mapping[str, Ranking],
    scored: Mapping[str, Scored | None],
    feature_maps: Sequence[FeatureMap],
    k: int,
    *,
    seed: int = 0,
) -> pd.DataFrame:
    """Return how far every two rankings of one detector agree (``alike.csv``).

    scored: the scores as a function of the photographs drawn; None where that is not known.
    Columns: first, second, kind, spearman (rank correlation over all maps), spearman_low, _high,
    overlap (share of the top k that is in both), overlap_low, _high, shared (maps in both top k),
    k, maps, overlap_by_chance. Where a ranking does not name every map (pursuit), the correlation
    is over the maps that both name, and k is at most the number that the shorter one names.

    Intervals: the photographs are redrawn in up to 20 groups, the same draws for all rankings, see
    :func:`recentred`. Rows of kind 'halves of one' hold the mean agreement of a ranking's two
    random halves of the groups (low, high: over splits, 2.5 to 97.5 %): two rankings that agree as
    much are not told apart by these images. NaN where the photographs fall into fewer than two
    groups.
    """
    names = list(rankings)
    values = {name: _in_order(rankings[name], feature_maps) for name in names}
    measured = _pairs(values, k)
    redrawn: dict[Pair, list[tuple[float, float]]] = {pair: [] for pair in measured}
    known = {name: one for name in names if (one := scored.get(name)) and len(one.groups) > 1}
    groups = sorted({group for one in known.values() for group in one.groups})
    rng = keyed(seed, "alike")
    for _ in range(RESAMPLES if known else 0):
        weights = np.zeros(BUCKETS)
        weights[groups] = rng.multinomial(len(groups), np.full(len(groups), 1 / len(groups)))
        drawn = {name: one.score(weights) for name, one in known.items()}
        whole = {name: one for name, one in drawn.items() if not np.isnan(one).any()}
        for pair, found in _pairs(whole, k).items():
            redrawn[pair].append(found)
    rows = []
    for place, first in enumerate(names):
        every = {"k": k, "maps": len(feature_maps)}
        rows.append(_halves(first, known.get(first), k, seed) | every)
        for second in names[place + 1 :]:
            both = [np.isfinite(values[name]) for name in (first, second)]
            own = min(k, *(int(one.sum()) for one in both))
            counts = {"k": own, "maps": int((both[0] & both[1]).sum())}
            row: dict[str, object] = {"first": first, "second": second, "kind": BETWEEN}
            draws = np.array(redrawn[first, second]).reshape(-1, len(MEASURES))
            for at, (key, floor) in enumerate(MEASURES.items()):
                value = measured[first, second][at]
                low, high = recentred(value, draws[:, at], floor)
                row |= {key: value, f"{key}_low": low, f"{key}_high": high}
            rows.append(row | {"shared": round(measured[first, second][1] * own)} | counts)
    return pd.DataFrame(rows).assign(overlap_by_chance=lambda one: one["k"] / len(feature_maps))


def _in_order(ranking: Ranking, feature_maps: Sequence[FeatureMap]) -> np.ndarray:
    """Return the scores (M,) of maps in network order, −∞ of those that are not ranked."""
    found = dict(zip(ranking.feature_maps(), ranking.scores, strict=True))
    return np.array([found.get(one, -np.inf) for one in feature_maps])


def _pairs(scores: Mapping[str, np.ndarray], k: int) -> dict[Pair, tuple[float, float]]:
    """Return Spearman's ρ and the overlap of the top k of every two, of maps that both name."""
    tops = {name: descending(one)[: min(k, np.isfinite(one).sum())] for name, one in scores.items()}
    ranks = {name: _standard(rankdata(one)) for name, one in scores.items()}
    found = {}
    for one, two in combinations(scores, 2):
        first, second = ranks[one], ranks[two]
        both = np.isfinite(scores[one]) & np.isfinite(scores[two])
        if not both.all():
            first, second = (_standard(rankdata(scores[name][both])) for name in (one, two))
        own = min(len(tops[one]), len(tops[two]))
        shared = len(np.intersect1d(tops[one][:own], tops[two][:own]))
        found[one, two] = (float(first @ second), shared / own)
    return found


def _standard(ranks: np.ndarray) -> np.ndarray:
    away = ranks - ranks.mean() if len(ranks) else ranks
    length = np.sqrt(away @ away) if len(away) else 0.0
    return away / length if length else np.full_like(away, np.nan)


def _halves(name: str, scored: Scored | None, k: int, seed: int) -> dict[str, object]:
    found = []
    n = len(scored.groups) if scored else 0
    for one, two in halves(n, keyed(seed, "halves", name)):
        assert scored is not None
        each = {}
        for half, chosen in (("one", one), ("two", two)):
            each[half] = scored.drawn(np.isin(np.arange(n), chosen).astype(float))
        if not any(np.isnan(values).any() for values in each.values()):
            found.append(_pairs(each, k)["one", "two"])
    row: dict[str, object] = {"first": name, "second": name, "kind": WITHIN}
    for at, key in enumerate(MEASURES):
        mean, low, high = spread([one[at] for one in found])
        row |= {key: mean, f"{key}_low": low, f"{key}_high": high}
    return row | {"shared": np.nan}
