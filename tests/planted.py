"""A detector whose evidence is known: one filter sees a checkerboard, and fakes carry one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from forensift.data import Batch, get_preset
from forensift.detectors.detector import Detector, WeightsOrigin
from forensift.detectors.units import find_feature_maps
from forensift.records import FAKE, ImageEntry, ImageSet

SIZE = 16
PLANTED = f"{Path(__file__)}:planted_detector"  # as a detector of the command line


def planted_detector(width: int = 8, seed: int = 0) -> Detector:
    """Return a detector that calls an image fake by maps 0 of both convolutions alone."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    network = nn.Sequential()
    network.add_module("conv1", nn.Conv2d(3, width, 3, padding=1, bias=False))
    network.add_module("bn1", nn.BatchNorm2d(width))
    network.add_module("relu1", nn.ReLU())
    network.add_module("conv2", nn.Conv2d(width, width, 1))
    network.add_module("relu2", nn.ReLU())
    network.add_module("pool", nn.AdaptiveAvgPool2d(1))
    network.add_module("flatten", nn.Flatten())
    network.add_module("fc", nn.Linear(width, 1))
    laplacian = torch.tensor([[0.0, -1.0, 0.0], [-1.0, 4.0, -1.0], [0.0, -1.0, 0.0]])
    with torch.no_grad():
        network.conv1.weight.copy_(0.05 * noise(width, 3, 3, 3))
        network.conv1.weight[0] = laplacian
        network.bn1.bias.copy_(0.1 + 0.05 * noise(width))
        network.bn1.bias[0] = 0.0
        network.conv2.weight.copy_(0.1 * noise(width, width, 1, 1))
        network.conv2.weight[:, 0] = 0.0
        network.conv2.weight[0] = 0.0
        network.conv2.weight[0, 0] = 1.0
        network.conv2.bias.fill_(0.01)
        network.fc.weight.copy_(0.02 * noise(1, width))
        network.fc.weight[0, 0] = 6.0
        network.fc.bias.fill_(-6.0)
    return Detector(
        "planted",
        network.eval(),
        get_preset("wang-nocrop"),
        find_feature_maps(network),
        WeightsOrigin("initialisation", "", "bare"),
    )


def planted_images(
    root: Path, generators: tuple[str, ...] = ("one", "two"), n: int = 6, size: int = SIZE
) -> ImageSet:
    """Write smooth reals, the same for every generator, and fakes with a checkerboard on top."""
    rows, columns = np.mgrid[0:size, 0:size]
    board = np.where((rows + columns) % 2, 12.0, -12.0)[..., None]
    entries = []
    for generator in generators:
        for number in range(n):
            rng = np.random.default_rng(number)
            corners = rng.integers(60, 200, (2, 2, 3), dtype=np.uint8)
            smooth = Image.fromarray(corners).resize((size, size), Image.Resampling.BILINEAR)
            real = np.asarray(smooth, dtype=np.float64)
            strength = 0.8 + 0.1 * (sum(generator.encode()) % 5)
            for label, pixels in enumerate((real, real + strength * board)):
                path = root / generator / ("0_real", "1_fake")[label] / f"{number:03d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8)).save(path)
                entries.append(ImageEntry(path, label, generator))
    return ImageSet(root, tuple(sorted(entries, key=lambda entry: entry.path)))


def batch_of(ids: Sequence[str], label: int | Sequence[int] = FAKE) -> Batch:
    """Return a batch of black images of these ids, to tell a statistic of."""
    labels = [label] * len(ids) if isinstance(label, int) else label
    entries = [ImageEntry(Path(one), int(of), "") for one, of in zip(ids, labels, strict=True)]
    pixels = torch.zeros((len(ids), 3, 1, 1), dtype=torch.uint8)
    return Batch(pixels, tuple(entries), tuple(ids))


HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def fingerprint(model: nn.Module) -> dict[object, object]:
    """Return all that a visitor could leave behind in a model."""
    seen: dict[object, object] = {"keys": tuple(model.state_dict())}
    for name, module in model.named_modules():
        seen[name, "object"] = id(module), type(module), module.training
        seen[name, "hooks"] = tuple(len(getattr(module, hook)) for hook in HOOKS)
        seen[name, "attributes"] = frozenset(module.__dict__)
        for key, t in (*module._parameters.items(), *module._buffers.items()):
            seen[name, key] = t if t is None else (
                id(t), t.data_ptr(), t._version, t.requires_grad, t.grad is None
            )  # fmt: skip
    return seen
