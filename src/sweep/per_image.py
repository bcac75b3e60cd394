"""A table with one row an image, as a mergeable statistic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ImageRows:
    """What was observed on a batch: the N images' ids, and their rows (N, *shape)."""

    image_ids: tuple[str, ...]
    values: np.ndarray


class PerImage:
    """Keeps an array of ``shape`` for each image: its logits, its maxima of a few feature maps.

    Memory is O(images) times that shape, so it is for what must be kept image by image (scores,
    samples of a test) and for chosen feature maps, never for all of them.
    """

    def __init__(self, shape: tuple[int, ...], dtype: type[np.floating] = np.float64) -> None:
        self.shape, self.dtype = shape, dtype
        self.ids: list[str] = []
        self.rows: list[np.ndarray] = []

    def empty(self) -> PerImage:
        """Return a statistic of the same kind that has seen nothing."""
        return PerImage(self.shape, self.dtype)

    def update(self, observation: ImageRows) -> None:
        """Take in the rows of one batch."""
        values = np.asarray(observation.values, dtype=self.dtype)
        if values.shape != (len(observation.image_ids), *self.shape):
            raise ValueError(f"rows of shape {values.shape} into {self.shape}")
        self.ids.extend(observation.image_ids)
        self.rows.extend(values)

    def merge(self, other: PerImage) -> None:
        """Take in what ``other`` has seen."""
        if (other.shape, other.dtype) != (self.shape, self.dtype):
            raise ValueError(f"cannot merge {other.shape} into {self.shape}")
        self.ids.extend(other.ids)
        self.rows.extend(other.rows)

    def state(self) -> dict[str, np.ndarray]:
        """Return ids and rows in the order of the ids."""
        ids, values = self.result()
        return {"ids": np.array(ids, dtype=np.str_), "values": values}

    def from_state(self, state: Mapping[str, np.ndarray]) -> PerImage:
        """Return a statistic of the same kind that holds ``state``."""
        found = self.empty()
        found.ids = [str(one) for one in state["ids"]]
        found.rows = list(state["values"].astype(self.dtype))
        return found

    def result(self) -> tuple[list[str], np.ndarray]:
        """Return the ids, sorted, and their rows (N, *shape)."""
        order = sorted(range(len(self.ids)), key=self.ids.__getitem__)
        return [self.ids[row] for row in order], self._stack(order)

    def of(self, image_ids: Sequence[str]) -> np.ndarray:
        """Return the rows of these images (N, *shape); NaN for an image that was not seen."""
        found = np.full((len(image_ids), *self.shape), np.nan, dtype=self.dtype)
        place = {image_id: row for row, image_id in enumerate(self.ids)}
        for row, image_id in enumerate(image_ids):
            if image_id in place:
                found[row] = self.rows[place[image_id]]
        return found

    def _stack(self, order: Sequence[int]) -> np.ndarray:
        stacked = np.empty((len(order), *self.shape), dtype=self.dtype)
        for place, row in enumerate(order):
            stacked[place] = self.rows[row]
        return stacked
