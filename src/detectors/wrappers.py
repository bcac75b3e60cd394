"""Wrappers that only call the module they hold: DataParallel, AveragedModel, torch.compile."""

from __future__ import annotations

from torch import nn
from torch.optim.swa_utils import AveragedModel

WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)


def held(module: nn.Module) -> str | None:
    """Return the name under which a wrapper holds its module, None where it is no wrapper."""
    if "_orig_mod" in module._modules:  # torch.compile; importing its class takes seconds
        return "_orig_mod"
    return "module" if isinstance(module, WRAPPERS) else None


def unwrapped(network: nn.Module) -> nn.Module:
    """Return the module that was wrapped, however often; any other as it is."""
    while name := held(network):
        network = getattr(network, name)
    return network
