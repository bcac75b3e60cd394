"""What a detector makes of each image: the vectors that t-SNE and neighbours are computed on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal, get_args

import numpy as np
import torch

from ..data import Batch, content
from ..detectors import ChosenMaps, Detector, head, observed
from ..errors import UserError
from ..records import FeatureMap, ImageEntry, ImageSet
from ..sweep import RGB, Look, PerImage, Rows, Seen

Pooling = Literal["max", "mean"]

PENULTIMATE, CHANNELS = "penultimate", "omega-weighted"


class FeatureLook(Look):
    """Both kinds of features of each image, from one pass.

    The penultimate features are what goes into the last linear layer. A feature map's number is the
    maximum (or mean) over space of its convolution's output, before BatchNorm.
    """

    statistic: PerImage

    def __init__(
        self,
        detector: Detector,
        feature_maps: Sequence[FeatureMap] = (),
        pooling: Pooling = "max",
        images: ImageSet | None = None,
    ) -> None:
        """images: the only ones that count, all by default."""
        if pooling not in get_args(Pooling):
            raise UserError(f"no pooling {pooling!r}; there are {', '.join(get_args(Pooling))}")
        self.pooling: Pooling = pooling
        self.head = head(detector.network)
        self.chosen = ChosenMaps(feature_maps)
        self.only = None if images is None else set(images)
        facts = {"feature_maps": [str(one) for one in feature_maps], "pooling": pooling}
        super().__init__(detector, PerImage(), facts=facts)

    def wants(self, entry: ImageEntry) -> bool:
        """Say whether the image counts."""
        return self.only is None or entry in self.only

    @contextmanager
    def watch(self) -> Iterator[Mapping[str, Mapping[str, torch.Tensor]]]:
        """Return a block that keeps the head's input and the pooled chosen maps."""
        network = self.detector.network
        with (
            observed(network, [self.head], _vectors, inputs=True) as last,
            observed(network, self.chosen.layers, self._pool) as pooled,
        ):
            yield {PENULTIMATE: last, CHANNELS: pooled}

    def observe(self, batch: Batch, seen: Mapping[str, Seen]) -> Rows:
        """Return content (N,), digests of the pixels; penultimate (N, D); channels (N, k)."""
        caught = seen[RGB].caught
        channels = np.zeros((len(batch), 0), dtype=np.float32)
        if self.chosen.layers:
            channels = self.chosen.joined(caught[CHANNELS]).numpy()
        return {
            "content": np.array([content(image).hex() for image in batch.pixels]),
            "penultimate": caught[PENULTIMATE][self.head].numpy(),
            "channels": channels,
        }

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
