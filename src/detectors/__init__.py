"""Registry of detectors, one file a published detector, strict checkpoint loading."""

from __future__ import annotations

from .activations import ChosenMaps, head, observed
from .checkpoints import Checkpoint, header, load_strictly, read_checkpoint, save_weights
from .detector import Detector, WeightsOrigin, convolution_maps
from .plugins import load_plugin, own_detector
from .registry import (
    ARCHITECTURES,
    Architecture,
    describe,
    get_architecture,
    is_own,
    load_detector,
    named_preset,
    parse_spec,
    shipped_detectors,
    shipped_weights,
)

__all__ = [
    "ARCHITECTURES",
    "Architecture",
    "Checkpoint",
    "ChosenMaps",
    "Detector",
    "WeightsOrigin",
    "convolution_maps",
    "describe",
    "get_architecture",
    "head",
    "header",
    "is_own",
    "load_detector",
    "load_plugin",
    "load_strictly",
    "named_preset",
    "observed",
    "own_detector",
    "parse_spec",
    "read_checkpoint",
    "save_weights",
    "shipped_detectors",
    "shipped_weights",
]
