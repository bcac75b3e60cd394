"""Let ``import torchvision`` work beside a torch build that its compiled operators do not fit.

torchvision registers fake kernels for ``torchvision::nms`` and ``torchvision::qnms`` while it is
imported. Where its compiled library was built for another torch (a CUDA wheel beside a CPU-only
torch), that library does not load, the operators do not exist and the import dies. Defining the
two schemas first is enough: models and transforms then work, ``torchvision.ops`` and
``torchvision.io`` do not, and forensift uses neither.

``import forensift`` installs the guard without importing torch: it acts when torchvision is
imported, by whomever.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}

_libraries: list[Any] = []  # torch.library.Library


def compiled_library_loads() -> bool:
    """Return whether torchvision's compiled operators can be loaded by this torch."""
    import torch

    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return False
    folder = Path(spec.origin).parent
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        for library in (folder / f"_C{suffix}", folder / "_C.so"):
            if library.is_file():
                try:
                    torch.ops.load_library(library)
                except OSError:
                    continue
                return True
    return False


def missing_operators() -> list[str]:
    """Return the names of the torchvision operators that no library has defined."""
    import torch

    return [name for name in SCHEMAS if not hasattr(torch.ops.torchvision, name)]


def guard() -> list[str]:
    """Define the operator schemas that are missing; return their names, empty when none was."""
    import torch

    if not missing_operators() or compiled_library_loads():
        return []
    defined = missing_operators()
    if defined:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in defined:
            library.define(SCHEMAS[name])
        _libraries.append(library)  # a Library undoes its definitions when it is collected
    return defined


class GuardedImport:
    """A finder that finds nothing: it calls ``guard`` before torchvision is first imported."""

    def __init__(self) -> None:
        self.done = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> None:
        """Return nothing, so that the ordinary finders go on."""
        if fullname == "torchvision" and not self.done:
            self.done = True  # first, since the guard itself looks torchvision up
            guard()


def install() -> None:
    """Guard every later ``import torchvision`` of this process; once is enough."""
    if not any(isinstance(finder, GuardedImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, GuardedImport())
