"""Where the network looks when it names a family: Grad-CAM as DNA-Det publishes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np
from torch import nn

from ...data import Batch
from ...data.conditions import CLEAN
from ...data.photos import photograph_name
from ...detectors import Detector
from ...errors import UserError
from ...explain import GradCAM
from ...explain.heat import heat
from ...records import REAL, ImageSet
from ...sweep import How, Look, PerImage, Rows, Seen, sweep
from .splits import REAL as REAL_CLASS
from .splits import family_of

LAYER = "main.3.main.2"  # the published choice: LeakyReLU of the fourth block


@dataclass(frozen=True)
class ClassMap:
    """One image's map: its set, file, classes, pixels uint8 (3, H, W) and heat (H, W) in 0 … 1.

    probability: of the predicted class, 0 … 1.
    """

    set: str
    path: str
    truth: str
    predicted: str
    probability: float
    pixels: np.ndarray
    heat: np.ndarray


def class_maps(
    detector: Detector,
    sets: Mapping[str, ImageSet],
    *,
    crops: int = 1,
    layer: str = LAYER,
    **how: Unpack[How],
) -> list[ClassMap]:
    """Return Grad-CAM of the predicted class's probability for the same crops in every set.

    As published (spec §5.6): weights are spatial means of the gradients of the softmax
    probability; ReLU; scaled to 0 … 1; bilinear to the size of the image. The colours, which the
    published files have red and blue swapped in, are left to the figure.

    crops: how many, of as many photographs, of each network and of the reals.

    Raises:
        UserError: a detector without classes, or without that layer.
    """
    if not detector.classes:
        raise UserError(f"{detector.name} has one logit and no classes")
    wanted = set(_first_crops(sets, crops))
    found: list[ClassMap] = []
    for name, images in sets.items():
        entries = tuple(entry for entry in images if entry.path.name in wanted)
        chosen = ImageSet(images.root, entries)
        look = _ClassLook(detector, layer)
        used = sweep(chosen, [look], what=f"Grad-CAM, {name}", **how).used
        for entry in used:
            row = look.statistic.rows[CLEAN, chosen.image_id(entry)]
            target = int(row["target"])
            found.append(
                ClassMap(
                    name,
                    chosen.image_id(entry),
                    REAL_CLASS if entry.label == REAL else family_of(entry.generator),
                    detector.classes[target],
                    float(row["share"][target]),
                    row["pixels"],
                    unit(row["map"]),
                )
            )
    return found


class _ClassLook(Look):
    """Grad-CAM of the predicted class's probability."""

    statistic: PerImage

    def __init__(self, detector: Detector, layer: str) -> None:
        super().__init__(detector, PerImage(), colours=(), facts={"layer": layer})
        self.cam = GradCAM(nn.Sequential(detector.network, nn.Softmax(dim=1)), f"0.{layer}")

    def observe(self, batch: Batch, seen: Mapping[str, Seen]) -> Rows:
        run = self.cam(self.detector.preset.normalise(batch.pixels.to(self.detector.device)))
        return {
            "map": run.relevance.float().cpu().numpy(),
            "target": run.targets.cpu().numpy(),
            "share": run.logits.cpu().numpy(),
            "pixels": batch.pixels.numpy(),
        }


def unit(cam: np.ndarray) -> np.ndarray:
    """Return the positive part of a map less its minimum, divided by its maximum; zeros stay."""
    positive = np.maximum(cam, 0)
    return heat(positive - positive.min(), "max")[0]


def _first_crops(sets: Mapping[str, ImageSet], crops: int) -> Sequence[str]:
    """Return the first crop of each of the first photographs that every set has."""
    names = [{entry.path.name for entry in images} for images in sets.values()]
    first: dict[str, str] = {}
    for entry in sorted(next(iter(sets.values())), key=lambda one: one.path.name):
        if all(entry.path.name in there for there in names):
            first.setdefault(photograph_name(entry.path.stem), entry.path.name)
    return list(first.values())[:crops]
