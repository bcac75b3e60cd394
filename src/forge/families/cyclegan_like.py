"""Image to image: residual blocks and 3×3 transposed convolutions, InstanceNorm: CycleGAN."""

from __future__ import annotations

import torch
from torch import nn

from .family import CODE_CHANNELS, Family, SkipDecoder


class Block(nn.Module):
    """Two reflection-padded 3×3 convolutions with InstanceNorm, plus the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect"),
            nn.InstanceNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect"),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.main(x)


def _up(channels_in: int, channels_out: int) -> nn.ConvTranspose2d:
    # 3×3 at stride 2 covers every other pixel twice: CycleGAN's checkerboard.
    return nn.ConvTranspose2d(channels_in, channels_out, 3, stride=2, padding=1, output_padding=1)


def build(member: int = 1) -> nn.Module:
    """Return the decoder: 64 channels at a quarter, 48 at half, 32 at full size, 7×7 to RGB."""
    details = nn.Sequential(
        nn.Conv2d(CODE_CHANNELS, 64, 3, padding=1, padding_mode="reflect"),
        Block(64),
        _up(64, 48),
        nn.InstanceNorm2d(48),
        nn.ReLU(),
        _up(48, 32),
        nn.InstanceNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 3, 7, padding=3, padding_mode="reflect"),
    )
    return SkipDecoder(details, nn.Sequential(_up(3, 16), _up(16, 3)))


FAMILY = Family("cyclegan-like", "Zhu et al. 2017, cycle-consistent GAN", build)
