"""Everything that DeepFeatureX is tested by, in one call: tables, and a sentence from them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Unpack

import pandas as pd

from ...data.conditions import CLEAN
from ...detectors import Detector
from ...detectors.deepfeaturex import CLASSES
from ...evaluation import ScoreLook
from ...evaluation.source_attribution import attributed, confusion_table
from ...records import ImageSet, Result, Skipped
from ...sweep import How, sweep
from ...training.deepfeaturex_data import distinct
from ...views import View
from .filters import chosen_filters
from .generalisation import Families, generalisation
from .measures import measure, numbers, predictions, sources_of, with_intervals


@dataclass(eq=False, repr=False)
class Study(Result):
    """Tables of a study; ``robustness`` and others are empty where they were not asked for.

    confusion: counts of the complete network on all images, truth in rows.
    """

    measures: pd.DataFrame
    predictions: pd.DataFrame
    confusion: pd.DataFrame
    robustness: pd.DataFrame = field(default_factory=pd.DataFrame)
    generalisation: pd.DataFrame = field(default_factory=pd.DataFrame)
    base_models: pd.DataFrame = field(default_factory=pd.DataFrame)

    comparison: pd.DataFrame = field(default_factory=pd.DataFrame)
    skipped: tuple[Skipped, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def view(self) -> View:
        """Return the tables that are not empty, and what the three-class numbers show."""
        from .page import view

        return view(self)


def study(
    detectors: Mapping[str, Detector],
    images: ImageSet,
    *,
    families: Families | None = None,
    known: ImageSet | None = None,
    base_models: Sequence[Detector] = (),
    filters: Sequence[str] | None = None,
    resamples: int = 1000,
    **how: Unpack[How],
) -> Study:
    """Test three-class detectors, the first of which is the one that matters, on the same images.

    detectors: by the name they have in the tables ('deepfeaturex', 'plain baseline').
    images: the test images, all generators. known: those of inner generators, which the three-class
    numbers, the robustness and the base models are measured on (default: all of ``images``).
    filters: tags of ``FILTERS``, () is all, None leaves robustness out.
    """
    families = families or Families()
    images = distinct(images)
    known = images if known is None else distinct(known)
    seed, unread = how.get("seed", 0), how.setdefault("skipped", [])
    conditions = {CLEAN: CLEAN}
    if filters is not None:
        conditions |= {tag: one.name for tag, one in chosen_filters(filters).items()}
    looks = {
        name: ScoreLook(one, conditions=tuple(conditions.values()))
        for name, one in detectors.items()
    }
    base_looks = [ScoreLook(model) for model in base_models]
    used = sweep(known, [*looks.values(), *base_looks], what="testing", **how).used
    outer = {name: ScoreLook(one) for name, one in detectors.items()}
    unseen = frozenset(images) - frozenset(known)
    rest = ImageSet(images.root, tuple(one for one in images if one in unseen), images.layout)
    if len(rest):
        rest = sweep(rest, list(outer.values()), what="testing on outer generators", **how).used

    def table_of(look: ScoreLook, shown: ImageSet, tag: str = CLEAN) -> pd.DataFrame:
        sources = sources_of(look.detector, shown, families.diffusion)
        return attributed(look, shown, sources=sources, condition=conditions[tag])

    everything = frozenset(used) | frozenset(rest)
    both = ImageSet(images.root, tuple(one for one in images if one in everything), images.layout)
    measured, clean, families_table = [], {}, []
    for name, look in looks.items():
        clean[name] = table_of(look, used)
        found = measure(clean[name], CLASSES, seed=seed, resamples=resamples)
        measured.append(found.assign(detector=name))
        outer[name].statistic.merge(look.statistic)
        there = families.among(images.generators)
        whole = table_of(outer[name], both)
        table = generalisation(whole, there, seed=seed, resamples=resamples)
        families_table.append(table.assign(detector=name))
    hard = []
    for tag in () if filters is None else conditions:
        for name, look in looks.items():
            table = clean[name] if tag == CLEAN else table_of(look, used, tag)
            shares = with_intervals(table, CLASSES, seed, resamples)
            row = {"detector": name, "filter": tag, "n": len(table), **shares}
            hard.append({**row, "f1": numbers(table)["f1"]})
    bases = [_base_row(table_of(look, used), look.detector, seed, resamples) for look in base_looks]
    first = next(iter(detectors))
    facts = {
        "detectors": {name: one.weights.sha256 for name, one in detectors.items()},
        "families": {key: list(value) for key, value in vars(families).items()},
        "used": len(clean[first]),
        "positive": "real",
    }
    return Study(
        _first(pd.concat(measured, ignore_index=True), "detector"),
        clean[first],
        confusion_table(clean[first], CLASSES),
        pd.DataFrame(hard),
        _first(pd.concat(families_table, ignore_index=True), "detector"),
        pd.DataFrame(bases),
        skipped=tuple(dict.fromkeys(unread)),
        facts=facts,
    )


def compare(
    detectors: Mapping[str, tuple[Detector, Path]],
    images: ImageSet,
    *,
    diffusion: Sequence[str],
    resamples: int = 1000,
    **how: Unpack[How],
) -> pd.DataFrame:
    """Return how networks of several backbones do on the same images, one row each.

    detectors: by name, with the file they came from. Columns: detector, parameters, megabytes (of
    the file), seconds_an_image (on this machine; none of a resumed run), and the numbers of
    ``measure`` on all three classes and of real against fake (``real_or_fake_accuracy``).
    """
    images, seed = distinct(images), how.get("seed", 0)
    rows = []
    for name, (detector, path) in detectors.items():
        started = time.monotonic()
        table = predictions(detector, images, diffusion=diffusion, **how)
        seconds = (time.monotonic() - started) / max(1, len(table))
        seconds = float("nan") if how.get("resume") else seconds  # a part of them is not the whole
        found = measure(table, CLASSES, seed=seed, resamples=resamples).set_index("protocol")
        kept = ("accuracy", "balanced_accuracy")
        shown = [f"{one}{end}" for one in kept for end in ("", "_low", "_high")]
        rows.append(
            {
                "detector": name,
                "parameters": sum(one.numel() for one in detector.network.parameters()),
                "megabytes": path.stat().st_size / 1e6,
                "seconds_an_image": seconds,
                "n": len(table),
                **found.loc["three classes", [*shown, "f1"]].to_dict(),
                "real_or_fake_accuracy": found.loc["real or fake", "accuracy"],
            }
        )
    return pd.DataFrame(rows)


def _base_row(table: pd.DataFrame, model: Detector, seed: int, resamples: int) -> dict[str, object]:
    main = next(one for one in model.classes if one != "rest")
    own = numbers(table.assign(**_as_real(table, main)), "binary")
    own.pop("accuracy")
    shares = with_intervals(table, model.classes, seed, resamples)
    return {"main": main, "n": len(table), **shares, **own}


def _as_real(table: pd.DataFrame, main: str) -> dict[str, pd.Series]:
    """Return truth and prediction with the main class under the name that counts as positive."""
    return {
        column: table[column]
        .where(table[column] != main, "real")
        .where(table[column] == main, "rest")
        for column in ("truth", "predicted")
    }


def _first(table: pd.DataFrame, column: str) -> pd.DataFrame:
    return table[[column, *(one for one in table.columns if one != column)]]
