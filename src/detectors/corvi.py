"""ResNet-50 without the first downsampling (Corvi et al. 2023, ICASSP; Rajan et al. 2025, ICLR)."""

from __future__ import annotations

from torch import nn
from torchvision.models import resnet50

from .backbones import Published

NAME = "corvi"
PRESET = "wang-nocrop"  # ImageNet's mean and deviation, native size (Corvi2023/config.yaml)
FIRST_CONVOLUTION = "conv1"
PUBLISHED = Published(
    "Grag2021_latent/model_epoch_best.pth",
    "grip-unina/DMimageDetection",
    "GRIP-UNINA, nonprofit only",
    "GRIP-UNINA, nonprofit only; Corvi2023 of ClipBased-SyntheticImageDetection: Apache-2.0",
)


def build() -> nn.Module:
    """Return the network with PyTorch's initialisation, torchvision names: 23,510,081 parameters.

    The first convolution and the pooling after it go pixel by pixel, so that all maps are four
    times as wide and high as those of ``resnet50``, and cost as much more.
    """
    network = resnet50(weights=None, num_classes=1)
    network.conv1.stride = (1, 1)
    network.maxpool.stride = 1
    return network


def recognises(shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether a state dict with these shapes is one of ours.

    It cannot be told from Wang et al.'s ResNet-50, which differs in strides alone: the user says
    which.
    """
    return shapes.get("fc.weight") == (1, 2048) and shapes.get("conv1.weight") == (64, 3, 7, 7)
