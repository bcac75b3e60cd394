"""Run a detector with feature maps taken away, without a hook and without a copy of the network."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from ..detectors.detector import Detector
from ..detectors.precision import full_float32
from ..errors import UserError
from ..records import FeatureMap

Overrides = dict[str, torch.Tensor]


def masked_parameters(network: nn.Module, feature_maps: Iterable[FeatureMap]) -> Overrides:
    """Return the convolution weights that ``network`` has once the feature maps are dropped.

    A zeroed output channel of a convolution is a zeroed filter (and bias). The site is ``conv``,
    before BatchNorm, and the value is zero, as published: the map becomes the constant
    β − γμ/σ after its BatchNorm. Only the layers that hold a dropped map are in the result.

    Raises:
        UserError: the network has no such convolution or channel.
    """
    channels: dict[str, list[int]] = {}
    for feature_map in feature_maps:
        channels.setdefault(feature_map.layer, []).append(feature_map.channel)
    modules = dict(network.named_modules())
    overrides: Overrides = {}
    for layer, dropped in channels.items():
        module = modules.get(layer)
        if not isinstance(module, nn.Conv2d) or max(dropped) >= module.out_channels:
            raise UserError(f"the network has no feature map {layer}.#{max(dropped)}")
        rows = torch.tensor(dropped, device=module.weight.device)
        for name, parameter in module.named_parameters(recurse=False):
            overrides[f"{layer}.{name}"] = parameter.detach().index_fill(0, rows, 0)
    return overrides


@torch.no_grad()
@full_float32()
def masked_logits(detector: Detector, overrides: Overrides, pixels: torch.Tensor) -> torch.Tensor:
    """Return the logits (N,) on the CPU of a uint8 batch (N, 3, H, W) with other weights.

    The overriding weights are in place during the call only; it is undone on an error as well.
    Without any, this is the detector as it is.
    """
    batch = detector.preset.normalise(pixels.to(detector.device))
    if detector.device.type == "cpu":
        # Depthwise convolutions take a quarter of the time in this layout: EfficientNet-B0.
        batch = batch.contiguous(memory_format=torch.channels_last)
    # No two convolutions share weights, so looking for ties would only cost time.
    found = torch.func.functional_call(detector.network, overrides, (batch,), tie_weights=False)
    return detector.decide(found.reshape(len(batch), -1).float()).cpu()
