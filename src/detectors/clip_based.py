"""ClipBased-SyntheticImageDetection: a linear layer on CLIP's next-to-last features.

Cozzolino, Poggi, Corvi, Nießner, Verdoliva 2024, *Raising the Bar of AI-generated Image Detection
with CLIP* (CVPR workshops). The logit is the published log-likelihood ratio.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from ..eight_bits import State
from .backbones import (
    COMMON_POOL,
    PROJECTION,
    Backbone,
    Published,
    UnitLength,
    needed,
    on_backbone,
    sizes,
    tower,
    vision_transformer,
)
from .univfd import EMBEDDING

NAME = "clip-based"
PRESET = "clip-bicubic224"
FIRST_CONVOLUTION = "backbone.patch_embed.proj"
PUBLISHED = Published(
    "weights/clipdet_latent10k_plus/weights.pth",
    "grip-unina/ClipBased-SyntheticImageDetection",
    "Apache-2.0",
    "Apache-2.0",
)
BACKBONE = COMMON_POOL
SIDE = 224


def build(width: int = 1024, depth: int = 24) -> nn.Module:
    """Return open_clip's ViT-L/14 before its projection and one logit: 303,180,801 parameters.

    Input (N, 3, 224, 224), logits (N, 1). The features have unit length before the linear layer.
    """
    return on_backbone(
        vision_transformer("clip-gelu", width=width, depth=depth, side=SIDE),
        unit=UnitLength(),
        fc=nn.Linear(width, 1),
    )


def recognises(shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether a file with these shapes is one of ours: the linear layer alone."""
    head = shapes.get("fc.weight", (0, 0))
    return shapes.keys() == {"fc.weight", "fc.bias"} and head[0] == 1 and head[1] != EMBEDDING


def joined(state: State, backbone: Backbone | None, path: Any) -> State:
    """Return the network's state dict from the published file's, and open_clip's.

    Raises:
        UserError: open_clip's file is missing.
    """
    clip = needed(backbone, path, BACKBONE, NAME)
    found = {**tower(clip.state, SIDE, clip.path), **state}
    found.pop(PROJECTION, None)  # the features before it are looked at
    return found


def options_of(shapes: dict[str, tuple[int, ...]], facts: object) -> dict[str, Any]:
    """Return the sizes of a network with a state dict of these shapes."""
    return sizes(shapes)
