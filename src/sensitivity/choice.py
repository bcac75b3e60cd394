"""Which masks an experiment scores: the top k of a ranking, and the controls beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Unpack

from ..detectors import Detector
from ..fmap_ranking import top
from ..records import FeatureMap, ImageSet, Ranking
from ..sweep import How
from .magnitudes import magnitudes, nearest
from .masks import (
    LAYER_MATCHED,
    MAGNITUDE_MATCHED,
    RANDOM,
    Mask,
    baseline,
    layer_matched_random_k,
    low_k,
    lowest_non_zero,
    magnitude_matched_random_k,
    random_k,
    top_k,
)

GRID = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4)  # of k: where the curves are computed
NEAR = 50  # maps of the most similar strength that a magnitude-matched one is drawn from


@dataclass(frozen=True, eq=False)
class Choice:
    """Which feature maps are taken away together: the top k of a ranking, and what is beside it.

    near: of each top-k map, the maps of the most similar strength outside the top k; None where
    strength is not matched. beside: which other controls are drawn at random.
    """

    detector: Detector
    ranking: Ranking
    k: int
    seed: int = 0
    near: Mapping[FeatureMap, Sequence[FeatureMap]] | None = None
    beside: tuple[str, ...] = (RANDOM, LAYER_MATCHED)

    @property
    def controls(self) -> tuple[str, ...]:
        """The names of the controls that are drawn at random."""
        return (*self.beside, *((MAGNITUDE_MATCHED,) if self.near is not None else ()))

    def masks(self, drawn: Mapping[str, int]) -> list[Mask]:
        """Return the masks of the table, the baseline first; drawn: how many of each control.

        A ranking of some maps only says nothing of the others, so it has no lowest ones; one by a
        score that falls below 0 has no lowest above it.
        """
        whole = len(self.ranking) == len(self.detector.feature_maps)
        lowest = []
        if whole:
            lowest.append(low_k(self.ranking, self.k))
            if (self.ranking.scores >= 0).all():
                lowest.append(lowest_non_zero(self.ranking, self.k))
        named = {name: self.drawn(name, range(drawn[name])) for name in self.controls}
        strong = named.pop(MAGNITUDE_MATCHED, [])
        random = [one for own in named.values() for one in own]
        return [baseline(), top_k(self.ranking, self.k), *random, *lowest, *strong]

    def drawn(self, control: str, draws: Iterable[int]) -> list[Mask]:
        """Return these draws of a control."""
        first, maps = top(self.ranking, self.k), self.detector.feature_maps
        if control == RANDOM:
            return [random_k(maps, first, self.k, draw, self.seed) for draw in draws]
        if control == LAYER_MATCHED:
            return [layer_matched_random_k(maps, first, draw, self.seed) for draw in draws]
        assert self.near is not None
        return [magnitude_matched_random_k(self.near, first, draw, self.seed) for draw in draws]

    def along(self, grid: Sequence[int], draws: int) -> list[Mask]:
        """Return the masks of the curves: the top maps of every k, and ``draws`` of the controls.

        The draws at the table's own k are the table's masks, which are scored once.
        """
        maps, masks = self.detector.feature_maps, []
        for k in grid:
            masks.append(top_k(self.ranking, k))
            first = masks[-1].feature_maps
            for draw in range(draws):
                if RANDOM in self.beside:
                    masks.append(random_k(maps, first, k, draw, self.seed))
                if LAYER_MATCHED in self.beside:
                    masks.append(layer_matched_random_k(maps, first, draw, self.seed))
        return masks


def near_of(
    detector: Detector, images: ImageSet, ranking: Ranking, k: int, **how: Unpack[How]
) -> dict[FeatureMap, list[FeatureMap]]:
    """Return for each top-k map the maps outside that respond most nearly as strongly."""
    first = top(ranking, k)
    taken = set(first)
    strengths = magnitudes(detector, images, **how)
    # Up to k of a map's neighbours may be top-k maps themselves.
    near = nearest(detector.feature_maps, strengths, k + NEAR, of=taken)
    return {one: [other for other in near[one] if other not in taken][:NEAR] for one in first}


def default_grid(k: int, feature_maps: int, ranked: int) -> list[int]:
    """Return the k of the curves: k/8 … 4k, where random maps outside the top k suffice."""
    most = min(feature_maps // 2, ranked)
    return sorted({max(1, round(k * share)) for share in GRID if round(k * share) <= most})
