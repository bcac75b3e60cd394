"""The images that a feature map responds to most, found in one pass and mergeable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import numpy as np
import torch

from ..data import Batch
from ..detectors import ChosenMaps, Detector, observed
from ..errors import UserError
from ..records import FAKE, FeatureMap, ImageEntry
from ..sweep import RGB, Look, Rows, Seen

KEPT_BYTES = 256 * 2**20  # of decoded images; those beyond are read again when they are needed


class Peak(NamedTuple):
    """One image in a feature map's list; sorts by falling value, then by image id."""

    negated: float
    image_id: str
    y: int
    x: int

    @property
    def value(self) -> float:
        """The map's largest value in the image."""
        return -self.negated


class TopImages:
    """For each feature map the n images with the largest spatial maximum; mergeable.

    Equal values are ordered by image id, so the lists do not depend on batches or their order, as
    far as the network's own float32 rounding does not. Values that are not finite are left out and
    counted in ``not_finite``. Memory is O(k · n), whatever the number of images.

    ``pixels`` holds decoded listed images by id, up to KEPT_BYTES, where the observation brought
    them, so that patches need no second decode. They are no part of the state: results are the same
    without them.
    """

    def __init__(self, feature_maps: Sequence[FeatureMap], n: int) -> None:
        self.feature_maps = tuple(feature_maps)
        self.n = n
        self.lists: list[list[Peak]] = [[] for _ in self.feature_maps]
        self.pixels: dict[str, np.ndarray] = {}
        self.seen = 0
        self.not_finite = 0

    def empty(self) -> TopImages:
        """Return a statistic of the same kind that has seen nothing."""
        return TopImages(self.feature_maps, self.n)

    def update(self, batch: Batch, rows: Rows) -> None:
        """Take in one batch.

        rows: ``value``, float64 (N, k), the maximum over space of the plain network's convolution
        output, before BatchNorm; ``position``: int64 (N, k, 2), its row and column, the first in
        reading order where there are several.
        """
        self.seen += len(batch)
        values, positions = rows["value"], rows["position"]
        finite = np.isfinite(values)
        self.not_finite += int((~finite).sum())
        for column, best in enumerate(self.lists):
            for row in np.flatnonzero(finite[:, column]):
                y, x = positions[row, column]
                best.append(Peak(-float(values[row, column]), batch.ids[row], int(y), int(x)))
            self.lists[column] = sorted(best)[: self.n]
        places = {image_id: row for row, image_id in enumerate(batch.ids)}
        for image_id in self.listed().intersection(places):
            self.pixels[image_id] = batch.pixels[places[image_id]].numpy().copy()
        self._forget()

    def merge(self, other: TopImages) -> None:
        """Take in what ``other`` has seen."""
        if (other.feature_maps, other.n) != (self.feature_maps, self.n):
            raise ValueError("only lists of the same feature maps and length can be merged")
        self.lists = [
            sorted(mine + others)[: self.n]
            for mine, others in zip(self.lists, other.lists, strict=True)
        ]
        self.seen += other.seen
        self.not_finite += other.not_finite
        self.pixels.update(other.pixels)
        self._forget()

    def state(self) -> dict[str, np.ndarray]:
        """Return the lists as plain arrays, one entry a listed image, without pixels."""
        flat = [(row, peak) for row, best in enumerate(self.lists) for peak in best]
        return {
            "map": np.array([row for row, _ in flat], dtype=np.int64),
            "value": np.array([peak.value for _, peak in flat], dtype=np.float64),
            "image_id": np.array([peak.image_id for _, peak in flat], dtype=np.str_),
            "position": np.array([(p.y, p.x) for _, p in flat], dtype=np.int64).reshape(-1, 2),
            "counts": np.array([self.seen, self.not_finite], dtype=np.int64),
        }

    def from_state(self, state: Mapping[str, np.ndarray]) -> TopImages:
        """Return a statistic of the same kind that holds ``state``."""
        found = self.empty()
        columns = (state["map"], state["value"], state["image_id"], state["position"])
        for row, value, image_id, (y, x) in zip(*columns, strict=True):
            found.lists[row].append(Peak(-float(value), str(image_id), int(y), int(x)))
        found.seen, found.not_finite = map(int, state["counts"])
        return found

    def result(self) -> dict[FeatureMap, tuple[Peak, ...]]:
        """Return each feature map's list, best first."""
        return dict(zip(self.feature_maps, map(tuple, self.lists), strict=True))

    def listed(self) -> set[str]:
        """Return the ids of all images in any list."""
        return {peak.image_id for best in self.lists for peak in best}

    def _forget(self) -> None:
        listed = self.listed()
        held = 0
        for image_id in sorted(self.pixels):
            size = self.pixels[image_id].nbytes
            if image_id in listed and held + size <= KEPT_BYTES:
                held += size
            else:
                del self.pixels[image_id]


class PeakLook(Look):
    """Where the chosen feature maps respond most, and in which images."""

    statistic: TopImages

    def __init__(
        self,
        detector: Detector,
        feature_maps: Sequence[FeatureMap],
        n: int,
        generator: str | None = None,
    ) -> None:
        """n: images a map; generator: whose fakes count, all by default."""
        if not feature_maps:
            raise UserError("no feature map is chosen")
        self.chosen, self.generator = ChosenMaps(feature_maps), generator
        facts = {"feature_maps": [str(one) for one in feature_maps], "n": n, "of": generator}
        super().__init__(detector, TopImages(feature_maps, n), facts=facts)

    def wants(self, entry: ImageEntry) -> bool:
        """Say whether the image counts: a fake, of the generator asked for."""
        return entry.label == FAKE and self.generator in (None, entry.generator)

    def watch(self) -> AbstractContextManager[Mapping[str, torch.Tensor]]:
        """Return a block that keeps value and position of each layer's chosen maps' maxima."""
        return observed(self.detector.network, self.chosen.layers, self._take)

    def observe(self, batch: Batch, seen: Mapping[str, Seen]) -> Rows:
        """Return ``value`` (N, k) and ``position`` (N, k, 2)."""
        caught = seen[RGB].caught
        value, position = (
            self.chosen.joined({layer: both[part] for layer, both in caught.items()}).numpy()
            for part in (0, 1)
        )
        return {"value": value, "position": position}

    def _take(self, layer: str, output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        chosen = self.chosen.of(layer, output)
        values, flat = chosen.flatten(2).max(dim=2)
        width = chosen.shape[3]
        return values.double().cpu(), torch.stack([flat // width, flat % width], dim=2).cpu()
