"""Sub-pixel convolutions, the last one straight to RGB: ESPCN and SRGAN."""

from __future__ import annotations

from torch import nn

from .family import CODE_CHANNELS, Family, SkipDecoder


def build(member: int = 1) -> nn.Module:
    """Return the decoder: 64 channels at a quarter, 48 at half, 3 × 2² shuffled to RGB."""
    details = nn.Sequential(
        nn.Conv2d(CODE_CHANNELS, 64, 3, padding=1),
        nn.PReLU(),
        nn.Conv2d(64, 48 * 4, 3, padding=1),
        nn.PixelShuffle(2),
        nn.PReLU(),
        nn.Conv2d(48, 48, 3, padding=1),
        nn.PReLU(),
        nn.Conv2d(48, 3 * 4, 3, padding=1),
        nn.PixelShuffle(2),
    )
    colours = nn.Sequential(nn.Conv2d(3, 3 * 16, 3, padding=1), nn.PixelShuffle(4))
    return SkipDecoder(details, colours)


FAMILY = Family("pixelshuffle-like", "Shi et al. 2016, sub-pixel convolution; SRGAN", build)
