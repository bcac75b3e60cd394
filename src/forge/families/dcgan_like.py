"""4×4 transposed convolutions of stride 2 with BatchNorm, the last one straight to RGB: DCGAN."""

from __future__ import annotations

from torch import nn

from .family import CODE_CHANNELS, Family, SkipDecoder


def build(member: int = 1) -> nn.Module:
    """Return the decoder: 64 channels at a quarter, 48 at half, RGB at full size."""
    details = nn.Sequential(
        nn.Conv2d(CODE_CHANNELS, 64, 3, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.ConvTranspose2d(64, 48, 4, stride=2, padding=1),
        nn.BatchNorm2d(48),
        nn.ReLU(),
        nn.ConvTranspose2d(48, 3, 4, stride=2, padding=1),
    )
    colours = nn.Sequential(
        nn.ConvTranspose2d(3, 16, 4, stride=2, padding=1),
        nn.ConvTranspose2d(16, 3, 4, stride=2, padding=1),
    )
    return SkipDecoder(details, colours)


FAMILY = Family("dcgan-like", "Radford et al. 2016, deep convolutional GAN", build)
