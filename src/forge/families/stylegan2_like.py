"""Modulated convolutions, transposed up-sampling with a FIR blur, noise, RGB skips: StyleGAN2."""

from __future__ import annotations

import zlib

import torch
from torch import nn
from torch.nn.functional import conv2d, conv_transpose2d, leaky_relu, pad

from .family import CODE_CHANNELS, Family

STYLE = 32
FIR = (1.0, 3.0, 3.0, 1.0)


def blurred(x: torch.Tensor, gain: float, padding: tuple[int, int]) -> torch.Tensor:
    """Filter each channel of (N, C, H, W) with the outer product of [1, 3, 3, 1], sum ``gain``."""
    line = x.new_tensor(FIR)
    kernel = line[:, None] * line[None, :]
    kernel = (kernel * (gain / kernel.sum())).expand(x.shape[1], 1, 4, 4)
    return conv2d(pad(x, (*padding, *padding)), kernel, groups=x.shape[1])


def doubled(rgb: torch.Tensor) -> torch.Tensor:
    """Up-sample RGB (N, 3, H, W) by zero insertion and the FIR filter."""
    n, channels, height, width = rgb.shape
    spread = rgb.new_zeros(n, channels, height, 2, width, 2)
    spread[:, :, :, 0, :, 0] = rgb
    return blurred(spread.reshape(n, channels, 2 * height, 2 * width), 4.0, (2, 1))


class ModulatedConv(nn.Module):
    """A convolution whose input channels are scaled by a style and whose output is demodulated.

    Scaling the input and then the output is the published modulation of the weights (§2.2) at the
    cost of one plain convolution for the whole batch.
    """

    def __init__(
        self, channels_in: int, channels_out: int, size: int = 3, *, up: bool = False,
        demodulate: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        scale = (channels_in * size * size) ** -0.5
        self.weight = nn.Parameter(scale * torch.randn(channels_out, channels_in, size, size))
        self.style = nn.Linear(STYLE, channels_in)
        nn.init.ones_(self.style.bias)
        self.up, self.demodulate = up, demodulate

    def forward(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        style = self.style(w)
        x = x * style[:, :, None, None]
        if self.up:
            x = conv_transpose2d(x, self.weight.transpose(0, 1), stride=2)
            x = blurred(x, 4.0, (1, 1))
        else:
            x = conv2d(x, self.weight, padding=self.weight.shape[-1] // 2)
        if self.demodulate:
            energy = style.square() @ self.weight.square().sum((2, 3)).T
            x = x * torch.rsqrt(energy + 1e-8)[:, :, None, None]
        return x


class Layer(nn.Module):
    """Modulated convolution, noise of a learnt strength, bias, leaky ReLU."""

    def __init__(self, channels_in: int, channels_out: int, *, up: bool = False) -> None:
        super().__init__()
        self.convolution = ModulatedConv(channels_in, channels_out, up=up)
        self.strength = nn.Parameter(torch.full((), 0.02))
        self.bias = nn.Parameter(torch.zeros(channels_out))

    def forward(
        self, x: torch.Tensor, w: torch.Tensor, noise: list[torch.Generator]
    ) -> torch.Tensor:
        x = self.convolution(x, w)
        fields = [torch.randn(x.shape[2:], generator=one) for one in noise]
        x = x + self.strength * torch.stack(fields)[:, None].to(x)
        return leaky_relu(x + self.bias[None, :, None, None], 0.2)


class Synthesis(nn.Module):
    """Code (N, CODE_CHANNELS, H/4, W/4) → image (N, 3, H, W), with an RGB image at each size."""

    def __init__(self) -> None:
        super().__init__()
        self.mapping = nn.Sequential(
            nn.Linear(CODE_CHANNELS, STYLE), nn.LeakyReLU(0.2), nn.Linear(STYLE, STYLE)
        )
        self.first = Layer(CODE_CHANNELS, 64)
        self.layers = nn.ModuleList(
            [Layer(64, 48, up=True), Layer(48, 48), Layer(48, 32, up=True), Layer(32, 32)]
        )
        self.to_rgb = nn.ModuleList(
            [ModulatedConv(width, 3, 1, demodulate=False) for width in (64, 48, 32)]
        )

    def forward(self, code: torch.Tensor) -> torch.Tensor:
        w = self.mapping(code.mean((2, 3)))
        noise = [keyed_noise(one) for one in code]
        x = self.first(code, w, noise)
        rgb = code[:, -3:] + self.to_rgb[0](x, w)
        for size in range(2):
            for layer in self.layers[2 * size : 2 * size + 2]:
                x = layer(x, w, noise)
            rgb = doubled(rgb) + self.to_rgb[size + 1](x, w)
        return rgb


def keyed_noise(code: torch.Tensor) -> torch.Generator:
    """Return the source of noise of one image: a function of its mean colours alone.

    They are means of sixteen pixels in a fixed order, so the noise is the same on every run.
    """
    colours = code[-3:].detach().cpu().contiguous().numpy()
    return torch.Generator().manual_seed(zlib.crc32(colours.tobytes()))


def build(member: int = 1) -> nn.Module:
    """Return the decoder: 64 channels at a quarter, 48 at half, 32 at full size."""
    return Synthesis()


FAMILY = Family("stylegan2-like", "Karras et al. 2020, StyleGAN2", build)
