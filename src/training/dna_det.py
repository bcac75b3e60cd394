"""How DNA-Det is trained: patch-wise supervised contrastive learning over balanced batches."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ..data.presets import get_preset
from ..detectors import read_checkpoint
from ..detectors.dna_det import FIRST_CONVOLUTION, NAME, DNADet, build
from ..errors import UserError
from ..evaluation.source_attribution import class_metrics
from ..records import ImageSet
from .contrastive import TEMPERATURE, AutomaticWeighting, ProjectionHead, supervised_contrastive
from .dna_det_data import (
    BalancedBatches,
    TransformedBatches,
    Views,
    by_class,
    held_out,
    held_out_transformed,
    reals,
)
from .engine import Device, Task, descend, seeded
from .initialise import INITIALISATIONS, started
from .settings import Settings, setting
from .transformations import TRANSFORMATIONS

WEIGHTING_RATE = 0.01  # learning rate of the automatic weighting
AT_ONCE = 8  # whole images in a validation batch


@dataclass(frozen=True)
class DNASettings(Settings):
    """One run; by default the published 'celeba' configuration."""

    classes: tuple[str, ...] = setting((), "Of the network; none: real and every generator.")
    width: int = setting(64, "Of the network's first block.", least=1)
    preset: str = setting("dna-det", "Makes the square that crops are cut from: dna-det-256 ….")
    crops: int = setting(16, "Of every image.", least=1)
    crop_size: int = setting(64, "Side of a crop in pixels.", least=1)
    batch_size: int = setting(32, "Images of each class a step (of all, in pre-training).", least=1)
    epochs: int = setting(30, "End after so many epochs.", least=1)
    decay_steps: int = setting(500, "After so many steps the rates are multiplied …", least=1)
    decay: float = setting(0.9, "… by this.", least=0)
    patience: int = setting(20, "Epochs that may go by without reaching the best.", least=0)
    metric: str = setting("accuracy", "Of the best epoch.", among=("accuracy", "macro_f1"))
    contrastive: bool = setting(True, "With the contrastive loss; without, a plain network.")
    temperature: float = setting(TEMPERATURE, "Of the contrastive loss.")
    double_softmax: bool = setting(
        False, "The published classification loss: cross-entropy of probabilities."
    )
    pretrain: bool = setting(False, "Tell 170 transformations of the real images apart.")


RECIPES: dict[str, DNASettings] = {
    "dna-det-celeba": DNASettings(),
    "dna-det-lsun": DNASettings(learning_rate=1e-3, decay_steps=2500),
    "dna-det-in-the-wild": DNASettings(
        preset="dna-det-in-the-wild",
        batch_size=16,
        learning_rate=1e-3,
        decay_steps=2500,
        metric="macro_f1",
    ),
    "dna-det-pretrain": DNASettings(pretrain=True, batch_size=128, epochs=50, metric="macro_f1"),
    # For our own forged images of 128 pixels on one CPU core: a quarter of the width, no upscaling.
    "dna-det-small": DNASettings(
        width=16,
        preset="dna-det-128",
        crops=8,
        batch_size=4,
        learning_rate=1e-3,
        decay_steps=200,
        start="high-pass",
        epoch_steps=200,
        max_steps=3000,
    ),
}


class Learner(nn.Module):
    """The network, and beside it what only the training needs: projection head and weighting."""

    def __init__(self, network: DNADet, *, contrastive: bool) -> None:
        super().__init__()
        self.network = network
        head = network.classification_head[1]
        assert isinstance(head, nn.Linear)
        self.projection = ProjectionHead(head.in_features) if contrastive else None
        self.weighting = AutomaticWeighting() if contrastive else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return class logits (N, C) and projections (N, 128), None without contrastive loss."""
        pooled = self.network.pooled(x)
        projected = None if self.projection is None else self.projection(pooled)
        return self.network.classification_head(pooled), projected


class DNATask(Task):
    """DNA-Det's training, or its pre-training.

    Validation is on whole images, unbalanced: accuracy, macro_f1, macro_recall.

    Raises:
        UserError: a class without images, too few images, or weights that cannot be started from.
    """

    def __init__(self, training: ImageSet, validation: ImageSet, settings: DNASettings) -> None:
        self.name = f"{NAME}-pretrain" if settings.pretrain else NAME
        self.settings, self.preset = settings, get_preset(settings.preset)
        self.seed = settings.seed
        kind = {
            "crops": settings.crops,
            "side": settings.crop_size,
            "batch_size": settings.batch_size,
            "seed": settings.seed,
        }
        if settings.pretrain:
            self.classes = tuple(map(str, TRANSFORMATIONS))
            self.batches: Any = TransformedBatches(reals(training), self.preset, **kind)
            self.held_out = held_out_transformed(validation, settings.seed)
        else:
            found = by_class(training, settings.classes)
            self.classes = tuple(found)
            self.batches = BalancedBatches(found, self.preset, **kind)
            self.held_out = held_out(validation, self.classes)
        with seeded(settings.seed):
            network = build(self.classes, settings.width)
            self._learner = Learner(network, contrastive=settings.contrastive)
            begin(network, settings.start)
        self.network: nn.Module = network
        self.learner: nn.Module = self._learner
        self.epoch_steps = settings.epoch_steps or self.batches.steps_an_epoch
        self.last_step = settings.max_steps or settings.epochs * self.epoch_steps
        facts = dataclasses.asdict(settings)
        self.facts = {
            "detector": NAME,
            "classes": json.dumps(self.classes, ensure_ascii=False),
            "preset": settings.preset,
            "settings": json.dumps(facts),
        }
        facts.pop("max_steps")  # changes nothing in what a step does
        self.identity = {"detector": self.name, "data": training.hash(), **facts}
        self.highest, self.waited = -1.0, 0

    def optimisers(self) -> tuple[torch.optim.Optimizer, ...]:
        learner = self._learner
        own = [one for name, one in learner.named_parameters() if not name.startswith("weighting.")]
        groups = [{"params": own, "lr": self.settings.learning_rate}]
        if learner.weighting is not None:
            groups.append({"params": list(learner.weighting.parameters()), "lr": WEIGHTING_RATE})
        return (torch.optim.Adam(groups),)

    def data(self) -> Any:
        return self.batches

    def loss(self, batch: Views, device: Device) -> Tensor:
        return self.losses(batch, device)["loss"]

    def losses(self, batch: Views, device: Device) -> dict[str, Tensor]:
        """Return the weighted sum, loss_classes and loss_contrastive over all crops of a batch.

        Crop groups go through the network one after another, so that BatchNorm sees one crop of
        every image at a time.
        """
        crops, labels = batch
        found = []
        for view in crops:
            pixels = self.preset.normalise(view.to(device))
            found.append(self._learner(pixels.contiguous(memory_format=torch.channels_last)))
        every = labels.to(device).repeat(len(crops))
        logits = torch.cat([logits for logits, _ in found])
        classes = classification_loss(logits, every, double_softmax=self.settings.double_softmax)
        if self._learner.weighting is None:
            return {"loss": classes, "loss_classes": classes}
        projections = torch.cat([projected for _, projected in found])
        contrastive = supervised_contrastive(projections, every, self.settings.temperature)
        total = self._learner.weighting((classes, contrastive))
        return {"loss": total, "loss_classes": classes, "loss_contrastive": contrastive}

    def learn(
        self, batch: Views, optimisers: tuple[torch.optim.Optimizer, ...], step: int, device: Device
    ) -> dict[str, Tensor]:
        found = self.losses(batch, device)
        descend(optimisers[0], found["loss"])
        return found

    def rates(self, epoch: int, step: int) -> list[float]:
        factor = self.settings.decay ** (step // self.settings.decay_steps)
        return [self.settings.learning_rate * factor, WEIGHTING_RATE * factor]

    @torch.no_grad()
    def validate(self, device: Device) -> dict[str, float]:
        counts = np.zeros((len(self.classes), len(self.classes)))
        for start in range(0, len(self.held_out), AT_ONCE):
            part = self.held_out[start : start + AT_ONCE]
            images = [np.asarray(self.preset.geometry(load())) for load, _ in part]
            pixels = torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy())
            batch = self.preset.normalise(pixels.to(device))
            logits = self.network(batch.contiguous(memory_format=torch.channels_last))
            for (_, truth), predicted in zip(part, logits.argmax(dim=1).tolist(), strict=True):
                counts[truth, predicted] += 1
        measured = class_metrics(counts)
        found = {name: float(measured[name]) for name in ("accuracy", "macro_f1", "macro_recall")}
        (value,) = self.score(found)
        self.waited = 0 if value >= self.highest else self.waited + 1
        self.highest = max(self.highest, value)
        return found

    def score(self, row: Mapping[str, float]) -> tuple[float, ...]:
        return (round(row[self.settings.metric], 4),)

    def ended(self) -> bool:
        return self.waited > self.settings.patience

    def state(self) -> dict[str, Any]:
        return {"highest": self.highest, "waited": self.waited}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.highest, self.waited = state["highest"], state["waited"]


def classification_loss(logits: Tensor, labels: Tensor, *, double_softmax: bool = False) -> Tensor:
    """Return the mean cross-entropy of logits (N, C); of their softmax, as published, if asked."""
    return cross_entropy(logits.softmax(dim=1) if double_softmax else logits, labels)


def begin(network: nn.Module, start: str) -> None:
    """Change a network's initialisation to what ``DNASettings.start`` asks for.

    Raises:
        UserError: a file that is missing or does not fit.
    """
    if start in INITIALISATIONS:
        started(network, FIRST_CONVOLUTION, start)
    else:
        warm_start(network, Path(start))


def warm_start(network: nn.Module, path: Path) -> list[str]:
    """Copy every tensor of equal name and shape from a weights file; return what was left out.

    Raises:
        UserError: no such file, or no convolution of it fits.
    """
    state = read_checkpoint(path).state
    wanted = network.state_dict()
    fits = {
        key: value.to(wanted[key].dtype)
        for key, value in state.items()
        if key in wanted and value.shape == wanted[key].shape
    }
    if not any(value.dim() == 4 for value in fits.values()):
        raise UserError(f"{path}: no convolution fits this network; is its width another one?")
    network.load_state_dict(fits, strict=False)
    return [key for key in wanted if key not in fits]
