"""Images that need to be looked at once only: generators often share their reals."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import numpy as np

from ..archives import size
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
        try:
            length = size(entry.path)
        except OSError:  # it will be skipped with its own reason
            continue
        # Where only reading would tell the size, the same member alone is taken for the same.
        key = (entry.path if length is None else length, entry.label, also(entry))
        sizes.setdefault(key, []).append(index)
    for (first, *_), indices in sizes.items():
        if len(indices) == 1:
            continue
        if not isinstance(first, int):
            same_as[indices] = indices[0]
            continue
        firsts: dict[str, int] = {}
        for index in indices:
            try:
                digest = sha256(images.entries[index].path)
            except OSError:  # it will be skipped with its own reason
                continue
            same_as[index] = firsts.setdefault(digest, index)
    return same_as
