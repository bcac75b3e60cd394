"""Effort: CLIP whose attention was tuned in the directions that it hardly used.

Yan et al. 2025, *Orthogonal Subspace Decomposition for Generalizable AI-Generated Image Detection*
(ICML). Of each linear layer of an attention, all but the smallest singular direction stayed as they
were: W = W_main + U diag(S) V with the trained U (out, r), S (r), V (r, in), r = 1 as published.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ..eight_bits import State
from .backbones import (
    PROJECTION,
    Backbone,
    Published,
    on_backbone,
    sizes,
    tower,
    unneeded,
    vision_transformer,
)

NAME = "effort"
PRESET = "clip-squash224"
FIRST_CONVOLUTION = "backbone.patch_embed.proj"
PUBLISHED = Published(
    "the checkpoint of its README (Google Drive)",
    "YZY-stack/Effort-AIGI-Detection",
    "non-commercial",
    "non-commercial",
)
SIDE = 224

_TOWERS = ("model.vision_model.", "backbone.")  # of the two programs that it is published with


def build(width: int = 1024, depth: int = 24, outputs: int = 2) -> nn.Module:
    """Return CLIP ViT-L/14 before its projection and two logits, real and fake.

    303,181,826 parameters with the parts of each layer added up; input (N, 3, 224, 224), logits
    (N, outputs). outputs: 1 is one logit of fake.
    """
    return on_backbone(
        vision_transformer("clip", width=width, depth=depth, side=SIDE),
        head=nn.Linear(width, outputs),
    )


def recognises(shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether a file with these shapes is one of ours, from either of its programs."""
    parts = any(key.endswith(".self_attn.q_proj.weight_main") for key in shapes)
    head = shapes.get("head.weight", shapes.get("fc.weight", ()))
    return parts and len(head) == 2 and head[0] in (1, 2)


def added_up(state: Mapping[str, torch.Tensor]) -> State:
    """Return a state dict with ``weight`` in place of the parts that it is the sum of.

    The parts that did not change (``U_r``, ``S_r``, ``V_r``) are in ``weight_main`` already.
    """
    out: State = {}
    for key, value in state.items():
        before, _, part = key.rpartition(".")
        if part == "weight_main":
            u, s, v = (state.get(f"{before}.{one}_residual") for one in "USV")
            whole = value.float()
            if u is not None and s is not None and v is not None:
                whole = whole + (u.float() * s.float()) @ v.float()
            out[f"{before}.weight"] = whole
        elif not re.fullmatch(r"[USV]_(residual|r)", part):
            out[key] = value
    return out


def joined(state: State, backbone: Backbone | None, path: Any) -> State:
    """Return the network's state dict from the published file's.

    Raises:
        UserError: a backbone is given though the file holds its own.
    """
    unneeded(backbone, path)
    inside = next(one for one in _TOWERS if any(key.startswith(one) for key in state))
    own = {key.removeprefix(inside): one for key, one in state.items() if key.startswith(inside)}
    found = tower(added_up(own), SIDE, path)
    for key, value in state.items():
        if not key.startswith((inside, "model.")):  # beside the image tower a text tower may lie
            found[re.sub(r"^fc\.", "head.", key)] = value
    found.pop(PROJECTION, None)
    return found


def options_of(shapes: dict[str, tuple[int, ...]], facts: object) -> dict[str, Any]:
    """Return the sizes of a network with a state dict of these shapes."""
    return {**sizes(shapes), "outputs": shapes["head.weight"][0]}


def classes_of(options: Mapping[str, Any]) -> tuple[tuple[str, ...], int]:
    """Return the names of the classes and the index of the real one; none for one logit."""
    return (("real", "fake") if options.get("outputs", 2) == 2 else ()), 0
