"""How strongly each feature map responds, over an image set: what a matched control matches."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Unpack

import numpy as np
import torch

from ..data import Batch
from ..detectors import Detector, observed
from ..records import FeatureMap, ImageSet
from ..sweep import RGB, ExactSum, How, Look, Rows, Seen, sweep


class MagnitudeStatistic:
    """The typical strength of M feature maps; mergeable, exact, O(M) memory.

    Strengths m are averaged as m / (1 + m), which lies in 0 … 1 and can be summed exactly; the
    average is turned back. One image with a wild response so moves it little.
    """

    def __init__(self, maps: int) -> None:
        self.sums = ExactSum((maps,))

    def empty(self) -> MagnitudeStatistic:
        """Return a statistic of the same kind that has seen nothing."""
        return MagnitudeStatistic(self.sums.words.shape[1])

    def update(self, batch: Batch, rows: Rows) -> None:
        """Take in one batch: ``strength`` (N, M), the mean over space of |convolution output|."""
        self.sums.add(rows["strength"] / (1 + rows["strength"]))

    def merge(self, other: MagnitudeStatistic) -> None:
        """Take in what ``other`` has seen."""
        self.sums.merge(other.sums)

    def state(self) -> dict[str, np.ndarray]:
        """Return the sums as plain arrays."""
        return {"words": self.sums.words, "count": np.array(self.sums.count)}

    def from_state(self, state: Mapping[str, np.ndarray]) -> MagnitudeStatistic:
        """Return a statistic of the same kind that holds ``state``."""
        found = self.empty()
        found.sums.words = state["words"].astype(np.int64)
        found.sums.count = int(state["count"])
        return found

    def result(self) -> np.ndarray:
        """Return the typical strength of each map, float64 (M,), 0 or more."""
        share = self.sums.value() / max(self.sums.count, 1)
        return share / np.maximum(1 - share, 2.0**-60)


class MagnitudeLook(Look):
    """The strengths of all feature maps of a detector."""

    statistic: MagnitudeStatistic

    def __init__(self, detector: Detector) -> None:
        super().__init__(detector, MagnitudeStatistic(len(detector.feature_maps)))

    def watch(self) -> AbstractContextManager[Mapping[str, torch.Tensor]]:
        """Return a block that keeps the strengths of each layer's maps."""
        return observed(self.detector.network, self.detector.layers, _strength)

    def observe(self, batch: Batch, seen: Mapping[str, Seen]) -> Rows:
        """Return the strengths (N, M), float64."""
        caught = seen[RGB].caught
        return {"strength": torch.cat([caught[one] for one in self.detector.layers], 1).numpy()}


def magnitudes(detector: Detector, images: ImageSet, **how: Unpack[How]) -> np.ndarray:
    """Return the typical strength of the detector's feature maps on ``images``, in their order.

    The strength of a map on one image is the mean over space of the magnitude of its convolution's
    output, before BatchNorm. One pass.
    """
    look = MagnitudeLook(detector)
    sweep(images, [look], what="magnitudes", **how)
    return look.statistic.result()


def _strength(layer: str, output: torch.Tensor) -> torch.Tensor:
    return output.detach().abs().double().mean(dim=(2, 3)).cpu()


def nearest(
    feature_maps: Sequence[FeatureMap],
    strengths: np.ndarray,
    number: int,
    of: Collection[FeatureMap] | None = None,
) -> dict[FeatureMap, list[FeatureMap]]:
    """Return for each map the ``number`` others of the most similar strength, nearest first.

    of: the maps asked about, all by default.
    """
    asked = None if of is None else set(of)
    order = np.argsort(strengths, kind="stable")
    place = {int(at): rank for rank, at in enumerate(order)}
    found = {}
    for at, one in enumerate(feature_maps):
        if asked is not None and one not in asked:
            continue
        rank = place[at]
        near = order[max(rank - number, 0) : rank + number + 1]
        gap = np.abs(np.log(strengths[near] + 1e-12) - np.log(strengths[at] + 1e-12))
        by_gap = [int(i) for i in near[np.argsort(gap, kind="stable")] if i != at]
        found[one] = [feature_maps[i] for i in by_gap[:number]]
    return found
