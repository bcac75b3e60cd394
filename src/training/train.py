"""Train a detector with one logit by a published recipe."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import Dataset

from ..detectors import get_architecture
from ..errors import UserError
from ..evaluation.metrics import average_precision, sigmoid
from ..records import ImageSet
from .batches import Sampling, TrainingBatches, to_batch, validation_crop
from .engine import run
from .initialise import initialise
from .plateau import Plateau
from .recipes import Recipe

PRECISIONS = ("float32", "bf16")


@dataclass(frozen=True)
class Settings:
    """One run of a recipe; 0 or None means the recipe's own value.

    max_steps ends the training however well it goes; epoch_steps shortens an epoch (the interval
    between validations, that the plateau rule counts) on small data sets or slow machines;
    precision 'bf16' runs all but the first convolution and the loss in bfloat16; freeze: modules
    (name prefixes) whose convolutions keep the weights they start with; balanced: draw reals and
    fakes equally often, with replacement, while training; options: (name, value) for
    the detector's ``build``.
    """

    recipe: Recipe
    start: str = "default"
    seed: int = 0
    max_steps: int = 0
    epoch_steps: int = 0
    batch_size: int = 0
    learning_rate: float = 0.0
    load_size: int | None = None
    crop_size: int = 0
    pairs: bool = False
    precision: str = "float32"
    published_blur: bool = False
    balanced: bool = False
    workers: int = 1
    freeze: tuple[str, ...] = ()
    options: tuple[tuple[str, Any], ...] = ()

    def sampling(self) -> Sampling:
        """Return how this run makes its batches."""
        recipe = self.recipe
        load_size = recipe.load_size if self.load_size is None else self.load_size
        crop = self.crop_size or (load_size * 7 // 8 if load_size else recipe.crop_size)
        return Sampling(
            batch_size=self.batch_size or recipe.batch_size,
            load_size=load_size,
            crop_size=crop,
            squash=recipe.squash,
            blur=recipe.blur,
            jpeg=recipe.jpeg,
            pairs=self.pairs,
            seed=self.seed,
            published_blur=self.published_blur,
            grey=recipe.grey,
            tile=recipe.tile,
            balanced=self.balanced,
        )


class OneLogit:
    """The task of a detector with one logit: real against fake, binary cross-entropy.

    See :class:`engine.Task`. Validation measures accuracy and ap with the recipe's blur and JPEG,
    clean_accuracy and clean_ap without; the best epoch has the highest accuracy, then clean AP.
    """

    def __init__(
        self, name: str, training: ImageSet, validation: ImageSet, settings: Settings
    ) -> None:
        self.name, self.settings, self.validation = name, settings, validation
        self.sampling = settings.sampling()
        self.architecture = get_architecture(name)
        self.batches = TrainingBatches(training, self.sampling)
        self.rate = settings.learning_rate or settings.recipe.learning_rate
        options = dict(settings.options)
        self.network = initialise(self.architecture, settings.start, settings.seed, options)
        self.learner = self.network
        _freeze(self.network, settings.freeze)
        self.plateau = Plateau(self.rate) if settings.recipe.plateau else None
        self.epoch_steps = settings.epoch_steps or self.batches.steps_an_epoch
        self.last_step = settings.max_steps or settings.recipe.epochs * self.epoch_steps
        facts = dataclasses.asdict(settings)
        self.facts = {"detector": name, "settings": json.dumps(facts)}
        for free in ("workers", "max_steps"):  # neither changes what a step does
            facts.pop(free)
        self.identity = {"detector": name, "data": training.hash(), **facts}

    def optimiser(self) -> torch.optim.Optimizer:
        """Return Adam(0.9, 0.999) over what is not frozen."""
        learnt = [one for one in self.network.parameters() if one.requires_grad]
        return torch.optim.Adam(learnt, self.rate)

    def data(self) -> Dataset:
        """Return the recipe's batches."""
        return self.batches

    def loss(self, batch: Any, device: torch.device | str) -> torch.Tensor:
        """Return the binary cross-entropy of a batch (images, labels)."""
        images, labels = batch
        images = images.to(device, memory_format=torch.channels_last)
        kind = torch.device(device).type
        if self.settings.precision == "bf16":
            first = self.network.get_submodule(self.architecture.first_convolution)
            with torch.autocast(kind, dtype=torch.bfloat16), _in_float32(first, kind):
                logits = self.network(images)
        else:
            logits = self.network(images)
        return binary_cross_entropy_with_logits(logits.float(), labels.to(device))

    def rates(self, epoch: int, step: int) -> list[float]:
        """Return the rate by the plateau rule or the recipe's fixed schedule."""
        if self.plateau is not None:
            return [self.plateau.learning_rate]
        return [decayed(self.rate, self.settings.recipe.decay, epoch)]

    def validate(self, device: torch.device | str) -> dict[str, float]:
        """Return accuracy and AP with the recipe's blur and JPEG and without."""
        found: dict[str, float] = {}
        for clean, prefix in ((False, ""), (True, "clean_")):
            accuracy, ap = validate(
                self.network, self.validation, self.sampling, device, clean=clean
            )
            found |= {f"{prefix}accuracy": accuracy, f"{prefix}ap": ap}
        if self.plateau is not None:
            self.plateau.update(found["accuracy"])
        return found

    def score(self, row: Mapping[str, float]) -> tuple[float, ...]:
        """Return accuracy, then clean AP."""
        return row["accuracy"], row["clean_ap"]

    def ended(self) -> bool:
        """Whether the plateau rule has ended the training."""
        return self.plateau is not None and self.plateau.ended

    def state(self) -> dict[str, Any]:
        """Return the plateau rule's state."""
        return {"plateau": vars(self.plateau) if self.plateau else None}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take the plateau rule's state back."""
        self.plateau = Plateau(**state["plateau"]) if state["plateau"] else None


def train(
    name: str,
    training: ImageSet,
    validation: ImageSet,
    settings: Settings,
    out: Path,
    *,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int, str], None] | None = None,
    stop_after: int | None = None,
) -> pd.DataFrame:
    """Train detector ``name`` and write ``<name>.safetensors`` (best epoch) and ``history.csv``.

    Resumable: see :func:`engine.run`, also for ``progress`` and ``stop_after``; the columns of the
    history that it returns are those of :class:`OneLogit`.

    Raises:
        UserError: unusable data, or ``out`` holds a run with other settings.
    """
    return run(
        OneLogit(name, training, validation, settings),
        out,
        seed=settings.seed,
        device=device,
        workers=settings.workers,
        progress=progress,
        stop_after=stop_after,
    )


def decayed(rate: float, decay: tuple[int, float] | None, epoch: int) -> float:
    """Return a fixed schedule's rate in an epoch counted from 0 (NPR §3.2, LGrad §4.3).

    decay: (every, factor): multiplied at the end of every epoch e ≠ 0 that ``every`` divides.
    """
    if decay is None:
        return rate
    every, factor = decay
    return rate * factor ** (max(0, epoch - 1) // every)


def _freeze(network: nn.Module, prefixes: tuple[str, ...]) -> None:
    names = [name for name, one in network.named_modules() if isinstance(one, nn.Conv2d)]
    for prefix in prefixes:
        frozen = [name for name in names if name.startswith(prefix)]
        if not frozen:
            raise UserError(f"--freeze {prefix}: no convolution's name begins so")
        for name in frozen:
            network.get_submodule(name).requires_grad_(False)


@contextmanager
def _in_float32(module: nn.Module, kind: str) -> Iterator[None]:
    """Keep one module out of autocast: 8 bits of mantissa would round the finest differences of
    neighbouring pixels away."""
    forward = module.forward

    def exact(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(kind, enabled=False):
            return forward(x)

    module.forward = exact  # type: ignore[method-assign]
    try:
        yield
    finally:
        del module.forward


@torch.no_grad()
def validate(
    network: nn.Module,
    images: ImageSet,
    sampling: Sampling,
    device: torch.device | str,
    *,
    clean: bool,
) -> tuple[float, float]:
    """Return accuracy at 0.5 and AP on centre crops, with the recipe's blur and JPEG or clean."""
    network.eval()
    logits = []
    for start in range(0, len(images), 64):
        crops = [
            validation_crop(entry, sampling, clean=clean)
            for entry in images.entries[start : start + 64]
        ]
        batch = to_batch(crops).to(device, memory_format=torch.channels_last)
        logits.append(network(batch).reshape(-1).float().cpu().numpy())
    scores = sigmoid(np.concatenate(logits))
    labels = np.array([entry.label for entry in images])
    return float(np.mean((scores > 0.5) == (labels == 1))), average_precision(labels, scores)
