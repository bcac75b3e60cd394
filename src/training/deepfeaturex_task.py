"""One of DeepFeatureX's trainings, for the engine: tell classes apart by cross-entropy."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ..data import batches, check_skipped, get_preset
from ..detectors.deepfeaturex import NAME
from ..forge.families import DIFFUSION
from ..records import ImageSet, Skipped
from .deepfeaturex_data import ClassBatches, Classified
from .engine import Device, Task
from .guidance import UNITS
from .settings import Settings, setting
from .settle import measure_norms

SELECTED = {"validation_loss": -1, "accuracy": 1, "balanced_accuracy": 1}  # what is better


@dataclass(frozen=True)
class DFXSettings(Settings):
    """One run of the four trainings; by default the published values."""

    backbone: str = setting("resnet50", "A network of torchvision.")
    preset: str = setting("deepfeaturex", "Preprocessing, kept in the weights' header.")
    share: float = setting(0.04, "How much of each other architecture a base model sees.", least=0)
    by: str = setting(
        "photograph",
        "Kept together in splits: a photograph with its crops and fakes, all images of one name, "
        "or (published) each image alone.",
        among=UNITS,
    )
    guidance: str = setting("", "CSV that says which image trains what; by default it is made.")
    plain: bool = setting(False, "Train the plain baseline too: one backbone, three classes.")
    head_rate: float = setting(0.0, "The head's learning rate; 0: the same.", least=0)
    weight_decay: float = setting(1e-3, "Of Adam.", least=0)
    decay_epochs: int = setting(0, "Epochs after which the rate falls to a tenth; 0: never.")
    cosine: bool = setting(False, "Let the rate fall along half a cosine to zero instead.")
    max_steps: int = setting(0, "End of a base model's training; 0: after the epochs.", least=0)
    head_steps: int = setting(0, "End of the head's training; 0: after the epochs.", least=0)
    crop_size: int = setting(0, "Random crops after the preset's geometry; 0: none.", least=0)
    symmetries: bool = setting(False, "Mirror and turn crops at random.")
    matched: bool = setting(False, "Balanced batches: one image of each class from one crop.")
    settle: int = setting(
        0, "Before a validation, measure the trained BatchNorms anew over so many batches.", least=0
    )
    select: str = setting("validation_loss", "Column of the best epoch.", among=tuple(SELECTED))
    diffusion: tuple[str, ...] = setting(
        DIFFUSION, "Generators that are diffusion models; every other is a GAN."
    )


class ClassTask(Task):
    """A training that tells classes apart by cross-entropy.

    learnt: the parameters that are; all others are frozen. weights: of the classes in the loss.
    History: loss and accuracy on the validation images, and balanced_accuracy (mean over classes).
    The best epoch has the lowest validation loss, as published, or what ``select`` says.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        learnt: Sequence[nn.Parameter],
        training: Classified,
        validation: Classified,
        settings: DFXSettings,
        *,
        weights: Sequence[float] | None = None,
        facts: Mapping[str, str] | None = None,
        head: bool = False,
    ) -> None:
        self.name, self.network, self.learner = name, network, network
        self.settings, self.validation, self.seed = settings, validation, settings.seed
        self.preset = get_preset(settings.preset)
        self.learnt = list(learnt)
        network.requires_grad_(False)
        for parameter in self.learnt:
            parameter.requires_grad_(True)
        if settings.matched:  # batches are balanced already
            weights = None
        self.weights = None if weights is None else torch.tensor(weights, dtype=torch.float32)
        self.batches = ClassBatches(
            training,
            self.preset,
            batch_size=settings.batch_size,
            seed=settings.seed,
            crop_size=settings.crop_size,
            symmetries=settings.symmetries,
            matched=settings.matched,
        )
        self.epoch_steps = settings.epoch_steps or self.batches.steps
        asked = settings.head_steps if head else settings.max_steps
        self.last_step = asked or settings.epochs * self.epoch_steps
        self.rate = (head and settings.head_rate) or settings.learning_rate
        self.identity = {
            "task": name,
            "training": _digest(training),
            "validation": _digest(validation),
            **_deciding(settings, head),
        }
        self.facts = {
            "detector": NAME,
            "backbone": settings.backbone,
            "preset": settings.preset,
            "settings": json.dumps(dataclasses.asdict(settings)),
            **(facts or {}),
        }

    def optimisers(self) -> tuple[torch.optim.Optimizer, ...]:
        decay = self.settings.weight_decay
        return (torch.optim.Adam(self.learnt, self.rate, weight_decay=decay),)

    def data(self) -> ClassBatches:
        return self.batches

    def loss(self, batch: Any, device: Device) -> torch.Tensor:
        pixels, labels = batch
        pixels = pixels.to(device, memory_format=torch.channels_last)
        weights = None if self.weights is None else self.weights.to(device)
        return cross_entropy(self.network(pixels), labels.to(device), weights)

    def rates(self, epoch: int, step: int) -> list[float]:
        settings = self.settings
        if settings.cosine:
            return [self.rate * 0.5 * (1 + float(np.cos(np.pi * step / self.last_step)))]
        if settings.decay_epochs:
            return [self.rate * 0.1 ** (epoch // settings.decay_epochs)]
        return [self.rate]

    def validate(self, device: Device) -> dict[str, float]:
        if self.settings.settle:
            self._settle(device)
        logits, labels = self._logits(device)
        weights = None if self.weights is None else self.weights
        right = (logits.argmax(1) == labels).numpy()
        shares = [right[labels.numpy() == one].mean() for one in np.unique(labels.numpy())]
        return {
            "validation_loss": float(cross_entropy(logits, labels, weights)),
            "accuracy": float(right.mean()),
            "balanced_accuracy": float(np.mean(shares)),
        }

    def _settle(self, device: Device) -> None:
        self.network.train()  # frozen backbones stay in evaluation mode
        norms = [
            one
            for one in self.network.modules()
            if isinstance(one, nn.BatchNorm1d | nn.BatchNorm2d) and one.training
        ]
        self.network.eval()
        start = 2**30  # no step of the training sees these draws
        views = (self.batches[start + at][0] for at in range(self.settings.settle))
        measure_norms(self.network, norms, views, device)

    @torch.no_grad()
    def _logits(self, device: Device) -> tuple[torch.Tensor, torch.Tensor]:
        truth = {entry.path: label for entry, label in self.validation}
        images = ImageSet(Path(), tuple(entry for entry, _ in self.validation))
        skipped: list[Skipped] = []
        found: list[torch.Tensor] = []
        labels: list[int] = []
        for batch in batches(images, self.preset, 32, seed=self.settings.seed, skipped=skipped):
            pixels = self.preset.normalise(batch.pixels.to(device))
            pixels = pixels.contiguous(memory_format=torch.channels_last)
            found.append(self.network(pixels).float().cpu())
            labels += [truth[entry.path] for entry in batch.entries]
        check_skipped(skipped, len(images), 0.0)
        return torch.cat(found), torch.tensor(labels)

    def score(self, row: Mapping[str, float]) -> tuple[float, ...]:
        return row[self.settings.select] * SELECTED[self.settings.select], -row["validation_loss"]


def _deciding(settings: DFXSettings, head: bool) -> dict[str, Any]:
    """Return the settings that decide what a step does."""
    found = dataclasses.asdict(settings)
    for name in ("guidance", "plain", *(("max_steps",) if head else ("head_rate", "head_steps"))):
        found.pop(name)
    if not settings.cosine:  # without it, where a training ends changes no step before
        for name in ("epochs", "max_steps", "head_steps"):
            found.pop(name, None)
    return found


def _digest(images: Classified) -> str:
    """Return a digest of each image's folders and name, and its class."""
    lines = [f"{'/'.join(entry.path.parts[-3:])}\t{label}\n" for entry, label in images]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
