"""The largest value over space of feature maps, image by image, in several colour modes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from ..data import Batch
from ..data.colour import PUBLISHED_MODES, parse_mode, recolour
from ..detectors.activations import ChosenMaps, observed
from ..detectors.detector import Detector
from ..errors import UserError
from ..records import FeatureMap, ImageSet, Skipped
from ..sweep import Progress, sweep
from ..sweep.per_image import ImageRows, PerImage


@dataclass(frozen=True)
class Maxima:
    """Spatial maxima of k feature maps.

    images: those that could be read, in the set's order.
    maxima: float32 (N, modes, k), of the convolutions' outputs before BatchNorm.
    """

    images: ImageSet
    modes: tuple[str, ...]
    feature_maps: tuple[FeatureMap, ...]
    maxima: np.ndarray

    def table(self) -> pd.DataFrame:
        """Return generator, path, mode, feature_map, maximum: N · modes · k rows."""
        n, modes, k = self.maxima.shape
        at = np.indices((n, modes, k)).reshape(3, -1)
        ids = [self.images.image_id(entry) for entry in self.images]
        generators = [entry.generator for entry in self.images]
        columns = {
            "generator": np.array(generators, dtype=object)[at[0]],
            "path": np.array(ids, dtype=object)[at[0]],
            "mode": np.array(self.modes, dtype=object)[at[1]],
            "feature_map": np.array([str(one) for one in self.feature_maps], dtype=object)[at[2]],
        }
        table = pd.DataFrame({name: pd.Categorical(column) for name, column in columns.items()})
        return table.assign(maximum=self.maxima.reshape(-1))


class MaximaObserver:
    """Observes a decoded batch with one forward pass a colour mode, whatever the number of maps."""

    def __init__(
        self, detector: Detector, feature_maps: Sequence[FeatureMap], modes: Sequence[str]
    ) -> None:
        self.detector, self.modes = detector, tuple(modes)
        self.size = len(feature_maps)
        self.chosen = ChosenMaps(feature_maps)

    def statistic(self) -> PerImage:
        """Return an empty statistic that takes what this observer sees."""
        return PerImage((len(self.modes), self.size), np.float32)

    def __call__(self, batch: Batch, images: ImageSet) -> ImageRows:
        values = np.empty((len(batch.indices), len(self.modes), self.size), dtype=np.float32)
        with observed(self.detector.network, self.chosen.layers, self._take) as seen:
            for place, mode in enumerate(self.modes):
                self.detector.logits(recolour(batch.pixels, mode))
                values[:, place] = self.chosen.joined(seen).float().cpu().numpy()
        ids = tuple(images.image_id(images.entries[index]) for index in batch.indices)
        return ImageRows(ids, values)

    def _take(self, layer: str, output: torch.Tensor) -> torch.Tensor:
        return self.chosen.of(layer, output).amax(dim=(2, 3))


def maxima(
    detector: Detector,
    images: ImageSet,
    feature_maps: Sequence[FeatureMap],
    modes: Sequence[str] = PUBLISHED_MODES,
    *,
    batch_size: int = 16,
    seed: int = 0,
    skipped: list[Skipped] | None = None,
    progress: Progress | None = None,
) -> Maxima:
    """Return the spatial maxima of the plain network's convolution outputs, before BatchNorm.

    feature_maps: k maps of the detector. modes: see :mod:`forensift.data.colour`.

    Each image is decoded once and goes through the network once a mode, for all k maps together.
    Memory is O(images × modes × k): the tests need the samples. 4,000 images, two modes and
    k = 114 take 3.6 MB.

    Raises:
        UserError: an unknown mode, or a maximum that is not finite.
    """
    for mode in modes:
        parse_mode(mode)
    observer = MaximaObserver(detector, feature_maps, modes)
    statistic = observer.statistic()
    missed: list[Skipped] = []
    sweep(
        images,
        detector.preset,
        observer,
        [statistic],
        batch_size=batch_size,
        seed=seed,
        progress=progress,
        skipped=missed,
    )
    if skipped is not None:
        skipped.extend(missed)
    return collect(images, modes, feature_maps, statistic, missed)


def collect(
    images: ImageSet,
    modes: Sequence[str],
    feature_maps: Sequence[FeatureMap],
    statistic: PerImage,
    skipped: Sequence[Skipped],
) -> Maxima:
    """Return what a pass left in ``statistic``, in the set's order without the images skipped.

    Raises:
        UserError: a maximum is not finite.
    """
    unread = {one.path for one in skipped}
    entries = tuple(entry for entry in images if entry.path not in unread)
    read = ImageSet(images.root, entries, images.layout)
    values = statistic.of([read.image_id(entry) for entry in read])
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, mode, column = bad[0]
        raise UserError(
            f"{feature_maps[column]} is not finite on {entries[row].path} in mode {modes[mode]}"
        )
    return Maxima(read, tuple(modes), tuple(feature_maps), values)


def first_instances(images: ImageSet, n: int) -> ImageSet:
    """Return the first n images of each generator, class and label, in the set's order.

    This is how the published scripts choose (there n is 500 in the median test, whatever is asked).

    Raises:
        UserError: n is below 1.
    """
    if n < 1:
        raise UserError(f"{n} instances of a class: must be 1 or more")
    taken: dict[tuple[str, str, int], int] = {}
    kept = []
    for entry in images:
        key = (entry.generator, entry.class_name, entry.label)
        taken[key] = taken.get(key, 0) + 1
        if taken[key] <= n:
            kept.append(entry)
    return ImageSet(images.root, tuple(kept), images.layout)
