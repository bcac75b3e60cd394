"""Take colour away from decoded images, or change it, and leave the rest where it is.

Every mode is a function of the 8-bit pixels alone, computed in float64 and rounded once (halves
up). With Y = 0.299 R + 0.587 G + 0.114 B (BT.601, in Pillow's fixed-point weights) a pixel is
luma Y plus chroma (R − Y, G − Y, B − Y):

- ``rgb``: the image itself.
- ``grey``: Y in all three channels; to the byte Pillow's ``convert("L")``, which is torchvision's
  ``Grayscale(3)`` (published). ``luma-only`` is another name of it: nothing but luma is left.
- ``chroma-only``: the chroma of each pixel on the luma 128, so that luma detail is gone.
- ``chroma-smoothed``: the luma of each pixel with the mean chroma of the 9 × 9 pixels around it:
  objects keep their colours, fine traces in the chroma go.
- ``luma-smoothed``: the other way about: the chroma of each pixel with smoothed luma.
- ``hue-A``: chroma turned by A degrees in the Cb-Cr plane, luma kept.
- ``swap-gbr`` (any order of r, g, b): the channels R, G, B are the image's G, B, R. Exact, but
  luma changes with it.
- ``saturation-F``: chroma times F; 0 is ``grey``, 1 is ``rgb``.

Where a pixel would leave 0 … 255, its chroma is shrunk until it fits: luma and hue stay.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from ..errors import UserError

PUBLISHED_MODES = ("rgb", "grey")
MODES = (
    *PUBLISHED_MODES,
    "chroma-only",
    "chroma-smoothed",
    "luma-smoothed",
    "hue-60",
    "hue-120",
    "hue-180",
    "swap-gbr",
    "swap-bgr",
    "saturation-0.25",
    "saturation-0.5",
    "saturation-0.75",
    "saturation-1.5",
)
FORMS = "rgb, grey, luma-only, chroma-only, chroma-smoothed, luma-smoothed, hue-DEGREES, \
swap-gbr (any order), saturation-FACTOR"

SMOOTH = 9  # pixels: side of the window of the smoothed modes
MIDDLE = 128.0  # luma of chroma-only, farthest from both ends
_WEIGHTS = (19595, 38470, 7471)  # of R, G, B in units of 1 / 65536, as Pillow has them
_RED, _GREEN, _BLUE = (weight / 65536 for weight in _WEIGHTS)


def recolour(pixels: Tensor, mode: str) -> Tensor:
    """Return a uint8 batch (N, 3, H, W) in another colour mode, same shape, type and device.

    mode: one of ``MODES``, or another angle, order of channels or factor; see the module.

    Raises:
        UserError: no such mode.
    """
    kind, value = parse_mode(mode)
    if kind == "rgb":
        return pixels
    if kind == "swap":
        return pixels[:, ["rgb".index(channel) for channel in value]]
    luma = _luma(pixels)
    if kind == "grey":
        return _rounded(luma).expand_as(pixels).contiguous()
    chroma = pixels.double() - luma
    if kind == "chroma-only":
        luma = torch.full_like(luma, MIDDLE)
    elif kind == "chroma-smoothed":
        chroma = _smooth(chroma)
    elif kind == "luma-smoothed":
        luma = _smooth(luma)
    elif kind == "hue":
        chroma = _turn(chroma, float(value))
    else:
        chroma = chroma * float(value)
    return _rounded(luma + _fitting(luma, chroma) * chroma)


def parse_mode(mode: str) -> tuple[str, str]:
    """Return a mode as its kind and its value, e.g. ('hue', '60'); '' where it takes none.

    Raises:
        UserError: no such mode.
    """
    if mode == "luma-only":
        return "grey", ""
    if mode in ("rgb", "grey", "chroma-only", "chroma-smoothed", "luma-smoothed"):
        return mode, ""
    kind, _, value = mode.partition("-")
    if kind == "swap" and sorted(value) == sorted("rgb"):
        return kind, value
    if kind in ("hue", "saturation"):
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if math.isfinite(number) and (kind == "hue" or number >= 0):
            return kind, value
    raise UserError(f"no colour mode {mode!r}; there are {FORMS}")


def _luma(pixels: Tensor) -> Tensor:
    """Return Y (N, 1, H, W), float64 and exact: a multiple of 1 / 65536."""
    weights = torch.tensor(_WEIGHTS, dtype=torch.float64, device=pixels.device).view(1, 3, 1, 1)
    return (pixels.double() * weights).sum(1, keepdim=True) / 65536


def _turn(chroma: Tensor, degrees: float) -> Tensor:
    """Return chroma turned in the plane of Cb = (B − Y) / 1.772 and Cr = (R − Y) / 1.402."""
    to_blue, to_red = 2 * (1 - _BLUE), 2 * (1 - _RED)
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    cb, cr = chroma[:, 2] / to_blue, chroma[:, 0] / to_red
    blue, red = to_blue * (cos * cb - sin * cr), to_red * (sin * cb + cos * cr)
    return torch.stack([red, -(_RED * red + _BLUE * blue) / _GREEN, blue], dim=1)


def _smooth(values: Tensor) -> Tensor:
    """Return the mean over the window around each pixel; at the border, over what is inside."""
    return avg_pool2d(values, SMOOTH, stride=1, padding=SMOOTH // 2, count_include_pad=False)


def _fitting(luma: Tensor, chroma: Tensor) -> Tensor:
    """Return the largest factor of 1 or less (N, 1, H, W) that keeps luma + chroma in 0 … 255."""
    above, below = chroma.amax(1, keepdim=True), -chroma.amin(1, keepdim=True)
    one = torch.ones_like(luma)
    up = torch.where(above > 255 - luma, (255 - luma) / above, one)
    down = torch.where(below > luma, luma / below, one)
    return torch.minimum(up, down)


def _rounded(values: Tensor) -> Tensor:
    return (values + 0.5).floor().clamp(0, 255).to(torch.uint8)
