"""Nearest-neighbour ×2, 3×3 convolution, pixel norm: the up-sampling stack of ProGAN."""

from __future__ import annotations

from torch import nn

from .family import CODE_CHANNELS, Family, PixelNorm, SkipDecoder


def _layer(channels_in: int, channels_out: int, *, up: bool = False) -> list[nn.Module]:
    return [
        *([nn.Upsample(scale_factor=2, mode="nearest")] if up else []),
        nn.Conv2d(channels_in, channels_out, 3, padding=1),
        nn.LeakyReLU(0.2),
        PixelNorm(),
    ]


def build() -> nn.Module:
    """Return the decoder: 64 channels at a quarter, 48 at half, 32 at full size, 1×1 to RGB."""
    details = nn.Sequential(
        nn.Conv2d(CODE_CHANNELS, 64, 3, padding=1),
        nn.LeakyReLU(0.2),
        *_layer(64, 48, up=True),
        *_layer(48, 48),
        *_layer(48, 32, up=True),
        nn.Conv2d(32, 3, 1),
    )
    return SkipDecoder(details, nn.Upsample(scale_factor=4, mode="nearest"))


FAMILY = Family("progan-like", "Karras et al. 2018, progressive growing of GANs", build)
