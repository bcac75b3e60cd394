"""C2P-CLIP: a linear layer on CLIP's image feature, CLIP tuned with category prompts.

Tan, Tao, Liu, Gu, Wu, Zhao, Wei 2025, *C2P-CLIP: Injecting Category Common Prompt in CLIP* (AAAI).
The published file holds the image tower with what was trained merged into it; no text is needed.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from ..eight_bits import State
from .backbones import (
    PROJECTION,
    Backbone,
    Published,
    UnitLength,
    on_backbone,
    sizes,
    tower,
    unneeded,
    vision_transformer,
)
from .univfd import EMBEDDING

NAME = "c2p-clip"
PRESET = "clip-resize224"
FIRST_CONVOLUTION = "backbone.patch_embed.proj"
PUBLISHED = Published(
    "C2P_CLIP_release_20240901.zip, unpacked,",
    "chuangchuangtan/C2P-CLIP-DeepfakeDetection",
    "none stated",
    "none stated",
)
SIDE = 224


def build(width: int = 1024, depth: int = 24, embedding: int = EMBEDDING) -> nn.Module:
    """Return CLIP ViT-L/14, its feature at unit length, one logit: 303,966,977 parameters.

    Input (N, 3, 224, 224), logits (N, 1).
    """
    return on_backbone(
        vision_transformer("clip", width=width, depth=depth, side=SIDE),
        projection=nn.Linear(width, embedding, bias=False),
        unit=UnitLength(),
        fc=nn.Linear(embedding, 1),
    )


def recognises(shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether a file with these shapes is one of ours (``model.`` is taken off its names)."""
    head, projection = shapes.get("fc.weight"), shapes.get("visual_projection.weight")
    return projection is not None and head == (1, projection[0])


def joined(state: State, backbone: Backbone | None, path: Any) -> State:
    """Return the network's state dict from the published file's.

    Raises:
        UserError: a backbone is given though the file holds its own.
    """
    unneeded(backbone, path)
    fc = {key: one for key, one in state.items() if key.startswith("fc.")}
    return {**tower({k: v for k, v in state.items() if k not in fc}, SIDE, path), **fc}


def options_of(shapes: dict[str, tuple[int, ...]], facts: object) -> dict[str, Any]:
    """Return the sizes of a network with a state dict of these shapes."""
    return {**sizes(shapes), "embedding": shapes.get(PROJECTION, (EMBEDDING,))[0]}
