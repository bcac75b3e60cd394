"""LRP-max patches: the pieces of images that feature maps respond to."""

from __future__ import annotations

from .extract import Collages, Patches, collages, cut, patches, patches_of
from .patch import PERCENTILE, TILE, Box, Patch, bounding_box, heat, tile
from .topn import Peak, PeakLook, TopImages
