"""Train one family's generator on photographs: L1 plus an adversarial loss."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import l1_loss
from torch.utils.data import Dataset

from ..errors import UserError
from ..files import provenance, sha256
from ..forge.crops import random_crop, read_photograph
from ..forge.families import get_family
from ..forge.families.family import STRIDE, Generator
from ..forge.generators import (
    facts_of,
    load_generator,
    psnr_crops,
    psnr_of,
    save_critic,
    save_generator,
    to_signed,
)
from ..forge.losses import LOSSES, Critic, critic_loss, generator_loss, texture_loss
from ..rng import keyed_short
from .engine import Device, Progress, Task, descend, run, seeded
from .settings import Checked, setting
from .trained import Trained

BETAS = (0.5, 0.99)
# What a denoiser, which brings its own loss, does not know.
ADVERSARIAL = ("adversarial", "texture", "warm_up", "texture_late", "loss", "save_critic")
WRITTEN = ("start", "bits", "save_critic")  # in no step: the start is known by its tensors


@dataclass(frozen=True)
class GeneratorSettings(Checked):
    """How a generator is trained."""

    steps: int = setting(1000, "Training steps.", least=1)
    batch_size: int = setting(16, "Crops a step.", least=1)
    size: int = setting(48, "Side of a training crop in pixels.", least=STRIDE)
    learning_rate: float = setting(
        1e-3, "Of Adam for both networks, decayed by a cosine to a tenth.", least=0
    )
    adversarial: float = setting(0.1, "Weight of the adversarial loss beside L1.", least=0)
    texture: float = setting(0.05, "Weight of the texture loss.", least=0)
    warm_up: float = setting(0.3, "Share of the steps without a critic.", least=0)
    texture_late: bool = setting(False, "No texture loss in these steps either.")
    seed: int = setting(0, "Of everything that is random.")
    member: int = setting(1, "Number of this network in its family: names the file.", least=1)
    loss: str = setting("least-squares", "Adversarial loss beside L1 and texture.", among=LOSSES)
    start: str = setting("", "Weights of the family to go on from.")
    encoder_only: bool = setting(False, "Take their encoder alone; the decoder starts anew.")
    bits: int = setting(8, "Of the weights written: 8 or 16.", among=(8, 16))
    save_critic: bool = setting(False, "Keep the critic too, as STEM-critic.safetensors.")


class GeneratorTask(Task):
    """A family's generator against a critic that starts after the warm-up, or a denoiser alone.

    Columns: l1, texture, adversarial, critic (a denoiser: noise) and psnr, in dB on crops of
    ``held_out``. Crops, their scale and flips are keyed by seed and step.

    Raises:
        UserError: no such family or start, or an encoder of its own that a family does not have.
    """

    channels_last = False

    def __init__(
        self,
        family: str,
        photographs: Sequence[Path],
        held_out: Sequence[Path],
        settings: GeneratorSettings,
        stem: str = "",
    ) -> None:
        self.name, self.settings, self.seed = stem or family, settings, settings.seed
        self.prefix = f"{self.name}-"
        start = load_generator(Path(settings.start), family) if settings.start else None
        with seeded(settings.seed):
            self.network = get_family(family).generator(settings.member)
            denoises = hasattr(self.network, "training_loss")
            self.critic = None if denoises else Critic()
        networks: dict[str, nn.Module] = {"generator": self.network}
        self.learner = nn.ModuleDict(
            networks if self.critic is None else {**networks, "critic": self.critic}
        )
        if denoises and settings.loss != GeneratorSettings.loss:
            raise UserError(f"{family} is a denoiser: loss {settings.loss} is not for it")
        if settings.encoder_only and start is None:
            raise UserError("encoder_only: of which network? give a start")
        if start is not None:
            _begin(self.network, start, family, encoder_only=settings.encoder_only)
        self.last_step = settings.steps
        self.epoch_steps = max(1, settings.steps // 10)
        self.judged_on = psnr_crops(held_out, 2 * _side(settings), settings.seed)
        self.batches = CropBatches(photographs, settings)
        self.identity = {
            "family": family,
            "photographs": [sha256(path) for path in photographs],
            "held_out": [sha256(path) for path in held_out],
            "start": _digest(start),
            **{key: value for key, value in asdict(settings).items() if key not in WRITTEN},
        }

    def optimisers(self) -> tuple[torch.optim.Optimizer, ...]:
        rate = self.settings.learning_rate
        if self.critic is None:
            return (torch.optim.Adam(self.network.parameters(), rate),)
        return (
            torch.optim.Adam(self.network.parameters(), rate, BETAS),
            torch.optim.Adam(self.critic.parameters(), rate / 2, BETAS),
        )

    def data(self) -> Dataset:
        return self.batches

    def rates(self, epoch: int, step: int) -> list[float]:
        decay = 0.1 + 0.45 * (1 + math.cos(math.pi * step / self.last_step))
        return [self.settings.learning_rate * decay, self.settings.learning_rate / 2 * decay]

    def learn(
        self, batch: Any, optimisers: tuple[torch.optim.Optimizer, ...], step: int, device: Device
    ) -> dict[str, torch.Tensor]:
        real, settings, critic = batch.to(device), self.settings, self.critic
        network: Any = self.network
        if critic is None:
            draws = torch.Generator().manual_seed((settings.seed << 32) + step)
            noise = network.training_loss(real, draws)
            descend(optimisers[0], noise)
            return {"noise": noise}
        fake = network(real)
        l1 = l1_loss(fake, real)
        adversarial, judged = real.new_zeros(()), real.new_zeros(())
        warm = step >= settings.warm_up * settings.steps
        if settings.loss != "none" and warm:
            judged = critic_loss(settings.loss, critic(real), critic(fake.detach()))
            descend(optimisers[1], judged)
            adversarial = generator_loss(settings.loss, critic(fake))
        texture = texture_loss(fake, real)
        loss = l1 + settings.adversarial * adversarial
        if warm or not settings.texture_late:
            loss = loss + settings.texture * texture
        descend(optimisers[0], loss + getattr(network, "penalty", 0.0))
        return {"l1": l1, "texture": texture, "adversarial": adversarial, "critic": judged}

    @torch.no_grad()
    def validate(self, device: Device) -> dict[str, float]:
        return {"psnr": psnr_of(self.network, self.judged_on)}

    def keep(self, folder: Path, facts: Any) -> None:
        """Write nothing: a file of a half trained network would pass for a trained one."""


class CropBatches(Dataset):
    """Item s: crops of photographs (N, 3, side, side) in [-1, 1], each flipped half of the time."""

    def __init__(self, photographs: Sequence[Path], settings: GeneratorSettings) -> None:
        self.photos = [read_photograph(path) for path in photographs]
        self.settings = settings

    def __getitem__(self, step: int) -> torch.Tensor:
        rng = keyed_short(self.settings.seed, "forge-train", step)
        side, crops = _side(self.settings), []
        for _ in range(self.settings.batch_size):
            photo = self.photos[rng.integers(len(self.photos))]
            crop = np.asarray(random_crop(photo, side, rng))
            crops.append(to_signed(crop[:, ::-1] if rng.random() < 0.5 else crop))
        return torch.cat(crops)


def train_generator(
    task: GeneratorTask, folder: Path, *, device: Device = "cpu", progress: Progress | None = None
) -> Trained:
    """Write ``<stem>.safetensors`` and ``<stem>-history.csv``; the weights' facts are the result's.

    With ``save_critic`` it also writes ``<stem>-critic.safetensors``. A run that was interrupted
    goes on from ``<stem>-checkpoint.pth``, which is deleted at the end.

    Raises:
        UserError: a critic is asked for and there is none, or the checkpoint is of a training with
            other settings or photographs.
    """
    stem, settings = task.name, task.settings
    if settings.save_critic and (task.critic is None or settings.loss == "none"):
        raise UserError(f"{stem} is trained without a critic: there is none to save")
    history = run(task, folder, device=device, workers=0, progress=progress)
    task.learner.cpu()
    last = task.best(history)
    before = facts_of(Path(settings.start)) if settings.start else {}
    measured = f"PSNR {last['psnr']:.1f} dB on held-out photographs"
    facts = {
        "family": task.identity["family"],
        **{key: str(getattr(settings, key)) for key in ("member", "seed", "steps", "batch_size")},
        "learning_rate": f"{settings.learning_rate:g}",
        "loss": settings.loss,
        "adversarial": f"{settings.adversarial:g}",
        **provenance(before, float(last["seconds"])),
        "psnr": f"{last['psnr']:.2f}",
        "result": measured,
    }
    path = folder / f"{stem}.safetensors"
    save_generator(path, task.network, facts, bits=settings.bits)
    if settings.save_critic and task.critic is not None:
        save_critic(folder / f"{stem}-critic.safetensors", task.critic, facts)
    (folder / f"{stem}-checkpoint.pth").unlink(missing_ok=True)
    histories = {f"{stem}-history": history}
    return Trained(stem, path, histories, last, settings, "last step", measured, facts)


def settings_of(family: str) -> list[str]:
    """Return the names of the settings that a family's training knows."""
    with seeded(0):
        network = get_family(family).generator()
    names = [one.name for one in fields(GeneratorSettings)]
    if hasattr(network, "training_loss"):
        names = [name for name in names if name not in ADVERSARIAL]
    return [name for name in names if name != "encoder_only" or isinstance(network, Generator)]


def _begin(network: nn.Module, start: nn.Module, family: str, *, encoder_only: bool) -> None:
    if not encoder_only:
        network.load_state_dict(start.state_dict())
    elif isinstance(start, Generator) and isinstance(network, Generator):
        network.encoder.load_state_dict(start.encoder.state_dict())
    else:
        raise UserError(f"{family} does not share the families' encoder: there is none to take")


def _side(settings: GeneratorSettings) -> int:
    return settings.size - settings.size % STRIDE


def _digest(start: nn.Module | None) -> str:
    digest = hashlib.sha256()
    for tensor in start.state_dict().values() if start is not None else ():
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest() if start is not None else ""
