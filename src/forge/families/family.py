"""What a family is, and the encoder that all of them share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import avg_pool2d

STRIDE = 4  # pixels of the image to one cell of the code, in both directions
CODE_CHANNELS = 32 + 3  # what the encoder learns, and the cell's mean colour


@dataclass(frozen=True)
class Family:
    """A kind of up-sampling stack: how to build its network, and what it follows.

    build: takes a member's number, from 1 (a family has several networks, as a published generator
    has one a class, and may build them differently); returns a decoder from a code
    (N, CODE_CHANNELS, H/4, W/4), whose last three channels are the cells' mean colours, to an image
    (N, 3, H, W) in about [-1, 1].
    network: for a family that does not share the encoder, the whole of it: takes a member's number,
    returns a network from images (N, 3, H, W) in [-1, 1] to such images. The identity has neither.
    """

    name: str
    follows: str
    build: Callable[[int], nn.Module] | None = None
    network: Callable[[int], nn.Module] | None = None

    @property
    def trained(self) -> bool:
        """Whether the family has a network to train."""
        return self.build is not None or self.network is not None

    def generator(self, member: int = 1) -> nn.Module:
        """Return the untrained network of a member: photographs in, fakes out.

        Raises:
            ValueError: the family has no network.
        """
        if self.network is not None:
            return self.network(member)
        return Generator(self, member)


class Encoder(nn.Sequential):
    """Image (N, 3, H, W) in [-1, 1] → code (N, CODE_CHANNELS, H/4, W/4); the same for all families.

    It stands in for the latent that a real generator draws: with the photograph's own code the
    decoder re-synthesises the photograph and leaves the traces of its up-sampling on it.
    """

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 24, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(24, 48, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(48, 64, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(64, CODE_CHANNELS - 3, 1),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([super().forward(image), avg_pool2d(image, STRIDE)], dim=1)


class SkipDecoder(nn.Module):
    """Details from the whole code plus colours from the mean colours, each up-sampled its own way.

    The sum of RGB images over resolutions is that of published skip generators (Karras et al.
    2020, §4.1; ProGAN while it fades a resolution in): colours are right early in a training, and
    what is left to see are the traces of the up-sampling.
    """

    def __init__(self, details: nn.Module, colours: nn.Module) -> None:
        super().__init__()
        self.details, self.colours = details, colours

    def forward(self, code: torch.Tensor) -> torch.Tensor:
        return self.details(code) + self.colours(code[:, -3:])


class Generator(nn.Module):
    """Encoder and one family's decoder: photographs in, fakes of the same size out, in [-1, 1]."""

    def __init__(self, family: Family, member: int = 1) -> None:
        super().__init__()
        if family.build is None:
            raise ValueError(f"{family.name} has no network")
        self.encoder = Encoder()
        self.decoder = family.build(member)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Re-synthesise images (N, 3, H, W) whose sides are multiples of STRIDE."""
        return self.decoder(self.encoder(image))


class PixelNorm(nn.Module):
    """Divide each pixel's feature vector by its root mean square (Karras et al. 2018, §4.2)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)
