"""Which feature maps an experiment takes away: the top k and the controls that stand beside it."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import UserError
from ..fmap_ranking import count_by_layer, top
from ..records import FeatureMap, Ranking

BASELINE = "baseline"
TOP = "top-k"
RANDOM = "random-k"
LAYER_MATCHED = "random-k-layer-matched"
MAGNITUDE_MATCHED = "random-k-magnitude-matched"
LOW = "low-k"
LOWEST_NON_ZERO = "lowest-non-zero"
ENSEMBLE = "random-k-ensemble"  # no mask of its own: the mean score of the first random draws


@dataclass(frozen=True)
class Mask:
    """Feature maps that are dropped together.

    name: which choice it is; draw: 0 … for random choices, 0 otherwise; k: how many were asked
    for; feature_maps: the choice; shared_with_top_k: how many of them are top-k maps too.
    """

    name: str
    draw: int
    k: int
    feature_maps: tuple[FeatureMap, ...] = ()
    shared_with_top_k: int = 0


def baseline() -> Mask:
    """Return the mask of nothing."""
    return Mask(BASELINE, 0, 0)


def top_k(ranking: Ranking, k: int) -> Mask:
    """Return the k feature maps of the highest ω.

    Raises:
        UserError: k is below 1 or above the number of feature maps.
    """
    chosen = tuple(top(ranking, k))
    return Mask(TOP, 0, k, chosen, len(chosen))


def low_k(ranking: Ranking, k: int) -> Mask:
    """Return the last k feature maps of the ranking (published; often all of ω = 0).

    Raises:
        UserError: as :func:`top_k`.
    """
    first = set(top(ranking, k))
    chosen = tuple(ranking.feature_maps(slice(len(ranking) - k, len(ranking))))
    return Mask(LOW, 0, k, chosen, len(first.intersection(chosen)))


def lowest_non_zero(ranking: Ranking, k: int) -> Mask:
    """Return the last k feature maps with ω > 0, or all of them where there are fewer.

    Maps of ω = 0 never held positive relevance, so dropping them (low-k) controls for little.

    Raises:
        UserError: as :func:`top_k`.
    """
    first = set(top(ranking, k))
    positive = np.flatnonzero(ranking.scores > 0)
    chosen = tuple(ranking.feature_maps(positive[-k:]))
    return Mask(LOWEST_NON_ZERO, 0, k, chosen, len(first.intersection(chosen)))


def random_k(
    feature_maps: Sequence[FeatureMap], first: Iterable[FeatureMap], k: int, draw: int, seed: int
) -> Mask:
    """Return k feature maps outside the top k, drawn without replacement.

    feature_maps: all of the detector's; first: the top k; draw, seed: the same two always give the
    same maps, whatever the number of draws.

    Raises:
        UserError: fewer than k maps are left outside the top k.
    """
    taken = set(first)
    outside = [feature_map for feature_map in feature_maps if feature_map not in taken]
    if k > len(outside):
        raise UserError(
            f"k = {k}: only {len(outside)} of {len(feature_maps)} feature maps lie outside the "
            "top k, too few for the random control; use a smaller k"
        )
    rng = _rng(RANDOM, seed, k, draw)
    drawn = rng.choice(len(outside), size=k, replace=False)
    return Mask(RANDOM, draw, k, tuple(outside[i] for i in sorted(drawn)))


def layer_matched_random_k(
    feature_maps: Sequence[FeatureMap], first: Iterable[FeatureMap], draw: int, seed: int
) -> Mask:
    """Return as many feature maps of every layer as the top k holds there, drawn at random.

    They come from outside the top k. Where a layer has too few of those, all are taken and the
    rest is drawn from the layer's top-k maps; ``shared_with_top_k`` counts these.
    """
    taken = set(first)
    rng = _rng(LAYER_MATCHED, seed, len(taken), draw)
    by_layer: dict[str, list[FeatureMap]] = {}
    for feature_map in feature_maps:
        by_layer.setdefault(feature_map.layer, []).append(feature_map)
    chosen: list[FeatureMap] = []
    shared = 0
    for layer, needed in count_by_layer(taken_in_order(feature_maps, taken)).items():
        outside = [one for one in by_layer[layer] if one not in taken]
        inside = [one for one in by_layer[layer] if one in taken]
        spare = max(needed - len(outside), 0)
        picked = rng.choice(len(outside), size=needed - spare, replace=False)
        extra = rng.choice(len(inside), size=spare, replace=False)
        chosen += [outside[i] for i in sorted(picked)] + [inside[i] for i in sorted(extra)]
        shared += spare
    return Mask(LAYER_MATCHED, draw, len(taken), tuple(chosen), shared)


def magnitude_matched_random_k(
    neighbours: Mapping[FeatureMap, Sequence[FeatureMap]],
    first: Sequence[FeatureMap],
    draw: int,
    seed: int,
) -> Mask:
    """Return for every top-k map another of about the same strength, drawn at random.

    neighbours: of each top-k map, the maps of the most similar strength, nearest first; one of them
    that is neither a top-k map nor chosen already is drawn. first: the top k, in rank order.
    A map whose neighbours are all taken stands for itself; ``shared_with_top_k`` counts these.
    """
    taken = set(first)
    rng = _rng(MAGNITUDE_MATCHED, seed, len(taken), draw)
    chosen: set[FeatureMap] = set()
    shared = 0
    for one in first:
        free = [other for other in neighbours[one] if other not in taken and other not in chosen]
        if free:
            chosen.add(free[int(rng.integers(len(free)))])
        else:
            chosen.add(one)
            shared += 1
    return Mask(MAGNITUDE_MATCHED, draw, len(taken), tuple(sorted(chosen)), shared)


def taken_in_order(feature_maps: Sequence[FeatureMap], taken: set[FeatureMap]) -> list[FeatureMap]:
    """Return the maps of ``taken`` in the network's order."""
    return [feature_map for feature_map in feature_maps if feature_map in taken]


def _rng(name: str, seed: int, k: int, draw: int) -> np.random.Generator:
    # Keyed by name, k and draw, so that adding draws or controls leaves the others as they were.
    return np.random.default_rng([seed, zlib.crc32(name.encode()), k, draw])
