"""A small vision transformer with one logit, trained here from scratch; names as timm's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

NAME = "vit"
PRESET = "vit"
FIRST_CONVOLUTION = "patch_embed.conv1"
# Of the stem: the feature maps are the neurons of the MLPs alone.
WITHOUT = ("conv1", "conv2", "conv3", "conv4", "proj")

PATCH = 8  # pixels a side of a token's patch
HEAD = 64  # channels of an attention head
RATIO = 4  # of the MLP's neurons to the width
SIDE = 96
STEMS = ("convolutional", "patch")


class Attention(nn.Module):
    """Self-attention of tokens (N, T, width), heads of ``HEAD`` channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // HEAD
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, HEAD).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)
        mixed = scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).reshape(batch, tokens, width))


class MLP(nn.Module):
    """Linear – GELU – Linear; its ``RATIO`` · width neurons are what ``act`` gives."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, RATIO * width)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(RATIO * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    """Attention, then an MLP, each after a LayerNorm and beside a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = MLP(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Stem, class token, position table, blocks, LayerNorm, one logit from the class token.

    Input (N, 3, side, side), logits (N, 1). With the default options 2,512,769 parameters.
    """

    def __init__(self, width: int, depth: int, side: int, stem: str) -> None:
        super().__init__()
        self.patch_embed = _stem(width, stem)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (side // PATCH) ** 2, width))
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, 1)
        for table in (self.cls_token, self.pos_embed):
            nn.init.normal_(table, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])


def _stem(width: int, stem: str) -> nn.Sequential:
    """Return what makes (N, width, side / PATCH, side / PATCH) of an image.

    'patch' is one convolution; 'convolutional' four of 3×3, all but the first of stride 2, each
    with BatchNorm and ReLU, and one of 1×1 (Xiao et al. 2021).
    """
    found = nn.Sequential()
    if stem == "patch":
        found.add_module("conv1", nn.Conv2d(3, width, PATCH, PATCH))
        return found
    channels = 3
    for place, (out, stride) in enumerate(
        ((width // 6, 1), (width // 4, 2), (width // 2, 2), (width, 2)), start=1
    ):
        found.add_module(f"conv{place}", nn.Conv2d(channels, out, 3, stride, 1, bias=False))
        found.add_module(f"bn{place}", nn.BatchNorm2d(out))
        found.add_module(f"relu{place}", nn.ReLU())
        channels = out
    found.add_module("proj", nn.Conv2d(width, width, 1))
    return found


def build(
    width: int = 192, depth: int = 5, side: int = SIDE, stem: str = "convolutional"
) -> nn.Module:
    """Return the network with random weights.

    width: channels of a token, a multiple of ``HEAD``; depth: blocks; side: pixels of the input, a
    multiple of ``PATCH``; stem: one of ``STEMS``.

    Raises:
        ValueError: an option that is none of these.
    """
    if width % HEAD or side % PATCH or stem not in STEMS:
        raise ValueError(
            f"width {width}, side {side}, stem {stem!r}: a multiple of {HEAD}, a multiple of "
            f"{PATCH}, one of {', '.join(STEMS)}"
        )
    return ViT(width, depth, side, stem)


def recognises(shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether a state dict with these shapes is one of ours, of any width, depth and side."""
    first, head = shapes.get(f"{FIRST_CONVOLUTION}.weight", ()), shapes.get("head.weight", ())
    return first[1:2] == (3,) and head[:1] == (1,) and "pos_embed" in shapes


def options_of(shapes: dict[str, tuple[int, ...]], facts: Mapping[str, str]) -> dict[str, Any]:
    """Return the options of ``build`` for a network with these shapes."""
    _, tokens, width = shapes["pos_embed"]
    depth = sum(key.endswith(".attn.qkv.weight") for key in shapes)
    stem = "convolutional" if "patch_embed.proj.weight" in shapes else "patch"
    return {
        "width": width,
        "depth": depth,
        "side": PATCH * round((tokens - 1) ** 0.5),
        "stem": stem,
    }
