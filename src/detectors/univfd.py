"""UnivFD: a linear layer on CLIP's image feature (Ojha, Li, Lee 2023, CVPR)."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..eight_bits import State
from .backbones import (
    CLIP,
    PROJECTION,
    Backbone,
    Published,
    needed,
    on_backbone,
    sizes,
    tower,
    unneeded,
    vision_transformer,
)

NAME = "univfd"
PRESET = "clip-crop224"
FIRST_CONVOLUTION = "backbone.patch_embed.proj"
PUBLISHED = Published("fc_weights.pth", "WisconsinAIVision/UniversalFakeDetect", "MIT", "MIT")
BACKBONE = CLIP
SIDE = 224
EMBEDDING = 768

_HEAD = {"weight", "bias"}


def build(width: int = 1024, depth: int = 24, embedding: int = EMBEDDING) -> nn.Module:
    """Return CLIP ViT-L/14, its projection and one logit: 303,966,977 parameters.

    Input (N, 3, 224, 224), logits (N, 1). width, depth: of the transformer; embedding: length of
    CLIP's image feature.
    """
    return on_backbone(
        vision_transformer("clip", width=width, depth=depth, side=SIDE),
        projection=nn.Linear(width, embedding, bias=False),
        fc=nn.Linear(embedding, 1),
    )


def recognises(shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether a file with these shapes is one of ours: the head alone, or all that was trained."""
    head = shapes.get("fc.weight", (0, 0))
    if shapes.keys() == _HEAD:
        return len(shapes["weight"]) == 2 and shapes["weight"][0] == 1
    if shapes.keys() == {"fc.weight", "fc.bias"}:
        return head == (1, EMBEDDING)
    return head[0] == 1 and "model.visual.class_embedding" in shapes


def joined(state: State, backbone: Backbone | None, path: Any) -> State:
    """Return the network's state dict from the published file's, and CLIP's.

    Raises:
        UserError: CLIP is missing, or given though the file holds it.
    """
    fc = {f"fc.{key.removeprefix('fc.')}": state[key] for key in state if "model." not in key}
    own = {key.removeprefix("model."): one for key, one in state.items() if "model." in key}
    if own:
        unneeded(backbone, path)
        return {**tower(own, SIDE, path), **fc}
    clip = needed(backbone, path, BACKBONE, NAME)
    return {**tower(clip.state, SIDE, clip.path), **fc}


def options_of(shapes: dict[str, tuple[int, ...]], facts: object) -> dict[str, Any]:
    """Return the sizes of a network with a state dict of these shapes."""
    return {**sizes(shapes), "embedding": shapes.get(PROJECTION, (EMBEDDING,))[0]}
