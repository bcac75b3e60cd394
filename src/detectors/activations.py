"""Look at what flows through a network's modules, and leave the network as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..records import FeatureMap
from .units import as_maps, mlp_neurons

Take = Callable[[str, Tensor], Any]


def joined(calls: Sequence[Tensor]) -> Tensor:
    """Return what a module gave on each of its calls as one tensor.

    A feature map is an output channel of a module over all its calls: maps (N, C, h, w) of one
    height stand side by side (N, C, h, Σw), of several each is a row of its own (N, C, 1, Σhw).
    """
    if len(calls) == 1:
        return calls[0]
    if len({one.shape[:-1] for one in calls}) > 1:
        calls = [one.flatten(2)[:, :, None] for one in calls]
    return torch.cat(list(calls), dim=-1)


def apart(whole: Tensor, calls: Sequence[Tensor]) -> list[Tensor]:
    """Return the parts of a joined tensor, each shaped as its call: what undoes :func:`joined`."""
    several = len({one.shape[:-1] for one in calls}) > 1
    widths = [one[0, 0].numel() if several else one.shape[-1] for one in calls]
    parts = whole.split(widths, dim=-1)
    return [part.reshape(one.shape) for part, one in zip(parts, calls, strict=True)]


@contextmanager
def observed(
    network: nn.Module, layers: Iterable[str], take: Take, *, inputs: bool = False
) -> Iterator[dict[str, Any]]:
    """Yield a dictionary that after each forward pass holds ``take(layer, output)`` of each layer.

    layers: names of modules that return one tensor; inputs: give ``take`` what goes into the module
    instead of what comes out. The output of a convolution is its feature maps before BatchNorm,
    that of an MLP's neurons on tokens their maps (:func:`forensift.detectors.units.as_maps`). Of a
    module that is called several times in a pass it is all calls, see :func:`joined`; of a
    convolution that is not called, maps of one zero. The hooks are gone when the block ends, also
    after an exception.

    Raises:
        UserError: the network has no module of that name.
    """
    modules = dict(network.named_modules())
    found: dict[str, Any] = {}
    calls: dict[str, list[Tensor]] = {}
    layers = list(layers)
    neurons = {} if inputs else mlp_neurons(network)
    shape: list[tuple[int, ...]] = [()]

    def begun(_: nn.Module, args: Any) -> None:
        calls.clear()
        shape[0] = tuple(args[0].shape)

    def ended(_: nn.Module, args: Any, output: Any) -> None:
        for layer in layers:
            module = modules[layer]
            if layer not in calls and isinstance(module, nn.Conv2d) and not inputs:
                nothing = module.weight.new_zeros(len(args[0]), module.out_channels, 1, 1)
                found[layer] = take(layer, nothing)
        calls.clear()

    handles = [
        network.register_forward_pre_hook(begun),
        network.register_forward_hook(ended),
    ]
    try:
        for layer in layers:
            if layer not in modules:
                raise UserError(f"the network has no layer {layer!r}")

            def hook(module: nn.Module, args: Any, output: Any, layer: str = layer) -> None:
                given = args[0] if inputs else output
                given = as_maps(given, shape[0]) if layer in neurons else given
                calls.setdefault(layer, []).append(given)
                found[layer] = take(layer, joined(calls[layer]))

            handles.append(modules[layer].register_forward_hook(hook))
        yield found
    finally:
        for handle in handles:
            handle.remove()


class ChosenMaps:
    """Chosen feature maps of any layers: picked from each layer's output, joined in their order.

    layers: the layers that hold them, in the order they first come.
    """

    def __init__(self, feature_maps: Sequence[FeatureMap]) -> None:
        self._channels: dict[str, list[int]] = {}
        places: dict[str, list[int]] = {}
        for place, one in enumerate(feature_maps):
            self._channels.setdefault(one.layer, []).append(one.channel)
            places.setdefault(one.layer, []).append(place)
        self.layers = list(self._channels)
        by_layer = [place for layer in self.layers for place in places[layer]]
        self._order = sorted(range(len(by_layer)), key=by_layer.__getitem__)

    def of(self, layer: str, output: Tensor) -> Tensor:
        """Return the chosen channels (N, C', h, w) of a layer's output (N, C, h, w)."""
        return output[:, self._channels[layer]].detach()

    def joined(self, found: Mapping[str, Tensor]) -> Tensor:
        """Return (N, k, …) in the maps' order, of what was made of each layer's (N, C', …)."""
        return torch.cat([found[layer] for layer in self.layers], dim=1)[:, self._order]


def head(network: nn.Module) -> str:
    """Return the name of the last linear layer; its input is the penultimate feature vector.

    Raises:
        UserError: the network has none.
    """
    names = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not names:
        raise UserError(f"{type(network).__name__} has no linear layer, so no penultimate features")
    return names[-1]
