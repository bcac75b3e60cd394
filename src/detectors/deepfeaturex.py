"""DeepFeatureX Net (Pontorno et al. 2024, ICPR): three frozen backbones and a 1-D head.

Each backbone is trained alone to tell one class from the rest, on deliberately unbalanced images
(§ base models of the paper); the head decides between diffusion, GAN and real by the three feature
vectors, stacked as the channels of one signal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models

from ..data.presets import get_preset
from ..errors import UserError
from ..files import sha256
from .building import built
from .checkpoints import header, load_strictly, read_checkpoint
from .detector import Detector, WeightsOrigin
from .units import find_feature_maps

NAME = "deepfeaturex"
PRESET = "deepfeaturex"
FIRST_CONVOLUTION = "model1.conv1"  # of a ResNet; see ``first_convolution`` for any backbone
WITHOUT = ("fc1", "fc2")  # squeeze-excite gates of EfficientNet and MobileNet-v3

CLASSES = ("dm_generated", "gan_generated", "real")
BRANCHES = ("model1", "model2", "model3")  # trained for the class of the same place in CLASSES
PUBLISHED_BACKBONES = (
    *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)),
    *(f"densenet{depth}" for depth in (121, 161, 169, 201)),
    *("vit_b_16", "vit_b_32", "vit_l_16", "efficientnet_b0", "efficientnet_b4"),
    *("googlenet", "inception_v3"),
)
_WITHOUT_AUXILIARY = ("googlenet", "inception_v3")  # else they return several outputs in training

Shapes = Mapping[str, tuple[int, ...]]


def backbone(name: str) -> tuple[nn.Module, int]:
    """Return a torchvision classification network without its last linear layer, and its F.

    The network takes (N, 3, H, W) and returns features (N, F); weights are PyTorch's
    initialisation.

    Raises:
        UserError: torchvision has no classification network of that name, or it ends otherwise.
    """
    network = _torchvision(name)
    linear = _last_linear(name, network)
    length = network.get_submodule(linear).in_features
    _replace(network, linear, nn.Identity())
    return network, int(length)  # type: ignore[arg-type]


def base_model(name: str, classes: int = 2) -> nn.Module:
    """Return the network that a branch is trained as: the backbone with a new last linear layer."""
    network = _torchvision(name)
    linear = _last_linear(name, network)
    length = int(network.get_submodule(linear).in_features)  # type: ignore[arg-type]
    _replace(network, linear, nn.Linear(length, classes))
    return network


def first_convolution(network: nn.Module) -> str:
    """Return the name of the first 2-D convolution of a network.

    Raises:
        UserError: it has none.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            return name
    raise UserError(f"{type(network).__name__} has no convolution")


class DeepFeatureX(nn.Module):
    """Three backbones, their features (N, F) stacked to (N, 3, F), 1-D convolutions, logits (N, 3).

    In the head each convolution is followed by ReLU and then BatchNorm, the last by ReLU alone;
    it has 2,027,331 parameters. The backbones stay in evaluation mode whatever ``train`` is told:
    frozen, their BatchNorm statistics must not move either (in the published code they do).
    """

    def __init__(self, name: str = "resnet50", classes: int = len(CLASSES)) -> None:
        super().__init__()
        self.model1, self.length = backbone(name)
        self.model2, _ = backbone(name)
        self.model3, _ = backbone(name)
        layers: list[nn.Module] = []
        channels = 3
        for place, (width, kernel, stride) in enumerate(_CONVOLUTIONS):
            layers += [nn.Conv1d(channels, width, kernel, stride, padding=1), nn.ReLU()]
            if place + 1 < len(_CONVOLUTIONS):
                layers.append(nn.BatchNorm1d(width))
            channels = width
        self.convs = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool1d(1)
        self.classifier = nn.Sequential(nn.Linear(channels, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))

    def features(self, x: Tensor) -> Tensor:
        """Return what the head sees, (N, 3, F), of a normalised batch (N, 3, H, W)."""
        return torch.stack([self.model1(x), self.model2(x), self.model3(x)], dim=1)

    def head(self, features: Tensor) -> Tensor:
        """Return the logits (N, 3) of stacked features (N, 3, F)."""
        return self.classifier(torch.flatten(self.pool(self.convs(features)), 1))

    def train(self, mode: bool = True) -> DeepFeatureX:
        super().train(mode)
        for branch in BRANCHES:
            self.get_submodule(branch).eval()
        return self


_CONVOLUTIONS = ((16, 7, 2), (64, 5, 2), (256, 3, 1), (512, 3, 1), (1024, 3, 1))


def build(backbone: str = "resnet50", classes: Sequence[str] = CLASSES) -> nn.Module:
    """Return the complete network with PyTorch's initialisation.

    backbone: a classification network of torchvision, by its name there.
    """
    return DeepFeatureX(backbone, len(classes))


def recognises(shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether a state dict with these shapes is one of ours (published key test)."""
    return shapes.get("convs.0.weight") == (16, 3, 7) and any(
        key.startswith("model1.") for key in shapes
    )


def options_of(shapes: Shapes, facts: Mapping[str, str]) -> dict[str, Any]:
    """Return backbone and classes: as the header says, else by the keys of the three branches."""
    found = facts.get("backbone") or _matching(shapes)
    return {
        "backbone": found,
        "classes": tuple(json.loads(facts.get("classes", "null")) or CLASSES),
    }


def classes_of(options: Mapping[str, Any]) -> tuple[tuple[str, ...], int]:
    """Return the names of the classes and which of them is the real one."""
    classes = tuple(options.get("classes", CLASSES))
    return classes, classes.index("real")


def load_base_model(
    path: Path | str,
    *,
    main: str | None = None,
    backbone: str | None = None,
    preset: str | None = None,
    device: torch.device | str = "cpu",
) -> Detector:
    """Return a base model (two classes: the rest, and its main class) as a detector.

    main, backbone: for published files, which say neither; a backbone is found by its keys.

    Raises:
        UserError: not a base model, or one whose main class is nowhere named.
    """
    main = main or header(Path(path)).get("main")
    if main not in CLASSES:
        raise UserError(f"{path}: which class is it for? name one of {', '.join(CLASSES)}")
    return _single(path, f"base-{main}", ("rest", main), backbone, preset, device)


def load_plain(
    path: Path | str,
    *,
    backbone: str | None = None,
    preset: str | None = None,
    device: torch.device | str = "cpu",
) -> Detector:
    """Return the plain baseline, one backbone with three classes, as a detector."""
    return _single(path, "plain", CLASSES, backbone, preset, device)


def _single(
    path: Path | str,
    name: str,
    classes: tuple[str, ...],
    backbone: str | None,
    preset: str | None,
    device: torch.device | str,
) -> Detector:
    path = Path(path)
    state, wrapper, facts = read_checkpoint(path)
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    network = built(
        base_model,
        backbone or facts.get("backbone") or _matching(shapes, branches=("",)),
        len(classes),
    )
    load_strictly(network, state, path)
    return Detector(
        name=f"{NAME}-{name}",
        network=network.eval().to(device),
        preset=get_preset(preset or facts.get("preset") or PRESET),
        feature_maps=find_feature_maps(network, without=WITHOUT),
        weights=WeightsOrigin(path.name, sha256(path), wrapper),
        classes=classes,
        real=classes.index("real") if "real" in classes else 0,
    )


def _matching(shapes: Shapes, branches: Sequence[str] = BRANCHES) -> str:
    """Return the torchvision network whose entries these are, or most of them are.

    Entries of the last linear layer are not compared: a branch has none, a base model another one.
    """
    prefixes = [f"{branch}." if branch else "" for branch in branches]
    best, most = PUBLISHED_BACKBONES[0], 0
    others = [name for name in models.list_models(module=models) if name not in PUBLISHED_BACKBONES]
    for name in (*PUBLISHED_BACKBONES, *others):
        wanted = _shapes(name)
        same = sum(
            shapes.get(prefix + key) == shape
            for prefix in prefixes
            for key, shape in wanted.items()
        )
        foreign = len([key for key in shapes if key.startswith(tuple(prefixes))])
        if wanted and same == len(prefixes) * len(wanted) and foreign - same <= 2:
            return name
        if same > most:
            best, most = name, same
    return best


@cache
def _shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Return a backbone's entries, without making its weights; {} where that cannot be had."""
    try:
        with torch.device("meta"):
            network, _ = backbone(name)
    except (UserError, NotImplementedError):  # squeezenet; regnets, which look at their weights
        return {}
    entries = network.state_dict().items()
    # Files from before PyTorch 0.4.1 hold no batch counters.
    return {k: tuple(v.shape) for k, v in entries if not k.endswith("num_batches_tracked")}


def _torchvision(name: str) -> nn.Module:
    known = models.list_models(module=models)
    if name not in known:
        near = [one for one in known if one[:3] == name[:3]] or known
        raise UserError(f"torchvision has no network {name!r}; there are {', '.join(near)} …")
    plain = {"aux_logits": False, "init_weights": False} if name in _WITHOUT_AUXILIARY else {}
    return models.get_model(name, weights=None, **plain)


def _last_linear(name: str, network: nn.Module) -> str:
    last = [key for key, module in network.named_modules() if not list(module.children())]
    linear = [key for key in last if isinstance(network.get_submodule(key), nn.Linear)]
    if not linear:
        raise UserError(f"{name} ends in no linear layer that could be taken off")
    return linear[-1]


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, own = name.rpartition(".")
    setattr(network.get_submodule(parent), own, module)
