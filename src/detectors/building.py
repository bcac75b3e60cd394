"""Networks made without moving the user's random numbers, and copied without touching the user's.

A network that is about to get its weights from a file needs no initialisation: skipping it is
several times faster, and nothing is drawn.
"""

from __future__ import annotations

import copy
import hashlib
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ..errors import UserError

_DRAWS = (torch.Tensor.normal_, torch.Tensor.uniform_)


class _NoInitialisation(TorchFunctionMode):
    """Leaves tensors as they are where ``torch.nn.init`` would draw them."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        named = kwargs or {}
        if func in _DRAWS or getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else named["tensor"]
        return func(*args, **named)


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Give torch's random numbers back as they were, whatever is drawn inside."""
    used = torch.cuda.is_available() and torch.cuda.is_initialized()
    with torch.random.fork_rng(range(torch.cuda.device_count()) if used else []):
        yield


def built(build: Callable[..., nn.Module], *given: Any, **options: Any) -> nn.Module:
    """Return a network whose weights are not initialised; the caller must load all of them."""
    with random_state_kept(), _NoInitialisation():
        return build(*given, **options)


def unwrapped(network: nn.Module) -> nn.Module:
    """Return the network inside DataParallel, AveragedModel and ``torch.compile``."""
    while (inner := _inside(network)) is not None:
        network = inner
    return network


def copied(network: nn.Module, name: str) -> nn.Module:
    """Return a copy in evaluation mode, unwrapped throughout, of a network that stays as it is.

    Raises:
        UserError: the network cannot be copied.
    """
    network = unwrapped(network)
    computed = {  # what the last training step left behind (spectral_norm) has no copy of its own
        id(value): value.detach().clone()
        for module in network.modules()
        for value in vars(module).values()
        if isinstance(value, torch.Tensor) and not value.is_leaf
    }
    try:
        found: nn.Module = copy.deepcopy(network, computed)
    except Exception as error:
        raise UserError(
            f"{name}: the network cannot be copied ({type(error).__name__}: {error}); give a "
            "function that makes it, file.py:function"
        ) from error
    for module in list(found.modules()):
        for own, child in list(module.named_children()):
            if _inside(child) is not None:
                setattr(module, own, unwrapped(child))
    for value in found.parameters():  # TorchScript copies them as if they were computed
        if not value.is_leaf:
            value.detach_()
    return found.eval()


def _inside(network: nn.Module) -> nn.Module | None:
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    if isinstance(network, (*parallel, torch.optim.swa_utils.AveragedModel)):
        inner: nn.Module = network.module
        return inner
    # By its name: the class lives in a part of torch that takes a second to import.
    compiled = type(network).__name__ == "OptimizedModule"
    return dict(network.named_children())["_orig_mod"] if compiled else None


@contextmanager
def told(what: str) -> Iterator[None]:
    """Turn what goes wrong in the user's code into one line that says where."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise UserError(
            f"{what} failed with {type(error).__name__}: {' '.join(str(error).split())} "
            f"({Path(place.filename).name}, line {place.lineno})"
        ) from error


def digest(network: nn.Module) -> str:
    """Return the SHA-256 of a network's numbers, for manifests."""
    found = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        found.update(f"{key} {tuple(value.shape)} {value.dtype}".encode())
        found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()
