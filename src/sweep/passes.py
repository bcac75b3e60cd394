"""Passes of networks over batches: shared by looks, bounded by the memory there is."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch

from ..data import Batch
from ..data.batching import Shape
from ..data.colour import recolour
from ..data.conditions import parse_condition
from ..detectors import Detector
from ..errors import UserError
from ..records import ImageEntry, Skipped
from .look import Look, Seen
from .memory import ALONE, ASSUMED, SHARE, Need, free_bytes, held_bytes, measured_need
from .statistics import Rows

# What PyTorch and NumPy say of an input that is too small, too large, or not of the one size.
_OF_SIZE = re.compile(
    r"\b(sizes?|shapes?|dimensions?|dims?|memory|allocate|spatial|pad|padding|larger|smaller|"
    r"greater|output_size|multiplied|broadcast)\b|too (small|large)|more than 1 value per channel",
    re.IGNORECASE,
)


class Passes:
    """Runs the looks on batches, and knows how many images may go together."""

    def __init__(
        self,
        looks: Sequence[Look],
        batch_size: int,
        told: Callable[[float], None] = lambda images: None,
    ) -> None:
        """told: how far the passes over a batch are, in images."""
        self.looks, self.batch_size, self.told = looks, batch_size, told
        self.networks = 0
        names = dict.fromkeys(name for look in looks for name in look.conditions)
        self.conditions = tuple(map(parse_condition, names))
        shapes = {look.detector.preset.shape_key() for look in looks}
        self.number = max(1, len(shapes) * len(names))  # batches that an image stands in
        self._needs: dict[Shape, Need] = {}
        self._before = held_bytes()

    def of(self, shape: Shape, condition: str) -> list[Look]:
        return [
            look
            for look in self.looks
            if look.detector.preset.shape_key() == shape and condition in look.conditions
        ]

    def most(self, shape: Shape, pixels: np.ndarray) -> int:
        """Return how many images of this size fit into memory; 0 where not even one does."""
        area = pixels.shape[0] * pixels.shape[1]
        devices = {look.detector.device for look in self.looks}
        free = min(free_bytes(device, self._before) for device in devices)
        if self.batch_size * area * ASSUMED <= SHARE * free:
            return self.batch_size
        if shape not in self._needs:
            self._needs[shape] = self._measured(shape, pixels)
        need = self._needs[shape]
        if need.of(area) > ALONE * free:
            return 0
        fit = (SHARE * free - need.constant) / max(1.0, need.pixel * area)
        return max(1, int(min(self.batch_size, fit)))

    def run(self, batch: Batch, missed: list[Skipped]) -> list[tuple[Batch, dict[int, Rows]]]:
        """Return what each look that takes this batch observed, by the look's place.

        Where memory runs out the batch goes in halves; images that a network cannot take at all go
        to ``missed``.
        """
        height, width = batch.pixels.shape[2:]
        size = f"{width} × {height} pixels"
        if not self.most(batch.shape, batch.pixels[0].permute(1, 2, 0).numpy()):
            need = self._needs[batch.shape].of(height * width) / 1e9
            reason = f"{size} take {need:.1f} GB of memory, which is not free: make it smaller"
        else:
            try:
                return [(batch, self._observe(batch))]
            except UserError:
                raise
            except (RuntimeError, ValueError) as error:
                if len(batch) > 1 and _out_of_memory(error):
                    half = len(batch) // 2
                    parts = (batch.take(range(half)), batch.take(range(half, len(batch))))
                    return [one for part in parts for one in self.run(part, missed)]
                names = ", ".join(dict.fromkeys(look.detector.name for look in self.looks))
                lines = str(error).strip().splitlines() or [type(error).__name__]
                fault = f" cannot take {size}" * bool(_OF_SIZE.search(str(error)))
                reason = f"{names}{fault}: {lines[0]}"
        missed.extend(Skipped(entry.path, reason) for entry in batch.entries)
        return []

    def _observe(self, batch: Batch, *, probe: bool = False) -> dict[int, Rows]:
        found: dict[int, Rows] = {}
        chosen = self.of(batch.shape, batch.condition)
        alike = {(id(look.detector.network), look.detector.preset): look for look in chosen}
        for key, first in alike.items():
            detector = first.detector
            own = [one for one in chosen if (id(one.detector.network), one.detector.preset) == key]
            wanted = [look for look in own if any(map(look.wants, batch.entries))] or own[:probe]
            seen = self._seen(detector, wanted, batch)
            for place, look in enumerate(wanted):
                if probe:
                    look.probe(batch, seen[id(look)])
                    continue
                look.through = self._through(place, len(wanted), len(batch))
                found[self.looks.index(look)] = look.observe(batch, seen[id(look)])
        return found

    def _through(self, place: int, looks: int, images: int) -> Callable[[float], None]:
        return lambda share: self.told((place + share) / looks * images)

    def _seen(
        self, detector: Detector, looks: Sequence[Look], batch: Batch
    ) -> dict[int, dict[str, Seen]]:
        """Run the whole network once a colour mode that any of the looks asks for."""
        seen: dict[int, dict[str, Seen]] = {id(look): {} for look in looks}
        for colour in dict.fromkeys(name for look in looks for name in look.colours):
            own = [look for look in looks if colour in look.colours]
            with ExitStack() as hooks:
                caught = {id(look): hooks.enter_context(look.watch()) for look in own}
                outputs = detector.outputs(recolour(batch.pixels, colour))
            self.networks += len(batch)
            logits = detector.decide(outputs).double().numpy()
            for look in own:
                seen[id(look)][colour] = Seen(outputs, logits, dict(caught[id(look)]))
        return seen

    def _measured(self, shape: Shape, pixels: np.ndarray) -> Need:
        """Return the memory that the looks take, the most of all conditions."""
        image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]
        entry = ImageEntry(Path("probe"), 0, "")
        found = []
        for condition in self.conditions:

            def run(given: torch.Tensor, condition: str = condition.name) -> object:
                batch = Batch(given, (entry,), ("probe",), condition, shape)
                return self._observe(batch, probe=True)

            try:
                found.append(measured_need(run, image))
            except (RuntimeError, ValueError):  # it is said when the batch itself fails
                continue
        return max(found, key=lambda need: need.of(image[0, 0].numel()), default=Need(0, ASSUMED))


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
