"""Backbones that detectors stand on: timm's networks, and files of them as people hold them.

The names in a file are translated to timm's, strictly: what has no place in timm's network stays as
it is called, so that loading names it. Only what does not see the image is dropped, by its name.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from ..eight_bits import State
from ..errors import UserError

HEAD_WIDTH = 64  # channels of an attention head, in all of these networks
PREFIX = "backbone."  # where a detector keeps it
PROJECTION = "projection.weight"  # of CLIP's image feature, (embedding, width), without bias


@dataclass(frozen=True)
class Published:
    """A file that others publish.

    file: what it is called there; at: the repository; code, weights: their licences as stated
    there ('none stated' where there is nothing: all rights are reserved then).
    """

    file: str
    at: str
    code: str
    weights: str

    def __str__(self) -> str:
        return f"{self.file} of {self.at}"


class Backbone(NamedTuple):
    """A backbone's file, read: its tensors by the file's names, and its path."""

    state: State
    path: Path


CLIP = Published("ViT-L-14.pt", "openai/CLIP", "MIT", "MIT")
COMMON_POOL = Published(
    "open_clip_pytorch_model.bin", "laion/CLIP-ViT-L-14-CommonPool.XL-s13B-b90K", "MIT", "MIT"
)
DINOV2 = Published(
    "dinov2_vitl14_pretrain.pth", "facebookresearch/dinov2", "Apache-2.0", "Apache-2.0"
)

# kind → what timm's VisionTransformer is given beside its sizes, and the LayerNorms' epsilon.
# OpenAI's CLIP has x · sigmoid(1.702 x) where LAION's ViT-L/14 has GELU.
_KINDS: dict[str, tuple[dict[str, Any], float]] = {
    "clip": ({"pre_norm": True, "act_layer": "quick_gelu"}, 1e-5),
    "clip-gelu": ({"pre_norm": True}, 1e-5),
    "dinov2": ({"init_values": 1e-5}, 1e-6),
    "vit": ({}, 1e-6),
}


def vision_transformer(
    kind: str, *, width: int, depth: int, side: int, patch: int = 14, outputs: int = 0
) -> nn.Module:
    """Return timm's vision transformer: (N, 3, side, side) → class token after the last norm.

    kind: 'clip', 'clip-gelu', 'dinov2' or 'vit'; outputs: with a linear layer behind it (0: none).
    """
    from timm.models.vision_transformer import VisionTransformer

    given, epsilon = _KINDS[kind]
    network: nn.Module = VisionTransformer(
        img_size=side,
        patch_size=patch,
        embed_dim=width,
        depth=depth,
        num_heads=max(1, width // HEAD_WIDTH),
        num_classes=outputs,
        norm_layer=lambda size, **on: nn.LayerNorm(size, eps=epsilon, **on),
        weight_init="skip",
        **given,
    )
    return network


class UnitLength(nn.Module):
    """Features (N, D) divided by their Euclidean length, as CLIP compares them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.normalize(x, dim=-1)


def on_backbone(backbone: nn.Module, **behind: nn.Module) -> nn.Sequential:
    """Return a backbone and what stands behind it, under their names, one after the other."""
    return nn.Sequential(OrderedDict(backbone=backbone, **behind))


class _Layout(NamedTuple):
    """How a file's names become timm's.

    marks: names that only this layout has, any of them; dropped: names of what never sees the
    image; renamed: patterns and what stands in their place, one after the other.
    """

    marks: tuple[str, ...]
    dropped: str
    renamed: tuple[tuple[str, str], ...]


_LAYOUTS = (
    _Layout(  # OpenAI's CLIP and open_clip
        ("visual.class_embedding",),
        r"(transformer|token_embedding|ln_final|text)\.|positional_embedding$|text_projection|"
        r"logit_(scale|bias)$|attn_mask$|input_resolution$|context_length$|vocab_size$",
        (
            (r"^visual\.", ""),
            (r"^class_embedding$", "cls_token"),
            (r"^positional_embedding$", "pos_embed"),
            (r"^conv1\.", "patch_embed.proj."),
            (r"^ln_pre\.", "norm_pre."),
            (r"^ln_post\.", "norm."),
            (r"^proj$", PROJECTION),
            (r"^transformer\.resblocks\.", "blocks."),
            (r"\.ln_([12])\.", r".norm\1."),
            (r"\.attn\.in_proj_", ".attn.qkv."),
            (r"\.attn\.out_proj\.", ".attn.proj."),
            (r"\.mlp\.c_fc\.", ".mlp.fc1."),
            (r"\.mlp\.c_proj\.", ".mlp.fc2."),
        ),
    ),
    _Layout(  # CLIP of transformers
        ("vision_model.embeddings.class_embedding", "embeddings.class_embedding"),
        r"text_model\.|text_projection\.|logit_scale$|(vision_model\.)?embeddings\.position_ids$",
        (
            (r"^vision_model\.", ""),
            (r"^embeddings\.class_embedding$", "cls_token"),
            (r"^embeddings\.position_embedding\.weight$", "pos_embed"),
            (r"^embeddings\.patch_embedding\.", "patch_embed.proj."),
            (r"^pre_layrnorm\.", "norm_pre."),
            (r"^post_layernorm\.", "norm."),
            (r"^visual_projection\.weight$", PROJECTION),
            (r"^encoder\.layers\.", "blocks."),
            (r"\.layer_norm([12])\.", r".norm\1."),
            (r"\.self_attn\.([qkv])_proj\.", r".attn.\1."),
            (r"\.self_attn\.out_proj\.", ".attn.proj."),
        ),
    ),
    _Layout(  # DINOv2 of transformers
        ("embeddings.cls_token",),
        r"embeddings\.mask_token$",
        (
            (r"^embeddings\.cls_token$", "cls_token"),
            (r"^embeddings\.position_embeddings$", "pos_embed"),
            (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
            (r"^layernorm\.", "norm."),
            (r"^encoder\.layer\.", "blocks."),
            (r"\.attention\.attention\.(q|k|v)(uery|ey|alue)\.", r".attn.\1."),
            (r"\.attention\.output\.dense\.", ".attn.proj."),
            (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
        ),
    ),
    _Layout(  # timm, and DINOv2 of torch hub, whose names timm took over
        ("cls_token",),
        r"mask_token$",
        ((r"^head\.weight$", PROJECTION),),
    ),
)


def translated(state: Mapping[str, torch.Tensor], where: Path | str) -> State:
    """Return a backbone's tensors by timm's names, CLIP's projection as ``projection.weight``.

    Raises:
        UserError: the names are of none of the layouts that are known.
    """
    layout = next((one for one in _LAYOUTS if any(mark in state for mark in one.marks)), None)
    if layout is None:
        raise UserError(
            f"{where}: not a backbone in a layout that is known (OpenAI's CLIP, open_clip, "
            f"transformers, timm, DINOv2 of torch hub); it holds {', '.join([*state][:3])} …"
        )
    out: State = {}
    for key, value in state.items():
        if re.match(layout.dropped, key):
            continue
        name = key
        for pattern, behind in layout.renamed:
            name = re.sub(pattern, behind, name)
        out[name] = value
    if "visual.proj" in state:  # OpenAI multiplies by it from the right
        out[PROJECTION] = out[PROJECTION].T
    if "head.bias" in out and not out["head.bias"].any():  # timm writes one for a CLIP
        del out["head.bias"]
    out["cls_token"] = out["cls_token"].reshape(1, 1, -1)
    if "pos_embed" in out and out["pos_embed"].dim() == 2:
        out["pos_embed"] = out["pos_embed"][None]
    return _joined_attention(out)


def _joined_attention(state: State) -> State:
    """Return a state dict with queries, keys and values in one matrix, as timm has them."""
    out: State = {}
    for key, value in state.items():
        part = re.fullmatch(r"(blocks\.\d+\.attn\.)([qkv])\.(weight|bias)", key)
        names = [f"{part[1]}{one}.{part[3]}" for one in "qkv"] if part else []
        if part is None or not all(name in state for name in names):
            out[key] = value
        elif part[2] == "q":
            out[f"{part[1]}qkv.{part[3]}"] = torch.cat([state[name] for name in names])
    return out


def tower(state: State, side: int, where: Path | str, *, hub: bool = False) -> State:
    """Return a backbone's tensors under the names that detectors keep them by.

    side: of the images, in pixels; a position table for another size is resized, see
    :func:`resized`; hub: as DINOv2's own code does.

    Raises:
        UserError: see :func:`translated`.
    """
    found = translated(state, where)
    if "pos_embed" in found and "patch_embed.proj.weight" in found:
        patches = side // found["patch_embed.proj.weight"].shape[-1]
        found["pos_embed"] = resized(found["pos_embed"], patches, hub=hub)
    return {key if key == PROJECTION else PREFIX + key: one for key, one in found.items()}


def resized(table: torch.Tensor, patches: int, *, hub: bool = False) -> torch.Tensor:
    """Return a position table (1, 1 + n², D) for patches × patches patches, in float32.

    The class token's entry stays; the others are a square picture that is resized bicubically,
    antialiased, as open_clip and timm do. hub: as DINOv2's own code does when an image is not the
    size it was trained on: not antialiased, and by the factor (patches + 0.1) / n, so that the
    corners lie a little inside.
    """
    first, grid = table[:, :1].float(), table[:, 1:].float()
    across = round(grid.shape[1] ** 0.5)
    if across == patches or across**2 != grid.shape[1]:
        return table
    picture = grid.reshape(1, across, across, -1).permute(0, 3, 1, 2)
    if hub:
        factor = (patches + 0.1) / across
        picture = functional.interpolate(picture, scale_factor=(factor, factor), mode="bicubic")
    else:
        size = (patches, patches)
        picture = functional.interpolate(picture, size=size, mode="bicubic", antialias=True)
    return torch.cat([first, picture.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


def sizes(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Return width and depth of the tower in a detector's state dict with these shapes."""
    blocks = {key.split(".")[2] for key in shapes if key.startswith(f"{PREFIX}blocks.")}
    return {"width": shapes.get(f"{PREFIX}cls_token", (1, 1, 0))[-1], "depth": len(blocks)}


def needed(backbone: Backbone | None, path: Path | str, of: Published, name: str) -> Backbone:
    """Return the backbone.

    Raises:
        UserError: there is none; the message says which file it is and what it is called upstream.
    """
    if backbone is None:
        raise UserError(
            f"{path}: holds the head of {name} alone; give its backbone too: the file {of}"
        )
    return backbone


def unneeded(backbone: Backbone | None, path: Path | str) -> None:
    """Refuse a backbone beside a file that holds its own.

    Raises:
        UserError: there is one.
    """
    if backbone is not None:
        raise UserError(
            f"{path}: holds its own backbone, which was trained on; leave {backbone.path} out"
        )
