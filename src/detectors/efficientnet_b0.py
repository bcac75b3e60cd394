"""EfficientNet-B0 with one logit (Chandrasegaran et al. 2022), names of efficientnet-pytorch."""

from __future__ import annotations

from efficientnet_pytorch import EfficientNet
from torch import nn

NAME = "efficientnet-b0"
PRESET = "wang-nocrop"
FIRST_CONVOLUTION = "_conv_stem"
WITHOUT = ("_se_reduce", "_se_expand")  # gates are not feature maps of the published ranking


def build() -> nn.Module:
    """Return the network with dynamic padding, for any image size: 4,008,829 parameters."""
    return EfficientNet.from_name("efficientnet-b0", num_classes=1, image_size=None)


def recognises(shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether a state dict with these shapes is one of ours (published key test)."""
    stem, head = shapes.get("_conv_stem.weight"), shapes.get("_fc.weight")
    return stem == (32, 3, 3, 3) and head == (1, 1280)
