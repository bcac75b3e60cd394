"""A small U-Net that predicts noise; photographs are noised part-way and denoised: DDPM, DDIM."""

from __future__ import annotations

import math
import zlib
from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import interpolate, mse_loss, silu

from .family import Family

PART = 0.16  # standard deviation of the noise added to a photograph in [-1, 1]
STEPS = 5  # of DDIM, back to no noise
LARGEST = 2 * PART  # noise that training goes up to


class Block(nn.Module):
    """GroupNorm, SiLU, 3×3, shifted by the noise level, twice, plus the input."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, channels_in), nn.GroupNorm(8, channels_out)
        self.convolution1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.convolution2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.level = nn.Linear(32, channels_out)
        same = channels_in == channels_out
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1)
        nn.init.zeros_(self.convolution2.weight)

    def forward(self, x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        h = self.convolution1(silu(self.norm1(x))) + self.level(level)[:, :, None, None]
        return self.convolution2(silu(self.norm2(h))) + self.shortcut(x)


class UNet(nn.Module):
    """Noisy image (N, 3, H, W) and noise level (N,) → the noise (N, 3, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.level = nn.Sequential(nn.Linear(16, 32), nn.SiLU(), nn.Linear(32, 32))
        self.first, self.second = Block(32, 32), Block(48, 48)
        self.down1 = nn.Conv2d(32, 48, 3, stride=2, padding=1)
        self.down2 = nn.Conv2d(48, 64, 3, stride=2, padding=1)
        self.middle = Block(64, 64)
        self.up1 = nn.Conv2d(64, 48, 3, padding=1)
        self.up2 = nn.Conv2d(48, 32, 3, padding=1)
        self.second_back, self.first_back = Block(96, 48), Block(64, 32)
        self.out = nn.Sequential(nn.GroupNorm(8, 32), nn.SiLU(), nn.Conv2d(32, 3, 3, padding=1))
        self.register_buffer("frequencies", torch.exp(torch.linspace(0, math.log(100), 8)))

    def forward(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        angle = sigma.log()[:, None] * self.frequencies[None, :] / 4  # type: ignore[index]
        level = self.level(torch.cat([angle.sin(), angle.cos()], dim=1))
        full = self.first(self.stem(x), level)
        half = self.second(self.down1(full), level)
        up = self.up1(
            nn.functional.interpolate(self.middle(self.down2(half), level), scale_factor=2)
        )
        up = self.second_back(torch.cat([up, half], dim=1), level)
        up = self.up2(interpolate(up, scale_factor=2))
        return self.out(self.first_back(torch.cat([up, full], dim=1), level))


class PartWay(nn.Module):
    """Noise a photograph part-way and come back by DDIM (Song et al. 2021, eq. 12, η = 0).

    In the variables x / √ᾱ, with σ = √(1 − ᾱ) / √ᾱ, a step from σ to σ′ is
    x ← x + (σ′ − σ) · ε(x, σ); the network sees x · √ᾱ. The noise is keyed by the image.
    """

    def __init__(self) -> None:
        super().__init__()
        self.network = UNet()

    def noise(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """Return the predicted noise of x (N, 3, H, W) at levels sigma (N,)."""
        return self.network(x * torch.rsqrt(1 + sigma.square())[:, None, None, None], sigma)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Re-synthesise images (N, 3, H, W) in [-1, 1] whose sides are multiples of 4."""
        x = image + PART * torch.stack([_drawn(one) for one in image]).to(image)
        levels = torch.linspace(PART, 0, STEPS + 1).tolist()
        for sigma, following in pairwise(levels):
            x = x + (following - sigma) * self.noise(x, x.new_full((len(x),), sigma))
        return x

    def training_loss(self, image: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        """Return the mean squared error of the predicted noise (Ho et al. 2020, eq. 14)."""
        sigma = LARGEST * (0.02 + 0.98 * torch.rand(len(image), generator=rng))
        noise = torch.randn(image.shape, generator=rng).to(image)
        sigma = sigma.to(image)
        return mse_loss(self.noise(image + sigma[:, None, None, None] * noise, sigma), noise)


def _drawn(image: torch.Tensor) -> torch.Tensor:
    """Return N(0, 1) in the image's shape, a function of its pixels alone."""
    key = zlib.crc32(image.detach().cpu().contiguous().numpy().tobytes())
    return torch.randn(image.shape, generator=torch.Generator().manual_seed(key))


FAMILY = Family(
    "ddpm-like",
    "Ho et al. 2020, diffusion; Song et al. 2021, DDIM",
    network=lambda member: PartWay(),
)
