"""Decoded images that stay at hand, so that a study of many stages reads each file once."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from threading import Lock

import numpy as np

from ..records import Skipped
from .presets import Preset

Key = tuple[object, ...]


class KeptPixels:
    """The pixels of images as presets made them, in one temporary file.

    decoded: how many files were read and decoded; given: how many times pixels were asked for.
    Memory holds only where each image lies in the file; the system's page cache does the rest.
    """

    def __init__(self, opened: object) -> None:
        self._file = opened
        self._places: dict[Key, tuple[int, tuple[int, ...]] | Skipped] = {}
        self._lock = Lock()
        self._end = 0
        self.decoded = 0
        self.given = 0

    def get(
        self,
        path: Path,
        preset: Preset,
        key: str,
        seed: int,
        decode: Callable[[], np.ndarray | Skipped],
    ) -> np.ndarray | Skipped:
        """Return uint8 (H, W, 3), or why there is none; ``decode`` is called the first time."""
        place = (str(path), *preset.shape_key(key, seed))
        with self._lock:
            self.given += 1
            known = self._places.get(place)
        if known is None:
            return self._add(place, decode())
        if isinstance(known, Skipped):
            return known
        offset, shape = known
        return np.array(np.memmap(self._file, np.uint8, "r", offset, shape))  # type: ignore[call-overload]

    def _add(self, place: Key, found: np.ndarray | Skipped) -> np.ndarray | Skipped:
        with self._lock:
            self.decoded += 1
            if isinstance(found, Skipped):
                self._places[place] = found
            else:
                self._file.seek(self._end)  # type: ignore[attr-defined]
                self._file.write(np.ascontiguousarray(found).tobytes())  # type: ignore[attr-defined]
                self._file.flush()  # type: ignore[attr-defined]
                self._places[place] = (self._end, found.shape)
                self._end += found.nbytes
        return found


_ACTIVE: ContextVar[KeptPixels | None] = ContextVar("kept_pixels", default=None)


def active() -> KeptPixels | None:
    """Return what :func:`keep_pixels` keeps at this moment, if anything."""
    return _ACTIVE.get()


@contextmanager
def keep_pixels(folder: Path | None = None) -> Iterator[KeptPixels]:
    """While the block runs, each image that any stage asks for is decoded once a preset.

    folder: where the temporary file lies (one byte a value: 200 kB for 256 × 256 pixels); it is
    gone when the block ends. Inside another such block, that one goes on.
    """
    outer = _ACTIVE.get()
    if outer is not None:
        yield outer
        return
    with tempfile.TemporaryFile(dir=folder) as opened:
        kept = KeptPixels(opened)
        token = _ACTIVE.set(kept)
        try:
            yield kept
        finally:
            _ACTIVE.reset(token)
