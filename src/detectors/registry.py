"""The detectors by name, and how one is loaded."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from ..data.presets import Preset
from ..errors import UserError
from ..files import home, sha256
from . import (
    c2p_clip,
    clip_based,
    commfor,
    corvi,
    dda,
    deepfeaturex,
    dna_det,
    drct,
    efficientnet_b0,
    effort,
    lgrad,
    npr,
    resnet50,
    rine,
    univfd,
    vit,
)
from .backbones import Backbone, Published
from .building import built
from .checkpoints import SHOWN, State, load_strictly, read_checkpoint
from .classifiers import CLASSIFIERS, load_classifier
from .detector import Detector, WeightsOrigin
from .lgrad import named_preset
from .plugins import load_plugin
from .units import find_feature_maps

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Architecture:
    """A published detector's network before it has weights.

    build: makes the network; its options (width, backbone …) have the published values by default.
    options_of: what ``build`` needs for a network with a state dict of these shapes and a file
    header with these facts; classes_of: names of the classes for these options and shapes, and the
    index of the real one; ((), 0) for a network with one logit.
    first_convolution: module name, for initialisations that shape it; without: own names of
    convolutions whose outputs are no feature maps; dead_keys: entries with shapes that old
    published files hold and the network does not use.
    published: the file that others publish, with its licences; backbone: the file that it needs
    beside it; joined: makes the network's state dict of the published one and of the backbone's.
    side_of, preset_for: the only size in pixels that a network with these options takes, None for
    any, and the name of its preprocessing.
    """

    name: str
    build: Callable[..., nn.Module]
    preset: str
    recognises: Callable[[Shapes], bool]
    first_convolution: str
    options_of: Callable[[Shapes, Mapping[str, str]], dict[str, Any]]
    classes_of: Callable[[Mapping[str, Any]], tuple[tuple[str, ...], int]]
    without: tuple[str, ...] = ()
    dead_keys: tuple[tuple[str, tuple[int, ...]], ...] = ()
    published: Published | None = None
    backbone: Published | None = None
    joined: Callable[[State, Backbone | None, Path], State] | None = None
    side_of: Callable[[Mapping[str, Any]], int | None] = lambda options: None
    preset_for: Callable[[Mapping[str, Any]], str] = lambda options: ""


def _architecture(module: ModuleType) -> Architecture:
    side = getattr(module, "SIDE", None)
    return Architecture(
        module.NAME,
        module.build,
        module.PRESET,
        module.recognises,
        module.FIRST_CONVOLUTION,
        getattr(module, "options_of", lambda shapes, facts: {}),
        getattr(module, "classes_of", lambda options: ((), 0)),
        getattr(module, "WITHOUT", ()),
        tuple(getattr(module, "DEAD_KEYS", {}).items()),
        getattr(module, "PUBLISHED", None),
        getattr(module, "BACKBONE", None),
        getattr(module, "joined", None),
        getattr(module, "side_of", lambda options: options.get("side", side)),
        getattr(module, "preset_for", lambda options: module.PRESET),
    )


ARCHITECTURES: dict[str, Architecture] = {
    module.NAME: _architecture(module)
    for module in (
        resnet50, efficientnet_b0, npr, vit, lgrad, dna_det, deepfeaturex,
        univfd, rine, clip_based, c2p_clip, effort, drct, dda, commfor, corvi,
    )
}  # fmt: skip


# Families that shipped weights saw, where it is not progan-like alone: docs/training.md.
SEVERAL = {
    "deepfeaturex": ("progan-like", "dcgan-like", "sngan-like", "cyclegan-like", "ddpm-like",
                     "ldm-like"),
    "dna-det": ("dcgan-like", "pixelshuffle-like", "progan-like", "stylegan2-like"),
}  # fmt: skip
VARIANTS = ("colour-robust",)  # of the shipped weights, beside those a detector has by default


def get_architecture(name: str) -> Architecture:
    """Return the architecture of that name.

    Raises:
        UserError: there is none; the message lists those there are.
    """
    if name not in ARCHITECTURES:
        near = difflib.get_close_matches(name, [*ARCHITECTURES, *CLASSIFIERS], 1)
        raise UserError(
            f"no detector is called {name!r}{f' (is it {near[0]}?)' if near else ''}; there are "
            f"{', '.join(ARCHITECTURES)}, the classifiers {', '.join(CLASSIFIERS)}, and one's own "
            "by file.py:function, package.module:function or timm:NAME"
        )
    return ARCHITECTURES[name]


def parse_spec(text: str) -> tuple[str, str | None]:
    """Return which detector a text means, and its weights: a variant, a file, or None.

    ``NAME``, ``NAME:VARIANT`` and ``NAME=FILE``; one's own are ``file.py:function``,
    ``package.module:function`` and ``timm:NAME``, each also with ``=FILE``.

    Raises:
        UserError: nothing before or behind the '=', or no such variant; the message lists them.
    """
    known = (*ARCHITECTURES, *CLASSIFIERS)
    name, weights = text, None
    for match in re.finditer("=", text):  # a folder's name may hold one too
        before = text[: match.start()]
        if before in known or ":" in before or ":" not in text[match.end() :]:
            name, weights = before, text[match.end() :]
            break
    if not name or weights == "":
        raise UserError(f"{text!r}: write NAME, NAME:VARIANT or NAME=FILE")
    own, colon, variant = name.partition(":")
    if colon and own in known:
        there = [one for one in VARIANTS if shipped_weights(own, one).is_file()]
        if variant not in there or weights is not None:
            listed = ", ".join(there) or "none"
            raise UserError(
                f"{text!r}: {own} has no variant {variant!r}; there are {listed} (weights of one's "
                f"own: {own}=FILE)"
                if variant not in there
                else f"{text!r}: names a variant and a file; give one of them"
            )
        return own, variant
    return name, weights


def stands_on(spec: str) -> Published | None:
    """Return the file that a detector's published head needs beside it, None where it needs none.

    spec: see :func:`parse_spec`.
    """
    architecture = ARCHITECTURES.get(parse_spec(spec)[0])
    return architecture.backbone if architecture else None


def shipped_weights(name: str, variant: str = "") -> Path:
    """Return where the project keeps its own weights of a detector; variant: 'colour-robust'."""
    return home() / "weights" / f"{name}{'-' * bool(variant)}{variant}.safetensors"


def shipped_detectors(device: torch.device | str = "cpu") -> dict[str, Detector]:
    """Return every detector that weights are shipped of, then their variants (``NAME-VARIANT``)."""
    found = {name: "" for name in ARCHITECTURES if shipped_weights(name).is_file()}
    for variant in VARIANTS:
        found |= {
            f"{name}-{variant}": variant
            for name in ARCHITECTURES
            if shipped_weights(name, variant).is_file()
        }
    return {
        shown: load_detector(
            shown.removesuffix(f"-{variant}") if variant else shown,
            weights=variant or None,
            device=device,
        )
        for shown, variant in found.items()
    }


def describe(
    name: str,
    network: nn.Module,
    origin: WeightsOrigin,
    preset: Preset | str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Detector:
    """Return the complete description of a network of a registered architecture.

    options: what its ``build`` was given; preset: by default the architecture's own.

    Raises:
        UserError: a preset that makes images of a size that the network does not take.
    """
    architecture = get_architecture(name)
    classes, real = architecture.classes_of(options or {})
    if not isinstance(preset, Preset):
        preset = named_preset(preset or architecture.preset_for(options or {}))
    side = architecture.side_of(options or {})
    if side is not None and preset.side != side:
        makes = f"{preset.side} × {preset.side} pixels" if preset.side else "images of any size"
        raise UserError(f"{name}: takes {side} × {side} pixels; preset {preset.name} makes {makes}")
    return Detector(
        name=name,
        network=network.eval(),
        preset=preset,
        feature_maps=find_feature_maps(network, without=architecture.without),
        weights=origin,
        classes=classes,
        real=real,
    )


def load_detector(
    name: str,
    *,
    weights: Path | str | None = None,
    backbone: Path | str | None = None,
    preset: Preset | str | None = None,
    device: torch.device | str = "cpu",
) -> Detector:
    """Return a detector with its weights, in evaluation mode.

    Args:
        name: a name of ``ARCHITECTURES``, an ImageNet classifier of ``CLASSIFIERS``, or one's own
            (see ``load_plugin``), with or without weights: see :func:`parse_spec`.
        weights: a checkpoint in any published wrapper; by default the project's own weights, and
            'colour-robust' for those it trained on greyscale too.
        backbone: the network that a detector stands on whose published file holds its head alone
            (``forensift doctor`` names it), in any layout that ``backbones.translated`` knows.
        preset: another preprocessing, or its name, than the detector's own, which is the one that
            the weights' header names, or the published one.

    Raises:
        UserError: an unknown name, no weights, weights of another architecture, or a backbone that
            is missing or not wanted.
    """
    text, (name, named) = name, parse_spec(name)
    if named is not None and weights is not None:
        raise UserError(f"{text}: names weights already; {weights} are given beside them")
    weights = named if named is not None else weights
    if backbone is not None and getattr(ARCHITECTURES.get(name), "joined", None) is None:
        raise UserError(f"{name}: stands on no other network; leave the backbone {backbone} out")
    if ":" in name:
        return load_plugin(name, weights=weights, preset=preset, device=device)
    if name in CLASSIFIERS:
        return load_classifier(name, weights=weights, preset=preset, device=device)
    architecture = get_architecture(name)
    if str(weights) in VARIANTS:
        path = shipped_weights(name, str(weights))
    else:
        path = Path(weights) if weights is not None else shipped_weights(name)
    if weights is None and not path.is_file():
        raise UserError(f"no weights of {name} are shipped; give them: {_asked(architecture)}")
    below = None if backbone is None else Path(backbone)
    network, origin, options, facts = load_network(architecture, path, below)
    return describe(
        name, network.to(device), origin, preset or facts.get("preset") or None, options
    )


def _asked(architecture: Architecture) -> str:
    """Say how a detector's weights are given, and what they are called upstream."""
    name, published, backbone = architecture.name, architecture.published, architecture.backbone
    beside = f" and as the backbone {backbone}" if backbone else ""
    return f"{name}=FILE" + (f", upstream {published}{beside}" if published else "")


def load_network(
    architecture: Architecture, path: Path, backbone: Path | None = None
) -> tuple[nn.Module, WeightsOrigin, dict[str, Any], dict[str, str]]:
    """Return an architecture's network with the weights of a file, their origin, options, facts.

    backbone: the file of the network that it stands on, where ``path`` holds its head alone.

    Raises:
        UserError: weights of another architecture, or not all of them.
    """
    state, wrapper, facts = read_checkpoint(path)
    shapes = _shapes(state)
    others = [one.name for one in ARCHITECTURES.values() if one.recognises(shapes)]
    for key, shape in architecture.dead_keys:
        if key in state and tuple(state[key].shape) == shape:
            state.pop(key)
    shapes = _shapes(state)
    if not architecture.recognises(shapes):
        if others:
            raise UserError(f"{path}: weights of {' or '.join(others)}, not of {architecture.name}")
        if architecture.joined is not None:
            raise UserError(
                f"{path}: not weights of {architecture.name}, which are {architecture.published}; "
                f"it holds {', '.join([*shapes][:SHOWN])} …"
            )
        options = {}  # the strict loading below lists what is wrong
    else:
        if architecture.joined is not None:
            state = architecture.joined(state, _backbone(backbone), path)
            shapes = _shapes(state)
        options = architecture.options_of(shapes, facts)
    network = built(architecture.build, **options)
    load_strictly(network, state, f"{path} on {backbone}" if backbone else path)
    origin = WeightsOrigin(path.name, sha256(path), wrapper, _trained_on(path, facts))
    if backbone is not None:
        origin = replace(origin, backbone=backbone.name, backbone_sha256=sha256(backbone))
    return network, origin, options, facts


def _trained_on(path: Path, facts: Mapping[str, str]) -> tuple[str, ...]:
    """Return what weights were trained on: of shipped ones in words, else the folders they name."""
    folder = path.resolve().parent
    if folder.name == "weights" and (folder.parent / "photos" / "SPLIT.csv").is_file():
        made = ", ".join(SEVERAL.get(path.stem, ("progan-like",)))
        return (f"photographs, and their re-syntheses by small networks of this project ({made})",)
    return tuple(dict.fromkeys(re.findall(r"--data[ =](\S+)", facts.get("command", ""))))


def _backbone(path: Path | None) -> Backbone | None:
    return None if path is None else Backbone(read_checkpoint(path).state, path)


def _shapes(state: State) -> Shapes:
    return {key: tuple(value.shape) for key, value in state.items()}
