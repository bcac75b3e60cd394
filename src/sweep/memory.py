"""How many images fit: what a network needs is measured, what the machine has is asked."""

from __future__ import annotations

import resource
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

SHARE = 0.5  # of the free memory that one batch may take: libraries need scratch space besides
ALONE = 0.8  # the same of one image, which cannot be halved
ASSUMED = 8192  # bytes a pixel of the batch; LRP of ResNet-50 takes 2,400, of EfficientNet 1,800
PROBES = (128, 256)  # pixels: sides of the squares that the need is measured on


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


class Need(NamedTuple):
    """Bytes that a batch takes: some whatever its size (weights that are folded), some a pixel."""

    constant: float
    pixel: float

    def of(self, pixels: int) -> float:
        """Return the bytes that so many pixels take."""
        return self.constant + self.pixel * pixels


def measured_need(run: Callable[[torch.Tensor], object], image: torch.Tensor) -> Need:
    """Return what ``run`` takes of memory, from its peaks for two squares of an image (1, 3, H, W).

    Where it takes no square, the whole image is run, and all its need is laid to its pixels.
    """
    across = [-(-max(PROBES) // side) for side in image.shape[2:]]
    large = image.repeat(1, 1, *across)
    try:
        few, many = (_peak(run, large[..., :side, :side]) for side in PROBES)
    except (RuntimeError, ValueError, AssertionError):  # timm's transformers assert their size
        return Need(0.0, _peak(run, image) / image[0, 0].numel())
    pixel = (many - few) / (PROBES[1] ** 2 - PROBES[0] ** 2)
    return Need(max(0.0, few - pixel * PROBES[0] ** 2), pixel)


def _peak(run: Callable[[torch.Tensor], object], pixels: torch.Tensor) -> float:
    with PeakBytes() as meter:
        run(pixels)
    return float(meter.peak)


class Held(NamedTuple):
    """Bytes of this process: of its address space, and those that lie in memory."""

    space: int = 0
    resident: int = 0


def held_bytes() -> Held:
    """Return what this process holds now."""
    try:
        pages = Path("/proc/self/statm").read_text().split()
    except OSError:
        return Held()
    return Held(*(int(one) * resource.getpagesize() for one in pages[:2]))


def free_bytes(device: torch.device, before: Held | None = None) -> int:
    """Return the memory that this process may still take: of the GPU, or of the machine.

    before: what it held when it began; what it has taken since and does not use lies ready to be
    taken again, though the machine does not know. Limits on the address space (``ulimit -v``) and
    on the control group count as well.
    """
    if device.type == "cuda":
        ready = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + ready
    now = held_bytes()
    before = now if before is None else before
    ready = max(0, now.resident - before.resident)
    found: list[int] = []
    available = _meminfo("MemAvailable")
    if available is not None:
        found.append(available + ready)
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        found.append(limit - min(now.space, before.space))
    group = Path("/sys/fs/cgroup")
    most, used = _number(group / "memory.max"), _number(group / "memory.current")
    if most is not None and used is not None:
        found.append(most - used + ready)
    return max(0, min(found, default=2**32))


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
