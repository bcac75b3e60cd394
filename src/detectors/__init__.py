"""Registry of detectors, one file a published detector, strict checkpoint loading."""

from __future__ import annotations

from .activations import ChosenMaps, head, observed
from .checkpoints import Checkpoint, header, load_strictly, read_checkpoint, save_weights
from .detector import Detector, WeightsOrigin
from .plugins import load_plugin, own_detector
from .registry import (
    ARCHITECTURES,
    Architecture,
    describe,
    get_architecture,
    load_detector,
    named_preset,
    parse_spec,
    shipped_detectors,
    shipped_weights,
)
from .units import find_feature_maps, mlp_neurons
