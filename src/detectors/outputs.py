"""What a network of one's own gives: is it logits, and does each image get its own?

What made the output is followed back through the operations that were run, so that a sigmoid is
found wherever it stands and a logit that happens to lie between 0 and 1 is not taken for one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from ..data.presets import Preset
from ..errors import UserError, counted
from .activations import observed
from .building import random_state_kept, told

PROBE = 224  # pixels: the side of the images that are shown
LARGE = 100.0  # times the usual values: logits grow with them, probabilities stay

_BOUND = {
    "sigmoid": "a sigmoid", "hardsigmoid": "a hard sigmoid", "_softmax": "a softmax",
    "_safe_softmax": "a softmax", "softmax": "a softmax", "_log_softmax": "a log-softmax",
    "log_softmax": "a log-softmax", "log_sigmoid_forward": "a log-sigmoid",
}  # fmt: skip
# What these give is bounded if what they get is (rsub: 1 − p; clamp and log are often added).
_SAME = {
    "view", "_unsafe_view", "reshape", "_reshape_alias", "squeeze", "unsqueeze", "select",
    "slice", "index", "index_select", "gather", "expand", "transpose", "t", "permute", "clone",
    "_to_copy", "detach", "alias", "lift_fresh", "contiguous", "cat", "stack", "clamp",
    "clamp_min", "clamp_max", "mean", "amax", "amin", "max", "min", "rsub", "log", "copy_",
    "split", "unbind", "narrow",
    "relu", "leaky_relu", "elu", "gelu", "silu", "softplus",
}  # fmt: skip
_SCALED = {"add", "sub", "mul", "div", "neg", "sum", "where", "addcmul"}  # its values decide
_LINEAR = {
    "addmm", "mm", "bmm", "baddbmm", "mv", "addmv", "dot", "linear", "convolution",
    "_convolution", "mkldnn_linear", "cudnn_convolution", "mkldnn_convolution",
    "native_batch_norm", "cudnn_batch_norm", "_native_batch_norm_legit_no_training",
    "native_layer_norm",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Made:
    """The operation that made a tensor, and those that made what it was given."""

    name: str
    parents: tuple[_Made, ...]


class _Record(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.made = WeakTensorKeyDictionary()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        named = kwargs or {}
        name = func.overloadpacket.__name__
        given = args[1:] if name == "copy_" else args[:1] if name == "index" else args
        parents = [
            self.made[one]
            for one in tree_leaves((given, named))
            if isinstance(one, Tensor) and one in self.made
        ]
        found = func(*args, **named)
        for one in tree_leaves(found):
            if isinstance(one, Tensor):
                self.made[one] = _Made(name, tuple(parents))
        return found


def _bounded(made: _Made | None, known: dict[_Made, tuple[str, bool]]) -> tuple[str, bool]:
    """Return what bounds an output ('' nothing, '?' unknown), and whether its values decide."""
    if made is None:
        return "?", True
    if made not in known:
        known[made] = _bound(made, known)
    return known[made]


def _bound(made: _Made, known: dict[_Made, tuple[str, bool]]) -> tuple[str, bool]:
    name = made.name if made.name == "copy_" else made.name.removesuffix("_")
    if name in _BOUND:
        return _BOUND[name], False
    if name in _LINEAR:
        return "", False
    found = [_bounded(one, known) for one in made.parents]
    if name not in _SAME | _SCALED or not found:
        return "?", True
    if any(not what for what, _ in found):
        return "", False
    return found[0][0], name in _SCALED or any(valued for _, valued in found)


@torch.no_grad()
def outputs_of(network: nn.Module, preset: Preset, name: str) -> int:
    """Return how many logits a network gives, after several images have gone through it.

    Raises:
        UserError: it gives something else than logits (N, classes), probabilities, another output
            each time, or one that depends on the other images of the batch.
    """
    device = next((one.device for one in network.parameters()), torch.device("cpu"))
    first, second = (preset.normalise(one.to(device)) for one in _probes(preset))
    record = _Record()
    with random_state_kept(), told(f"{name}: the network, on one image {tuple(first.shape)},"):
        with record:
            given = network(first)
        alone = _rows(given, 1, name)
        again, other = (_rows(network(one), 1, name) for one in (first, second))
    with random_state_kept(), told(f"{name}: the network, on two images,"):
        both = _rows(network(torch.cat([first, second])), 2, name)
    close = 1e-3 if device.type == "cpu" else 2e-2  # a GPU may round to TF32
    if _differ(alone, again, close):
        raise UserError(
            f"{name}: gives another output each time for one image; is a dropout on in evaluation "
            "mode (F.dropout without training=self.training)?"
        )
    if _differ(both, torch.cat([alone, other]), close):
        raise UserError(f"{name}: {_of_the_batch(network)}")
    what, valued = _bounded(record.made.get(given), {})
    if what and valued:
        noise = torch.randn(first.shape, generator=torch.Generator().manual_seed(0)).to(device)
        with random_state_kept(), told(f"{name}: the network, on large inputs,"):
            large = [_rows(network(LARGE * one), 1, name) for one in (noise, -noise, second)]
        what = _by_values(torch.cat([both, *large]))
    if what:
        raise UserError(
            f"{name}: ends in {what}; a detector gives logits: leave that layer out, and return "
            "what goes into it"
        )
    return alone.shape[1]


@torch.no_grad()
def logit_convolutions(network: nn.Module, preset: Preset, outputs: int) -> set[str]:
    """Return the convolution whose output channels are the logits, pooled; mostly there is none.

    Its maps are where the logits come from, not what the detector looks at.
    """
    device = next((one.device for one in network.parameters()), torch.device("cpu"))
    record, convolutions = _Record(), {}

    def seen(name: str, output: Tensor) -> None:
        convolutions[record.made[output]] = name

    layers = [name for name, one in network.named_modules() if isinstance(one, nn.Conv2d)]
    if not layers:
        return set()
    with random_state_kept(), observed(network, layers, seen), record:
        given = network(preset.normalise(_probes(preset)[0].to(device)))
    made: _Made | None = record.made.get(given)
    while made is not None and made not in convolutions:
        through = made.name.removesuffix("_") not in _LINEAR and len(set(made.parents)) == 1
        made = made.parents[0] if through else None
    if made is None or network.get_submodule(convolutions[made]).out_channels != outputs:
        return set()
    return {convolutions[made]}


def _probes(preset: Preset) -> tuple[Tensor, Tensor]:
    """Return two uint8 images (1, 3, H, W) that differ: soft shapes with grain, and hard edges."""
    down, across = np.mgrid[:PROBE, :PROBE] / PROBE
    grain = np.random.default_rng(0).normal(0, 12, (2, PROBE, PROBE, 3))
    soft = np.stack([255 * across, 255 * down, 90 + 80 * np.sin(9 * across * down)], axis=2)
    hard = np.where(((down * 7).astype(int) + (across * 5).astype(int)) % 2, 200, 40)[..., None]
    found = []
    for place, values in enumerate((soft, hard)):
        pixels = np.clip(values + grain[place], 0, 255).astype(np.uint8)
        image = np.array(preset.geometry(Image.fromarray(pixels), f"probe {place}", 0))
        found.append(torch.from_numpy(image).permute(2, 0, 1)[None])
    return found[0], found[1]


def _rows(given: object, images: int, name: str) -> Tensor:
    """Return what a network gave as (N, outputs), float32 on the CPU."""
    if not isinstance(given, Tensor):
        raise UserError(f"{name}: the network returns {_words(given)} instead of logits")
    if given.dim() == 0 or len(given) != images:
        raise UserError(
            f"{name}: the network returns {tuple(given.shape)} for "
            f"{counted(images, 'image')} instead of ({images}, classes)"
        )
    return given.detach().reshape(images, -1).float().cpu()


def _words(given: object) -> str:
    """Say what a network returned that is no tensor, and how its logits are got out of it."""
    if given is not None and is_dataclass(given) and not isinstance(given, Mapping):
        given = {one.name: getattr(given, one.name) for one in fields(given)}
    elif hasattr(given, "_asdict"):
        given = given._asdict()
    if isinstance(given, Mapping):
        keys = [str(key) for key in given]
        likely = next((key for key in keys if "logit" in key.lower()), keys[0] if keys else "…")
        return (
            f"a dict with the keys {', '.join(keys)}; let its forward return one of them, "
            f"[{likely!r}] say,"
        )
    if isinstance(given, (tuple, list)):
        shapes = [str(tuple(one.shape)) if isinstance(one, Tensor) else type(one).__name__
                  for one in given]  # fmt: skip
        return (
            f"a {type(given).__name__} of {', '.join(shapes)}; let its forward return one of "
            "them, [0] say,"
        )
    return type(given).__name__


def _differ(one: Tensor, other: Tensor, close: float) -> bool:
    if one.shape != other.shape:
        return True
    scale = max(float(one.abs().nan_to_num(0, 0, 0).max()), 1e-3)
    return bool(((one - other).abs() > close * scale).any())


def _of_the_batch(network: nn.Module) -> str:
    norms = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None
    ]
    why = ""
    if norms:
        why = f" ({norms[0]} takes its statistics from the batch: track_running_stats=False)"
    return (
        f"what it gives for an image depends on the others in the batch{why}; a detector judges "
        "each image alone: use running statistics, or a norm of the image itself"
    )


def _by_values(values: Tensor) -> str:
    """Say in which way outputs (M, K), also of large inputs, are probabilities; '' if in none."""
    values = values[torch.isfinite(values).all(dim=1)].double()
    if not len(values):
        return ""
    several = values.shape[1] > 1
    for kind, one in (("probabilities", values), ("logarithms of probabilities", values.exp())):
        if several and bool(((one.sum(1) - 1).abs() < 1e-3).all()) and bool((one >= 0).all()):
            return f"{kind} (the classes' sum is one)"
    if bool(((values >= 0) & (values <= 1)).all()):
        return "probabilities (all outputs lie in 0 … 1, whatever the input)"
    return ""
