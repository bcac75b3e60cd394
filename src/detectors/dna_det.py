"""DNA-Det: deepfake network architecture attribution (Yang et al. 2022, AAAI)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..errors import UserError

NAME = "dna-det"
PRESET = "dna-det"
FIRST_CONVOLUTION = "main.0.main.0"

WIDTH = 64
SLOPE = 0.2  # of the LeakyReLU
DROPOUT = 0.2
# Output channels of the eight blocks, in units of the width; even blocks halve the size.
CHANNELS = (1, 1, 2, 2, 4, 4, 8, 8)

CLOSED = ("real", "ProGAN", "MMDGAN", "SNGAN", "InfoMaxGAN")
IN_THE_WILD = (
    "real", "ProGAN-128", "MMDGAN-128", "SNGAN-128", "InfoMaxGAN-128", "StackGAN2-256",
    "ProGAN-256", "CycleGAN-256", "StyleGAN2-256", "StyleGAN-1024", "StyleGAN2-1024",
)  # fmt: skip
PUBLISHED = {len(names): names for names in (CLOSED, IN_THE_WILD)}


class Block(nn.Module):
    """Convolution with bias, BatchNorm, LeakyReLU; under the published names ``main.0`` … ``2``."""

    def __init__(self, channels_in: int, channels_out: int, *, halve: bool) -> None:
        super().__init__()
        size, stride = (4, 2) if halve else (3, 1)
        self.main = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, size, stride, padding=1),
            nn.BatchNorm2d(channels_out),
            nn.LeakyReLU(SLOPE, inplace=True),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.main(x)


class DNADet(nn.Module):
    """Eight blocks, a global average pool, dropout, and one logit a class.

    Input (N, 3, H, W) in −1 … 1, sides of 16 pixels or more; raw logits (N, classes), where the
    published network gives their softmax. With width 64: 5,897,349 parameters for 5 classes.
    """

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        widths = [3, *(width * times for times in CHANNELS)]
        self.main = nn.Sequential(
            *(Block(widths[at], widths[at + 1], halve=at % 2 == 0) for at in range(len(CHANNELS)))
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classification_head = nn.Sequential(
            nn.Dropout(DROPOUT), nn.Linear(widths[-1], classes)
        )

    def pooled(self, x: torch.Tensor) -> torch.Tensor:
        """Return the pooled maps of the last block (N, 8 · width)."""
        return torch.flatten(self.pool(self.main(x)), 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classification_head(self.pooled(x))


def build(classes: int | Sequence[str] = 5, width: int = WIDTH) -> DNADet:
    """Return the network with PyTorch's initialisation.

    classes: their number or names; width: channels of the first block (the others have up to 8
    times as many), 64 as published.
    """
    return DNADet(classes if isinstance(classes, int) else len(classes), width)


def recognises(shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether a state dict with these shapes is one of ours, of any width and classes."""
    first, last = shapes.get("main.0.main.0.weight", ()), shapes.get("main.7.main.0.weight", ())
    head = shapes.get("classification_head.1.weight", ())
    if not first or len(head) != 2:
        return False
    widest = CHANNELS[-1] * first[0]
    return first[1:] == (3, 4, 4) and last == (widest, widest, 3, 3) and head[1] == widest


def options_of(shapes: dict[str, tuple[int, ...]], facts: Mapping[str, str]) -> dict[str, Any]:
    """Return the options of ``build`` for a network with these shapes.

    facts: a weights file's header; its entry ``classes`` is a JSON list of their names.

    Raises:
        UserError: the header names another number of classes than there are outputs.
    """
    classes: int | tuple[str, ...] = shapes["classification_head.1.weight"][0]
    if "classes" in facts:
        names = tuple(map(str, json.loads(facts["classes"])))
        if len(names) != classes:
            raise UserError(
                f"the header names {len(names)} classes, but the network has {classes} outputs"
            )
        classes = names
    return {"classes": classes, "width": shapes["main.0.main.0.weight"][0]}


def classes_of(options: Mapping[str, Any]) -> tuple[tuple[str, ...], int]:
    """Return the names of the classes and the index of the real one (0 where none is called so).

    Without names in the weights file they are those of the published networks with 5 and 11
    classes; of any other number they are numbered.
    """
    classes = options.get("classes", len(CLOSED))
    if isinstance(classes, int):
        classes = PUBLISHED.get(classes) or tuple(f"class {index}" for index in range(classes))
    names = tuple(classes)
    return names, names.index("real") if "real" in names else 0
