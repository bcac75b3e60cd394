"""Train one family's generator on photographs: L1 plus an adversarial loss."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn.functional import avg_pool2d, l1_loss

from .crops import keyed_generator, random_crop, read_photograph
from .families import get_family
from .families.family import STRIDE, Generator
from .generators import MARGIN, to_signed, to_uint8


@dataclass(frozen=True)
class ForgeTraining:
    """Settings of a generator's training.

    steps, batch_size, side (pixels of a training crop); learning_rate of Adam(0.5, 0.99) for both
    networks, decayed by a cosine to a tenth; adversarial: weight of the least-squares loss of Mao
    et al. 2017 beside L1 (images in [-1, 1]); texture: weight of
    ``texture_loss``; warm_up: share of the steps with L1 alone; member: which of the family's
    networks, from 1.
    """

    steps: int = 1000
    batch_size: int = 16
    side: int = 48
    learning_rate: float = 1e-3
    adversarial: float = 0.1
    texture: float = 0.05
    warm_up: float = 0.3
    seed: int = 0
    member: int = 1


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


def psnr(generator: Generator, photographs: Sequence[Path], side: int, seed: int) -> float:
    """Return the mean PSNR in dB of 8-bit fakes against their real crops, four a photograph.

    Only the inside is compared, without the margin that the forge cuts off too.
    """
    values = []
    for path in photographs:
        photo = read_photograph(path)
        for number in range(4):
            rng = keyed_generator(seed, "psnr", path.name, number)
            crop = np.asarray(random_crop(photo, side + 2 * MARGIN, rng))
            fake = to_uint8(generator(to_signed(crop)))
            inside = (slice(MARGIN, MARGIN + side),) * 2
            error = np.mean((crop[inside].astype(float) - fake[inside].astype(float)) ** 2)
            values.append(10 * math.log10(255**2 / max(error, 1e-12)))
    return float(np.mean(values))


def train_generator(
    family: str,
    photographs: Sequence[Path],
    held_out: Sequence[Path],
    settings: ForgeTraining,
    *,
    device: torch.device | str = "cpu",
    start: Generator | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> tuple[Generator, pd.DataFrame]:
    """Train a family's generator on ``photographs``; report PSNR on ``held_out``.

    Crops, their scale and flips are keyed by seed and step. ``start``: a generator of the family to
    go on from, with a new critic and optimiser. ``progress`` is told (steps done,
    steps, text). Returns the generator in evaluation mode on the CPU, and the history with
    columns step, l1, texture, adversarial, critic, psnr (dB on held-out photographs), seconds.
    """
    torch.manual_seed(settings.seed)
    generator = Generator(get_family(family), settings.member)
    if start is not None:
        generator.load_state_dict(start.state_dict())
    generator = generator.to(device)
    critic = Critic().to(device)
    betas = (0.5, 0.99)
    forward_optimiser = torch.optim.Adam(generator.parameters(), settings.learning_rate, betas)
    critic_optimiser = torch.optim.Adam(critic.parameters(), settings.learning_rate / 2, betas)
    photos = [read_photograph(path) for path in photographs]
    side = settings.side - settings.side % STRIDE
    started, rows = time.monotonic(), []
    sums = {"l1": 0.0, "texture": 0.0, "adversarial": 0.0, "critic": 0.0}
    every = max(1, settings.steps // 10)
    for step in range(settings.steps):
        decay = 0.1 + 0.45 * (1 + math.cos(math.pi * step / settings.steps))
        for optimiser, rate in ((forward_optimiser, 1.0), (critic_optimiser, 0.5)):
            optimiser.param_groups[0]["lr"] = settings.learning_rate * rate * decay
        real = _batch(photos, settings, side, step).to(device)
        fake = generator(real)
        reconstruction = l1_loss(fake, real)
        adversarial = torch.zeros((), device=device)
        judged = torch.zeros((), device=device)
        if step >= settings.warm_up * settings.steps:
            judged = (critic(real) - 1).square().mean() + critic(fake.detach()).square().mean()
            critic_optimiser.zero_grad()
            judged.backward()
            critic_optimiser.step()
            adversarial = (critic(fake) - 1).square().mean()
        forward_optimiser.zero_grad()
        texture = texture_loss(fake, real)
        loss = reconstruction + settings.adversarial * adversarial + settings.texture * texture
        loss.backward()
        forward_optimiser.step()
        for name, value in zip(sums, (reconstruction, texture, adversarial, judged), strict=True):
            sums[name] += float(value.detach())
        if (step + 1) % every == 0 or step + 1 == settings.steps:
            count = every if (step + 1) % every == 0 else settings.steps % every
            generator.eval()
            with torch.no_grad():
                quality = psnr(generator, held_out, 2 * side, settings.seed)
            generator.train()
            means = {name: value / count for name, value in sums.items()}
            seconds = round(time.monotonic() - started, 1)
            rows.append({"step": step + 1, **means, "psnr": quality, "seconds": seconds})
            sums = dict.fromkeys(sums, 0.0)
        if progress is not None:
            text = f"L1 {float(reconstruction.detach()):.3f}"
            progress(step + 1, settings.steps, text + (f", PSNR {quality:.1f}" if rows else ""))
    return generator.eval().cpu(), pd.DataFrame(rows)


def _batch(photos: list, settings: ForgeTraining, side: int, step: int) -> torch.Tensor:
    """Return crops (N, 3, side, side) in [-1, 1], each flipped half of the time."""
    rng = keyed_generator(settings.seed, "forge-train", step)
    crops = []
    for _ in range(settings.batch_size):
        crop = np.asarray(random_crop(photos[rng.integers(len(photos))], side, rng))
        crops.append(to_signed(crop[:, ::-1] if rng.random() < 0.5 else crop))
    return torch.cat(crops)
