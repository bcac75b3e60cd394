"""Rank a detector's feature maps over an image set, by ω and by other scores, in one pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Unpack

import pandas as pd

from ..data import Preset
from ..detectors import Detector, named_preset
from ..errors import UserError
from ..records import ImageSet, Ranking, Result, Skipped
from ..sweep import How, Look, Pass, sweep
from .agreement import alike_table
from .by import checked_names, looks_of, others
from .compare import usual_k
from .look import KINDS, OmegaLook, Start
from .question import WAYS, Found, Question, Ways
from .scores import Scored, ScoreStatistic, scored_omega

Label = Literal["fake", "real"]
OMEGAS = ("omega", "omega-width")


def rank(
    detector: Detector,
    images: ImageSet,
    *,
    by: str = "omega",
    label: Label | int = "fake",
    start: Start = "predicted",
    min_confidence: float = 0.9,
    composite: str = "beta0",
    preset: Preset | str | None = None,
    **how: Unpack[Ways],
) -> Ranking:
    """Return the feature maps in falling ω (FF-RS; spec: T-FF, Algorithm 1), or by another score.

    images: of any labels; those of ``label`` ('fake' or 1, 'real' or 0) are ranked on.
    by: 'omega', or what else maps can be ranked by: see :mod:`forensift.fmap_ranking.by`. All but ω
        are of fakes, and take no heed of start, min_confidence and composite.
    start: the relevance that LRP starts from at the logit.
        'predicted': +1 for every image, at the only logit or, where there are
        several classes, at the largest. Each rule divides by its own output, so whatever made the
        logit what it is, positive or negative, is positive relevance: evidence for the decision.
        'published': −1 on reals ("explain −f"), +1 on fakes. On reals this negates everything, so
        their positive relevance, and with it ω, is the minority evidence against the decision.
        Fakes are the same under both.
    min_confidence: the least probability of the true class, 0.5 … 1; the published 0.9 means
        p ≥ 0.90 for fakes and p ≤ 0.10 for reals.
    composite: the rules of LRP, see :mod:`forensift.lrp.composites`; ω under any but the published
        'beta0' is another ranking.
    preset: the preprocessing, the detector's own by default; published rankings used 'tff-ffrs'.
    how: how images are gone over, and what other rankings want to know, see :class:`Ways`.

    Maps of convolutions that the logits do not depend on have ω 0; facts["not_used"] names these.
    Memory is O(feature maps): per image only the M shares are computed, and summed.

    Raises:
        UserError: no image of that label, none predicted right and confidently, an option out of
            its range, or see :func:`forensift.sweep`.
    """
    kind: Any = KINDS.get(label, label) if isinstance(label, int) else label
    if preset is not None:
        preset = named_preset(preset) if isinstance(preset, str) else preset
        detector = detector.with_preset(preset)
    found = rankings(
        detector, images, by=(by,), labels=(kind,), start=start, min_confidence=min_confidence,
        composite=composite, **how,
    )  # fmt: skip
    return found.of[kind if by == "omega" else by]


@dataclass(frozen=True, eq=False, repr=False)
class Rankings(Result):
    """Rankings of one detector: ω on fakes, on reals or on both, and by other scores.

    of: ω by 'fake' and 'real', others by their names; missing: why there is none of those asked
    for, in words; name: of the image set, in file names.
    alike: how far every two agree, see :func:`alike_table`; None of a single one. k: the top maps
    that their overlap is of.
    """

    of: Mapping[str, Ranking]
    missing: Mapping[str, str]
    name: str
    skipped: tuple[Skipped, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    alike: pd.DataFrame | None = None
    k: int = 1


def rankings(
    detector: Detector,
    images: ImageSet,
    *,
    by: Sequence[str] = ("omega",),
    labels: Sequence[Label] = ("fake", "real"),
    start: Start = "predicted",
    min_confidence: float = 0.9,
    composite: str = "beta0",
    name: str = "",
    **how: Unpack[Ways],
) -> Rankings:
    """Rank by ω on the fakes and on the reals of a set, and by other scores; see :func:`rank`.

    by: names of scores; those that can share one pass over the images do. labels: of ω.
    name: of the set, by default that of its folder. A label of which no image counts is missing,
    and said to be. Where more than ω is asked for, ω's rank intervals too redraw photographs.

    Raises:
        UserError: images of a label are not there, none of any label could be used, or as
            :func:`rank`.
    """
    names = checked_names(by)
    ways = {key: how[key] for key in WAYS & how.keys()}  # type: ignore[literal-required]
    plain: How = {key: how[key] for key in how.keys() - WAYS}  # type: ignore
    question = Question(detector, images, ways, plain)
    kinds = _labels(images, names, labels)
    groups = question.groups if set(names) - set(OMEGAS) else None
    omegas = {
        kind: OmegaLook(
            detector, number, start=start, min_confidence=min_confidence, composite=composite,
            groups=groups,
        )
        for kind, number in kinds.items()
    }  # fmt: skip
    looks = looks_of(question, names)
    done = _swept(question, [*omegas.values(), *looks.values()])
    of, scored, missing, counts = _by_omega(question, omegas, done, names)
    for look in looks.values():
        statistic: ScoreStatistic = look.statistic  # type: ignore[assignment]
        for one in statistic.names:
            counts[one] = statistic.counts
            own = scored[one] = statistic.scored(one)
            of[one] = own.ranking(detector.feature_maps, one, counts[one], look.facts)
    for one, make in others(names).items():
        found: Found = make(question)
        of[one], scored[one] = found.ranking, found.scored
        counts[one] = dict(found.ranking.counts)
    if not of:
        raise UserError("; ".join(missing.values()))
    facts = {
        "detector": detector.name,
        "by": names,
        "counts": counts,
        "missing": missing,
        "feature_maps": len(detector.feature_maps),
        **_facts_of(question, omegas, start, min_confidence),
    }
    for one in set(of) - {"fake", "real"}:
        of[one] = replace(of[one], facts={**_common(question), "by": one, **of[one].facts})
    k = ways.get("k") or usual_k(detector.name, len(detector.feature_maps))
    several = {"omega" if one == "fake" else one: of[one] for one in of if one != "real"}
    alike = (
        alike_table(several, scored, detector.feature_maps, k, seed=plain.get("seed", 0))
        if len(several) > 1
        else None
    )
    name = name or images.root.resolve().name or "images"
    return Rankings(of, missing, name, done.skipped if done else (), facts, alike, k)


def _labels(images: ImageSet, names: Sequence[str], labels: Sequence[Label]) -> dict[str, int]:
    """Return the labels that ω is wanted of, with their numbers."""
    numbers = {kind: number for number, kind in KINDS.items()}
    wanted: list[str] = [*labels] if "omega" in names else []
    if "omega-width" in names and "fake" not in wanted:
        wanted.append("fake")
    for kind in [*wanted, *(["fake"] if set(names) - {"omega"} else [])]:
        if kind not in numbers:
            raise UserError(f"label {kind!r}: choose fake or real")
        if not len(images.only(label=numbers[kind])):
            raise UserError(f"{images.root}: holds no {kind} images to rank on")
    return {kind: numbers[kind] for kind in wanted}


def _swept(question: Question, looks: Sequence[Look]) -> Pass | None:
    """Go once over the images that any of the looks wants."""
    if not looks:
        return None
    images = question.images
    there = set(images.entries)
    of_pairs = any(isinstance(look.statistic, ScoreStatistic) for look in looks)
    photographs = question.photographs.values() if of_pairs else ()
    beside = [one for one in photographs if one not in there]
    wanted = [one for one in (*images, *beside) if any(look.wants(one) for look in looks)]
    # A label's images come together, so that no batch holds images that nobody wants.
    entries = sorted(wanted, key=lambda one: -one.label)
    chosen = ImageSet(images.root, tuple(entries), images.layout)
    return sweep(chosen, looks, what="ranking", **question.how)


def _by_omega(
    question: Question, looks: Mapping[str, OmegaLook], done: Pass | None, names: Sequence[str]
) -> tuple[dict[str, Ranking], dict[str, Scored | None], dict[str, str], dict[str, Any]]:
    """Return the rankings by ω and ω × width, their scores, what is missing, and counts."""
    of: dict[str, Ranking] = {}
    scored: dict[str, Scored | None] = {}
    missing: dict[str, str] = {}
    counts: dict[str, Any] = {}
    images = question.images
    for kind, look in looks.items():
        assert done is not None
        used = len(done.used.only(label=look.label))
        unusable = len(images.only(label=look.label)) - used
        counts[kind] = {**look.statistic.counts, "unusable": unusable}
        wanted = {"omega": kind} if "omega" in names else {}
        if kind == "fake" and "omega-width" in names:
            wanted["omega-width"] = "omega-width"
        for by, key in wanted.items():
            try:
                one = look.ranking(images, by, seed=question.how.get("seed", 0), used=used)
            except UserError as error:
                missing[key] = str(error)
                continue
            of[key] = replace(one, counts=counts[kind])
            if kind == "fake":
                scored[by] = scored_omega(look.statistic, by)
    return of, scored, missing, counts


def _facts_of(
    question: Question, looks: Mapping[str, OmegaLook], start: Start, min_confidence: float
) -> dict[str, Any]:
    """Return what the manifest says of ω where it is ranked by, and of pairs where by others."""
    if not looks:
        return question.facts
    composite = next(iter(looks.values())).facts["composite"]
    return {"start": start, "min_confidence": min_confidence, "composite": composite}


def _common(question: Question) -> dict[str, Any]:
    detector = question.detector
    return {
        "detector": detector.name,
        "weights": detector.weights.path,
        "weights_sha256": detector.weights.sha256,
        "image_set": question.images.hash(),
        "preset": detector.preset.name,
        "seed": question.how.get("seed", 0),
    }
