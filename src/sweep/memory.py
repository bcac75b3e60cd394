"""How many images fit: what a network needs is measured, what the machine has is asked."""

from __future__ import annotations

import resource
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

SHARE = 0.5  # of the free memory that one batch may take: libraries need scratch space besides
ASSUMED = 8192  # bytes a pixel of the batch; LRP of ResNet-50 takes 2,400, of EfficientNet 2,900


class PeakBytes(TorchDispatchMode):
    """While the block runs, follows the tensors that are made and freed; ``peak`` in bytes.

    It sees what PyTorch's operations return, on any device, and not what they use inside.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._live = 0
        self._known: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(found):
            if isinstance(leaf, torch.Tensor):
                self._note(leaf.untyped_storage())
        return found

    def _note(self, storage: Any) -> None:
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes()

        def freed(_: Any) -> None:
            self._known.pop(key, None)
            self._live -= size

        self._known[key] = weakref.ref(storage, freed)
        self._live += size
        self.peak = max(self.peak, self._live)


def bytes_a_pixel(run: Callable[[torch.Tensor], object], pixels: torch.Tensor) -> float:
    """Return the peak of the memory that ``run`` takes for a batch (N, 3, H, W), a pixel of it."""
    with PeakBytes() as meter:
        run(pixels)
    return meter.peak / (len(pixels) * pixels.shape[2] * pixels.shape[3])


def free_bytes(device: torch.device) -> int:
    """Return the memory that this process may still take: of the GPU, or of the machine.

    Limits on the address space (``ulimit -v``) and on the control group count as well.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    found = [_meminfo("MemAvailable")]
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        pages = Path("/proc/self/statm").read_text().split()[0]
        found.append(limit - int(pages) * resource.getpagesize())
    group = Path("/sys/fs/cgroup")
    most, used = _number(group / "memory.max"), _number(group / "memory.current")
    if most is not None and used is not None:
        found.append(most - used)
    return max(0, min(one for one in found if one is not None)) if any(found) else 2**32


def _meminfo(name: str) -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(name)), None)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # 'max' is no limit
        return None
