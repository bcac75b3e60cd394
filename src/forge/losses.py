"""What a fake is held to: a critic, and the strength of its fine details."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import avg_pool2d, relu

LOSSES = ("least-squares", "hinge", "none")


class Critic(nn.Module):
    """A patch discriminator (N, 3, H, W) → (N, 1, H/4, W/4) that is shown the details enlarged.

    Beside the image it sees what a 3×3 mean takes away from it, four times as strong: without that
    it learns colours and edges first, and the fakes stay smooth.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(6, 32, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(32, 64, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(64, 96, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(96, 1, 3, padding=1),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.layers(torch.cat([image, 4 * details(image)], dim=1))


def critic_loss(kind: str, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """Return what a critic minimises, given what it says of reals and fakes, any shape.

    least-squares: (real − 1)² + fake² (Mao et al. 2017); hinge: max(0, 1 − real) + max(0, 1 + fake)
    (Lim and Ye 2017, Miyato et al. 2018).
    """
    if kind == "hinge":
        return relu(1 - real).mean() + relu(1 + fake).mean()
    return (real - 1).square().mean() + fake.square().mean()


def generator_loss(kind: str, fake: torch.Tensor) -> torch.Tensor:
    """Return what the generator minimises, given what the critic says of its fakes."""
    return -fake.mean() if kind == "hinge" else (fake - 1).square().mean()


def details(image: torch.Tensor) -> torch.Tensor:
    """Return what a 3×3 mean takes away from images (N, C, H, W)."""
    return image - avg_pool2d(image, 3, stride=1, padding=1, count_include_pad=False)


def texture_loss(fake: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Return how far the fakes' fine and coarser details differ in strength from the reals'.

    Mean |log energy(fake) − log energy(real)| over images, over two scales, and over luma and two
    colour differences. L1 alone makes fakes smooth, and then "smooth is fake" is all that a
    detector learns; a critic this small sharpens too slowly on two cores.
    """
    mix = fake.new_tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0], [0.0, -1.0, 1.0]]) / 3
    loss = fake.new_zeros(())
    for scale in (1, 2):
        energies = []
        for image in (fake, real):
            mixed = torch.einsum("kc,nchw->nkhw", mix, avg_pool2d(image, scale))
            energies.append(details(mixed).square().mean((2, 3)).add(1e-6).log())
        loss = loss + (energies[0] - energies[1]).abs().mean() / 2
    return loss
