"""A detector with one map that sees chroma alone and one that sees luma alone, and its images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from forensift.data import get_preset
from forensift.data.presets import IMAGENET_STD
from forensift.detectors.detector import Detector, WeightsOrigin
from forensift.detectors.units import find_feature_maps
from forensift.records import ImageEntry, ImageSet

LUMA = np.array([0.299, 0.587, 0.114])
CHROMA_MAP, LUMA_MAP, DEAD_MAP, NOISE_MAP = range(4)


def two_trace_detector() -> Detector:
    """Return a detector of conv.#0 (R − G alone), #1 (luma alone), #2 (dead) and #3 (anything)."""
    laplacian = torch.tensor([[0.0, -1.0, 0.0], [-1.0, 4.0, -1.0], [0.0, -1.0, 0.0]])
    std = torch.tensor(IMAGENET_STD)  # the network sees values over std, so filters undo it
    network = nn.Sequential()
    # Without padding: beyond the border lies black in normalised values, which is a colour.
    network.add_module("conv", nn.Conv2d(3, 4, 3, bias=False))
    network.add_module("relu", nn.ReLU())
    network.add_module("pool", nn.AdaptiveAvgPool2d(1))
    network.add_module("flatten", nn.Flatten())
    network.add_module("fc", nn.Linear(4, 1))
    sees = torch.tensor([[1.0, -1.0, 0.0], [*LUMA], [0.0, 0.0, 0.0], [0.4, 0.2, 0.3]])
    with torch.no_grad():
        network.conv.weight.copy_((sees * std)[:, :, None, None] * laplacian)
        network.fc.weight.copy_(torch.tensor([[60.0, 60.0, 0.0, 0.0]]))
        network.fc.bias.fill_(-4.0)
    return Detector(
        "two-traces",
        network.eval(),
        get_preset("wang-nocrop"),
        find_feature_maps(network),
        WeightsOrigin("initialisation", "", "bare"),
    )


def two_trace_images(
    root: Path, generators: tuple[str, ...] = ("in-chroma", "in-luma"), n: int = 16, size: int = 16
) -> ImageSet:
    """Write reals, and the same as fakes with a checkerboard in chroma, in luma, or in ``both``.

    The strength differs from image to image. The chroma trace leaves luma alone but for rounding.
    """
    board = (np.indices((size, size)).sum(axis=0) % 2 * 2 - 1)[..., None]
    luma = np.ones(3)
    chroma = np.array([1.0, -0.299 / 0.587, 0.0])
    along = {"in-chroma": (chroma,), "in-luma": (luma,), "both": (chroma, luma)}
    entries = []
    for generator in generators:
        for number in range(n):
            rng = np.random.default_rng(number)
            corners = rng.integers(100, 156, (2, 2, 3), dtype=np.uint8)
            smooth = Image.fromarray(corners).resize((size, size), Image.Resampling.BILINEAR)
            # Texture in luma, so that what rounding leaves of a chroma trace in luma is nothing.
            texture = rng.uniform(1, 3) * rng.normal(size=(size, size, 1))
            real = np.asarray(smooth, dtype=np.float64) + texture
            fake = real + sum(rng.uniform(6, 24) * board * one for one in along[generator])
            for label, pixels in enumerate((real, fake)):
                path = root / generator / ("0_real", "1_fake")[label] / f"{number:03d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8)).save(path)
                entries.append(ImageEntry(path, label, generator))
    return ImageSet(root, tuple(sorted(entries, key=lambda entry: entry.path)))
