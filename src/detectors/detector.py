"""What a detector is: network, preprocessing, feature maps, direction of the logit, origin."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from ..data.presets import Preset
from ..records import FeatureMap


@dataclass(frozen=True)
class WeightsOrigin:
    """Where a detector's weights came from.

    path: file name or 'initialisation'; sha256: of that file ('' if there is none);
    wrapper: how the file held them ('bare', 'model', 'module.', 'safetensors', '8-bit').
    """

    path: str
    sha256: str
    wrapper: str


@dataclass(frozen=True)
class Detector:
    """A complete description of a detector of generated images.

    network: takes a normalised batch (N, 3, H, W), returns logits (N, 1); in evaluation mode.
    preset: the preprocessing its scores are meant for.
    feature_maps: every output channel of every ranked convolution, in network order.
    A positive logit means fake; the score is its sigmoid; the decision is score > 0.5.
    """

    name: str
    network: nn.Module
    preset: Preset
    feature_maps: tuple[FeatureMap, ...]
    weights: WeightsOrigin

    @property
    def layers(self) -> dict[str, int]:
        """The ranked convolutions with their number of feature maps, in network order."""
        return {feature_map.layer: feature_map.width for feature_map in self.feature_maps}

    @property
    def device(self) -> torch.device:
        """The device that the network's parameters are on."""
        return next(self.network.parameters()).device

    def with_preset(self, preset: Preset) -> Detector:
        """Return the same detector with another preprocessing."""
        return replace(self, preset=preset)

    def to(self, device: torch.device | str) -> Detector:
        """Return the same detector with its network on ``device``."""
        return replace(self, network=self.network.to(device))

    @torch.no_grad()
    def logits(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the logits (N,) on the CPU of a uint8 batch (N, 3, H, W)."""
        batch = self.preset.normalise(pixels.to(self.device))
        # Depthwise convolutions are several times faster in this layout on the CPU.
        batch = batch.contiguous(memory_format=torch.channels_last)
        return self.network(batch).reshape(-1).float().cpu()


def convolution_maps(
    network: nn.Module, *, without: tuple[str, ...] = ()
) -> tuple[FeatureMap, ...]:
    """Return every output channel of every 2-D convolution of ``network``, in module order.

    A convolution whose own name is in ``without`` is left out (squeeze-excite gates).
    """
    return tuple(
        FeatureMap(name, channel, module.out_channels)
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d) and name.rsplit(".", 1)[-1] not in without
        for channel in range(module.out_channels)
    )
