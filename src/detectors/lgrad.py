"""LGrad: learning on gradients (Tan et al. 2023, CVPR): ResNet-50 on gradient images."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import nn
from torchvision.models import resnet50

from ..data.presets import Preset, get_preset
from ..errors import UserError
from .gradient_images import gradient_preset

NAME = "lgrad"
PRESET = "lgrad"
FIRST_CONVOLUTION = "conv1"

ON_GRADIENTS = Preset("lgrad-gradients")  # the images are gradient images already, of any size
_PRESET = re.compile(r"lgrad(?:-(?P<side>\d+|native))?(?::(?P<critic>.+))?")


def build(stages: int = 4) -> nn.Module:
    """Return ResNet-50 with one logit, torchvision names: 23,510,081 parameters.

    stages: how many of the four stages are kept (1 … 4, 4 is published); with 2 the logit sees
    512 features and the network has 1,445,441 parameters.

    Raises:
        UserError: no such number of stages.
    """
    if stages not in (1, 2, 3, 4):
        raise UserError(f"lgrad: stages {stages}: must be 1, 2, 3 or 4")
    network = resnet50(weights=None, num_classes=1)
    for stage in range(stages + 1, 5):
        setattr(network, f"layer{stage}", nn.Identity())
    network.fc = nn.Linear(2 ** (7 + stages), 1)
    nn.init.normal_(network.fc.weight, 0.0, 0.02)
    return network


def recognises(shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether a state dict with these shapes is one of ours.

    With all four stages it cannot be told from Wang et al.'s ResNet-50: the user says which.
    """
    stem, head = shapes.get("conv1.weight"), shapes.get("fc.weight", ())
    return stem == (64, 3, 7, 7) and head in [(1, 2 ** (7 + stages)) for stages in (1, 2, 3, 4)]


def options_of(shapes: dict[str, tuple[int, ...]], facts: Mapping[str, str]) -> dict[str, Any]:
    """Return how many stages a recognised state dict has."""
    return {"stages": shapes["fc.weight"][1].bit_length() - 8}


def preset_of(name: str) -> Preset | None:
    """Return LGrad's preset of that name, None if it is none of them.

    ``lgrad``: the project's own critic; ``lgrad:FILE``, ``lgrad:module:name``: another one, at the
    image's native size or the only size it takes (256 for StyleGAN's, as published);
    ``lgrad-256:FILE``, ``lgrad-native``: at another size; ``lgrad-gradients``: the images are
    gradient images already.
    """
    if name == ON_GRADIENTS.name:
        return ON_GRADIENTS
    match = _PRESET.fullmatch(name)
    if match is None:
        return None
    side = None
    if match["side"]:
        side = 0 if match["side"] == "native" else int(match["side"])
    return gradient_preset(match["critic"], side=side)


def named_preset(name: str) -> Preset:
    """Return the preset of that name, also where it looks at images through a critic (LGrad).

    Raises:
        UserError: there is none.
    """
    return preset_of(name) or get_preset(name)
