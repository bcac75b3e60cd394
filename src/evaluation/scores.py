"""One pass of a detector over an image set: the table of ``scores.csv``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from ..data import Transform, batches
from ..detectors import Detector
from ..errors import UserError
from ..files import sha256
from ..records import ImageSet, Skipped
from .metrics import sigmoid

COLUMNS = ("path", "label", "generator", "class", "logit", "score")


def score(
    detector: Detector,
    images: ImageSet,
    *,
    batch_size: int = 32,
    seed: int = 0,
    skipped: list[Skipped] | None = None,
    transform: Transform | None = None,
    progress: Callable[[int], object] | None = None,
) -> pd.DataFrame:
    """Return path, label, generator, class, logit and score of every readable image.

    path is the image's id, below ``images.root``; rows are in the set's order; score is the
    sigmoid of the logit in float64. Byte-identical files are run through the network once (sets
    of several generators often share their reals), unless the preset or a transform may treat
    them differently.

    skipped: images that cannot be read are appended; progress: is told how many images more are
    done; transform: see :func:`forensift.data.batches`.

    Raises:
        UserError: the detector gives a logit that is not finite.
    """
    alone = transform is not None or detector.preset.random
    same_as = np.arange(len(images)) if alone else first_alike(images)
    firsts = np.unique(same_as)
    copies = np.bincount(same_as, minlength=len(images))
    once = ImageSet(images.root, tuple(images.entries[index] for index in firsts), images.layout)
    logits = np.full(len(images), np.nan)
    unread: list[Skipped] = []
    for batch in batches(
        once, detector.preset, batch_size, seed=seed, skipped=unread, transform=transform
    ):
        found = detector.logits(batch.pixels).numpy().astype(np.float64)
        where = firsts[batch.indices]
        if not np.isfinite(found).all():
            bad = images.entries[where[~np.isfinite(found)][0]]
            raise UserError(f"{detector.name} gives a logit that is not finite for {bad.path}")
        logits[where] = found
        if progress is not None:
            progress(int(copies[where].sum()))
    reasons = {one.path: one.reason for one in unread}
    logits = logits[same_as]
    rows = []
    for entry, first, logit in zip(images, same_as, logits, strict=True):
        if np.isnan(logit):
            if skipped is not None:
                skipped.append(Skipped(entry.path, reasons[images.entries[first].path]))
        else:
            key = images.image_id(entry)
            rows.append((key, entry.label, entry.generator, entry.class_name, logit))
    table = pd.DataFrame(rows, columns=list(COLUMNS[:-1]))
    table["logit"] = table["logit"].astype(np.float64)
    table["score"] = sigmoid(table["logit"].to_numpy())
    return table


def first_alike(images: ImageSet) -> np.ndarray:
    """Return for each image the index of the first image whose file is equal to the byte."""
    sizes: dict[int, list[int]] = {}
    same_as = np.arange(len(images))
    for index, entry in enumerate(images):
        if entry.path.is_file():
            sizes.setdefault(entry.path.stat().st_size, []).append(index)
    for size, indices in sizes.items():
        if size == 0 or len(indices) == 1:
            continue
        firsts: dict[str, int] = {}
        for index in indices:
            try:
                digest = sha256(images.entries[index].path)
            except OSError:  # it will be skipped with its own reason
                continue
            same_as[index] = firsts.setdefault(digest, index)
    return same_as
