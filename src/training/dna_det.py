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
from .initialise import INITIALISATIONS, started
from .transformations import TRANSFORMATIONS

WEIGHTING_RATE = 0.01  # learning rate of the automatic weighting
AT_ONCE = 8  # whole images in a validation batch


@dataclass(frozen=True)
class DNASettings:
    """One run; by default the published 'celeba' configuration.

    classes: () is 'real' and every generator of the training set; width: of the network's first
    block; preset: makes the square that the crops are cut from (dna-det-256 …); crops, crop_size:
    of every image; batch_size: images of each class a step (of all, in pre-training);
    decay_steps: after so many steps the rates are multiplied by ``decay``; patience: epochs that
    may go by without reaching the best ``metric`` (accuracy or macro_f1); contrastive: with the
    contrastive loss and its weighting, without which this is a plain network; double_softmax: the
    published classification loss, cross-entropy of probabilities; start: 'default', 'high-pass'
    (first filters that ignore smooth content), or weights whose tensors of equal name and shape
    are taken; pretrain: tell 170 transformations of the real images apart; max_steps, epoch_steps:
    0 means the published epochs.
    """

    classes: tuple[str, ...] = ()
    width: int = 64
    preset: str = "dna-det"
    crops: int = 16
    crop_size: int = 64
    batch_size: int = 32
    learning_rate: float = 1e-4
    decay_steps: int = 500
    decay: float = 0.9
    epochs: int = 30
    patience: int = 20
    metric: str = "accuracy"
    contrastive: bool = True
    temperature: float = TEMPERATURE
    double_softmax: bool = False
    start: str = "default"
    pretrain: bool = False
    seed: int = 0
    max_steps: int = 0
    epoch_steps: int = 0


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


class DNATask:
    """DNA-Det's training; see :class:`engine.Task`.

    Validation is on whole images, unbalanced: accuracy, macro_f1, macro_recall; the history also
    has the epoch's mean loss_classes and loss_contrastive.
    """

    def __init__(self, training: ImageSet, validation: ImageSet, settings: DNASettings) -> None:
        self.name = f"{NAME}-pretrain" if settings.pretrain else NAME
        self.settings, self.preset = settings, get_preset(settings.preset)
        if settings.metric not in ("accuracy", "macro_f1"):
            raise UserError(f"metric {settings.metric!r}: choose accuracy or macro_f1")
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
        torch.manual_seed(settings.seed)
        network = build(self.classes, settings.width)
        self._learner = Learner(network, contrastive=settings.contrastive)
        self.network: nn.Module = network
        self.learner: nn.Module = self._learner
        begin(network, settings.start)
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
        self.best, self.waited = -1.0, 0
        self._losses: list[tuple[float, float]] = []

    def optimiser(self) -> torch.optim.Optimizer:
        """Return Adam(0.9, 0.999); the automatic weighting has a group of its own."""
        learner = self._learner
        own = [one for name, one in learner.named_parameters() if not name.startswith("weighting.")]
        groups = [{"params": own, "lr": self.settings.learning_rate}]
        if learner.weighting is not None:
            groups.append({"params": list(learner.weighting.parameters()), "lr": WEIGHTING_RATE})
        return torch.optim.Adam(groups)

    def data(self) -> Any:
        """Return the balanced or the transformed batches."""
        return self.batches

    def loss(self, batch: Views, device: torch.device | str) -> Tensor:
        """Return the weighted sum of both losses over all crops of a batch.

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
            self._losses.append((float(classes.detach()), float("nan")))
            return classes
        projections = torch.cat([projected for _, projected in found])
        contrastive = supervised_contrastive(projections, every, self.settings.temperature)
        self._losses.append((float(classes.detach()), float(contrastive.detach())))
        return self._learner.weighting((classes, contrastive))

    def rates(self, epoch: int, step: int) -> list[float]:
        """Return the rates of StepLR, which advances with every step, not every epoch."""
        factor = self.settings.decay ** (step // self.settings.decay_steps)
        return [self.settings.learning_rate * factor, WEIGHTING_RATE * factor]

    @torch.no_grad()
    def validate(self, device: torch.device | str) -> dict[str, float]:
        """Return accuracy and macro means on whole images, and the epoch's mean losses."""
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
        if self._losses:
            means = np.mean(self._losses, axis=0)
            found |= {"loss_classes": float(means[0]), "loss_contrastive": float(means[1])}
        self._losses = []
        (value,) = self.score(found)
        self.waited = 0 if value >= self.best else self.waited + 1
        self.best = max(self.best, value)
        return found

    def score(self, row: Mapping[str, float]) -> tuple[float, ...]:
        """Return the metric that selects the model, rounded as published."""
        return (round(row[self.settings.metric], 4),)

    def ended(self) -> bool:
        """Whether more epochs than the patience went by without reaching the best."""
        return self.waited > self.settings.patience

    def state(self) -> dict[str, Any]:
        """Return the best metric and the epochs since."""
        return {"best": self.best, "waited": self.waited}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take them back."""
        self.best, self.waited = state["best"], state["waited"]


def task(training: ImageSet, validation: ImageSet, settings: DNASettings) -> DNATask:
    """Return the training of DNA-Det, or its pre-training, for :func:`engine.run`.

    Raises:
        UserError: a class without images, too few images, or weights that cannot be started from.
    """
    return DNATask(training, validation, settings)


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
