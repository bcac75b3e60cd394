"""Train one family's generator on photographs: L1 plus an adversarial loss."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn.functional import l1_loss

from ..errors import UserError
from ..rng import keyed_short
from .checkpoint import Checkpoint, identity_of
from .crops import random_crop, read_photograph
from .families import get_family
from .families.family import STRIDE, Generator
from .generators import MARGIN, to_signed, to_uint8
from .losses import LOSSES, Critic, critic_loss, generator_loss, texture_loss


@dataclass(frozen=True)
class ForgeTraining:
    """Settings of a generator's training.

    steps, batch_size, side (pixels of a training crop); learning_rate of Adam(0.5, 0.99) for both
    networks, decayed by a cosine to a tenth; adversarial: weight of the adversarial loss beside L1
    (images in [-1, 1]); loss: 'least-squares', 'hinge' or 'none', which trains without a critic;
    texture: weight of ``texture_loss``; warm_up: share of the steps without a critic, and where
    ``texture_late`` without texture loss; member: which of the family's networks, from 1.

    Raises:
        UserError: no such loss.
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
    loss: str = "least-squares"
    texture_late: bool = False

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise UserError(f"no adversarial loss {self.loss!r}; there are {', '.join(LOSSES)}")


class Trained(NamedTuple):
    """A trained generator, in evaluation mode on the CPU, its history, and its critic if any."""

    generator: nn.Module
    history: pd.DataFrame
    critic: nn.Module | None


def psnr(generator: nn.Module, photographs: Sequence[Path], side: int, seed: int) -> float:
    """Return the mean PSNR in dB of 8-bit fakes against their real crops, four a photograph."""
    return psnr_of(generator, psnr_crops(photographs, side, seed))


def psnr_crops(photographs: Sequence[Path], side: int, seed: int) -> list[np.ndarray]:
    """Return four crops a photograph, uint8, ``side`` pixels and a margin all around."""
    crops = []
    for path in photographs:
        photo = read_photograph(path)
        for number in range(4):
            rng = keyed_short(seed, "psnr", path.name, number)
            crops.append(np.asarray(random_crop(photo, side + 2 * MARGIN, rng)))
    return crops


def psnr_of(generator: nn.Module, crops: Sequence[np.ndarray]) -> float:
    """Return the mean PSNR in dB of a generator's fakes of ``psnr_crops``.

    Only the inside is compared, without the margin that the forge cuts off too.
    """
    values = []
    inside = (slice(MARGIN, -MARGIN),) * 2
    for crop in crops:
        fake = to_uint8(generator(to_signed(crop)))
        error = np.mean((crop[inside].astype(float) - fake[inside].astype(float)) ** 2)
        values.append(10 * math.log10(255**2 / max(error, 1e-12)))
    return float(np.mean(values))


class _Adversarial:
    """One step with L1, texture and a critic, which starts after the warm-up."""

    columns = ("l1", "texture", "adversarial", "critic")

    def __init__(self, generator: nn.Module, settings: ForgeTraining, device: Any) -> None:
        self.generator, self.settings = generator, settings
        self.critic = Critic().to(device)
        betas = (0.5, 0.99)
        rate = settings.learning_rate
        self.optimisers = (
            torch.optim.Adam(generator.parameters(), rate, betas),
            torch.optim.Adam(self.critic.parameters(), rate / 2, betas),
        )

    def __call__(self, real: torch.Tensor, step: int) -> tuple[torch.Tensor, ...]:
        settings, critic = self.settings, self.critic
        fake = self.generator(real)
        reconstruction = l1_loss(fake, real)
        adversarial, judged = real.new_zeros(()), real.new_zeros(())
        warm = step >= settings.warm_up * settings.steps
        if settings.loss != "none" and warm:
            judged = critic_loss(settings.loss, critic(real), critic(fake.detach()))
            _descend(self.optimisers[1], judged)
            adversarial = generator_loss(settings.loss, critic(fake))
        texture = texture_loss(fake, real)
        loss = reconstruction + settings.adversarial * adversarial
        if warm or not settings.texture_late:
            loss = loss + settings.texture * texture
        _descend(self.optimisers[0], loss + getattr(self.generator, "penalty", 0.0))
        return reconstruction, texture, adversarial, judged


class _Denoising:
    """One step of a network that brings its own loss: a denoiser is not trained as a whole."""

    columns = ("noise",)

    def __init__(self, generator: Any, settings: ForgeTraining, device: Any) -> None:
        self.generator, self.seed = generator, settings.seed
        self.optimisers = (torch.optim.Adam(generator.parameters(), settings.learning_rate),)

    def __call__(self, real: torch.Tensor, step: int) -> tuple[torch.Tensor, ...]:
        draws = torch.Generator().manual_seed((self.seed << 32) + step)
        loss = self.generator.training_loss(real, draws)
        _descend(self.optimisers[0], loss)
        return (loss,)


def _descend(optimiser: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def train_generator(
    family: str,
    photographs: Sequence[Path],
    held_out: Sequence[Path],
    settings: ForgeTraining,
    *,
    device: torch.device | str = "cpu",
    start: nn.Module | None = None,
    encoder_only: bool = False,
    checkpoint: Path | None = None,
    stop_after: int | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Trained:
    """Train a family's generator on ``photographs``; report PSNR on ``held_out``.

    Crops, their scale and flips are keyed by seed and step, so that a training which goes on from
    its checkpoint ends as one that was never interrupted, to the bit.

    Args:
        start: a generator of the family to go on from, with a new critic and optimiser.
        encoder_only: take its encoder alone, which stands in for the latent that a real generator
            draws; the decoder starts from the seed.
        checkpoint: file that is written every tenth of the steps and read if it is there.
        stop_after: stop at the first checkpoint at or after so many steps, as a crash would.
        progress: is told (steps done, steps, text).

    Returns the generator in evaluation mode on the CPU, the history with columns step, l1, texture,
    adversarial, critic (a denoiser: step, noise), psnr (dB on held-out photographs), seconds, and
    the critic (None for a denoiser and for the loss 'none').

    Raises:
        UserError: the checkpoint is of a training with other settings or photographs; a family
            without an encoder of its own has none to take.
    """
    torch.manual_seed(settings.seed)
    generator = get_family(family).generator(settings.member)
    if start is not None and encoder_only:
        if not (isinstance(start, Generator) and isinstance(generator, Generator)):
            raise UserError(f"{family} does not share the families' encoder: there is none to take")
        generator.encoder.load_state_dict(start.encoder.state_dict())
    elif start is not None:
        generator.load_state_dict(start.state_dict())
    generator = generator.to(device).train()
    kind = _Denoising if hasattr(generator, "training_loss") else _Adversarial
    train_on = kind(generator, settings, device)
    rates = [optimiser.param_groups[0]["lr"] for optimiser in train_on.optimisers]
    identity = identity_of(family, photographs, held_out, settings, start)
    saved = Checkpoint(checkpoint, {**identity, "encoder_only": encoder_only})
    first, rows, before = saved.restore(train_on)
    photos = [read_photograph(path) for path in photographs]
    side = settings.side - settings.side % STRIDE
    judged_on = psnr_crops(held_out, 2 * side, settings.seed)
    started = time.monotonic() - before
    sums = dict.fromkeys(train_on.columns, 0.0)
    every = max(1, settings.steps // 10)
    for step in range(first, settings.steps):
        decay = 0.1 + 0.45 * (1 + math.cos(math.pi * step / settings.steps))
        for optimiser, rate in zip(train_on.optimisers, rates, strict=True):
            optimiser.param_groups[0]["lr"] = rate * decay
        losses = train_on(_batch(photos, settings, side, step).to(device), step)
        for name, value in zip(sums, losses, strict=True):
            sums[name] += float(value.detach())
        if (step + 1) % every == 0 or step + 1 == settings.steps:
            count = every if (step + 1) % every == 0 else settings.steps % every
            generator.eval()
            with torch.no_grad():
                quality = psnr_of(generator, judged_on)
            generator.train()
            means = {name: value / count for name, value in sums.items()}
            seconds = round(time.monotonic() - started, 1)
            rows.append({"step": step + 1, **means, "psnr": quality, "seconds": seconds})
            sums = dict.fromkeys(sums, 0.0)
            saved.write(train_on, step + 1, rows, seconds)
            if stop_after is not None and step + 1 >= stop_after:
                break
        if progress is not None:
            text = f"{train_on.columns[0]} {float(losses[0].detach()):.3f}"
            quality_text = f", PSNR {rows[-1]['psnr']:.1f}" if rows else ""
            progress(step + 1, settings.steps, text + quality_text)
    critic = getattr(train_on, "critic", None) if settings.loss != "none" else None
    if critic is not None:
        critic = critic.eval().cpu()
    return Trained(generator.eval().cpu(), pd.DataFrame(rows), critic)


def _batch(photos: list, settings: ForgeTraining, side: int, step: int) -> torch.Tensor:
    """Return crops (N, 3, side, side) in [-1, 1], each flipped half of the time."""
    rng = keyed_short(settings.seed, "forge-train", step)
    crops = []
    for _ in range(settings.batch_size):
        crop = np.asarray(random_crop(photos[rng.integers(len(photos))], side, rng))
        crops.append(to_signed(crop[:, ::-1] if rng.random() < 0.5 else crop))
    return torch.cat(crops)
