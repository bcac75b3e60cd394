"""By contrast: how much more a feature map answers to fakes than to their photographs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from ..data import Batch
from ..detectors import observed
from ..records import ImageEntry
from ..sweep import RGB, Look, Rows, Seen
from .question import Question
from .scores import ScoreStatistic

CONTRAST = "contrast"


class ContrastLook(Look):
    """The mean over space of every feature map, on fakes less on reals.

    Of pairs a photograph counts as often as it has fakes, so that the difference of means is the
    mean difference of pairs; a fake and its photograph are always redrawn together. Without pairs
    it is the difference of the means of all fakes and all reals.
    """

    statistic: ScoreStatistic

    def __init__(self, question: Question) -> None:
        detector, images = question.detector, question.images
        times = Counter(images.image_id(one) for one in question.pairs.values())
        chosen = (*question.fakes, *(question.photographs.values() or question.reals))
        self.chosen = frozenset(one.path for one in chosen)
        statistic = ScoreStatistic(detector.feature_maps, (CONTRAST,), question.groups, times)
        super().__init__(detector, statistic, facts=question.facts)

    def wants(self, entry: ImageEntry) -> bool:
        """Say whether the image is a fake with its photograph, or such a photograph."""
        return entry.path in self.chosen

    def watch(self) -> AbstractContextManager[Mapping[str, Any]]:
        """Return a block that keeps the means of each layer's maps."""
        return observed(self.detector.network, self.detector.layers, _means)

    def observe(self, batch: Batch, seen: Mapping[str, Seen]) -> Rows:
        """Return the means over space of all maps, (N, M)."""
        caught = seen[RGB].caught
        means = torch.cat([caught[layer] for layer in self.detector.layers], dim=1)
        return {CONTRAST: means.numpy()}


def _means(layer: str, maps: Tensor) -> Tensor:
    return maps.detach().double().mean(dim=(2, 3)).cpu()
