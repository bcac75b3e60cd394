"""Run a detector with feature maps taken away, without a copy of the network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..detectors.units import mlp_neurons
from ..errors import UserError
from ..records import FeatureMap


@contextmanager
def dropped(network: nn.Module, feature_maps: Iterable[FeatureMap]) -> Iterator[None]:
    """While the block runs, the feature maps are zero in every call of their layer.

    The site is ``conv``, before BatchNorm, and the value is zero, as published: the map becomes
    the constant β − γμ/σ after its BatchNorm. A neuron of an MLP is zero after its activation, on
    every token. The network is as it was when the block ends, also
    after an error. Without feature maps this is the network as it is.

    Raises:
        UserError: the network has no such layer or channel.
    """
    channels: dict[str, list[int]] = {}
    for feature_map in feature_maps:
        channels.setdefault(feature_map.layer, []).append(feature_map.channel)
    modules, neurons = dict(network.named_modules()), mlp_neurons(network)
    handles = []
    try:
        for layer, chosen in channels.items():
            module: Any = modules.get(layer)
            convolution = isinstance(module, nn.Conv2d)
            width = module.out_channels if convolution else neurons.get(layer, 0)
            if max(chosen) >= width:
                raise UserError(f"the network has no feature map {layer}.#{max(chosen)}")
            rows, axis = torch.tensor(sorted(chosen)), 1 if convolution else -1

            def zero(
                module: nn.Module, args: Any, output: Tensor, rows: Tensor = rows, axis: int = axis
            ) -> Tensor:
                return output.index_fill_(axis, rows.to(output.device), 0)

            handles.append(module.register_forward_hook(zero, prepend=True))
        yield
    finally:
        for handle in handles:
            handle.remove()
