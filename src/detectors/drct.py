"""DRCT: contrastive training on reconstructions (Chen, Zeng, Yang, Yang 2024, ICML).

Published on two backbones, which the file's names tell: ConvNeXt-B, and CLIP ViT-L/14. Either gives
an embedding, on which a linear layer gives real and fake.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from ..eight_bits import State
from .backbones import (
    PREFIX,
    PROJECTION,
    Backbone,
    Published,
    on_backbone,
    sizes,
    tower,
    unneeded,
    vision_transformer,
)

NAME = "drct"
PRESET = "wang-crop224"  # padded with black, then the centre; ImageNet's numbers, also for CLIP
FIRST_CONVOLUTION = "backbone.stem.0"
PUBLISHED = Published(
    "convnext_base_in22k_224_drct_amp_crop/14_acc0.9996.pth (or clip-ViT-L-14_…) in pretrained.zip",
    "beibuwandeluori/DRCT",
    "none stated",
    "none stated",
)
SIDE = 224
CONVNEXT, CLIP_VIT = "convnext", "clip"
EMBEDDING = 1024

_CLIP = "model.model."
_CONVNEXT_B = ((3, 3, 27, 3), (128, 256, 512, 1024))


def build(
    backbone: str = CONVNEXT,
    *,
    depths: tuple[int, ...] = _CONVNEXT_B[0],
    widths: tuple[int, ...] = _CONVNEXT_B[1],
    width: int = 1024,
    depth: int = 24,
    projection: int = 768,
    embedding: int = EMBEDDING,
    outputs: int = 2,
) -> nn.Module:
    """Return the network: 88,618,114 parameters on ConvNeXt-B, 304,755,714 on CLIP ViT-L/14.

    Input (N, 3, 224, 224), for ConvNeXt any size; logits (N, outputs), real first.
    backbone: 'convnext', with blocks (``depths``) and channels (``widths``) of its stages, or
    'clip', with its width, depth and length of the image feature (``projection``).
    """
    head = nn.Linear(embedding, outputs)
    if backbone == CONVNEXT:
        from timm.models.convnext import ConvNeXt

        return on_backbone(ConvNeXt(depths=depths, dims=widths, num_classes=embedding), fc=head)
    return on_backbone(
        vision_transformer("clip", width=width, depth=depth, side=SIDE),
        projection=nn.Linear(width, projection, bias=False),
        embedding=nn.Linear(projection, embedding),
        fc=head,
    )


def recognises(shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether a file with these shapes is one of ours, on either backbone."""
    head = shapes.get("fc.weight", ())
    embedding = shapes.get("model.head.fc.weight") if "model.stem.0.weight" in shapes else None
    if f"{_CLIP}visual.class_embedding" in shapes:
        embedding = shapes.get("model.fc.weight")
    return embedding is not None and len(head) == 2 and head[1] == embedding[0]


def joined(state: State, backbone: Backbone | None, path: Any) -> State:
    """Return the network's state dict from the published file's.

    Raises:
        UserError: a backbone is given though the file holds its own.
    """
    unneeded(backbone, path)
    own: State = {}
    found: State = {}
    for key, value in state.items():
        if key.startswith(_CLIP):
            own[key.removeprefix(_CLIP)] = value
        elif key.startswith("model.fc."):
            found[key.replace("model.fc.", "embedding.")] = value
        else:
            found[key.replace("model.", PREFIX, 1) if key.startswith("model.") else key] = value
    return {**tower(own, SIDE, path), **found} if own else found


def options_of(shapes: dict[str, tuple[int, ...]], facts: object) -> dict[str, Any]:
    """Return the sizes of a network with a state dict of these shapes."""
    outputs, embedding = shapes["fc.weight"]
    head = {"embedding": embedding, "outputs": outputs}
    if PROJECTION in shapes:
        feature = {"backbone": CLIP_VIT, "projection": shapes[PROJECTION][0]}
        return {**feature, **sizes(shapes), **head}
    blocks: dict[str, set[str]] = {}
    widths: dict[str, int] = {}
    for key, shape in shapes.items():
        stage, _, own = key.removeprefix(f"{PREFIX}stages.").partition(".blocks.")
        if own.endswith("conv_dw.weight"):
            blocks.setdefault(stage, set()).add(own.split(".")[0])
            widths[stage] = shape[0]
    stages = sorted(blocks)
    depths = tuple(len(blocks[one]) for one in stages)
    return {"depths": depths, "widths": tuple(widths[one] for one in stages), **head}


def side_of(options: Mapping[str, Any]) -> int | None:
    """Return the only size in pixels that the network takes; None for any."""
    return SIDE if options.get("backbone") == CLIP_VIT else None


def classes_of(options: Mapping[str, Any]) -> tuple[tuple[str, ...], int]:
    """Return the names of the classes and the index of the real one."""
    outputs = options.get("outputs", 2)
    fakes = ("fake",) if outputs == 2 else tuple(f"fake {at}" for at in range(1, outputs))
    return ("real", *fakes), 0
