"""What a detector makes of each image: the vectors that t-SNE and neighbours are computed on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch

from ..data import Batch, content
from ..detectors import ChosenMaps, Detector, head, observed
from ..errors import UserError
from ..records import FeatureMap, ImageSet

Pooling = Literal["max", "mean"]

PENULTIMATE, CHANNELS = "penultimate", "omega-weighted"


@dataclass(frozen=True)
class Observed:
    """What one pass showed on one batch.

    image_ids: N ids; contents: N digests of the decoded pixels; penultimate: float32 (N, D);
    channels: float32 (N, k), one number a chosen feature map.
    """

    image_ids: tuple[str, ...]
    contents: tuple[str, ...]
    penultimate: np.ndarray
    channels: np.ndarray


class _Row(NamedTuple):
    content: str
    penultimate: np.ndarray
    channels: np.ndarray


@dataclass(frozen=True)
class Features:
    """The features of an image set, rows in the order of the ids.

    image_ids (N,); contents (N,): equal where decoded pixels are; penultimate (N, D) and
    channels (N, k), float32.
    """

    image_ids: tuple[str, ...]
    contents: tuple[str, ...]
    penultimate: np.ndarray
    channels: np.ndarray


class FeatureStatistic:
    """The features of every image; mergeable, the same whatever the batches and their order.

    The one statistic whose memory grows with the images, D + k numbers each: t-SNE needs them all.
    """

    def __init__(self) -> None:
        self.rows: dict[str, _Row] = {}

    def empty(self) -> FeatureStatistic:
        """Return a statistic of the same kind that has seen nothing."""
        return FeatureStatistic()

    def update(self, observation: Observed) -> None:
        """Take in one batch."""
        columns = (
            observation.image_ids,
            observation.contents,
            observation.penultimate,
            observation.channels,
        )
        for image_id, digest, penultimate, channels in zip(*columns, strict=True):
            self.rows[image_id] = _Row(digest, penultimate.copy(), channels.copy())

    def merge(self, other: FeatureStatistic) -> None:
        """Take in what ``other`` has seen."""
        self.rows.update(other.rows)

    def state(self) -> dict[str, np.ndarray]:
        """Return ids, digests and features as plain arrays."""
        found = self.result()
        return {
            "image_ids": np.array(found.image_ids, dtype=np.str_),
            "contents": np.array(found.contents, dtype=np.str_),
            "penultimate": found.penultimate,
            "channels": found.channels,
        }

    def from_state(self, state: Mapping[str, np.ndarray]) -> FeatureStatistic:
        """Return a statistic of the same kind that holds ``state``."""
        found = self.empty()
        found.update(
            Observed(
                tuple(map(str, state["image_ids"])),
                tuple(map(str, state["contents"])),
                state["penultimate"],
                state["channels"],
            )
        )
        return found

    def result(self) -> Features:
        """Return all features in the order of the ids."""
        ids = tuple(sorted(self.rows))
        rows = [self.rows[image_id] for image_id in ids]
        nothing = np.zeros((0, 0), dtype=np.float32)
        return Features(
            ids,
            tuple(row.content for row in rows),
            np.stack([row.penultimate for row in rows]) if rows else nothing,
            np.stack([row.channels for row in rows]) if rows else nothing,
        )


class FeatureObserver:
    """Runs the network once a batch for both kinds of features.

    The penultimate features are what goes into the last linear layer. A feature map's number is the
    maximum (or mean) over space of its convolution's output, before BatchNorm.
    """

    def __init__(
        self,
        detector: Detector,
        feature_maps: Sequence[FeatureMap] = (),
        pooling: Pooling = "max",
    ) -> None:
        if pooling not in get_args(Pooling):
            raise UserError(f"no pooling {pooling!r}; there are {', '.join(get_args(Pooling))}")
        self.detector, self.pooling = detector, pooling
        self.head = head(detector.network)
        self.chosen = ChosenMaps(feature_maps)

    def __call__(self, batch: Batch, images: ImageSet) -> Observed:
        """Return the features of each image of the batch."""
        network = self.detector.network
        with (
            observed(network, [self.head], _vectors, inputs=True) as last,
            observed(network, self.chosen.layers, self._pool) as pooled,
        ):
            self.detector.logits(batch.pixels)
        number = len(batch.indices)
        channels = np.zeros((number, 0), dtype=np.float32)
        if self.chosen.layers:
            channels = self.chosen.joined(pooled).numpy()
        return Observed(
            tuple(images.image_id(images.entries[i]) for i in batch.indices),
            tuple(content(image).hex() for image in batch.pixels),
            last[self.head].numpy(),
            channels,
        )

    def _pool(self, layer: str, output: torch.Tensor) -> torch.Tensor:
        chosen = self.chosen.of(layer, output).float()
        pooled = chosen.amax(dim=(2, 3)) if self.pooling == "max" else chosen.mean(dim=(2, 3))
        return pooled.cpu()


def weighted(channels: np.ndarray, omega: np.ndarray) -> np.ndarray:
    """Return the ω-weighted channel features (N, k), float64.

    f(i, c) = ω(c) · (a(i, c) − mean_i a(·, c)) / sd_i a(·, c)

    channels: a, the pooled convolution outputs (N, k); omega: ω (k,). Mean and sd (N in the
    denominator) are over the N rows given; a feature map that is the same in all of them gives 0.
    So a map counts for its share of the decision's relevance, not for the scale of its activations.
    """
    values = np.asarray(channels, dtype=np.float64)
    centred = values - values.mean(axis=0)
    spread = values.std(axis=0)
    # What is left of a constant in rounding must not be blown up to 1.
    alive = spread > 1e-12 * np.abs(values).max(axis=0, initial=0.0)
    return np.where(alive, centred / np.where(alive, spread, 1.0), 0.0) * omega


def _vectors(layer: str, entering: torch.Tensor) -> torch.Tensor:
    return entering.detach().float().flatten(1).cpu()
