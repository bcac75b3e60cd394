"""An autoencoder with a KL latent and a GroupNorm/SiLU decoder: what ends latent diffusion."""

from __future__ import annotations

import zlib

import torch
from torch import nn
from torch.nn.functional import avg_pool2d, pad

from .family import STRIDE, Family

LATENT = 12  # channels at a quarter of the size
KL_WEIGHT = 1e-4


class Block(nn.Module):
    """GroupNorm, SiLU, 3×3, twice, plus the input (through 1×1 where the width changes)."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.GroupNorm(8, channels_in),
            nn.SiLU(),
            nn.Conv2d(channels_in, channels_out, 3, padding=1),
            nn.GroupNorm(8, channels_out),
            nn.SiLU(),
            nn.Conv2d(channels_out, channels_out, 3, padding=1),
        )
        same = channels_in == channels_out
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.main(x) + self.shortcut(x)


def _up(channels: int) -> list[nn.Module]:
    return [
        nn.Upsample(scale_factor=2, mode="nearest"),
        nn.Conv2d(channels, channels, 3, padding=1),
    ]


class Autoencoder(nn.Module):
    """Image (N, 3, H, W) in [-1, 1] → a normal latent of 12 channels at a quarter → image.

    The cells' mean colours are added to the first three channels of the latent's mean, so that the
    encoder learns the rest. The latent is drawn, as a denoised one is never quite a photograph's
    own; the draw is keyed by the image. ``penalty`` is the last training batch's weighted KL
    divergence to N(0, 1).
    """

    def __init__(self) -> None:
        super().__init__()
        moments = nn.Conv2d(64, 2 * LATENT, 1)
        with torch.no_grad():
            moments.bias[LATENT:] = -6.0  # type: ignore[index]  # the noise starts small
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 24, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(24, 48, 4, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(48, 64, 4, stride=2, padding=1),
            Block(64, 64),
            moments,
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(LATENT, 64, 3, padding=1),
            Block(64, 64),
            *_up(64),
            Block(64, 48),
            *_up(48),
            Block(48, 32),
            nn.SiLU(),  # a GroupNorm here would take away how bright the image is
            nn.Conv2d(32, 3, 3, padding=1),
        )
        self.penalty = torch.zeros(())

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Re-synthesise images (N, 3, H, W) whose sides are multiples of 4."""
        mean, log_variance = self.encoder(image).chunk(2, dim=1)
        # A training this short would lose a hue that few photographs have: give it the colours.
        mean = mean + pad(2 * avg_pool2d(image, STRIDE), (0, 0, 0, 0, 0, LATENT - 3))
        log_variance = log_variance.clamp(-20, 4)
        if self.training:
            kl = (mean.square() + log_variance.exp() - 1 - log_variance).mean() / 2
            self.penalty = KL_WEIGHT * kl
        noise = torch.stack([_drawn(one, mean.shape[1:]) for one in image]).to(mean)
        return self.decoder(mean + noise * (log_variance / 2).exp())


def _drawn(image: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Return N(0, 1) of that shape, a function of the image's pixels alone."""
    key = zlib.crc32(image.detach().cpu().contiguous().numpy().tobytes())
    return torch.randn(shape, generator=torch.Generator().manual_seed(key))


FAMILY = Family(
    "ldm-like",
    "Rombach et al. 2022, latent diffusion: its autoencoder",
    network=lambda member: Autoencoder(),
)
