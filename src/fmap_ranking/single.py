"""By the true effect of each map alone: what of the gap between fakes and reals it takes away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from typing import Any

import numpy as np

from ..ablation import first_order
from ..data import Batch
from ..errors import UserError
from ..records import FeatureMap, ImageEntry, ImageSet
from ..sweep import How, Look, Rows, Seen, sweep
from .question import Found, Question
from .scores import Scored, ScoreStatistic

SINGLE = "single"
MAPS = 200  # measured one by one; the others keep what is predicted of them
TOGETHER = 64  # maps of one pass, whose parts are kept for an interrupted run


class PredictedLook(Look):
    """What each map alone would take from every image's logit, to first order."""

    statistic: ScoreStatistic

    def __init__(self, question: Question) -> None:
        self.constants, detector = question.constants, question.detector
        self.wanted = frozenset(one.path for one in _judged(question))
        statistic = ScoreStatistic(detector.feature_maps, (SINGLE,), question.groups)
        super().__init__(detector, statistic, colours=(), facts=question.facts)

    def wants(self, entry: ImageEntry) -> bool:
        """Say whether the image is judged."""
        return entry.path in self.wanted

    def observe(self, batch: Batch, seen: Mapping[str, Seen]) -> Rows:
        """Return the predicted falls of the logit (N, M), float64."""
        _, changes = first_order(self.detector, batch.pixels, self.constants)
        return {SINGLE: -changes.numpy()}


class SingleLook(Look):
    """What each of a few maps takes from every image's logit when its mean over reals is there."""

    statistic: ScoreStatistic

    def __init__(self, question: Question, feature_maps: Sequence[FeatureMap]) -> None:
        self.feature_maps, self.ablation = tuple(feature_maps), question.mean_real
        facts = {"maps": list(map(str, feature_maps)), **question.facts, **self.ablation.facts}
        statistic = ScoreStatistic(self.feature_maps, (SINGLE,), question.groups)
        super().__init__(question.detector, statistic, colours=(), facts=facts)

    def observe(self, batch: Batch, seen: Mapping[str, Seen]) -> Rows:
        """Return the falls of the logit (N, maps), float64."""
        whole = self.ablation.logits(batch, ())
        without = [self.ablation.logits(batch, (one,)) for one in self.feature_maps]
        return {SINGLE: whole[:, None] - np.stack(without, axis=1)}

    def probe(self, batch: Batch, seen: Mapping[str, Seen]) -> object:
        """Run the whole network once: no replaced map takes more."""
        return self.detector.logits(batch.pixels)


def single(question: Question) -> Found:
    """Return the ranking by what of the fake–real gap each map alone takes away, in logits.

    The score of a map is mean over fakes − mean over reals of L − L(map replaced by its mean over
    the reals). As many maps as ``maps`` says, those of the largest predicted effect, are measured,
    one pass of the network each; the others keep the prediction to first order, which is of the
    same unit. The table's column ``measured`` says which; 0 measures all. layers: patterns of
    those that are measured.

    Raises:
        UserError: no fakes or no reals, no layer of such a name, or see :func:`forensift.sweep`.
    """
    detector, how = question.detector, question.how
    images, look = _judged(question), PredictedLook(question)
    sweep(images, [look], what="predicting effects", **how)
    predicted = look.statistic.scored(SINGLE)
    places = _largest(question, np.abs(predicted.value))
    parts: list[tuple[np.ndarray, Scored]] = []
    for first in range(0, len(places), TOGETHER):
        own = places[first : first + TOGETHER]
        alone = SingleLook(question, [detector.feature_maps[at] for at in own])
        done = sweep(images, [alone], what=f"single effects {first}",
                     **_told(how, first, len(own), len(places)))  # fmt: skip
        if len(done.used):
            parts.append((own, alone.statistic.scored(SINGLE)))

    def score(drawn: np.ndarray) -> np.ndarray:
        found = predicted.score(drawn).copy()
        for own, one in parts:
            found[own] = one.score(drawn)
        return found

    measured = np.zeros(len(detector.feature_maps), dtype=bool)
    measured[places] = True
    scored = replace(predicted, score=score)
    facts = {"value": "mean-real", "measured": len(places)}
    ranking = scored.ranking(
        detector.feature_maps, SINGLE, look.statistic.counts, facts, measured=measured
    )
    return Found(ranking, scored)


def _judged(question: Question) -> ImageSet:
    """Return the fakes, then the reals."""
    images = question.images
    entries = (*question.fakes, *question.reals)
    return ImageSet(images.root, entries, images.layout)


def _largest(question: Question, size: np.ndarray) -> np.ndarray:
    """Return the places of the maps to measure: those of the largest size in the layers asked."""
    detector = question.detector
    patterns = question.ways.get("layers") or ()
    allowed = [
        at for at, one in enumerate(detector.feature_maps)
        if not patterns or any(fnmatch(one.layer, pattern) for pattern in patterns)
    ]  # fmt: skip
    if not allowed:
        names = list(detector.layers)
        raise UserError(f"{detector.name} has no layer {', '.join(patterns)}; it has {names[0]} …")
    number = int(question.ways.get("maps", MAPS))
    if number < 0:
        raise UserError(f"maps {number}: must be 0 (all) or more")
    places = np.array(allowed)
    return places[np.argsort(-size[places], kind="stable")][: number or len(places)]


def _told(how: How, before: int, own: int, maps: int) -> How:
    """Return how to go over images, with progress told in maps of all that are measured."""
    tell: Any = how.get("progress")
    if tell is None:
        return how

    def progress(what: str, done: float, total: int) -> None:
        tell("measuring single effects", before + own * done // max(total, 1), maps)

    return {**how, "progress": progress}
