"""Run a detector with feature maps taken away, without a copy of the network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..detectors.units import Unit, token_units
from ..errors import UserError
from ..records import FeatureMap


@contextmanager
def dropped(network: nn.Module, feature_maps: Iterable[FeatureMap]) -> Iterator[None]:
    """While the block runs, the feature maps are zero in every call of their layer.

    The site is ``conv``, before BatchNorm, and the value is zero, as published: the map becomes
    the constant β − γμ/σ after its BatchNorm. A unit of a transformer is zero on every token. The
    network is as it was when the block ends, also after an error. Without feature maps this is the
    network as it is.

    Raises:
        UserError: the network has no such layer or channel.
    """
    channels: dict[str, list[int]] = {}
    for feature_map in feature_maps:
        channels.setdefault(feature_map.layer, []).append(feature_map.channel)
    modules, units = dict(network.named_modules()), token_units(network)
    handles = []
    try:
        for layer, chosen in channels.items():
            module: Any = modules.get(layer)
            unit = units.get(layer)
            convolution = isinstance(module, nn.Conv2d)
            if max(chosen) >= (module.out_channels if convolution else unit.width if unit else 0):
                raise UserError(f"the network has no feature map {layer}.#{max(chosen)}")
            rows = torch.tensor(sorted(chosen))
            if unit is None:
                hook = partial(_zero_channels, rows)
                handles.append(module.register_forward_hook(hook, prepend=True))
            elif unit.inputs:
                before = partial(_zero_inputs, unit, rows)
                handles.append(module.register_forward_pre_hook(before, prepend=True))
            else:
                after = partial(_zero_outputs, unit, rows)
                handles.append(module.register_forward_hook(after, prepend=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _zero_channels(rows: Tensor, module: nn.Module, args: Any, output: Tensor) -> Tensor:
    return output.index_fill_(1, rows.to(output.device), 0)


def _zero_inputs(unit: Unit, rows: Tensor, module: nn.Module, args: Any) -> Any:
    tokens = args[0].clone()  # others may read it
    unit.zero(tokens, rows.to(tokens.device))
    return (tokens, *args[1:])


def _zero_outputs(unit: Unit, rows: Tensor, module: nn.Module, args: Any, output: Any) -> None:
    tokens = output[0] if isinstance(output, tuple) else output
    unit.zero(tokens, rows.to(tokens.device))
