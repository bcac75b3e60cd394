"""What a verb wants to see of each image, so that one pass can feed many verbs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from ..data import Batch
from ..data.conditions import CLEAN
from ..detectors import Detector
from ..records import ImageEntry
from .statistics import Rows, Statistic

RGB = "rgb"


@dataclass(frozen=True)
class Seen:
    """One pass of the whole network over a batch.

    outputs: float32 (N, K) on the CPU; logits: of 'fake', float64 (N,); caught: what the look's
    :meth:`Look.watch` held after the pass.
    """

    outputs: Tensor
    logits: np.ndarray
    caught: Mapping[str, Any]


class Look:
    """One question put to one detector, answered image by image.

    detector: with the preset that the images are to go through; statistic: takes the rows;
    facts: what decides the numbers beside detector, preset, images, seed and batch size;
    colours: modes in which it needs the whole network (:mod:`forensift.data.colour`), none where it
    runs its own passes; conditions: what is done to the images first.

    Looks of one detector share its passes: each colour mode takes one, however many look on.
    """

    def __init__(
        self,
        detector: Detector,
        statistic: Statistic,
        *,
        colours: Sequence[str] = (RGB,),
        conditions: Sequence[str] = (CLEAN,),
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self.detector, self.statistic = detector, statistic
        self.colours, self.conditions = tuple(colours), tuple(conditions)
        self.facts = dict(facts or {})
        self.alone = False  # whether even images of the same bytes must be seen one by one
        self.through: Callable[[float], None] = lambda share: None  # told how far observe is, 0 … 1

    def wants(self, entry: ImageEntry) -> bool:
        """Say whether this image counts; all do by default."""
        return True

    def watch(self) -> AbstractContextManager[Mapping[str, Any]]:
        """Return a block that hooks the network and yields what each pass leaves there."""
        return nullcontext({})

    def observe(self, batch: Batch, seen: Mapping[str, Seen]) -> Rows:
        """Return arrays of N rows; row i depends on image i alone, to rounding.

        seen: the passes asked for, by colour mode.
        """
        raise NotImplementedError

    def probe(self, batch: Batch, seen: Mapping[str, Seen]) -> object:
        """Do once what takes most memory: :meth:`observe`, unless it repeats itself."""
        return self.observe(batch, seen)
