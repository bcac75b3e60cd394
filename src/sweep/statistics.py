"""What a statistic is: a small mergeable object with plain arrays as its state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, Self

import numpy as np

from ..data import Batch

Rows = Mapping[str, np.ndarray]  # what was observed on a batch: arrays of one row an image


class Statistic(Protocol):
    """A summary of an image set that can be computed in pieces.

    ``merge`` is associative and commutative to the bit, and ``empty()`` is its neutral element, so
    a result does not depend on shards, workers or the order they finish in. Memory is in proportion
    to the feature maps, or to the images where each one's own few numbers are the result.
    """

    def empty(self) -> Self:
        """Return a statistic of the same kind that has seen nothing."""
        ...

    def update(self, batch: Batch, rows: Rows) -> None:
        """Take in what was observed on one batch of images."""
        ...

    def merge(self, other: Self) -> None:
        """Take in what ``other`` has seen; the images of the two must not overlap."""
        ...

    def state(self) -> dict[str, np.ndarray]:
        """Return all that was seen as plain arrays (no objects), to be saved or sent."""
        ...

    def from_state(self, state: Mapping[str, np.ndarray]) -> Self:
        """Return a statistic of the same kind with the state that :meth:`state` gave."""
        ...

    def result(self) -> Any:
        """Return the summary."""
        ...
