"""RINE: the class token inside every block of CLIP (Koutlis, Papadopoulos 2024, ECCV)."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn

from ..eight_bits import State
from .backbones import (
    CLIP,
    PREFIX,
    PROJECTION,
    Backbone,
    Published,
    needed,
    sizes,
    tower,
    vision_transformer,
)

NAME = "rine"
PRESET = "clip-crop224"
FIRST_CONVOLUTION = "backbone.patch_embed.proj"
PUBLISHED = Published(
    "ckpt/model_4class_trainable.pth", "mever-team/rine", "Apache-2.0", "Apache-2.0"
)
BACKBONE = CLIP
SIDE = 224
DROPOUT = 0.5


class RINE(nn.Module):
    """CLIP's blocks, two projections with a weighted sum over the blocks between them, a head.

    Input (N, 3, 224, 224), logits (N, 1). What is looked at of a block is the class token after
    its second norm, which goes into its MLP; what comes after that in CLIP, the last block's MLP
    and the last norm, is left out.
    """

    def __init__(self, width: int, depth: int, projections: int, features: int) -> None:
        super().__init__()
        clip: Any = vision_transformer("clip", width=width, depth=depth, side=SIDE)
        clip.blocks[-1].mlp, clip.norm = nn.Identity(), nn.Identity()
        self.backbone = clip
        self.alpha = nn.Parameter(torch.zeros(1, depth, features))
        self.proj1 = _projections(width, features, projections)
        self.proj2 = _projections(features, features, projections)
        self.head = nn.Sequential(
            nn.Linear(features, features), nn.ReLU(), nn.Dropout(DROPOUT),
            nn.Linear(features, features), nn.ReLU(), nn.Dropout(DROPOUT),
            nn.Linear(features, 1),
        )  # fmt: skip

    def tokens(self, x: torch.Tensor) -> torch.Tensor:
        """Return the class tokens (N, blocks, width), each after its block's second norm."""
        clip: Any = self.backbone
        x = clip.patch_embed(x)
        x = torch.cat([clip.cls_token.expand(x.shape[0], -1, -1), x], dim=1)
        x = clip.norm_pre(x + clip.pos_embed)
        found = []
        for block in clip.blocks:
            x = x + block.attn(block.norm1(x))
            inside = block.norm2(x)
            found.append(inside[:, 0])
            x = x + block.mlp(inside)
        return torch.stack(found, dim=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.proj1(self.tokens(x))
        # The weighted sum over the blocks, as their number times its mean: LRP has a rule for that.
        weights = torch.softmax(self.alpha, dim=1) * self.alpha.shape[1]
        return self.head(self.proj2((weights * x).mean(dim=1)))


def _projections(width: int, features: int, number: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Dropout(DROPOUT)]
    for at in range(number):
        into = width if at == 0 else features
        layers += [nn.Linear(into, features), nn.ReLU(), nn.Dropout(DROPOUT)]
    return nn.Sequential(*layers)


def build(
    width: int = 1024, depth: int = 24, projections: int = 2, features: int = 1024
) -> nn.Module:
    """Return the network: 301,107,201 parameters, of which 6,323,201 were trained.

    projections: linear layers before and after the sum; features: their width. Published for 4
    classes of ProGAN: 2 and 1024, for one class and for latent diffusion: 4 and 1024, for two
    classes: 4 and 128.
    """
    return RINE(width, depth, projections, features)


def recognises(shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether a file with these shapes is one of ours: all but CLIP."""
    alpha, head = shapes.get("alpha", ()), shapes.get("head.6.weight", ())
    return len(alpha) == 3 and head == (1, alpha[-1]) and "proj1.1.weight" in shapes


def joined(state: State, backbone: Backbone | None, path: Any) -> State:
    """Return the network's state dict from the published file's, and CLIP's.

    Raises:
        UserError: CLIP is missing.
    """
    clip = needed(backbone, path, BACKBONE, NAME)
    found = tower(clip.state, SIDE, clip.path)
    last = sizes({key: tuple(one.shape) for key, one in found.items()})["depth"] - 1
    unused = (PROJECTION, f"{PREFIX}norm.", f"{PREFIX}blocks.{last}.mlp.")
    return {key: one for key, one in found.items() if not key.startswith(unused)} | state


def options_of(shapes: dict[str, tuple[int, ...]], facts: object) -> dict[str, Any]:
    """Return the sizes of a network with a state dict of these shapes."""
    projections = sum(bool(re.fullmatch(r"proj1\.\d+\.weight", key)) for key in shapes)
    return {**sizes(shapes), "projections": projections, "features": shapes["alpha"][-1]}
