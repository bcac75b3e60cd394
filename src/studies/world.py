"""The embedded default's images: photographs that no training saw, forged into families."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..data import photographs, scan
from ..errors import UserError, counted
from ..forge import forge
from ..records import ImageSet

TRAINING_FAMILY = "progan-like"  # the only one that a detector has seen


def forged(
    folder: Path, split: str, families: Sequence[str], pairs: int, side: int, seed: int
) -> ImageSet:
    """Return the photographs of a split forged into families, ``pairs`` each; made where missing.

    split: 'train', 'validation', which rankings are made on, or 'test', which the rest looks at.

    Raises:
        UserError: ``folder`` holds other images too, or crops of other settings.
    """
    forge(photographs(split), families, folder, per_family=pairs, side=side, seed=seed)  # type: ignore[arg-type]
    images = scan(folder)
    if len(images) != 2 * pairs * len(families):
        raise UserError(
            f"{folder} holds {counted(len(images), 'image')} where this run makes "
            f"{2 * pairs * len(families)}; give another --out or delete it"
        )
    return images
