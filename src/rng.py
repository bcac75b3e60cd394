"""Random draws keyed by words: a seed and names, never a batch, a worker or an order of calls."""

from __future__ import annotations

import hashlib

import numpy as np

Word = str | int


def digest(*words: Word) -> bytes:
    """Return the SHA-256 of the words, joined by tabs: 32 bytes."""
    return hashlib.sha256("\t".join(map(str, words)).encode()).digest()


def keyed(*words: Word) -> np.random.Generator:
    """Return random draws that depend on the words alone, e.g. a seed and an image's id."""
    return np.random.default_rng(int.from_bytes(digest(*words), "big"))


def keyed_short(*words: Word) -> np.random.Generator:
    """Return draws keyed by half of the digest: those that all forged crops and trainings have.

    New code takes :func:`keyed`; here every shipped image and network would come out another.
    """
    return np.random.default_rng(int.from_bytes(digest(*words)[:16], "big"))
