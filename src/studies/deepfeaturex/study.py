"""Everything that DeepFeatureX is tested by, in one call: tables, and a sentence from them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from PIL import Image

from ...data import check_skipped
from ...detectors import Detector
from ...detectors.deepfeaturex import CLASSES
from ...evaluation.source_attribution import confusion_table
from ...records import ImageSet, Skipped
from ...training.deepfeaturex_data import distinct
from .filters import Filter, chosen_filters
from .generalisation import Families, generalisation
from .measures import measure, numbers, predictions, with_intervals

CLEAN = "clean"


@dataclass
class Study:
    """Tables of a study; ``robustness`` and others are empty where they were not asked for.

    confusion: counts of the complete network on all images, truth in rows.
    """

    measures: pd.DataFrame
    predictions: pd.DataFrame
    confusion: pd.DataFrame
    robustness: pd.DataFrame = field(default_factory=pd.DataFrame)
    generalisation: pd.DataFrame = field(default_factory=pd.DataFrame)
    base_models: pd.DataFrame = field(default_factory=pd.DataFrame)

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return the tables that are not empty, by file name."""
        named = {
            "measures": self.measures,
            "predictions": self.predictions,
            "confusion": self.confusion,
            "robustness": self.robustness,
            "generalisation": self.generalisation,
            "base_models": self.base_models,
        }
        return {f"{name}.csv": table for name, table in named.items() if len(table)}


def study(
    detectors: Mapping[str, Detector],
    images: ImageSet,
    *,
    families: Families | None = None,
    known: ImageSet | None = None,
    base_models: Sequence[Detector] = (),
    filters: Sequence[str] | None = None,
    batch_size: int = 16,
    seed: int = 0,
    resamples: int = 1000,
    skipped: list[Skipped] | None = None,
    max_skipped: float = 0.01,
    progress: Callable[[int], object] | None = None,
) -> Study:
    """Test three-class detectors, the first of which is the one that matters, on the same images.

    detectors: by the name they have in the tables ('deepfeaturex', 'plain baseline').
    images: the test images, all generators. known: those of inner generators, which the three-class
    numbers, the robustness and the base models are measured on (default: all of ``images``).
    filters: tags of ``FILTERS``, () is all, None leaves robustness out. progress: is told how many
    images more a network has seen.
    """
    families = families or Families()
    images = distinct(images)
    known = images if known is None else distinct(known)
    unread: list[Skipped] = []

    def look(detector: Detector, shown: ImageSet, change: Filter | None = None) -> pd.DataFrame:
        def transform(image: Image.Image, key: str) -> Image.Image:
            return image if change is None else change(image)

        lost: list[Skipped] = []
        table = predictions(
            detector,
            shown,
            diffusion=families.diffusion,
            transform=None if change is None else transform,
            batch_size=batch_size,
            seed=seed,
            skipped=lost,
            progress=progress,
        )
        check_skipped(lost, len(shown), max_skipped)
        unread.extend(one for one in lost if one not in unread)
        return table

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
    changes: dict[str, Filter | None] = {}
    if filters is not None:
        changes = {CLEAN: None, **chosen_filters(filters)}
    for tag, change in changes.items():
        for name, detector in detectors.items():
            table = clean[name] if change is None else look(detector, known, change)
            hard.append(
                {
                    "detector": name,
                    "filter": tag,
                    "n": len(table),
                    **with_intervals(table, CLASSES, seed, resamples),
                    "f1": numbers(table)["f1"],
                }
            )
    bases = []
    for model in base_models:
        table = look(model, known)
        main = next(one for one in model.classes if one != "rest")
        own = numbers(table.assign(**_as_real(table, main)), "binary")
        own.pop("accuracy")
        shares = with_intervals(table, model.classes, seed, resamples)
        bases.append({"main": main, "n": len(table), **shares, **own})
    first = next(iter(detectors))
    if skipped is not None:
        skipped.extend(unread)
    return Study(
        _first(pd.concat(measured, ignore_index=True), "detector"),
        clean[first],
        confusion_table(clean[first], CLASSES),
        pd.DataFrame(hard),
        _first(pd.concat(families_table, ignore_index=True), "detector"),
        pd.DataFrame(bases),
    )


def compare(
    detectors: Mapping[str, tuple[Detector, Path]],
    images: ImageSet,
    *,
    diffusion: Sequence[str],
    batch_size: int = 16,
    seed: int = 0,
    resamples: int = 1000,
) -> pd.DataFrame:
    """Return how networks of several backbones do on the same images, one row each.

    detectors: by name, with the file they came from. Columns: detector, backbone, parameters,
    megabytes (of the file), seconds_an_image (on this machine), and the numbers of ``measure`` on
    all three classes and of real against fake (``real_or_fake_accuracy``).
    """
    images = distinct(images)
    rows = []
    for name, (detector, path) in detectors.items():
        started = time.monotonic()
        table = predictions(detector, images, diffusion=diffusion, batch_size=batch_size, seed=seed)
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
