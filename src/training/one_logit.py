"""Train a detector with one logit by a published recipe."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import Dataset

from ..detectors import get_architecture, load_strictly, read_checkpoint
from ..errors import UserError
from ..evaluation.metrics import average_precision, sigmoid
from ..records import ImageSet
from .batches import TrainingBatches, to_batch, validation_crop
from .engine import Device, Task, seeded
from .initialise import initialise
from .plateau import Plateau
from .recipes import OneLogitSettings, ViTSettings
from .settle import measure_norms

AFTERWARDS = ("max_steps", "preset", "settle", "settle_crop")  # none changes what a step does


class OneLogit(Task):
    """The task of a detector with one logit: real against fake, binary cross-entropy.

    Validation measures accuracy and ap with the recipe's blur and JPEG, clean_accuracy and clean_ap
    without; the best epoch has the highest accuracy, then clean AP.
    """

    def __init__(
        self, name: str, training: ImageSet, validation: ImageSet, settings: OneLogitSettings
    ) -> None:
        self.name, self.settings, self.seed = name, settings, settings.seed
        self.training, self.validation = training, validation
        self.architecture = get_architecture(name)
        self.batches = TrainingBatches(training, settings)
        self.options = settings.network
        self.network = initialise(self.architecture, settings.start, self.seed, self.options)
        self.learner = self.network
        _freeze(self.network, settings.freeze)
        self.plateau = Plateau(settings.learning_rate) if settings.plateau else None
        self.epoch_steps = settings.epoch_steps or self.batches.steps_an_epoch
        self.last_step = settings.max_steps or settings.epochs * self.epoch_steps
        facts = dataclasses.asdict(settings)
        self.facts = {"detector": name, "settings": json.dumps(facts)}
        self.facts |= {"preset": settings.preset} if settings.preset else {}
        deciding = {key: value for key, value in facts.items() if key not in AFTERWARDS}
        self.identity = {"detector": name, "data": training.hash(), **deciding}
        if isinstance(settings, ViTSettings):
            self.identity["last_step"] = self.last_step  # every step's rate depends on it

    def optimisers(self) -> tuple[torch.optim.Optimizer, ...]:
        learnt = [one for one in self.network.parameters() if one.requires_grad]
        rate = self.settings.learning_rate
        if not isinstance(self.settings, ViTSettings):
            return (torch.optim.Adam(learnt, rate),)
        groups = [
            {
                "params": [one for one in learnt if (one.dim() > 1) == heavy],
                "weight_decay": self.settings.weight_decay * heavy,
            }
            for heavy in (True, False)
        ]
        return (torch.optim.AdamW(groups, rate),)

    def data(self) -> Dataset:
        return self.batches

    def loss(self, batch: Any, device: Device) -> torch.Tensor:
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
        if self.plateau is not None:
            return [self.plateau.learning_rate]
        if isinstance(self.settings, ViTSettings):
            return [warmed(self.settings, step, self.last_step)] * 2
        return [decayed(self.settings, epoch)]

    def validate(self, device: Device) -> dict[str, float]:
        found = validated(self.network, self.validation, self.settings, device)
        if self.plateau is not None:
            self.plateau.update(found["accuracy"])
        return found

    def score(self, row: Mapping[str, float]) -> tuple[float, ...]:
        return row["accuracy"], row["clean_ap"]

    def ended(self) -> bool:
        return self.plateau is not None and self.plateau.ended

    def state(self) -> dict[str, Any]:
        return {"plateau": vars(self.plateau) if self.plateau else None}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.plateau = Plateau(**state["plateau"]) if state["plateau"] else None

    def settled(
        self, checkpoint: Path, device: Device = "cpu"
    ) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        """Return a checkpoint's state dict with settled norms, and how it validates.

        Batches are the recipe's (blur, JPEG, flips), best with crops of the size that the network
        is going to be used at (Touvron et al. 2019). The numbers are those of :meth:`validate`, on
        centre crops of that size.
        """
        with seeded(self.seed):
            network = self.architecture.build(**self.options)
        load_strictly(network, read_checkpoint(checkpoint).state, checkpoint)
        network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        crop = self.settings.settle_crop or self.settings.side
        settings = dataclasses.replace(self.settings, crop_size=crop)
        norms = [one for one in network.eval().modules() if isinstance(one, nn.BatchNorm2d)]
        data = TrainingBatches(self.training, settings)
        measure_norms(network, norms, (data[at][0] for at in range(settings.settle)), device)
        return network.state_dict(), validated(network, self.validation, settings, device)


def decayed(settings: OneLogitSettings, epoch: int) -> float:
    """Return a fixed schedule's rate in an epoch counted from 0 (NPR §3.2, LGrad §4.3).

    It falls at the end of every epoch e ≠ 0 that ``decay_epochs`` divides.
    """
    if not settings.decay_epochs:
        return settings.learning_rate
    return settings.learning_rate * settings.decay ** (max(0, epoch - 1) // settings.decay_epochs)


def warmed(settings: ViTSettings, step: int, steps: int) -> float:
    """Return the rate of a step counted from 0: a line up to its full value, half a cosine down."""
    if step < settings.warm_up:
        return settings.learning_rate * (step + 1) / settings.warm_up
    done = (step - settings.warm_up) / max(1, steps - settings.warm_up)
    return settings.learning_rate * (1 + math.cos(math.pi * done)) / 2


def _freeze(network: nn.Module, prefixes: tuple[str, ...]) -> None:
    names = [name for name, one in network.named_modules() if isinstance(one, nn.Conv2d)]
    for prefix in prefixes:
        frozen = [name for name in names if name.startswith(prefix)]
        if not frozen:
            raise UserError(f"freeze {prefix}: no convolution's name begins so")
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
def validated(
    network: nn.Module, images: ImageSet, settings: OneLogitSettings, device: Device
) -> dict[str, float]:
    """Return accuracy at 0.5 and AP on centre crops, with the recipe's blur and JPEG, and clean."""
    network.eval()
    labels = np.array([entry.label for entry in images])
    found: dict[str, float] = {}
    for clean, prefix in ((False, ""), (True, "clean_")):
        logits = []
        for start in range(0, len(images), 64):
            part = images.entries[start : start + 64]
            crops = [validation_crop(entry, settings, clean=clean) for entry in part]
            batch = to_batch(crops).to(device, memory_format=torch.channels_last)
            logits.append(network(batch).reshape(-1).float().cpu().numpy())
        scores = sigmoid(np.concatenate(logits))
        found[f"{prefix}accuracy"] = float(np.mean((scores > 0.5) == (labels == 1)))
        found[f"{prefix}ap"] = average_precision(labels, scores)
    return found
