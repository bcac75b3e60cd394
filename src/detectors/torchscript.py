"""The numbers of a TorchScript archive, read without running what it holds.

OpenAI publishes CLIP so. Such a file is a ZIP with the module as a pickle of TorchScript's own
classes (``data.pkl``) and the raw numbers beside it (``data/0`` …). The pickle is read with
stand-ins for every class, so nothing of the file is looked up, made or run.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

from ..eight_bits import State
from ..errors import UserError

_TYPES = {
    "FloatStorage": torch.float32, "HalfStorage": torch.float16, "DoubleStorage": torch.float64,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}  # fmt: skip


class _Held:
    """Stands for an object of the program: it keeps its attributes and does nothing."""

    def __new__(cls, *given: object) -> _Held:
        return super().__new__(cls)

    def __init__(self, *given: object) -> None:
        self.attributes: dict[str, Any] = {}

    def __setstate__(self, state: object) -> None:
        self.attributes = state if isinstance(state, dict) else {}


class _Reader(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(archive.open(f"{folder}data.pkl"))
        self._archive, self._folder = archive, folder
        self._read: dict[str, torch.Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in _TYPES:
            return _TYPES[name]
        return type(name, (_Held,), {})

    def persistent_load(self, pid: Any) -> torch.Tensor:
        _, kind, key, _, _ = pid  # the device is where the program was saved
        if key not in self._read:
            # A bytearray, since torch warns of memory that cannot be written.
            content = bytearray(self._archive.read(f"{self._folder}data/{key}"))
            self._read[key] = torch.frombuffer(content, dtype=kind)
        return self._read[key]


def _tensor(
    storage: torch.Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> torch.Tensor:
    return storage.as_strided(tuple(size), tuple(stride), offset)


def read_torchscript(path: Path) -> State:
    """Return the parameters and buffers of a TorchScript archive, by their names in the module.

    Raises:
        UserError: the archive is damaged, or of a kind that is not read.
    """
    state: State = {}
    try:
        with zipfile.ZipFile(path) as archive:
            inside = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
            _collect(_Reader(archive, inside.removesuffix("data.pkl")).load(), "", state)
    except Exception as error:
        raise UserError(
            f"{path}: a TorchScript archive that cannot be read ({type(error).__name__}); copy or "
            "download it again, or save its weights alone: "
            "torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth')"
        ) from error
    if not state:
        raise UserError(f"{path}: a TorchScript archive without a tensor in it")
    return state


def _collect(held: object, before: str, state: State) -> None:
    for name, value in getattr(held, "attributes", {}).items():
        if isinstance(value, torch.Tensor):
            state[before + name] = value
        elif isinstance(value, _Held):
            _collect(value, f"{before}{name}.", state)
