"""Colour ablation: what a detector makes of the same images without colour, or with another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ..data import Batch, check_skipped, content, require_both_classes
from ..data.colour import MODES, parse_mode, recolour
from ..detectors.detector import Detector
from ..errors import UserError
from ..evaluation import Cluster, sigmoid
from ..records import ImageSet, Skipped
from ..sweep import Progress, sweep
from ..sweep.per_image import ImageRows, PerImage
from .colour_tables import LEAST_PROBABILITY, box_table, colour_table

RGB = "rgb"


@dataclass(frozen=True)
class ColourResult:
    """What changing the colours did.

    table: one row a generator and mode, and the macro mean (``colour.csv``); see
        :func:`colour_table`.
    scores: path, label, generator, class, mode, logit, score (``scores.csv``), a row an image and
        mode.
    box: the numbers of the published box plot, every mode against rgb; see :func:`box_table`.
    skipped: the images that could not be read. facts: what decided the numbers.
    """

    table: pd.DataFrame
    scores: pd.DataFrame
    box: pd.DataFrame
    skipped: tuple[Skipped, ...] = ()
    facts: dict[str, object] = field(default_factory=dict)


class ColourScorer:
    """Observes a decoded batch in every colour mode; images of the same pixels are scored once."""

    def __init__(self, detector: Detector, modes: Sequence[str]) -> None:
        self.detector, self.modes = detector, tuple(modes)
        self._seen: dict[bytes, np.ndarray] = {}

    def __call__(self, batch: Batch, images: ImageSet) -> ImageRows:
        keys = [content(image) for image in batch.pixels]
        new = {key: row for row, key in enumerate(keys) if key not in self._seen}
        if new:
            pixels = batch.pixels[list(new.values())]
            logits = [self.detector.logits(recolour(pixels, mode)).double() for mode in self.modes]
            columns = np.stack([one.numpy() for one in logits], axis=1)
            self._seen |= dict(zip(new, columns, strict=True))
        ids = tuple(images.image_id(images.entries[index]) for index in batch.indices)
        return ImageRows(ids, np.stack([self._seen[key] for key in keys]))


def colour(
    detector: Detector,
    images: ImageSet,
    modes: Sequence[str] = MODES,
    *,
    least_probability: float = LEAST_PROBABILITY,
    cluster: Cluster = "photograph",
    batch_size: int = 16,
    seed: int = 0,
    max_skipped: float = 0.01,
    skipped: list[Skipped] | None = None,
    progress: Progress | None = None,
) -> ColourResult:
    """Score every image in every colour mode, and compare each mode with rgb.

    images: generators that each hold reals and fakes. modes: see :mod:`forensift.data.colour`;
        rgb is added in front if it is missing, for everything is measured against it.
    least_probability: the box plot takes fakes of at least this probability in rgb (published 0.2).
    cluster: what the intervals draw, see :func:`forensift.evaluate`.
    progress: called with numbers of images that sum to those that could be read.

    Each image is decoded once; modes are made from the decoded pixels, after the preset's
    geometry (published evaluations have none). Published: rgb and grey, both judged at the
    threshold calibrated on the same images in rgb.

    Raises:
        UserError: an unknown mode or one given twice, a generator without reals or fakes, too many
            unreadable images, or a logit that is not finite.
    """
    modes = _checked(modes)
    require_both_classes(images)
    missed: list[Skipped] = []
    statistic = PerImage((len(modes),))
    sweep(
        images,
        detector.preset,
        ColourScorer(detector, modes),
        [statistic],
        batch_size=batch_size,
        seed=seed,
        progress=progress,
        skipped=missed,
    )
    if skipped is not None:
        skipped.extend(missed)
    check_skipped(missed, len(images), max_skipped)
    unread = {one.path for one in missed}
    rows = [row for row, entry in enumerate(images) if entry.path not in unread]
    read = ImageSet(images.root, tuple(images.entries[row] for row in rows), images.layout)
    require_both_classes(read)
    scores = score_table(read, modes, statistic)
    bad = scores[~np.isfinite(scores["logit"])]
    if len(bad):
        raise UserError(
            f"{detector.name} gives a logit that is not finite for {bad['path'].iloc[0]} "
            f"in mode {bad['mode'].iloc[0]}"
        )
    facts: dict[str, object] = {
        "modes": list(modes),
        "least_probability": least_probability,
        "threshold": "calibrated on these images in rgb (published)",
        "seed": seed,
    }
    return ColourResult(
        colour_table(scores, modes, cluster=cluster, seed=seed),
        scores,
        box_table(scores, modes, least_probability=least_probability, cluster=cluster, seed=seed),
        tuple(missed),
        facts,
    )


def score_table(images: ImageSet, modes: Sequence[str], statistic: PerImage) -> pd.DataFrame:
    """Return path, label, generator, class, mode, logit, score: modes in turn, in set order."""
    logits = statistic.of([images.image_id(entry) for entry in images])
    frame = pd.DataFrame(
        {
            "path": [images.image_id(entry) for entry in images],
            "label": [entry.label for entry in images],
            "generator": [entry.generator for entry in images],
            "class": [entry.class_name for entry in images],
        }
    )
    parts = [
        frame.assign(mode=mode, logit=column, score=sigmoid(column))
        for mode, column in zip(modes, logits.T, strict=True)
    ]
    return pd.concat(parts, ignore_index=True)


def _checked(modes: Sequence[str]) -> tuple[str, ...]:
    for mode in modes:
        parse_mode(mode)
    if len(set(modes)) < len(modes):
        raise UserError(f"colour modes {', '.join(modes)}: one is there twice")
    return (RGB, *(mode for mode in modes if mode != RGB))
