"""Registry of detectors, one file a published detector, strict checkpoint loading."""

from __future__ import annotations

from .activations import ChosenMaps, head, observed
from .checkpoints import header, load_strictly, read_checkpoint, save_weights
from .detector import Detector, WeightsOrigin, convolution_maps
from .plugins import is_plugin, load_plugin, own_detector
from .registry import (
    ARCHITECTURES,
    Architecture,
    describe,
    get_architecture,
    load_detector,
    named_preset,
    shipped_detectors,
    shipped_weights,
)

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "ChosenMaps",
    "Detector",
    "WeightsOrigin",
    "convolution_maps",
    "describe",
    "get_architecture",
    "head",
    "header",
    "is_plugin",
    "load_detector",
    "load_plugin",
    "load_strictly",
    "named_preset",
    "observed",
    "own_detector",
    "read_checkpoint",
    "save_weights",
    "shipped_detectors",
    "shipped_weights",
]
