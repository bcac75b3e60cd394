"""The methods in a table; of a detector also which apply, and how long each takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..detectors.detector import Detector
from ..errors import UserError
from ..records import Result
from .methods import METHODS, READINGS, Explainer, explainer, named_methods, shared
from .target import named_target

SIDE = 128  # pixels of the image that is timed
UNIT = "gradient"
LONG, COLD = 1.0, 10.0  # seconds; what takes longer is timed once, the first time if COLD


@dataclass(frozen=True, eq=False, repr=False)
class MethodList(Result):
    """The explanation methods.

    table: method, needs, reading, library, source; of a detector also applies, reason (why not),
    seconds (of one image) and gradients (the same in units of one gradient of that detector).
    """

    table: pd.DataFrame
    facts: Mapping[str, Any] = field(default_factory=dict)


def list_methods(
    detector: Detector | None = None,
    methods: str | Sequence[str] = "all",
    *,
    image: np.ndarray | None = None,
    layer: str | None = None,
    progress: Callable[..., None] | None = None,
) -> MethodList:
    """Return what there is, and what of it applies to a detector and takes how long.

    image: uint8 (3, H, W) as the network sees it, to be timed; by default noise of 128 × 128.

    Raises:
        UserError: there is no method of a name.
    """
    names = named_methods(methods)
    rows: list[dict[str, Any]] = [
        {
            "method": name,
            "needs": " ".join(METHODS[name].needs),
            "reading": READINGS[METHODS[name].reading],
            "library": METHODS[name].library,
            "source": METHODS[name].source,
        }
        for name in names
    ]
    if detector is None:
        return MethodList(pd.DataFrame(rows), {"methods": names})
    if image is None:
        shape = (3, SIDE, SIDE)
        image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    batch = detector.normalised(torch.from_numpy(image[None]))
    ready = shared(detector)
    unit = seconds_of(explainer(ready(UNIT), UNIT), detector, batch)
    for place, row in enumerate(rows):
        seconds, reason = np.nan, ""
        try:
            method = explainer(ready(row["method"]), row["method"], layer)
            seconds = unit if row["method"] == UNIT else seconds_of(method, detector, batch)
        except UserError as error:
            reason = str(error)
        row |= {"applies": not reason, "seconds": seconds, "gradients": seconds / unit}
        row["reason"] = reason
        if progress is not None:
            progress("timing methods", place + 1, len(rows))
    height, width = image.shape[1:]
    facts = {"detector": detector.name, "methods": names, "height": height, "width": width}
    return MethodList(pd.DataFrame(rows), {**facts, "gradient_seconds": unit})


def seconds_of(method: Explainer, detector: Detector, batch: torch.Tensor) -> float:
    """Return the seconds that a method takes for a batch, once it is warm: the best of up to 3.

    Of the processor, which other programs do not change; of a GPU those that pass.
    """
    target = named_target(detector, "decision")
    clock = time.perf_counter if batch.is_cuda else time.process_time
    best = np.inf
    for turn in range(4):
        start = clock()
        method(batch, target)
        if batch.is_cuda:
            torch.cuda.synchronize()
        taken = clock() - start
        if turn or taken > COLD:  # the first makes ready what later ones find
            best = min(best, taken)
        if taken > (LONG if turn else COLD):
            break
    return float(best)
