"""Private copies of a network: one as it was given, and one that torch.fx can trace."""

from __future__ import annotations

import copy
import importlib
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod

from ..detectors.building import copied
from .report import CanonisationError

# Forward pre-hooks that only compute a weight; ``remove`` puts the result in its place. The two
# modules are hidden behind functions of the same name.
WEIGHT_HOOKS: tuple[type, ...] = (
    importlib.import_module("torch.nn.utils.spectral_norm").SpectralNorm,
    importlib.import_module("torch.nn.utils.weight_norm").WeightNorm,
    BasePruningMethod,
)


def private_copy(network: nn.Module) -> nn.Module:
    """Return a deep copy in evaluation mode that shares no tensor with the original.

    What torch.compile, DataParallel or AveragedModel wrapped is taken out of its wrapper.

    Raises:
        CanonisationError: the network is scripted, carries forward hooks (they may change its
            output, and calling them from here would not be private), or its parameters are
            neither float32 nor float64.
        UserError: it cannot be copied.
    """
    if not isinstance(network, nn.Module):
        raise CanonisationError(f"LRP needs a torch.nn.Module or a detector, got {network!r:.60}")
    for name, module in network.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise CanonisationError(
                f"{name or 'the network'} is scripted (torch.jit) and cannot be looked into; give "
                "the module that it was made of"
            )
        hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
        if not all(isinstance(hook, WEIGHT_HOOKS) for hook in hooks):
            raise CanonisationError(f"module {name!r} has forward hooks; remove them before LRP")
    dtypes = {parameter.dtype for parameter in network.parameters()}
    if dtypes not in ({torch.float32}, {torch.float64}):
        found = ", ".join(sorted(map(str, dtypes))) or "no parameters"
        raise CanonisationError(f"LRP needs parameters all float32 or all float64, found {found}")
    return copied(network, type(network).__name__).requires_grad_(False)


@torch.no_grad()
def traceable(reference: nn.Module) -> nn.Module:
    """Return a copy of a private copy that torch.fx can trace; the two share what weights they can.

    Weights that are computed on each call (spectral and weight norm, pruning, parametrisations)
    are computed once.
    """
    shared: dict[int, Any] = {
        id(one): one for one in (*reference.parameters(), *reference.buffers())
    }
    twin = copy.deepcopy(reference, shared)
    for module in twin.modules():
        for key, hook in list(module._forward_pre_hooks.items()):
            hook.remove(module)  # type: ignore[attr-defined]
            module._forward_pre_hooks.pop(key, None)
        if parametrize.is_parametrized(module):
            values = {name: getattr(module, name).detach() for name in module.parametrizations}  # type: ignore[union-attr]
            # torch's own removal would change the class, which all copies share
            module.__class__ = type(module).__bases__[0]
            del module.parametrizations
            for name, value in values.items():
                module.register_parameter(name, nn.Parameter(value))
        if getattr(module, "memory_efficient", None) is True:
            module.memory_efficient = False  # type: ignore[assignment]  # DenseNet's checkpoints
    return twin.requires_grad_(False)
