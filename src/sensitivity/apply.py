"""Run a detector with feature maps taken away, without a copy of the network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..records import FeatureMap


@contextmanager
def dropped(network: nn.Module, feature_maps: Iterable[FeatureMap]) -> Iterator[None]:
    """While the block runs, the feature maps are zero in every call of their convolution.

    The site is ``conv``, before BatchNorm, and the value is zero, as published: the map becomes
    the constant β − γμ/σ after its BatchNorm. The network is as it was when the block ends, also
    after an error. Without feature maps this is the network as it is.

    Raises:
        UserError: the network has no such convolution or channel.
    """
    channels: dict[str, list[int]] = {}
    for feature_map in feature_maps:
        channels.setdefault(feature_map.layer, []).append(feature_map.channel)
    modules = dict(network.named_modules())
    handles = []
    try:
        for layer, chosen in channels.items():
            module = modules.get(layer)
            if not isinstance(module, nn.Conv2d) or max(chosen) >= module.out_channels:
                raise UserError(f"the network has no feature map {layer}.#{max(chosen)}")
            rows = torch.tensor(sorted(chosen), device=module.weight.device)

            def zero(module: nn.Module, args: Any, output: Tensor, rows: Tensor = rows) -> Tensor:
                return output.index_fill_(1, rows, 0)

            handles.append(module.register_forward_hook(zero, prepend=True))
        yield
    finally:
        for handle in handles:
            handle.remove()
