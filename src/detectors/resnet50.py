"""ResNet-50 with one logit: the universal detector of Wang et al. 2020; torchvision names."""

from __future__ import annotations

from torch import nn
from torchvision.models import resnet50

NAME = "resnet50"
PRESET = "wang-nocrop"
FIRST_CONVOLUTION = "conv1"


def build() -> nn.Module:
    """Return the network with PyTorch's initialisation: 23,510,081 parameters."""
    return resnet50(weights=None, num_classes=1)


def recognises(shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether a state dict with these shapes is one of ours (published key test)."""
    return shapes.get("fc.weight") == (1, 2048) and shapes.get("conv1.weight") == (64, 3, 7, 7)
