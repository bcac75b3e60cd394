"""The passes of a reproduction; each keeps its partial results, so that a killed run goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...data import get_preset
from ...data.colour import PUBLISHED_MODES
from ...detectors import Detector
from ...evaluation import ScoreLook
from ...fmap_ranking import PUBLISHED_K, rank, top
from ...histograms import Maxima, maxima
from ...records import FeatureMap, ImageSet, Ranking
from ...sensitivity import (
    Mask,
    baseline,
    layer_matched_random_k,
    low_k,
    lowest_non_zero,
    random_k,
    top_k,
)
from ...sensitivity.scoring import masked_scores
from ...sweep import How, sweep

NATIVE, CENTRE, FFRS = "wang-nocrop", "wang-crop224", "tff-ffrs"
MIN_CONFIDENCE = 0.9


@dataclass(frozen=True)
class Protocol:
    """What decides the numbers beside images and weights; the defaults are the published ones.

    ranking: 'published' (the shipped files) or 'own' (ω computed anew).
    draws: of each random control; the published figure is the ensemble of the first five.
    limit: use the first so many reals and fakes of each generator and class (None: all).
    rank_per_class: the first so many reals and fakes of each class are ranked on.
    """

    ranking: str = "published"
    draws: int = 20
    limit: int | None = None
    rank_per_class: int = 50


@dataclass(frozen=True)
class Parts:
    """Goes over the images, each time as ``how`` says."""

    protocol: Protocol
    how: How

    @property
    def seed(self) -> int:
        """Of all that is random."""
        return self.how.get("seed", 0)

    def masks(self, detector: Detector, ranking: Ranking) -> list[Mask]:
        """Return what is dropped, in the order of the rows of :meth:`dropped`."""
        k, maps, p = PUBLISHED_K[detector.name], detector.feature_maps, self.protocol
        first = top(ranking, k)
        return [
            baseline(),
            top_k(ranking, k),
            *(random_k(maps, first, k, draw, self.seed) for draw in range(p.draws)),
            *(layer_matched_random_k(maps, first, draw, self.seed) for draw in range(p.draws)),
            low_k(ranking, k),
            lowest_non_zero(ranking, k),
        ]

    def dropped(
        self, detector: Detector, images: ImageSet, masks: Sequence[Mask], name: str
    ) -> np.ndarray:
        """Return the logits (masks, images) of one generator; NaN where one cannot be used."""
        sets = [mask.feature_maps for mask in masks]
        return masked_scores(detector, images, sets, what=f"dropout {name}", **self.how)[0]

    def plain(
        self,
        detector: Detector,
        images: ImageSet,
        name: str,
        preset: str = NATIVE,
        modes: Sequence[str] = PUBLISHED_MODES[:1],
    ) -> dict[str, np.ndarray]:
        """Return the logits (images,) by colour mode under a preset; NaN where unusable."""
        look = ScoreLook(detector.with_preset(get_preset(preset)), colours=modes)
        sweep(images, [look], what=f"scoring {name}", **self.how)
        ids = [images.image_id(entry) for entry in images]
        return dict(zip(modes, look.statistic.of(ids, "logit").T, strict=True))

    def maxima(
        self, detector: Detector, images: ImageSet, feature_maps: Sequence[FeatureMap]
    ) -> Maxima:
        """Return the spatial maxima of the feature maps on the images, in rgb and in grey."""
        return maxima(detector, images, feature_maps, **self.how)

    def ranking(self, detector: Detector, images: ImageSet, kind: str) -> Ranking:
        """Return ω of one kind of image, by the published protocol (start: −1 on reals).

        Raises:
            UserError: as :func:`forensift.rank`.
        """
        return rank(
            detector,
            images,
            label=kind,  # type: ignore[arg-type]
            start="published",
            min_confidence=MIN_CONFIDENCE,
            preset=FFRS,
            **self.how,
        )
