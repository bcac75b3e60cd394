"""BatchNorm statistics of a trained network, measured anew instead of as a running average."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn


@torch.no_grad()
def measure_norms(
    network: nn.Module,
    norms: Sequence[nn.Module],
    batches: Iterable[torch.Tensor],
    device: torch.device | str = "cpu",
) -> None:
    """Set the mean and variance of these BatchNorms to plain averages over normalised batches.

    The running average of a training remembers its last ten batches or so; with small batches under
    blur and JPEG that is a draw, and validation jumps with it. The weights stay; what else is
    normalised is in the mode that it is in.
    """
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
