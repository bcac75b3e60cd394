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
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from ..data.presets import Preset
from ..errors import UserError
from ..files import sha256
from .checkpoints import State, header, load_strictly, read_checkpoint
from .detector import Detector, WeightsOrigin, convolution_maps
from .lgrad import named_preset
from .wrappers import unwrapped

TIMM = "timm:"
PRESET = "wang-nocrop"
PROBE = 224  # pixels: the side of the image that shows how many outputs there are

# Classes of torchvision and timm that are squeeze-excite gates: their convolutions see no maps.
_GATE = re.compile(r"SqueezeExcit|^(Effective)?SE(Module|Layer|Block|WithNorm)?$|ChannelAttn")


def is_plugin(name: str) -> bool:
    """Whether a detector's name is that of a plug-in and not of the registry."""
    return ":" in name


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
    state, wrapper = read_checkpoint(path) if path else ({}, "")
    facts = header(path) if path else {}
    if name.startswith(TIMM):
        if path is None:
            raise UserError(f"{name}: timm has no detectors' weights; give --weights FILE")
        made: Any = _timm_network(name, state, facts)
        source: Any = None
    else:
        source = _imported(name)
        made = source
        if not isinstance(source, (nn.Module, Detector)):
            with _told(f"{name}: the function"):
                made = source()
    network = made.network if isinstance(made, Detector) else made
    network = unwrapped(network) if isinstance(network, nn.Module) else network
    if not isinstance(network, nn.Module):
        kind = type(network).__name__
        raise UserError(f"{name}: returned {kind} instead of a torch.nn.Module or a Detector")
    if path:
        load_strictly(network, state, path)
        origin = WeightsOrigin(path.name, sha256(path), wrapper)
    else:
        origin = WeightsOrigin("the function's own", _digest(network), "plug-in")
    if isinstance(made, Detector):
        made = replace(made, weights=origin) if path or not made.weights.sha256 else made
        made = made.with_preset(_preset(preset)) if preset else made
        return replace(made, network=network.eval().to(device))
    found = own_detector(
        network,
        name=name,
        preset=preset or getattr(source, "preset", None) or facts.get("preset") or PRESET,
        classes=getattr(source, "classes", None) or json.loads(facts.get("classes", "[]")),
        real=getattr(source, "real", None),
        without=getattr(source, "without", ()),
    )
    return replace(found, network=network.to(device), weights=origin)


def own_detector(
    network: nn.Module,
    *,
    name: str = "own",
    preset: Preset | str = PRESET,
    classes: Sequence[str] = (),
    real: int | str | None = None,
    without: Sequence[str] = (),
) -> Detector:
    """Return a network as a detector, after one grey image has gone through it.

    Args:
        network: takes a normalised batch (N, 3, H, W), returns logits: one, positive for fake, or
            one a class. It is put into evaluation mode.
        classes: names of the classes, in the network's order; none for one logit.
        real: the real class, by number or name; by default the one called 'real'.
        without: convolutions whose outputs are no feature maps, by their own or their whole names;
            squeeze-excite gates of torchvision and timm are left out in any case.

    Raises:
        UserError: a network that fails on the image or ends in probabilities, or classes that do
            not fit its outputs.
    """
    preset = _preset(preset)
    if isinstance(classes, str):
        raise UserError(f"{name}: classes must be a list of names, not the text {classes!r}")
    names = tuple(map(str, classes))
    network = unwrapped(network).eval()
    modules = dict(network.named_modules())
    last = list(modules.values())[-1]
    if isinstance(last, (nn.Sigmoid, nn.Softmax)):
        raise UserError(
            f"{name}: ends in {type(last).__name__}; a detector gives logits: leave that layer out"
        )
    outputs = _outputs(network, preset, name)
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
    feature_maps = tuple(
        one
        for one in convolution_maps(network, without=own)
        if one.layer not in without and not _gates(modules, one.layer)
    )
    origin = WeightsOrigin("given in Python", _digest(network), "plug-in")
    return Detector(name, network, preset, feature_maps, origin, names, real)


def _preset(asked: Preset | str) -> Preset:
    return asked if isinstance(asked, Preset) else named_preset(asked)


def _gates(modules: dict[str, nn.Module], layer: str) -> bool:
    return bool(_GATE.search(type(modules[layer.rpartition(".")[0]]).__name__))


@torch.no_grad()
def _outputs(network: nn.Module, preset: Preset, name: str) -> int:
    """Return how many outputs a network has, by one grey image."""
    parameters = list(network.parameters())
    device = parameters[0].device if parameters else "cpu"
    image = preset.geometry(Image.new("RGB", (PROBE, PROBE), (128, 128, 128)), "probe", 0)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    batch = preset.normalise(pixels.to(device))
    with _told(f"{name}: the network, on one image {tuple(batch.shape)},"):
        found = network(batch)
    if not isinstance(found, torch.Tensor) or found.dim() == 0 or len(found) != 1:
        what = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        raise UserError(f"{name}: the network returns {what} for one image instead of (1, classes)")
    return found.numel()


def _timm_network(name: str, state: State, facts: dict[str, str]) -> nn.Module:
    """Return timm's network with as many outputs as the weights have."""
    try:
        import timm
    except ImportError:
        raise UserError(f"{name}: timm is not installed; `pip install timm` mends that") from None
    own = name.removeprefix(TIMM)
    if not timm.is_model(own):
        near = timm.list_models(f"*{own[:6]}*")[:5]
        hint = f"; near are {', '.join(near)}" if near else ""
        raise UserError(f"{name}: timm has no model {own!r}{hint}")
    with _told(f"{name}: timm"):
        last = getattr(timm.get_pretrained_cfg(own), "classifier", None) or ""
    key = f"{last[0] if isinstance(last, tuple) else last}.weight"
    outputs = len(state[key]) if key in state else len(json.loads(facts.get("classes", "[]"))) or 1
    with _told(f"{name}: timm"):
        return timm.create_model(own, pretrained=False, num_classes=outputs)


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
    with _importing(Path.cwd()), _told(f"{source}: importing it"):
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
    with _importing(path.resolve().parent), _told(f"{path}: running it"):
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


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Turn what goes wrong in the user's code into one line that says where."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise UserError(
            f"{what} failed with {type(error).__name__}: {error} "
            f"({Path(place.filename).name}, line {place.lineno})"
        ) from error


def _digest(network: nn.Module) -> str:
    """Return the SHA-256 of a network's numbers, for manifests."""
    found = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        found.update(f"{key} {tuple(value.shape)} {value.dtype}".encode())
        found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()
