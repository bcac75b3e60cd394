"""Everything that DeepFeatureX is tested by, in one call: tables, and a sentence from them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Unpack

import pandas as pd

from ...detectors import Detector
from ...detectors.deepfeaturex import CLASSES
from ...evaluation.source_attribution import confusion_table
from ...records import ImageSet, Result, Skipped
from ...sweep import How
from ...training.deepfeaturex_data import distinct
from ...views import View
from .filters import chosen_filters
from .generalisation import Families, generalisation
from .measures import measure, numbers, predictions, with_intervals

CLEAN = "clean"


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

    def look(detector: Detector, shown: ImageSet, tag: str = CLEAN) -> pd.DataFrame:
        change = None if tag == CLEAN else chosen_filters([tag])[tag]
        return predictions(
            detector,
            shown,
            diffusion=families.diffusion,
            transform=None if change is None else lambda image, key: change(image),
            what=f"{detector.name}, {tag}, {len(shown)} images",
            **how,
        )

    measured, clean, families_table = [], {}, []
    for name, detector in detectors.items():
        clean[name] = look(detector, known)
        found = measure(clean[name], CLASSES, seed=seed, resamples=resamples)
        measured.append(found.assign(detector=name))
        everything = clean[name] if images == known else look(detector, images)
        there = families.among(images.generators)
        table = generalisation(everything, there, seed=seed, resamples=resamples)
        families_table.append(table.assign(detector=name))
    hard = []
    for tag in () if filters is None else (CLEAN, *chosen_filters(filters)):
        for name, detector in detectors.items():
            table = clean[name] if tag == CLEAN else look(detector, known, tag)
            shares = with_intervals(table, CLASSES, seed, resamples)
            row = {"detector": name, "filter": tag, "n": len(table), **shares}
            hard.append({**row, "f1": numbers(table)["f1"]})
    bases = []
    for model in base_models:
        table = look(model, known)
        main = next(one for one in model.classes if one != "rest")
        own = numbers(table.assign(**_as_real(table, main)), "binary")
        own.pop("accuracy")
        shares = with_intervals(table, model.classes, seed, resamples)
        bases.append({"main": main, "n": len(table), **shares, **own})
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

    detectors: by name, with the file they came from. Columns: detector, backbone, parameters,
    megabytes (of the file), seconds_an_image (on this machine), and the numbers of ``measure`` on
    all three classes and of real against fake (``real_or_fake_accuracy``).
    """
    images, seed = distinct(images), how.get("seed", 0)
    rows = []
    for name, (detector, path) in detectors.items():
        started = time.monotonic()
        table = predictions(detector, images, diffusion=diffusion, **how)
        seconds = (time.monotonic() - started) / max(1, len(table))
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
