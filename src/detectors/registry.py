"""The detectors by name, and how one is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from ..data.presets import get_preset
from ..errors import UserError
from ..files import home, sha256
from . import efficientnet_b0, npr, resnet50
from .checkpoints import State, load_strictly, read_checkpoint
from .detector import Detector, WeightsOrigin, convolution_maps


@dataclass(frozen=True)
class Architecture:
    """A published detector's network before it has weights.

    first_convolution: module name, for initialisations that shape it; without: own names of
    convolutions whose outputs are no feature maps; dead_keys: entries with shapes that old
    published files hold and the network does not use.
    """

    name: str
    build: Callable[[], nn.Module]
    preset: str
    recognises: Callable[[dict[str, tuple[int, ...]]], bool]
    first_convolution: str
    without: tuple[str, ...] = ()
    dead_keys: tuple[tuple[str, tuple[int, ...]], ...] = ()


def _architecture(module: ModuleType) -> Architecture:
    return Architecture(
        module.NAME,
        module.build,
        module.PRESET,
        module.recognises,
        module.FIRST_CONVOLUTION,
        getattr(module, "WITHOUT", ()),
        tuple(getattr(module, "DEAD_KEYS", {}).items()),
    )


ARCHITECTURES: dict[str, Architecture] = {
    module.NAME: _architecture(module) for module in (resnet50, efficientnet_b0, npr)
}


VARIANTS = ("colour-robust",)  # of the shipped weights, beside those a detector has by default


def get_architecture(name: str) -> Architecture:
    """Return the architecture of that name.

    Raises:
        UserError: there is none; the message lists those there are.
    """
    if name not in ARCHITECTURES:
        raise UserError(f"no detector is called {name!r}; there are {list(ARCHITECTURES)}")
    return ARCHITECTURES[name]


def shipped_weights(name: str, variant: str = "") -> Path:
    """Return where the project keeps its own weights of a detector; variant: 'colour-robust'."""
    return home() / "weights" / f"{name}{'-' * bool(variant)}{variant}.safetensors"


def describe(
    name: str, network: nn.Module, origin: WeightsOrigin, preset: str | None = None
) -> Detector:
    """Return the complete description of a network of a registered architecture."""
    architecture = get_architecture(name)
    return Detector(
        name=name,
        network=network.eval(),
        preset=get_preset(preset or architecture.preset),
        feature_maps=convolution_maps(network, without=architecture.without),
        weights=origin,
    )


def load_detector(
    name: str,
    *,
    weights: Path | str | None = None,
    preset: str | None = None,
    device: torch.device | str = "cpu",
) -> Detector:
    """Return a detector with its weights, in evaluation mode.

    Args:
        name: a name of ``ARCHITECTURES``.
        weights: a checkpoint in any published wrapper; by default the project's own weights, and
            'colour-robust' for those it trained on greyscale too.
        preset: the name of another preprocessing than the detector's own.

    Raises:
        UserError: an unknown name, no weights, or weights of another architecture.
    """
    architecture = get_architecture(name)
    if str(weights) in VARIANTS:
        path = shipped_weights(name, str(weights))
    else:
        path = Path(weights) if weights is not None else shipped_weights(name)
    if weights is None and not path.is_file():
        raise UserError(f"no weights of {name} are shipped; give --weights FILE")
    state, wrapper = read_checkpoint(path)
    for key, shape in architecture.dead_keys:
        if key in state and tuple(state[key].shape) == shape:
            state.pop(key)
    if not architecture.recognises(_shapes(state)):
        others = [one.name for one in ARCHITECTURES.values() if one.recognises(_shapes(state))]
        if others:
            raise UserError(f"{path}: weights of {' or '.join(others)}, not of {name}")
    network = architecture.build()
    load_strictly(network, state, path)
    origin = WeightsOrigin(path.name, sha256(path), wrapper)
    return describe(name, network.to(device), origin, preset)


def _shapes(state: State) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in state.items()}
