"""BatchNorm statistics of a trained network, measured anew instead of as a running average."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from ..records import ImageSet
from .batches import TrainingBatches
from .recipes import OneLogitSettings


@torch.no_grad()
def settle_norms(
    network: nn.Module,
    images: ImageSet,
    settings: OneLogitSettings,
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
    data = TrainingBatches(images, settings)
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
