"""What a detector is: network, preprocessing, feature maps, direction of the logit, origin."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from ..data.presets import Preset
from ..errors import UserError
from ..records import FeatureMap
from .precision import full_float32


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

    network: takes a normalised batch (N, 3, H, W), returns logits (N, K); in evaluation mode.
    preset: the preprocessing its scores are meant for.
    feature_maps: every output channel of every ranked convolution, in network order.
    classes: names of the K ≥ 2 classes, in the network's order; empty where K = 1; real: which of
    them is the real one.
    A positive logit means fake; the score is its sigmoid; the decision is score > 0.5.
    """

    name: str
    network: nn.Module
    preset: Preset
    feature_maps: tuple[FeatureMap, ...]
    weights: WeightsOrigin
    classes: tuple[str, ...] = ()
    real: int = 0

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

    def decide(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return the logits of 'fake' (N,) for the network's outputs (N, K); differentiable.

        With several classes that is log p(any class but the real one) − log p(real), which the
        softmax's normaliser drops out of.

        Raises:
            UserError: the network gives another number of outputs than it has classes.
        """
        if outputs.dim() != 2 or outputs.shape[1] != max(1, len(self.classes)):
            raise UserError(
                f"{self.name}: outputs {tuple(outputs.shape)} instead of "
                f"(N, {max(1, len(self.classes))})"
            )
        if not self.classes:
            return outputs[:, 0]
        fakes = [index for index in range(len(self.classes)) if index != self.real]
        return outputs[:, fakes].logsumexp(dim=1) - outputs[:, self.real]

    @torch.no_grad()
    @full_float32()
    def outputs(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the network's outputs (N, K) on the CPU of a uint8 batch (N, 3, H, W)."""
        batch = self.preset.normalise(pixels.to(self.device))
        # Depthwise convolutions are several times faster in this layout on the CPU.
        batch = batch.contiguous(memory_format=torch.channels_last)
        return self.network(batch).reshape(len(batch), -1).float().cpu()

    def logits(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the logits of 'fake' (N,) on the CPU of a uint8 batch (N, 3, H, W)."""
        return self.decide(self.outputs(pixels))


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
