"""Community Forensics: a small ViT trained on thousands of generators (Park, Owens 2025, CVPR)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from ..eight_bits import State
from .backbones import PREFIX, Backbone, Published, on_backbone, sizes, unneeded, vision_transformer

NAME = "commfor"
PRESET = "commfor-384"
FIRST_CONVOLUTION = "backbone.patch_embed.proj"
SIDE = 384
PUBLISHED = Published("model.safetensors", "OwensLab/commfor-model-384 (or -224)", "MIT", "MIT")

_VIT = "vit."


def build(width: int = 384, depth: int = 12, side: int = SIDE, patch: int = 16) -> nn.Module:
    """Return timm's ViT-S/16 with one logit: 21,811,969 parameters at 384 pixels.

    21,666,049 at 224. Input (N, 3, side, side), logits (N, 1); the published network gives their
    sigmoid.
    """
    return on_backbone(
        vision_transformer("vit", width=width, depth=depth, side=side, patch=patch),
        head=nn.Linear(width, 1),
    )


def recognises(shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether a file with these shapes is one of ours."""
    return shapes.get("vit.head.weight", (0,))[0] == 1 and "vit.cls_token" in shapes


def joined(state: State, backbone: Backbone | None, path: Any) -> State:
    """Return the network's state dict from the published file's.

    Raises:
        UserError: a backbone is given though the file holds its own.
    """
    unneeded(backbone, path)
    out: State = {}
    for key, value in state.items():
        own = key.removeprefix(_VIT)
        out[own if own.startswith("head.") else PREFIX + own] = value
    return out


def options_of(shapes: dict[str, tuple[int, ...]], facts: object) -> dict[str, Any]:
    """Return the sizes of a network with a state dict of these shapes."""
    patch = shapes[f"{PREFIX}patch_embed.proj.weight"][-1]
    patches = round((shapes[f"{PREFIX}pos_embed"][1] - 1) ** 0.5)
    return {**sizes(shapes), "side": patches * patch, "patch": patch}


def preset_for(options: Mapping[str, Any]) -> str:
    """Return the name of the published preprocessing: 440 and centre 384, or 256 and centre 224."""
    return "imagenet" if options.get("side") == 224 else PRESET
