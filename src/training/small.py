"""A small plain network, trained in seconds on images of one size: for planted truths."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from ..data.presets import get_preset
from ..detectors.detector import Detector, WeightsOrigin, convolution_maps
from ..records import ImageSet
from .batches import Sampling, TrainingBatches

WIDTHS = (16, 32, 32, 32)
STRIDES = (1, 2, 2, 1)
LEARNING_RATE = 3e-3
BATCH = 32


def small_network(seed: int = 0) -> nn.Sequential:
    """Return conv – BatchNorm – ReLU four times, a global average pool and one logit.

    Modules are called conv1, bn1, relu1 …, pool, flatten, fc; 112 feature maps in all.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
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


def train_small(
    images: ImageSet,
    *,
    side: int,
    steps: int = 400,
    seed: int = 0,
    name: str = "small",
    progress: Callable[[int, int, str], None] | None = None,
) -> tuple[Detector, pd.DataFrame]:
    """Train :func:`small_network` on pairs of ``images`` and return it as a detector.

    images: reals and fakes of equal file names; both of a pair share their batch, crop and flip.
    side: pixels of an image. Adam with a cosine rate; 32 images a step; no blur, no JPEG.

    Returns:
        The detector (native size, preset 'wang-nocrop'; equal seeds give equal weights on one
        machine), and its history: step, loss (mean binary cross-entropy over the last 20 steps).
    """
    network = small_network(seed).train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    sampling = Sampling(BATCH, 0, side, False, 0.0, 0.0, True, seed)
    data = TrainingBatches(images, sampling)
    optimiser = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    history, losses = [], []
    for step in range(steps):
        pixels, labels = data[step]
        loss = binary_cross_entropy_with_logits(
            network(pixels.to(memory_format=torch.channels_last)), labels
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if (step + 1) % 20 == 0 or step + 1 == steps:
            history.append((step + 1, sum(losses) / len(losses)))
            losses = []
        if progress is not None:
            progress(step + 1, steps, name)
    network = network.eval().requires_grad_(True)
    detector = Detector(
        name,
        network,
        get_preset("wang-nocrop"),
        convolution_maps(network),
        WeightsOrigin("trained on planted traces", "", "bare"),
    )
    return detector, pd.DataFrame(history, columns=["step", "loss"])
