"""Detectors of one's own: a function that makes the network, or a network of timm, and a preset.

A DETECTOR with a colon in its name is one: ``package.module:function``,
``path/to/file.py:function`` or ``timm:NAME``. See docs/own-detector.md.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..data.presets import Preset
from ..errors import UserError
from ..files import sha256
from .building import built, copied, digest, random_state_kept, told
from .checkpoints import Checkpoint, load_strictly, read_checkpoint
from .detector import Detector, WeightsOrigin
from .lgrad import named_preset
from .outputs import logit_convolutions, outputs_of
from .units import find_feature_maps

TIMM = "timm:"
PRESET = "wang-nocrop"

# Classes of torchvision and timm that are squeeze-excite gates: their convolutions see no maps.
_GATE = re.compile(r"SqueezeExcit|^(Effective)?SE(Module|Layer|Block|WithNorm)?$|ChannelAttn")


def load_plugin(
    name: str,
    *,
    weights: Path | str | None = None,
    preset: Preset | str | None = None,
    device: torch.device | str = "cpu",
) -> Detector:
    """Return a detector of one's own, in evaluation mode.

    Args:
        name: ``package.module:function`` (also of the working directory),
            ``path/to/file.py:function``, or ``timm:NAME``. The function takes no arguments and
            returns a network, or a ready ``Detector``; its attributes ``preset``, ``classes``,
            ``real`` and ``without`` are the arguments of :func:`own_detector`.
        weights: a checkpoint of that network; a function may have loaded its own, timm needs one.
        preset: the preprocessing; by default the function's, or the one that the weights' header
            names, or 'wang-nocrop' (native size, ImageNet normalisation).

    Raises:
        UserError: nothing of that name, code that fails, weights of another network, or a network
            that is no detector; the message says how to mend it.
    """
    path = None if weights is None else Path(weights)
    if name.startswith(TIMM):
        made, held = _timm_network(name, path)
        source: Any = None
    else:
        held = read_checkpoint(path) if path else Checkpoint({}, "", {})
        with random_state_kept():
            source = made = _imported(name)
            if not isinstance(source, (nn.Module, Detector)):
                with told(f"{name}: the function"):
                    made = source()
    network = made.network if isinstance(made, Detector) else made
    if not isinstance(network, nn.Module):
        kind = type(network).__name__
        raise UserError(f"{name}: returned {kind} instead of a torch.nn.Module or a Detector")
    network = copied(network, name)
    origin = WeightsOrigin("the function's own", digest(network), "plug-in")
    if path:
        load_strictly(network, held.state, path)
        origin = WeightsOrigin(path.name, sha256(path), held.wrapper)
    if isinstance(made, Detector):
        ready: Detector = made
        ready = replace(ready, network=network.to(device))
        ready = replace(ready, weights=origin) if path or not ready.weights.sha256 else ready
        ready = ready.with_preset(_preset(preset)) if preset else ready
        outputs_of(network, ready.preset, ready.name)
        return ready
    return _described(
        network.to(device),
        name,
        preset or getattr(source, "preset", None) or held.facts.get("preset") or PRESET,
        getattr(source, "classes", None) or json.loads(held.facts.get("classes", "[]")),
        getattr(source, "real", None),
        getattr(source, "without", ()),
        origin,
    )


def own_detector(
    network: nn.Module,
    *,
    name: str = "own",
    preset: Preset | str = PRESET,
    classes: Sequence[str] = (),
    real: int | str | None = None,
    without: Sequence[str] = (),
) -> Detector:
    """Return a network as a detector, after several images have gone through it.

    Args:
        network: takes a normalised batch (N, 3, H, W), returns logits: one, positive for fake, or
            one a class. The detector has a copy of its own, in evaluation mode and out of
            DataParallel, AveragedModel and ``torch.compile``: yours stays as it is.
        classes: names of the classes, in the network's order; none for one logit.
        real: the real class, by number or name; by default the one called 'real'.
        without: convolutions whose outputs are no feature maps, by their own or their whole names;
            squeeze-excite gates of torchvision and timm are left out in any case, and so is a
            convolution that gives the logits themselves.

    Raises:
        UserError: a network that fails on the images, ends in probabilities or looks at the other
            images of a batch, or classes that do not fit its outputs.
    """
    network = copied(network, name)
    origin = WeightsOrigin("given in Python", digest(network), "plug-in")
    return _described(network, name, preset, classes, real, without, origin)


def _described(
    network: nn.Module,
    name: str,
    preset: Preset | str,
    classes: Sequence[str],
    real: int | str | None,
    without: Sequence[str],
    origin: WeightsOrigin,
) -> Detector:
    preset = _preset(preset)
    if isinstance(classes, str):
        raise UserError(f"{name}: classes must be a list of names, not the text {classes!r}")
    names = tuple(map(str, classes))
    modules = dict(network.named_modules())
    outputs = outputs_of(network, preset, name)
    if outputs != max(1, len(names)):
        raise UserError(
            f"{name}: the network gives {outputs} output{'s' * (outputs > 1)}, but {len(names)} "
            "classes are named; set `classes` to their names, in order, none for one logit"
        )
    if real is None and names and "real" not in names:
        raise UserError(f"{name}: which of {', '.join(names)} is the real class? set `real` to it")
    if isinstance(real, str) and real not in names:
        raise UserError(f"{name}: real = {real!r} is none of the classes {', '.join(names)}")
    if real is None or isinstance(real, str):
        real = names.index(real or "real") if names else 0
    if not 0 <= real < outputs:
        raise UserError(f"{name}: real = {real}, but the classes are 0 … {outputs - 1}")
    own = tuple(one for one in without if "." not in one)
    left_out = {*without, *logit_convolutions(network, preset, outputs)}
    feature_maps = tuple(
        one
        for one in find_feature_maps(network, without=own)
        if one.layer not in left_out and not _gates(modules, one.layer)
    )
    return Detector(name, network, preset, feature_maps, origin, names, real)


def _preset(asked: Preset | str) -> Preset:
    return asked if isinstance(asked, Preset) else named_preset(asked)


def _gates(modules: dict[str, nn.Module], layer: str) -> bool:
    return bool(_GATE.search(type(modules[layer.rpartition(".")[0]]).__name__))


def _timm_network(name: str, path: Path | None) -> tuple[nn.Module, Checkpoint]:
    """Return timm's network with as many outputs as the weights have, and what the file holds."""
    try:
        import timm
    except ImportError:
        raise UserError(f"{name}: timm is not installed; `pip install timm` mends that") from None
    own = name.removeprefix(TIMM)
    if not own or not timm.is_model(own):
        near = timm.list_models(f"*{own[:6]}*")[:5]
        hint = f"; near are {', '.join(near)}" if near else "; timm.list_models() names them"
        raise UserError(f"{name}: timm has no model {own!r}{hint}")
    if path is None:
        raise UserError(f"{name}: timm has no detectors' weights; give weights, {name}=FILE")
    held = read_checkpoint(path)
    with told(f"{name}: timm"):
        last = getattr(timm.get_pretrained_cfg(own), "classifier", None) or ""
    key = f"{last[0] if isinstance(last, tuple) else last}.weight"
    outputs = len(json.loads(held.facts.get("classes", "[]"))) or 1
    if key in held.state:
        outputs = len(held.state[key])
    with told(f"{name}: timm"):
        return built(timm.create_model, own, pretrained=False, num_classes=outputs), held


def _imported(name: str) -> Any:
    """Return what a name of the form module:function or file.py:function stands for."""
    source, _, own = name.rpartition(":")
    if not source or not own:
        raise UserError(f"{name}: write package.module:function, file.py:function or timm:NAME")
    module = _from_file(Path(source)) if source.endswith(".py") else _from_path(source)
    if not hasattr(module, own):
        raise UserError(f"{name}: {source} has no {own!r}")
    return getattr(module, own)


def _from_path(source: str) -> Any:
    """Import an installed module, or one of the working directory."""
    with _importing(Path.cwd()), told(f"{source}: importing it"):
        try:
            return importlib.import_module(source)
        except ModuleNotFoundError as error:
            if not f"{source}.".startswith(f"{error.name}."):
                raise  # it is there, and what it imports is not
    raise UserError(
        f"no module {source!r} is installed or in the working directory; a file can be given as "
        "path/to/file.py:function"
    )


def _from_file(path: Path) -> Any:
    """Run a Python file as a module of its own, its folder on the path as for a script."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    spec = importlib.util.spec_from_file_location(f"{path.stem}_{digest}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickle look it up
    with _importing(path.resolve().parent), told(f"{path}: running it"):
        spec.loader.exec_module(module)
    return module


@contextmanager
def _importing(folder: Path) -> Iterator[None]:
    """Look for modules in a folder too, after all others."""
    sys.path.append(str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
