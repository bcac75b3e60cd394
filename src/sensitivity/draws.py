"""Scores masks under each value, and draws controls until what they are asked is answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Unpack

import numpy as np

from ..ablation import Ablation
from ..detectors import Detector
from ..evaluation import answered
from ..records import ImageSet, Skipped
from ..sweep import How
from .choice import Choice
from .masks import TOP, Mask
from .scoring import scores_under
from .tables import FALLS, falls, rows_of, spoken_of, with_macro

DRAWS, BAND_DRAWS = 20, 5
LEARNT_DRAWS = 3  # of controls whose constants are learnt for each draw, unless draws are given
MAX_DRAWS = 199  # where draws are made until the answer is clear: p = 0.005 at best
AUTO = "auto"


@dataclass(eq=False)
class Under:
    """One value: what stands in the maps' place, which masks are scored, and their logits.

    most: how many draws there may be of a control at most, None where their number was given.
    logits, curve_logits: (masks, images), of the masks beside them.
    """

    ablation: Ablation
    masks: list[Mask]
    curve_masks: list[Mask]
    most: int | None = None
    logits: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    curve_logits: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))

    def count(self, control: str) -> int:
        """Return how many draws of a control there are."""
        return sum(mask.name == control for mask in self.masks)


def first_draws(value: str, draws: int | str | None, band_draws: int | None) -> tuple[int, int]:
    """Return how many draws of each control are made first, and how many at each k of a curve."""
    learnt = value == "optimal"
    first = draws if isinstance(draws, int) else LEARNT_DRAWS if learnt and not draws else DRAWS
    return first, (1 if learnt else BAND_DRAWS) if band_draws is None else band_draws


def score_all(
    detector: Detector,
    images: ImageSet,
    choice: Choice,
    every: Sequence[Under],
    training_family: str | None,
    **how: Unpack[How],
) -> tuple[Skipped, ...]:
    """Score all masks under all values in one pass, then more draws where they are asked for.

    After each pass a control is drawn 20 times more, until each of its numbers is answered (see
    :func:`forensift.evaluation.sequential_p`) or the most draws are made. Returns what was skipped.
    """
    wanted = [[*under.masks, *under.curve_masks] for under in every]
    jobs = [(under.ablation, [mask.feature_maps for mask in masks])
            for under, masks in zip(every, wanted, strict=True)]  # fmt: skip
    logits, done = scores_under(detector, images, jobs, **how)
    for under, own in zip(every, logits, strict=True):
        under.logits, under.curve_logits = np.split(own, [len(under.masks)])
    again: How = {key: one for key, one in how.items() if key != "skipped"}  # type: ignore[assignment]
    for number in range(2, 10_000):
        more = [_more(images, choice, under, training_family) for under in every]
        if not any(more):
            break
        asked = [(under, own) for under, own in zip(every, more, strict=True) if own]
        jobs = [(under.ablation, [mask.feature_maps for mask in own]) for under, own in asked]
        found, _ = scores_under(
            detector, images, jobs, what=f"dropping feature maps, round {number}", **again
        )
        for (under, masks), own in zip(asked, found, strict=True):
            _take(choice, under, masks, own)
    return done.skipped


def _more(
    images: ImageSet, choice: Choice, under: Under, training_family: str | None
) -> list[Mask]:
    """Return the next draws of those controls that are not answered yet."""
    if under.most is None:
        return []
    rows = rows_of(images, under.masks, under.logits, training_family, ensemble=False)
    rows = with_macro(rows, training_family)
    rows = rows[rows["generator"] == spoken_of(rows["generator"])]
    observed, masks = falls(rows[rows["mask"] == TOP]), []
    for control in choice.controls:
        count = under.count(control)
        drawn = falls(rows[rows["mask"] == control].sort_values("draw"))
        clear = all(answered(observed[one][0], drawn[one], under.most) for one in FALLS)
        if not clear:
            masks += choice.drawn(control, range(count, min(count + DRAWS, under.most)))
    return masks


def _take(choice: Choice, under: Under, masks: Sequence[Mask], logits: np.ndarray) -> None:
    """Put further draws among those that are there, in the table's order."""
    held: Mapping[tuple[str, int], np.ndarray] = {
        (mask.name, mask.draw): row
        for mask, row in zip([*under.masks, *masks], [*under.logits, *logits], strict=True)
    }
    counts = {one: sum(name == one for name, _ in held) for one in choice.controls}
    under.masks = choice.masks(counts)
    under.logits = np.stack([held[mask.name, mask.draw] for mask in under.masks])
