"""Logits of an image set under many masks, in one pass over the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Unpack

import numpy as np

from ..ablation import Ablation
from ..data import Batch
from ..detectors import Detector
from ..errors import UserError
from ..records import FeatureMap, ImageSet
from ..sweep import How, Look, Pass, PerImage, Rows, Seen, sweep


class MaskLook(Look):
    """The logits of one detector under masks, each the feature maps that are dropped together.

    ablation: what stands in their place, zero by default. Equal sets are scored once.
    """

    statistic: PerImage

    def __init__(
        self,
        detector: Detector,
        masks: Sequence[Sequence[FeatureMap]],
        ablation: Ablation | None = None,
    ) -> None:
        self.ablation = Ablation(detector) if ablation is None else ablation
        self.jobs: dict[frozenset[FeatureMap], int] = {}
        self.job_of_mask = [self.jobs.setdefault(frozenset(one), len(self.jobs)) for one in masks]
        sets = [sorted(map(str, one)) for one in self.jobs]
        facts = {"masks": sets, **self.ablation.facts, "numbers": self.ablation.digest()}
        super().__init__(detector, PerImage(), colours=(), facts=facts)

    def observe(self, batch: Batch, seen: Mapping[str, Seen]) -> Rows:
        """Return the logits (N, jobs), float64.

        Raises:
            UserError: a logit is not finite.
        """
        scored = []
        for place, job in enumerate(self.jobs):
            self.through(place / len(self.jobs))
            scored.append(self.ablation.logits(batch, job))
        logits = np.stack(scored, axis=1)
        bad = np.argwhere(~np.isfinite(logits))
        if len(bad):
            path = batch.entries[bad[0][0]].path
            raise UserError(
                f"{self.detector.name} gives a logit that is not finite for {path} with "
                f"{len(list(self.jobs)[bad[0][1]])} feature maps dropped"
            )
        return {"logit": logits}

    def probe(self, batch: Batch, seen: Mapping[str, Seen]) -> object:
        """Run the whole network once: no mask takes more."""
        return self.detector.logits(batch.pixels)

    def logits(self, images: ImageSet) -> np.ndarray:
        """Return the logits (masks, images), float64; NaN where an image could not be used."""
        ids = [images.image_id(entry) for entry in images]
        return self.statistic.of(ids, "logit").T[self.job_of_mask]


def masked_scores(
    detector: Detector,
    images: ImageSet,
    masks: Sequence[Sequence[FeatureMap]],
    *,
    ablation: Ablation | None = None,
    what: str = "dropping feature maps",
    **how: Unpack[How],
) -> tuple[np.ndarray, Pass]:
    """Return the logits (masks, images), float64, NaN where an image could not be used.

    masks: each the feature maps that are dropped together; ablation: what stands in their place,
    zero by default; what: names the pass.
    """
    under = Ablation(detector) if ablation is None else ablation
    (logits,), done = scores_under(detector, images, [(under, masks)], what=what, **how)
    return logits, done


def scores_under(
    detector: Detector,
    images: ImageSet,
    jobs: Sequence[tuple[Ablation, Sequence[Sequence[FeatureMap]]]],
    *,
    what: str = "dropping feature maps",
    **how: Unpack[How],
) -> tuple[list[np.ndarray], Pass]:
    """Return the logits of :func:`masked_scores` under several ablations, from one pass.

    Constants that must be learnt are learnt first, set by set: many passes each, and it is told.
    """
    told = how.get("progress") or (lambda what, done, total: None)
    for one, masks in jobs:
        sets = {frozenset(mask) for mask in masks if mask} if one.value == "optimal" else ()
        for place, chosen in enumerate(sorted(sets, key=sorted)):
            told("learning constants", place, len(sets))
            one.constants_of(chosen)
        if sets:
            told("learning constants", len(sets), len(sets))
    looks = [MaskLook(detector, masks, one) for one, masks in jobs]
    done = sweep(images, looks, what=what, **how)
    return [look.logits(images) for look in looks], done
