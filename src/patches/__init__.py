"""LRP-max patches: the pieces of images that feature maps respond to."""

from __future__ import annotations

from .extract import Patches, cut, patches
from .patch import PERCENTILE, TILE, Box, Patch, bounding_box, heat, tile
from .topn import Peak, PeakObserver, Peaks, TopImages

__all__ = [
    "PERCENTILE",
    "TILE",
    "Box",
    "Patch",
    "Patches",
    "Peak",
    "PeakObserver",
    "Peaks",
    "TopImages",
    "bounding_box",
    "cut",
    "heat",
    "patches",
    "tile",
]
