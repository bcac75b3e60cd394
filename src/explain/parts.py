"""The finished parts of a test of methods, kept on disk so that an interrupted one goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from ..detectors import Detector
from ..detectors.building import digest
from ..records import ImageSet
from ..sweep import How
from ..sweep.partials import Partials


class Parts:
    """Makes the parts of one test in their order, or reads those that an earlier run left.

    plan: what decides the numbers beside the network and the images; plain JSON; used: how many of
    the images are tested; number: how many parts that takes; how: where they are kept, whether to
    resume, and who is told.
    """

    def __init__(
        self,
        detector: Detector,
        images: ImageSet,
        plan: Mapping[str, Any],
        used: int,
        number: int,
        how: How,
    ) -> None:
        self.place, self.used, self.number = 0, used, number
        self.told = how.get("progress") or (lambda what, done, total: None)
        self.kept: Partials | None = None
        if "partials" in how:
            facts = {
                **plan,
                "image_set": images.hash(),
                "detector": detector.name,
                "weights": digest(detector.network),
                "preset": repr(detector.preset),
                "device": detector.device.type,
            }
            resume = how.get("resume", False)
            self.kept = Partials(how["partials"], "testing methods", facts, resume=resume)

    def arrays(self, make: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Return the arrays of the next part, in the order of their names in ``make``."""
        self._tell()
        found = self.kept.read(self.place) if self.kept else None
        state = dict(found[0][0] if found else make())
        if self.kept and not found:
            self.kept.write(self.place, [state], ())
        self.place += 1
        if self.place == self.number:
            self._tell()
        return state

    def rows(self, make: Callable[[], Iterable[Mapping[str, Any]]]) -> list[dict[str, Any]]:
        """Return the rows of the next part: words and numbers, which come back to the bit."""
        state = self.arrays(lambda: {"rows": np.array(json.dumps([dict(one) for one in make()]))})
        return list(json.loads(str(state["rows"])))

    def _tell(self) -> None:
        self.told("testing methods", self.place * self.used / self.number, self.used)
