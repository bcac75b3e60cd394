"""BatchNorm statistics of a trained network, measured anew instead of as a running average."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..detectors import get_architecture, load_strictly, read_checkpoint
from ..records import ImageSet
from .batches import Sampling, TrainingBatches
from .train import Settings, validate


@torch.no_grad()
def settle_norms(
    network: nn.Module,
    images: ImageSet,
    sampling: Sampling,
    steps: int,
    *,
    device: torch.device | str = "cpu",
) -> None:
    """Set every BatchNorm's mean and variance to their averages over ``steps`` training batches.

    The running average of a training remembers its last ten batches or so; with small batches under
    blur and JPEG that is a draw, and validation jumps with it. Batches are those of the recipe
    (blur, JPEG, flips); crops best have the size that the network is going to be used at (Touvron
    et al. 2019). The weights stay. The network is left in evaluation mode.
    """
    data = TrainingBatches(images, sampling)
    network.eval()
    norms = [one for one in network.modules() if isinstance(one, nn.BatchNorm2d)]
    measure_norms(network, norms, (data[step][0] for step in range(steps)), device)


@torch.no_grad()
def measure_norms(
    network: nn.Module,
    norms: Sequence[nn.Module],
    batches: Iterable[torch.Tensor],
    device: torch.device | str = "cpu",
) -> None:
    """Set the mean and variance of these BatchNorms to plain averages over normalised batches."""
    chosen: Any = list(norms)
    momenta = [norm.momentum for norm in chosen]
    for norm in chosen:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over all batches
        norm.train()
    try:
        for batch in batches:
            network(batch.to(device, memory_format=torch.channels_last))
    finally:
        for norm, momentum in zip(chosen, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()


def settled(
    name: str,
    checkpoint: Path,
    training: ImageSet,
    validation: ImageSet,
    settings: Settings,
    steps: int,
    *,
    crop_size: int = 0,
    device: torch.device | str = "cpu",
) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """Return a checkpoint's state dict with settled norms, and how it validates.

    crop_size: 0 keeps that of the training. The numbers are accuracy, ap, clean_accuracy and
    clean_ap, as in a training's history, on centre crops of ``crop_size``.
    """
    network = get_architecture(name).build()
    load_strictly(network, read_checkpoint(checkpoint)[0], checkpoint)
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    sampling = settings.sampling()
    sampling = replace(sampling, crop_size=crop_size or sampling.crop_size)
    settle_norms(network, training, sampling, steps, device=device)
    found: dict[str, float] = {}
    for clean, prefix in ((False, ""), (True, "clean_")):
        accuracy, ap = validate(network, validation, sampling, device, clean=clean)
        found |= {f"{prefix}accuracy": accuracy, f"{prefix}ap": ap}
    return network.state_dict(), found
