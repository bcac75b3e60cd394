"""What happens to images on their way: JPEG, blur, scaling, turning, loss of colour.

A condition is a function of the decoded 8-bit RGB image alone, at its native size, before a
detector's own preset; the same input gives the same output, to the bit.

- ``clean``: the image itself.
- ``jpeg-Q``: through Pillow's JPEG (libjpeg-turbo) at quality Q, 1 … 100, with Pillow's default
  chroma subsampling 4:2:0.
- ``blur-S``: Gaussian of standard deviation S pixels, cut off at 4 S, reflected at the border, in
  float64, rounded once at the end.
- ``resize-F``: both sides times F, rounded, at least 1 pixel (Pillow's bilinear, which antialiases
  where it shrinks); the detector sees the new size.
- ``grey``: luma (BT.601) in all three channels, as ``forensift colour`` has it.

And those that DeepFeatureX is published with (OpenCV's, but for JPEG):

- ``jpeg444-Q``: JPEG without chroma subsampling.
- ``kernel-K``: Gaussian of standard deviation 4 pixels cut off by a kernel of K × K, K odd.
- ``area-F``: both sides times F by averages of areas.
- ``turn-D``: D degrees counter-clockwise about the centre, on the same canvas, else black.
- ``mirror``: along both axes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..errors import UserError
from .degrade import blur, blur_opencv, jpeg, resize, resize_opencv, turn_opencv

CLEAN = "clean"
CONDITIONS = (
    CLEAN,
    "jpeg-90",
    "jpeg-75",
    "jpeg-50",
    "blur-1",
    "blur-2",
    "resize-0.5",
    "resize-2",
    "grey",
)
FORMS = (
    "clean, jpeg-QUALITY or jpeg444-QUALITY (1 to 100), blur-SIGMA (0.1 to 50), kernel-SIDE (odd, "
    "3 to 99), resize-FACTOR or area-FACTOR (0.05 to 8), turn-DEGREES (0 to 360), mirror, grey"
)
FULL = "4:4:4"  # JPEG without chroma subsampling
KERNEL_SIGMA = 4.0  # whatever the kernel: the published code passes a border constant, 4, as σ

Change = Callable[[Image.Image, float], Image.Image]


def _array(run: Callable[[np.ndarray, float], np.ndarray]) -> Change:
    return lambda image, value: Image.fromarray(run(np.asarray(image), value))


_PLAIN: dict[str, Change] = {
    CLEAN: lambda image, _: image,
    "grey": lambda image, _: image.convert("L").convert("RGB"),
    "mirror": _array(lambda pixels, _: np.ascontiguousarray(pixels[::-1, ::-1])),
}
_NUMBERED: dict[str, tuple[float, float, Change]] = {
    "jpeg": (1, 100, lambda image, value: jpeg(image, int(value))),
    "jpeg444": (1, 100, lambda image, value: jpeg(image, int(value), subsampling=FULL)),
    "blur": (0.1, 50, blur),
    "kernel": (3, 99, _array(lambda one, value: blur_opencv(one, int(value), KERNEL_SIGMA))),
    "resize": (0.05, 8, resize),
    "area": (0.05, 8, _array(lambda one, value: resize_opencv(one, "area", factor=value))),
    "turn": (0, 360, _array(turn_opencv)),
}
_WHOLE = {"jpeg": 1, "jpeg444": 1, "kernel": 2}  # whole numbers, of which 2: odd ones
_NAMED = re.compile(rf"({'|'.join(_NUMBERED)})-(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Condition:
    """One condition; kind: what stands before the dash; value: its quality, σ, factor …"""

    name: str
    kind: str
    value: float = 0.0

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return what becomes of an RGB image (8 bits a channel)."""
        run = _PLAIN[self.kind] if self.kind in _PLAIN else _NUMBERED[self.kind][2]
        return run(image, self.value)


def parse_condition(name: str) -> Condition:
    """Return the condition of that name, see the module.

    Raises:
        UserError: there is none, or its number is out of range.
    """
    if name in _PLAIN:
        return Condition(name, name)
    match = _NAMED.fullmatch(name)
    if match is not None:
        kind, value = match[1], float(match[2])
        low, high, _ = _NUMBERED[kind]
        fits = {0: True, 1: value % 1 == 0, 2: value % 2 == 1}[_WHOLE.get(kind, 0)]
        if low <= value <= high and fits:
            return Condition(f"{kind}-{value:g}", kind, value)
    raise UserError(f"no condition {name!r}; there are {FORMS}")


def parse_conditions(names: Sequence[str]) -> tuple[Condition, ...]:
    """Return the conditions of these names, each once, ``clean`` first: all else is a fall from it.

    Raises:
        UserError: see :func:`parse_condition`.
    """
    found = {one.name: one for one in map(parse_condition, (CLEAN, *names))}
    return tuple(found.values())
