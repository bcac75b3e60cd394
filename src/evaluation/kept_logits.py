"""Logits of the finished parts of a pass on disk, so that a killed run goes on."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..data import JpegEqualiser
from ..detectors import Detector
from ..files import versions, write_bytes
from ..records import ImageSet

Pair = tuple[str, str]  # detector, condition


class KeptLogits:
    """Logits of finished (shard, detector, condition) on disk, one file a shard."""

    def __init__(
        self, folder: Path | None, identity: str, detectors: Mapping[str, Detector]
    ) -> None:
        self._folder = None if folder is None else Path(folder) / identity
        self._keys = {name: detector_key(one) for name, one in detectors.items()}

    def load(self, shard: int) -> dict[Pair, np.ndarray]:
        """Return what is known of a shard, each (images of the shard,)."""
        path = self._path(shard)
        if path is None or not path.is_file():
            return {}
        with np.load(path, allow_pickle=False) as stored:
            held = {key: stored[key] for key in stored.files}
        found = {}
        for key, values in held.items():
            digest, condition = key.split("_", 1)
            for name, own in self._keys.items():
                if own == digest:
                    found[name, condition] = values
        return found

    def save(self, shard: int, known: Mapping[Pair, np.ndarray]) -> None:
        """Write what is known of a shard, whole or not at all."""
        path = self._path(shard)
        if path is None:
            return
        held = {
            f"{self._keys[name]}_{condition}": known[name, condition] for name, condition in known
        }
        if path.is_file():  # what other detectors left there stays
            with np.load(path, allow_pickle=False) as stored:
                held = {key: stored[key] for key in stored.files} | held
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **held)
        write_bytes(path, buffer.getvalue())

    def _path(self, shard: int) -> Path | None:
        return None if self._folder is None else self._folder / f"shard-{shard:06d}.npz"


def identity(images: ImageSet, equaliser: JpegEqualiser | None, batch_size: int, seed: int) -> str:
    """Return a digest of all that decides a logit, but for the detector and the condition."""
    changed = [entry.path.stat().st_mtime_ns for entry in images if entry.path.is_file()]
    kinds = {} if equaliser is None else equaliser.kinds
    facts = [images.hash(), changed, sorted((key, repr(kind)) for key, kind in kinds.items())]
    text = json.dumps([*facts, batch_size, seed, versions()])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def detector_key(detector: Detector) -> str:
    """Return a digest of weights, preprocessing and device; the weights themselves are hashed."""
    digest = hashlib.sha256(f"{detector.name}\t{detector.preset}\t{detector.device.type}".encode())
    for key, value in detector.network.state_dict().items():
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
