"""From raw relevance to what is drawn: one number a pixel, scaled in a stated way."""

from __future__ import annotations

import re

import cv2
import numpy as np

from ..errors import UserError

SCALINGS = ("percentile-99", "max", "signed")
BLUR = 5  # pixels; the published median blur of LRP maps
ABSOLUTE = ("gradient", "saliency", "smoothgrad")
_PERCENTILE = re.compile(r"percentile-(\d+(?:\.\d+)?)")


def heat(relevance: np.ndarray, scaling: str = "max", blur: int = 0) -> tuple[np.ndarray, float]:
    """Return a map for drawing, float32 (H, W), and the raw relevance that its 1 stands for.

    relevance: one signed number a pixel, (H, W), see :func:`forensift.explain.pixel_map`.
    scaling: 'max' (as published) keeps what is positive and divides it by its maximum;
        'percentile-99' divides by that percentile of the same map and cuts at 1; 'signed' divides
        by the largest magnitude and keeps both signs, −1 … 1.
    blur: side of a median filter applied after scaling, 3 or 5 pixels; 0 is none.

    A map without anything to draw comes back as zeros with 0.

    Raises:
        UserError: no such scaling.
    """
    check_scaling(scaling)
    values = np.asarray(relevance, dtype=np.float32)
    if scaling == "signed":
        unit = float(np.abs(values).max())
    else:
        values = np.maximum(values, 0)
        share = _PERCENTILE.fullmatch(scaling)
        unit = float(np.percentile(values, float(share[1])) if share else values.max())
        if unit == 0:  # fewer pixels than that share are positive
            unit = float(values.max())
    if unit == 0:
        return np.zeros_like(values), 0.0
    scaled = np.clip(values / unit, -1, 1).astype(np.float32)
    return (cv2.medianBlur(scaled, blur) if blur else scaled), unit


def check_scaling(scaling: str) -> None:
    """Raise ``UserError`` for a scaling that is none."""
    share = _PERCENTILE.fullmatch(scaling)
    if scaling not in SCALINGS and not (share and 0 < float(share[1]) <= 100):
        raise UserError(f"scaling {scaling!r}: choose max, signed or percentile-P, e.g. -99")


def scaling_words(scaling: str, blur: int, method: str) -> str:
    """Return the caption's sentence on how a map was scaled."""
    what = "absolute gradient" if method in ABSOLUTE else "relevance"
    if scaling == "signed":
        by = f"{what}, both signs, divided by the image's largest magnitude"
    elif scaling == "max":
        by = f"positive {what} divided by the image's maximum"
    else:
        share = scaling.removeprefix("percentile-")
        by = f"positive {what} divided by the image's {share}th percentile, cut at 1"
    return by + (f"; median filter {blur} px" if blur else "")
