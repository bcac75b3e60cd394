"""A small plain network, trained in seconds on images of one size: for planted truths."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from ..data.presets import get_preset
from ..detectors.detector import Detector, WeightsOrigin
from ..detectors.units import find_feature_maps
from ..records import ImageSet
from .batches import TrainingBatches
from .engine import Device, Progress, Task, cosine_rates, run, seeded
from .recipes import OneLogitSettings

WIDTHS = (16, 32, 32, 32)
STRIDES = (1, 2, 2, 1)
LEARNING_RATE = 3e-3
BATCH = 32
EPOCH = 20  # steps


def small_network(seed: int = 0) -> nn.Sequential:
    """Return conv – BatchNorm – ReLU four times, a global average pool and one logit.

    Modules are called conv1, bn1, relu1 …, pool, flatten, fc; 112 feature maps in all.
    """
    with seeded(seed):
        network = nn.Sequential()
        channels = 3
        for place, (width, stride) in enumerate(zip(WIDTHS, STRIDES, strict=True), start=1):
            convolution = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
            network.add_module(f"conv{place}", convolution)
            network.add_module(f"bn{place}", nn.BatchNorm2d(width))
            network.add_module(f"relu{place}", nn.ReLU())
            channels = width
        network.add_module("pool", nn.AdaptiveAvgPool2d(1))
        network.add_module("flatten", nn.Flatten())
        network.add_module("fc", nn.Linear(channels, 1))
    return network


class Small(Task):
    """Pairs of reals and fakes, binary cross-entropy, AdamW along a cosine; no validation."""

    epoch_steps = EPOCH

    def __init__(self, name: str, images: ImageSet, side: int, steps: int, seed: int) -> None:
        self.name, self.seed, self.last_step = name, seed, steps
        self.network = self.learner = small_network(seed)
        settings = OneLogitSettings(
            batch_size=BATCH, load_size=0, crop_size=side, pairs=True, seed=seed
        )
        self.batches = TrainingBatches(images, settings)
        self.schedule = cosine_rates(LEARNING_RATE, steps)

    def optimisers(self) -> tuple[torch.optim.Optimizer, ...]:
        return (torch.optim.AdamW(self.network.parameters(), LEARNING_RATE, weight_decay=1e-2),)

    def data(self) -> TrainingBatches:
        return self.batches

    def loss(self, batch: Any, device: Device) -> torch.Tensor:
        pixels, labels = batch
        logits = self.network(pixels.to(device, memory_format=torch.channels_last))
        return binary_cross_entropy_with_logits(logits, labels.to(device))

    def rates(self, epoch: int, step: int) -> list[float]:
        return [self.schedule[step]]


def train_small(
    images: ImageSet,
    *,
    side: int,
    steps: int = 400,
    seed: int = 0,
    name: str = "small",
    progress: Progress | None = None,
) -> tuple[Detector, pd.DataFrame]:
    """Train :func:`small_network` on pairs of ``images`` and return it as a detector.

    images: reals and fakes of equal file names; both of a pair share their batch, crop and flip.
    side: pixels of an image. Adam with a cosine rate; 32 images a step; no blur, no JPEG.

    Returns:
        The detector (native size, preset 'wang-nocrop'; equal seeds give equal weights on one
        machine), and its history: step, loss (mean binary cross-entropy over the last 20 steps).
    """
    task = Small(name, images, side, steps, seed)
    history = run(task, None, workers=0, progress=progress)
    detector = Detector(
        name,
        task.network,
        get_preset("wang-nocrop"),
        find_feature_maps(task.network),
        WeightsOrigin("trained on planted traces", "", "bare"),
    )
    return detector, history[["step", "loss"]]
