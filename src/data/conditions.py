"""What happens to images on their way: JPEG, blur, scaling, loss of colour.

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
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from ..errors import UserError
from .degrade import blur, jpeg, resize

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
FORMS = "clean, jpeg-QUALITY (1 to 100), blur-SIGMA (0.1 to 50), resize-FACTOR (0.05 to 8), grey"
_RANGES = {"jpeg": (1, 100), "blur": (0.1, 50), "resize": (0.05, 8)}
_NAMED = re.compile(r"(jpeg|blur|resize)-(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Condition:
    """One condition; kind: clean, jpeg, blur, resize or grey; value: its quality, σ or factor."""

    name: str
    kind: str
    value: float = 0.0

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return what becomes of an RGB image (8 bits a channel)."""
        if self.kind == "jpeg":
            return jpeg(image, int(self.value))
        if self.kind == "blur":
            return blur(image, self.value)
        if self.kind == "resize":
            return resize(image, self.value)
        if self.kind == "grey":
            return image.convert("L").convert("RGB")
        return image


def parse_condition(name: str) -> Condition:
    """Return the condition of that name, see the module.

    Raises:
        UserError: there is none, or its number is out of range.
    """
    if name in (CLEAN, "grey"):
        return Condition(name, name)
    match = _NAMED.fullmatch(name)
    if match is not None:
        kind, value = match[1], float(match[2])
        low, high = _RANGES[kind]
        if low <= value <= high and (kind != "jpeg" or value.is_integer()):
            return Condition(f"{kind}-{value:g}", kind, value)
    raise UserError(f"no condition {name!r}; there are {FORMS}")


def parse_conditions(names: Sequence[str]) -> tuple[Condition, ...]:
    """Return the conditions of these names, each once, ``clean`` first: all else is a fall from it.

    Raises:
        UserError: see :func:`parse_condition`.
    """
    found = {one.name: one for one in map(parse_condition, (CLEAN, *names))}
    return tuple(found.values())
