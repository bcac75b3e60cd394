"""Images that need to be looked at once only: generators often share their reals."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import numpy as np

from ..files import sha256
from ..records import ImageEntry, ImageSet


def first_alike(
    images: ImageSet, also: Callable[[ImageEntry], Hashable] = lambda entry: None
) -> np.ndarray:
    """Return int64 (N,): for each image the index of the first of its label with the same bytes.

    also: what else must agree. Files are hashed only where another has the same size.
    """
    sizes: dict[tuple[Hashable, ...], list[int]] = {}
    same_as = np.arange(len(images))
    for index, entry in enumerate(images):
        if entry.path.is_file():
            key = (entry.path.stat().st_size, entry.label, also(entry))
            sizes.setdefault(key, []).append(index)
    for indices in sizes.values():
        if len(indices) == 1:
            continue
        firsts: dict[str, int] = {}
        for index in indices:
            try:
                digest = sha256(images.entries[index].path)
            except OSError:  # it will be skipped with its own reason
                continue
            same_as[index] = firsts.setdefault(digest, index)
    return same_as
