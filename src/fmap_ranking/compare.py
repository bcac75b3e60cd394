"""What is read off rankings: do they fit a detector, what do they share, which layers hold them."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from ..detectors.detector import Detector
from ..detectors.units import token_units, with_units
from ..errors import UserError
from ..records import FAKE, FeatureMap, Ranking

# Maps dropped in Chandrasegaran et al. 2022: 0.43 % and 0.13 % of each network's.
PUBLISHED_K = {"resnet50": 114, "efficientnet-b0": 27}


def usual_k(name: str, maps: int) -> int:
    """Return how many maps count as the top: the published k of a detector, or a tenth, ≤ 100."""
    return min(maps, PUBLISHED_K.get(name, min(100, max(1, maps // 10))))


def fitting(ranking: Ranking, detector: Detector) -> Detector:
    """Return the detector with those units of its transformer that the ranking is of.

    A ranking of another network is refused, and one of reals: what is studied is evidence for fake.

    Raises:
        UserError: it is of reals, or the first feature map, in rank order, that the detector does
            not have.
    """
    if ranking.label != FAKE:
        raise UserError("the ranking is of reals: give the one of fakes (SET-fake.csv)")
    first = ranking.feature_maps(slice(0, 1))[0]
    if first not in detector.feature_maps:
        unit = token_units(detector.network).get(first.layer)
        detector = with_units(detector, unit.kind) if unit else detector
    there = set(detector.feature_maps)
    for feature_map in ranking.feature_maps():
        if feature_map not in there:
            raise UserError(
                f"detector {detector.name} has no feature map {feature_map}: "
                "the ranking belongs to another network"
            )
    return detector


def top(ranking: Ranking, k: int) -> list[FeatureMap]:
    """Return the k feature maps of the highest ω.

    Raises:
        UserError: k is below 1 or above the number of feature maps.
    """
    if not 1 <= k <= len(ranking):
        raise UserError(f"k = {k}: the ranking holds {len(ranking)} feature maps, so 1 … that")
    return ranking.feature_maps(slice(0, k))


def overlap(first: Ranking, second: Ranking, k: int) -> list[FeatureMap]:
    """Return the feature maps in the top k of both, in the first one's order.

    Published fakes and reals share 3 of 114 (ResNet-50) and 1 of 27 (EfficientNet-B0).
    """
    others = set(top(second, k))
    return [feature_map for feature_map in top(first, k) if feature_map in others]


def layer_shares(ranking: Ranking, k: int) -> pd.DataFrame:
    """Return how the top k spread over layers: layer, width, top_k, share_of_top_k, share_of_maps.

    Rows in the order in which layers first appear in the ranking; shares are fractions of 1. A
    layer with 10 % of the top k and 0.1 % of the maps is there for its narrowness as well: ω is
    normalised within a layer, so a narrow layer's maps start with larger shares.
    """
    top(ranking, k)
    table = ranking.table
    layers = table.groupby("layer", sort=False)["width"].first().to_frame()
    layers["top_k"] = table.iloc[:k]["layer"].value_counts().reindex(layers.index).fillna(0)
    layers["top_k"] = layers["top_k"].astype(int)
    layers["share_of_top_k"] = layers["top_k"] / k
    layers["share_of_maps"] = table["layer"].value_counts().reindex(layers.index) / len(table)
    return layers.reset_index()


def layer_sums(ranking: Ranking) -> pd.Series:
    """Return Σ_c ω(l, c) of every layer; at most 1 by the definition of ω."""
    return ranking.table.groupby("layer", sort=False)["omega"].sum()


def count_by_layer(feature_maps: Iterable[FeatureMap]) -> dict[str, int]:
    """Return how many of the feature maps each layer holds."""
    counts: dict[str, int] = {}
    for feature_map in feature_maps:
        counts[feature_map.layer] = counts.get(feature_map.layer, 0) + 1
    return counts
