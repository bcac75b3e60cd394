"""What a logit would do if a feature map were replaced, to first order, for all maps at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..detectors import Detector
from ..detectors.precision import full_float32
from ..detectors.units import by_map, token_units
from ..records import FeatureMap
from .put import Constants, put


@full_float32()
def first_order(
    detector: Detector,
    pixels: Tensor,
    constants: Constants | None,
    without: Iterable[FeatureMap] = (),
) -> tuple[Tensor, Tensor]:
    """Return logits (N,) and the predicted change of each by replacing each map alone, (N, M).

    pixels: uint8 (N, 3, H, W); constants: what would stand in a map's place, zero by default;
    without: maps that are replaced already, whose change is 0.
    The change is Σ gradient · (constant − map) over space, gradient and map taken with the maps
    ``without`` replaced (attribution patching). float64 on the CPU, maps in the detector's order.
    """
    batch = detector.normalised(pixels).requires_grad_(True)
    network = detector.network
    with (
        torch.enable_grad(),
        put(network, without, constants),
        kept(network, detector.layers) as held,
    ):
        logits = detector.decide(network(batch).reshape(len(batch), -1))
        calls = [(layer, one) for layer, own in held.items() for one in own if one.requires_grad]
        gradients = torch.autograd.grad(logits.sum(), [one for _, one in calls], allow_unused=True)
    changes = {layer: torch.zeros(len(batch), width, dtype=torch.float64)
               for layer, width in detector.layers.items()}  # fmt: skip
    units = token_units(detector.network)
    for (layer, output), gradient in zip(calls, gradients, strict=True):
        if gradient is None:
            continue
        unit = units.get(layer)
        maps, slopes = (by_map(one.detach(), unit) for one in (output, gradient))
        changes[layer] += _change(maps, slopes, (constants or {}).get(layer), len(batch))
    found = torch.cat([changes[layer] for layer in detector.layers], dim=1)
    return logits.detach().double().cpu(), found


def _change(maps: Tensor, slopes: Tensor, constant: Tensor | None, images: int) -> Tensor:
    """Return Σ slope · (constant − map) of (width, N', …, d) as (N, width), float64."""
    if constant is None:
        moved = maps.neg().mul_(slopes)
    else:
        between = [1] * (maps.dim() - 2)
        moved = (constant.to(maps).reshape(len(maps), *between, -1) - maps).mul_(slopes)
    sums = moved.sum(dim=tuple(range(2, moved.dim())))
    return sums.reshape(len(maps), images, -1).double().sum(dim=2).T.cpu()


@contextmanager
def kept(network: nn.Module, layers: Iterable[str]) -> Iterator[Mapping[str, list[Tensor]]]:
    """Yield layer → what it gave on each call of the last pass, as it was before anything in place.

    Of attention heads it is what goes into the module. The pass must be recorded by autograd.
    """
    modules, units = dict(network.named_modules()), token_units(network)
    found: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    handles = []

    def begun(module: nn.Module, args: Any) -> None:
        for own in found.values():
            own.clear()

    def after(layer: str, module: nn.Module, args: Any, output: Any) -> Any:
        tensor = output[0] if isinstance(output, tuple) else output
        found[layer].append(tensor)
        if isinstance(output, tuple):
            return (tensor.clone(), *output[1:])
        return tensor.clone()  # what follows may work in place

    def before(layer: str, module: nn.Module, args: Any) -> Any:
        found[layer].append(args[0])
        return (args[0].clone(), *args[1:])

    handles.append(network.register_forward_pre_hook(begun))
    for layer in found:
        unit = units.get(layer)
        module = modules[layer]
        if unit is not None and unit.inputs:
            hook = lambda m, a, layer=layer: before(layer, m, a)  # noqa: E731
            handles.append(module.register_forward_pre_hook(hook))
        else:
            hooked = lambda m, a, o, layer=layer: after(layer, m, a, o)  # noqa: E731
            handles.append(module.register_forward_hook(hooked))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
