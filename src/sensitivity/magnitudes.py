"""How strongly each feature map responds, over an image set: what a matched control matches."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..data import Batch, check_skipped
from ..detectors import Detector, observed
from ..records import FeatureMap, ImageSet, Skipped
from ..sweep import ExactSum, sweep


@dataclass(frozen=True)
class Strengths:
    """Of one batch: float64 (N, M), the mean over space of |convolution output| of each map."""

    values: np.ndarray


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

    def update(self, observation: Strengths) -> None:
        """Take in the strengths of one batch."""
        self.sums.add(observation.values / (1 + observation.values))

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


def magnitudes(
    detector: Detector,
    images: ImageSet,
    *,
    batch_size: int = 16,
    seed: int = 0,
    max_skipped: float = 0.01,
) -> np.ndarray:
    """Return the typical strength of the detector's feature maps on ``images``, in their order.

    The strength of a map on one image is the mean over space of the magnitude of its convolution's
    output, before BatchNorm. One pass.
    """
    layers = list(detector.layers)

    def observe(batch: Batch, of: ImageSet) -> Strengths:
        with observed(detector.network, layers, _strength) as seen:
            detector.logits(batch.pixels)
        return Strengths(torch.cat([seen[layer] for layer in layers], dim=1).numpy())

    statistic = MagnitudeStatistic(len(detector.feature_maps))
    skipped: list[Skipped] = []
    sweep(
        images, detector.preset, observe, [statistic],
        batch_size=batch_size, seed=seed, skipped=skipped,
    )  # fmt: skip
    check_skipped(skipped, len(images), max_skipped)
    return statistic.result()


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
