"""Nearest-neighbour ×2, 3×3 convolution, pixel norm: the up-sampling stack of ProGAN."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from .family import CODE_CHANNELS, Family, PixelNorm, SkipDecoder


@dataclass(frozen=True)
class Variant:
    """What may differ between networks of one up-sampling stack.

    widths: channels at a quarter, half and full size; kernel: side of the convolutions;
    to_rgb: side of the last one; norm: whether pixel norm follows each; skip: how the colours are
    up-sampled, or None where they come with the details (ProGAN once a resolution is faded in).
    """

    widths: tuple[int, int, int] = (64, 48, 32)
    kernel: int = 3
    to_rgb: int = 1
    norm: bool = True
    skip: str | None = "nearest"


# ProGAN's twenty classes differ by data and seed; networks this small must differ by more, or a
# detector learns the one pattern they all leave.
VARIANTS = (
    Variant(),
    Variant(),
    Variant(skip=None),
    Variant(to_rgb=3, skip="bilinear"),
    Variant(kernel=5, norm=False, widths=(48, 32, 24)),
    Variant(widths=(48, 32, 24), skip="bilinear"),
)


def build(member: int = 1) -> nn.Module:
    """Return the decoder of a member; from the seventh on they are built like the first again."""
    variant = VARIANTS[(member - 1) % len(VARIANTS)]
    quarter, half, full = variant.widths

    def layer(channels_in: int, channels_out: int, *, up: bool = False) -> list[nn.Module]:
        return [
            *([nn.Upsample(scale_factor=2, mode="nearest")] if up else []),
            nn.Conv2d(channels_in, channels_out, variant.kernel, padding=variant.kernel // 2),
            nn.LeakyReLU(0.2),
            *([PixelNorm()] if variant.norm else []),
        ]

    details = nn.Sequential(
        nn.Conv2d(CODE_CHANNELS, quarter, 3, padding=1),
        nn.LeakyReLU(0.2),
        *layer(quarter, half, up=True),
        *layer(half, half),
        *layer(half, full, up=True),
        nn.Conv2d(full, 3, variant.to_rgb, padding=variant.to_rgb // 2),
    )
    if variant.skip is None:
        return details
    return SkipDecoder(details, nn.Upsample(scale_factor=4, mode=variant.skip))


FAMILY = Family("progan-like", "Karras et al. 2018, progressive growing of GANs", build)
