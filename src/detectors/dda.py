"""DDA: DINOv2 tuned with low-rank additions on dually aligned data (Chen et al. 2025, NeurIPS).

A layer of DINOv2 gives W x + (α / r) B A x with A (r, in), B (out, r); here the product is added to
W. The published α is 1, and it is not in the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ..eight_bits import State
from ..errors import UserError
from .backbones import (
    DINOV2,
    PREFIX,
    Backbone,
    Published,
    needed,
    on_backbone,
    sizes,
    tower,
    unneeded,
    vision_transformer,
)

NAME = "dda"
PRESET = "clip-crop336"
FIRST_CONVOLUTION = "backbone.patch_embed.proj"
PUBLISHED = Published("ckpt.pth", "roy-ch/Dual-Data-Alignment", "Apache-2.0", "Apache-2.0")
SIDE = 336
ALPHA = 1.0

_HEAD, _TOWER = "base_model.", "base_model.model."


def build(width: int = 1024, depth: int = 24) -> nn.Module:
    """Return DINOv2 ViT-L/14 and one logit: 303,556,609 parameters, the additions added.

    Input (N, 3, 336, 336), logits (N, 1). That is 812,032 fewer than at DINOv2's own 518 pixels,
    whose position table is resized as DINOv2 does it (``backbones.resized``, hub).
    """
    return on_backbone(
        vision_transformer("dinov2", width=width, depth=depth, side=SIDE), fc=nn.Linear(width, 1)
    )


def recognises(shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether a file with these shapes is one of ours: whole, or what was trained alone."""
    head = shapes.get(f"{_HEAD}fc.weight", (0, 0))
    return head[0] == 1 and any(key.endswith(".lora.lora_A") for key in shapes)


def merged(state: Mapping[str, torch.Tensor]) -> State:
    """Return a state dict with W + (α / r) B A in place of W, A and B.

    Names are ``LAYER.original_layer.weight``, ``LAYER.lora.lora_A`` and ``LAYER.lora.lora_B``.

    Raises:
        UserError: an A without its B, or without its W.
    """
    out: State = {}
    for key, value in state.items():
        if ".lora." not in key:
            out[key.replace(".original_layer.", ".")] = value
    for key, down in state.items():
        layer, _, part = key.partition(".lora.")
        if part == "lora_A":
            up, weight = state.get(f"{layer}.lora.lora_B"), out.get(f"{layer}.weight")
            if up is None or weight is None:
                missing = "lora.lora_B" if up is None else "weight"
                raise UserError(f"{layer}: holds lora.lora_A, but not {missing}")
            added = ALPHA / len(down) * (up.float() @ down.float())
            out[f"{layer}.weight"] = weight.float() + added
    return out


def joined(state: State, backbone: Backbone | None, path: Any) -> State:
    """Return the network's state dict from the published file's, and DINOv2's if it is not there.

    Raises:
        UserError: DINOv2 is missing, or given though the file holds it.
    """
    own = {k.removeprefix(_TOWER): v for k, v in state.items() if k.startswith(_TOWER)}
    found = {
        k.removeprefix(_HEAD): v
        for k, v in state.items()
        if k.startswith(_HEAD) and not k.startswith(_TOWER)
    }
    if "cls_token" in own:
        unneeded(backbone, path)
        return {**tower(merged(own), SIDE, path, hub=True), **found}
    below = needed(backbone, path, DINOV2, NAME)
    trained = {PREFIX + key: one for key, one in own.items()}
    return {**merged({**tower(below.state, SIDE, below.path, hub=True), **trained}), **found}


def options_of(shapes: dict[str, tuple[int, ...]], facts: object) -> dict[str, Any]:
    """Return the sizes of a network with a state dict of these shapes."""
    return sizes(shapes)
