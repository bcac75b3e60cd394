"""Do two generators rank the feature maps alike? Agreement with intervals; one figure a map."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from ..fmap_ranking import OmegaStatistic, descending
from ..fmap_ranking.agreement import WITHIN, halves, recentred, spread
from ..records import FeatureMap
from ..rng import keyed

RESAMPLES = 200
BETWEEN = "two generators"


def agreement_table(
    statistics: Mapping[str, OmegaStatistic], k: int, *, resamples: int = RESAMPLES, seed: int = 0
) -> pd.DataFrame:
    """Return how far the rankings of every two generators agree (``agreement.csv``).

    statistics: generator → its ω over the images used, all of one detector.
    Columns: first, second, kind, kendall_tau (τ-b over all maps), kendall_tau_low, _high, jaccard
    (of the top k), jaccard_low, _high, kendall_tau_live (without maps of ω = 0 for both, which
    agree by definition), shared (maps in both top k), images_first, images_second.

    Intervals: each generator's images are redrawn with replacement in up to 20 buckets. Redrawing
    adds the noise of one more sample, which lowers every agreement; so the resampled values are
    moved to have their mean at the measured one. The interval says how far the number would move
    with as many other images, not what endless images would give.
    Rows of kind 'halves of one' put a number to that: the mean agreement of two random halves of
    one generator's buckets (low, high: over splits, 2.5 to 97.5 %). Two generators that agree as
    much as the halves are not told apart by these images, though halves hold half as many.
    NaN where a generator's images fall into fewer than two buckets.
    """
    names = list(statistics)
    buckets = {name: one.buckets() for name, one in statistics.items()}
    measured = _pairs({name: omega_of(one) for name, one in statistics.items()}, k)
    weights = {name: _weights(name, len(buckets[name][1]), resamples, seed) for name in names}
    redrawn: dict[tuple[str, str], list[_Agreement]] = {pair: [] for pair in measured}
    for place in range(resamples):
        # One resample at a time: memory for one ω a generator, whatever their number.
        drawn = {
            name: weights[name][place] @ sums
            for name, (sums, counts) in buckets.items()
            if len(counts) > 1
        }
        for pair, one in _pairs(drawn, k, live=False).items():
            redrawn[pair].append(one)
    rows = []
    for place, first in enumerate(names):
        rows.append(_halves(first, statistics[first], k, seed))
        for second in names[place + 1 :]:
            found, values = measured[first, second], redrawn[first, second]
            row: dict[str, object] = {"first": first, "second": second, "kind": BETWEEN}
            for key, floor in (("kendall_tau", -1.0), ("jaccard", 0.0)):
                value = getattr(found, key)
                low, high = recentred(value, np.array([getattr(v, key) for v in values]), floor)
                row |= {key: value, f"{key}_low": low, f"{key}_high": high}
            row |= {"kendall_tau_live": found.kendall_tau_live, "shared": found.shared}
            row |= {f"images_{end}": statistics[one].used
                    for end, one in (("first", first), ("second", second))}  # fmt: skip
            rows.append(row)
    return pd.DataFrame(rows)


def transferability_table(statistics: Mapping[str, OmegaStatistic], k: int) -> pd.DataFrame:
    """Return one row a feature map: how much it holds, and how evenly over generators.

    Columns: feature_map, layer, channel; transferability, the geometric mean of ω over generators
    divided by the largest of them: 1 where all generators lay the same weight on the map, 0 where
    one lays none; omega_geometric_mean (the order of the rows: maps that hold much for every
    generator come first), omega_smallest, omega_largest, largest_on (that generator); in_top_k,
    the number of generators with the map in their top k; transferable, whether it is all of them;
    then ω of each generator (``omega_<generator>``).
    transferability is NaN for a map of ω = 0 everywhere.
    """
    names = list(statistics)
    maps: tuple[FeatureMap, ...] = next(iter(statistics.values())).feature_maps
    omega = np.stack([omega_of(statistics[name]) for name in names])
    largest = omega.max(axis=0)
    with np.errstate(divide="ignore"):
        mean = np.exp(np.log(omega).mean(axis=0))
    in_top = np.zeros(len(maps), dtype=int)
    for row in omega:
        in_top[descending(row)[:k]] += 1
    table = pd.DataFrame(
        {
            "feature_map": [str(one) for one in maps],
            "layer": [one.layer for one in maps],
            "channel": [one.channel for one in maps],
            "transferability": np.divide(
                mean, largest, out=np.full(len(maps), np.nan), where=largest > 0
            ),
            "omega_geometric_mean": mean,
            "omega_smallest": omega.min(axis=0),
            "omega_largest": largest,
            "largest_on": [names[at] for at in omega.argmax(axis=0)],
            "in_top_k": in_top,
            "transferable": in_top == len(names),
            **{f"omega_{name}": row for name, row in zip(names, omega, strict=True)},
        }
    )
    return table.iloc[descending(mean)].reset_index(drop=True)


def omega_of(statistic: OmegaStatistic) -> np.ndarray:
    """Return ω (M,), feature maps in network order."""
    sums, counts = statistic.buckets()
    return sums.sum(axis=0) / counts.sum()


class _Agreement(NamedTuple):
    kendall_tau: float
    kendall_tau_live: float
    jaccard: float
    shared: int


def _pairs(
    omegas: Mapping[str, np.ndarray], k: int, *, live: bool = True
) -> dict[tuple[str, str], _Agreement]:
    """Return the agreement of every two; what scales a whole ω changes none of it.

    live: also τ without the maps of ω = 0 for both, which takes as long as τ; otherwise NaN.
    """
    tops = {name: descending(omega)[:k] for name, omega in omegas.items()}
    ranks = {name: _ranks(omega) for name, omega in omegas.items()}
    found = {}
    for first, second in combinations(omegas, 2):
        one, two = ranks[first], ranks[second]
        some = (omegas[first] > 0) | (omegas[second] > 0)
        shared = len(np.intersect1d(tops[first], tops[second]))
        found[first, second] = _Agreement(
            float(kendalltau(one, two).statistic),
            float(kendalltau(one[some], two[some]).statistic) if live else np.nan,
            shared / (len(tops[first]) + len(tops[second]) - shared),
            shared,
        )
    return found


def _ranks(omega: np.ndarray) -> np.ndarray:
    """Return each map's place among the distinct values: small integers are sorted much faster."""
    _, places = np.unique(omega, return_inverse=True)
    return places.astype(np.min_scalar_type(len(places)))


def _weights(name: str, held: int, resamples: int, seed: int) -> np.ndarray:
    """Return how often each bucket is drawn: (resamples, buckets)."""
    if held < 2:
        return np.zeros((resamples, held))
    return keyed(seed, "redraw", name).multinomial(held, np.full(held, 1 / held), size=resamples)


def _halves(name: str, statistic: OmegaStatistic, k: int, seed: int) -> dict[str, object]:
    sums, counts = statistic.buckets()
    found = []
    for one, two in halves(len(counts), keyed(seed, "halves", name)):
        each = {"one": sums[one].sum(axis=0), "two": sums[two].sum(axis=0)}
        found.append(_pairs(each, k)["one", "two"])
    row: dict[str, object] = {"first": name, "second": name, "kind": WITHIN}
    for key in ("kendall_tau", "jaccard"):
        mean, low, high = spread([getattr(one, key) for one in found])
        row |= {key: mean, f"{key}_low": low, f"{key}_high": high}
    live = [one.kendall_tau_live for one in found]
    row |= {"kendall_tau_live": float(np.mean(live)) if live else np.nan, "shared": np.nan}
    return row | {"images_first": statistic.used, "images_second": statistic.used}
