"""Colour ablation: what a detector makes of the same images without colour, or with another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Unpack

import pandas as pd

from ..data import require_both_classes
from ..data.colour import MODES, parse_mode
from ..detectors.detector import Detector
from ..errors import UserError
from ..evaluation import Cluster, ScoreLook
from ..records import ImageSet, Result, Skipped
from ..sweep import RGB, How, Pass, sweep
from .colour_tables import LEAST_PROBABILITY, box_table, colour_table

SCORES = ("path", "label", "generator", "class", "mode", "logit", "score")


@dataclass(frozen=True, eq=False, repr=False)
class ColourResult(Result):
    """What changing the colours did.

    table: one row a generator and mode, and the macro mean (``colour.csv``); see
        :func:`colour_table`.
    scores: path, label, generator, class, mode, logit, score, one row an image and mode.
    box: the numbers of the published box plot, every mode against rgb; see :func:`box_table`.
    skipped: the images that could not be used. facts: what decided the numbers.
    """

    table: pd.DataFrame
    scores: pd.DataFrame
    box: pd.DataFrame
    skipped: tuple[Skipped, ...] = ()
    facts: Mapping[str, object] = field(default_factory=dict)


def colour(
    detector: Detector,
    images: ImageSet,
    modes: Sequence[str] = MODES,
    *,
    least_probability: float = LEAST_PROBABILITY,
    cluster: Cluster = "photograph",
    **how: Unpack[How],
) -> ColourResult:
    """Score every image in every colour mode, and compare each mode with rgb.

    images: generators that each hold reals and fakes. modes: see :mod:`forensift.data.colour`;
        rgb is added in front if it is missing, for everything is measured against it.
    least_probability: the box plot takes fakes of at least this probability in rgb (published 0.2).
    cluster: what the intervals draw, see :func:`forensift.evaluation.metrics`.

    Each image is decoded once; modes are made from the decoded pixels, after the preset's
    geometry (published evaluations have none). Published: rgb and grey, both judged at the
    threshold calibrated on the same images in rgb.

    Raises:
        UserError: an unknown mode or one given twice, a generator without reals or fakes, a logit
            that is not finite, or see :func:`forensift.sweep`.
    """
    look = ScoreLook(detector, colours=checked_modes(modes))
    require_both_classes(images)
    done = sweep(images, [look], what="changing colours", **how)
    return colour_of(
        look, done, least_probability=least_probability, cluster=cluster, seed=how.get("seed", 0)
    )


def colour_of(
    look: ScoreLook,
    done: Pass,
    *,
    least_probability: float = LEAST_PROBABILITY,
    cluster: Cluster = "photograph",
    seed: int = 0,
) -> ColourResult:
    """Return what a pass in several colour modes has shown; see :func:`colour`."""
    modes = look.colours
    require_both_classes(done.used)
    parts = [look.table(done.used, colour=mode).assign(mode=mode) for mode in modes]
    scores = pd.concat(parts, ignore_index=True)[list(SCORES)]
    facts: dict[str, object] = {
        "detector": look.detector.name,
        "weights_file": look.detector.weights.path,
        "modes": list(modes),
        "least_probability": least_probability,
        "threshold": "calibrated on these images in rgb (published)",
        "used": len(done.used),
        "seed": seed,
        "intervals": {"confidence": 0.95, "cluster": cluster},
    }
    return ColourResult(
        colour_table(scores, modes, cluster=cluster, seed=seed),
        scores,
        box_table(scores, modes, least_probability=least_probability, cluster=cluster, seed=seed),
        done.skipped,
        facts,
    )


def checked_modes(modes: Sequence[str]) -> tuple[str, ...]:
    """Return the modes, rgb first, or refuse one that is unknown or there twice."""
    for mode in modes:
        parse_mode(mode)
    if len(set(modes)) < len(modes):
        raise UserError(f"colour modes {', '.join(modes)}: one is there twice")
    return (RGB, *(mode for mode in modes if mode != RGB))
