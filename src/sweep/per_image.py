"""A few numbers of each image, kept as a mergeable statistic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..data import Batch
from ..data.conditions import CLEAN
from ..detectors import Detector
from .look import RGB, Look, Seen
from .statistics import Rows


class PerImage:
    """Keeps the named arrays of each image and condition: logits, maxima of a few feature maps.

    Memory is O(images), so it is for what must be kept image by image (scores, samples of a test)
    and for chosen feature maps, never for all of them.
    """

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], dict[str, np.ndarray]] = {}

    def empty(self) -> PerImage:
        """Return a statistic of the same kind that has seen nothing."""
        return PerImage()

    def update(self, batch: Batch, rows: Rows) -> None:
        """Take in the rows of one batch."""
        for place, image_id in enumerate(batch.ids):
            own = {name: np.array(values[place]) for name, values in rows.items()}
            self.rows[batch.condition, image_id] = own

    def merge(self, other: PerImage) -> None:
        """Take in what ``other`` has seen."""
        self.rows.update(other.rows)

    def state(self) -> dict[str, np.ndarray]:
        """Return keys and rows in the order of the keys."""
        keys = sorted(self.rows)
        names = list(self.rows[keys[0]]) if keys else []
        values = {f"row.{name}": np.stack([self.rows[key][name] for key in keys]) for name in names}
        return {"keys": np.array(keys, dtype=np.str_).reshape(-1, 2), **values}

    def from_state(self, state: Mapping[str, np.ndarray]) -> PerImage:
        """Return a statistic of the same kind that holds ``state``."""
        found = PerImage()
        names = [key.removeprefix("row.") for key in state if key.startswith("row.")]
        for place, (condition, image_id) in enumerate(state["keys"]):
            own = {name: state[f"row.{name}"][place] for name in names}
            found.rows[str(condition), str(image_id)] = own
        return found

    def result(self) -> dict[tuple[str, str], dict[str, np.ndarray]]:
        """Return the rows by condition and image id, in that order."""
        return {key: self.rows[key] for key in sorted(self.rows)}

    def has(self, image_id: str, condition: str = CLEAN) -> bool:
        """Say whether the image was seen."""
        return (condition, image_id) in self.rows

    def of(self, image_ids: Sequence[str], name: str, condition: str = CLEAN) -> np.ndarray:
        """Return one array's rows of these images (N, …); NaN for an image that was not seen.

        Raises:
            KeyError: no image at all was seen under this condition.
        """
        known = [self.rows.get((condition, one)) for one in image_ids]
        first = next((row[name] for row in known if row is not None), None)
        if first is None:
            raise KeyError(condition)
        lost = np.full_like(first, np.nan) if any(row is None for row in known) else first
        return np.stack([lost if row is None else row[name] for row in known])


class PixelLook(Look):
    """The pixels of a few images as a preset makes them, uint8 (3, H, W), and their logits.

    judged: whether the network is run for the logits.
    """

    statistic: PerImage

    def __init__(self, detector: Detector, *, judged: bool = False) -> None:
        super().__init__(detector, PerImage(), colours=(RGB,) if judged else ())

    def observe(self, batch: Batch, seen: Mapping[str, Seen]) -> Rows:
        """Return the pixels, and the logits where they were asked for."""
        logits = {"logit": seen[RGB].logits} if seen else {}
        return {"pixels": batch.pixels.numpy(), **logits}
