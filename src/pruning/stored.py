"""A pruned detector in the weights of its own architecture: no hook, no other file format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..ablation.sites import chains
from ..detectors import Detector, WeightsOrigin, head
from ..detectors.building import copied
from ..detectors.units import Unit, token_units
from ..errors import UserError
from ..records import FeatureMap
from .heads import LastLayer


@torch.no_grad()
def stored(
    detector: Detector,
    feature_maps: Sequence[FeatureMap],
    constants: Mapping[str, Tensor] | None,
    layer: LastLayer | None,
    image: Tensor,
) -> Detector:
    """Return a copy of the detector whose feature maps hold constants, with another last layer.

    constants: by layer (width, d), zero by default; image: uint8 (1, 3, H, W), sent through a copy.

    A channel's filter becomes zero, its constant the convolution's bias, or what BatchNorm makes of
    it the BatchNorm's. A neuron or head is left out of the linear layer that reads it, its constant
    goes into that one's bias.

    Raises:
        UserError: a constant that the architecture has no bias for, or channels of a transformer's
            blocks.
    """
    network = copied(detector.network, detector.name)
    modules, units = dict(network.named_modules()), token_units(network)
    by_layer: dict[str, list[int]] = {}
    for one in feature_maps:
        by_layer.setdefault(one.layer, []).append(one.channel)
    norms = _norms(replace(detector, network=network), list(by_layer), image)
    for name, channels in by_layer.items():
        module, unit = modules[name], units.get(name)
        values = constants.get(name) if constants else None
        if values is None:
            values = torch.zeros(detector.layers[name], 1)
        values = values.double().cpu()
        if unit is None:
            _empty_channels(f"{detector.name}: {name}", module, norms.get(name), channels, values)
        else:
            reader = _reader(modules, name, unit)
            _leave_out(f"{detector.name}: {name}", reader, unit, channels, values)
    if layer is not None:
        _put_last(detector, last_layer(detector, network), layer)
    origin = WeightsOrigin(f"pruned from {detector.weights.path}", "", detector.weights.wrapper)
    return replace(detector, network=network, weights=origin)


def _norms(
    detector: Detector, layers: list[str], image: Tensor
) -> dict[str, tuple[nn.BatchNorm2d, Tensor]]:
    """Return the BatchNorm that alone reads a convolution, and its scale (width,)."""
    batch = detector.normalised(image)
    own = chains(detector.network, layers, batch)
    modules = dict(detector.network.named_modules())
    made: dict[int, str] = {}
    kept: list[Tensor] = []  # alive, so that no id comes twice
    found: dict[str, tuple[nn.BatchNorm2d, Tensor]] = {}

    def leaves(module: nn.Module, args: Any, output: Tensor) -> None:
        kept.append(output)
        made[id(output)] = names[module]

    def enters(module: Any, args: Any) -> None:
        name = made.get(id(args[0]))
        if name in own:
            found[name] = (module, own[name].scale)

    names = {modules[one]: one for one in own}
    handles = [one.register_forward_hook(leaves) for one in names]
    handles += [
        one.register_forward_pre_hook(enters)
        for one in modules.values()
        if isinstance(one, nn.BatchNorm2d)
    ]
    try:
        detector.network(batch)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _empty_channels(
    where: str,
    convolution: nn.Module,
    norm: tuple[nn.BatchNorm2d, Tensor] | None,
    channels: list[int],
    values: Tensor,
) -> None:
    assert isinstance(convolution, nn.Conv2d)
    convolution.weight[channels] = 0
    wanted = values[channels, 0]
    if convolution.bias is not None:
        convolution.bias[channels] = wanted.to(convolution.bias)
    elif norm is not None and norm[0].bias is not None:
        shift = norm[1].cpu()[channels] * wanted
        norm[0].bias[channels] = norm[0].bias[channels] + shift.to(norm[0].bias)
    elif bool(wanted.any()):
        raise UserError(
            f"{where} has neither a bias nor a BatchNorm of its own, so that its channels can only "
            "be zero; take value zero"
        )


def _reader(modules: Mapping[str, nn.Module], name: str, unit: Unit) -> nn.Linear:
    """Return the linear layer that reads neurons or heads."""
    if unit.kind == "channels":
        raise UserError(
            f"{name}: the channels of a block are added to those of all blocks before it, and no "
            "weight of its own stands for them; prune neurons or heads"
        )
    if unit.kind == "heads":
        found = modules[name]
    else:
        parent = modules[name.rpartition(".")[0]]
        found = [one for one in parent.children() if isinstance(one, nn.Linear)][-1]
    assert isinstance(found, nn.Linear)
    return found


def _leave_out(
    where: str, reader: nn.Linear, unit: Unit, channels: list[int], values: Tensor
) -> None:
    size = reader.in_features // unit.width
    columns = [channel * size + part for channel in channels for part in range(size)]
    constant = values[channels].expand(-1, size).reshape(-1)
    added = reader.weight[:, columns].double().cpu() @ constant
    if reader.bias is None and bool(added.any()):
        raise UserError(f"{where}: the layer behind it has no bias for a constant; take value zero")
    reader.weight[:, columns] = 0
    if reader.bias is not None:
        reader.bias.add_(added.to(reader.bias))


def last_layer(detector: Detector, network: nn.Module) -> Any:
    """Return the last linear layer of the detector's network, or of a copy of it.

    Raises:
        UserError: it gives more than two logits, or has no bias, so that it is not fitted anew.
    """
    last: Any = network.get_submodule(head(network))
    if last.out_features > 2 or last.bias is None:
        without = ", without a bias" * (last.bias is None)
        raise UserError(
            f"{detector.name}: the last layer is fitted anew where it gives one logit or two, with "
            f"a bias; this one gives {last.out_features}{without}"
        )
    return last


def _put_last(detector: Detector, last: Any, layer: LastLayer) -> None:
    """Write the layer's weights; of two classes the real one's row becomes zero."""
    rows = last.out_features
    last.weight.zero_()
    last.bias.zero_()
    fake = 0 if rows == 1 else 1 - int(detector.real or 0)
    last.weight[fake] = torch.from_numpy(layer.weights).to(last.weight)
    last.bias[fake] = layer.bias
