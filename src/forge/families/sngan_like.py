"""Residual blocks that up-sample by nearest neighbour, BatchNorm before each ReLU: SNGAN."""

from __future__ import annotations

import torch
from torch import nn

from .family import CODE_CHANNELS, Family, SkipDecoder


class UpBlock(nn.Module):
    """BatchNorm, ReLU, nearest ×2, 3×3, BatchNorm, ReLU, 3×3, plus a 1×1 shortcut."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.BatchNorm2d(channels_in),
            nn.ReLU(),
            nn.Upsample(scale_factor=2, mode="nearest"),
            nn.Conv2d(channels_in, channels_out, 3, padding=1),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(),
            nn.Conv2d(channels_out, channels_out, 3, padding=1),
        )
        self.shortcut = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 1), nn.Upsample(scale_factor=2, mode="nearest")
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.main(x) + self.shortcut(x)


def build(member: int = 1) -> nn.Module:
    """Return the decoder: 64 channels at a quarter, 48 at half, 32 at full size."""
    details = nn.Sequential(
        nn.Conv2d(CODE_CHANNELS, 64, 3, padding=1),
        UpBlock(64, 48),
        UpBlock(48, 32),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 3, 3, padding=1),
    )
    return SkipDecoder(details, nn.Upsample(scale_factor=4, mode="nearest"))


FAMILY = Family("sngan-like", "Miyato et al. 2018, spectrally normalised GAN", build)
