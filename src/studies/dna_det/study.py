"""How well detectors name the family, on the closed set and on networks they never saw."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Unpack

import pandas as pd

from ...data import check_skipped, scan
from ...data.photos import photograph_names
from ...detectors import Detector
from ...embedding import Embedding, embed
from ...errors import UserError
from ...evaluation import ScoreLook, cluster_mean
from ...evaluation.source_attribution import (
    attributed,
    check_classes,
    confusion_table,
    evaluate_source_attribution,
    without_repeats,
)
from ...forge import family_of
from ...records import FAKE, REAL, ImageEntry, ImageSet, Result
from ...sweep import How, sweep
from ...views import View
from .cams import LAYER, ClassMap, class_maps
from .splits import CLOSED, CROSS, classes_of
from .splits import REAL as REAL_CLASS

TEST = CLOSED[-1]
ALL_CROSS = "all cross sets"
RESAMPLES = 2000


@dataclass(frozen=True, eq=False, repr=False)
class Study(Result):
    """What the study found, as tidy tables; fractions, and intervals of 95 % over photographs.

    predictions: a row an image and detector: detector, set, path (below the world), label,
        generator, truth, predicted, photograph, crop, p:CLASS.
    metrics: detector, set, metric, class, generator, n, value, low, high; see
        ``evaluate_source_attribution``. The set 'all cross sets' is the four together.
    confusion: detector, set, truth, predicted, n.
    differences: set, first, second, difference (of the accuracies), low, high, n: both detectors
        on the same images, photographs drawn once for both.
    drops: detector, set, closed, crossed, drop, low, high, n: the accuracy on the closed set's
        fakes, and on the fakes that the set's networks made of the same crops.
    """

    predictions: pd.DataFrame
    metrics: pd.DataFrame
    confusion: pd.DataFrame
    differences: pd.DataFrame
    drops: pd.DataFrame
    embeddings: Mapping[str, Embedding] = field(default_factory=dict)
    maps: Mapping[str, Sequence[ClassMap]] = field(default_factory=dict)
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def view(self) -> View:
        """Return accuracies by set, and the published files."""
        from .study_view import view

        return view(self)


def study_sets(data: Path) -> dict[str, ImageSet]:
    """Return the test sets of a world: the closed one, and of the cross sets the fakes.

    The reals of a cross set are those of the closed one. Images of all sets have the world as their
    root, so that an image's id tells its set.

    Raises:
        UserError: a set is missing.
    """
    found = {}
    for name in (TEST, *CROSS):
        if not (data / name).is_dir():
            raise UserError(f"{data / name} is missing; make it with forensift attribute forge")
        scanned = scan(data / name)
        entries: tuple[ImageEntry, ...] = scanned.entries
        root = scanned.root.parents[name.count("/")]  # the world, as the images' paths spell it
        if name == TEST:
            kept = set(without_repeats(one for one in entries if one.label == REAL))
            entries = tuple(one for one in entries if one.label == FAKE or one in kept)
        else:
            entries = tuple(one for one in entries if one.label == FAKE)
        found[name] = ImageSet(root, entries)
    return found


def predictions(
    detectors: Mapping[str, Detector], sets: Mapping[str, ImageSet], **how: Unpack[How]
) -> dict[str, pd.DataFrame]:
    """Return each detector's predictions on every set, see ``Study.predictions``, in one pass.

    Raises:
        UserError: a detector without these classes, or too many unusable images in a set.
    """
    every = _together(sets)
    sources = classes_of(list(every.generators))
    for detector in detectors.values():
        check_classes(detector, every, sources)  # before anything is computed
    looks = {label: ScoreLook(detector) for label, detector in detectors.items()}
    done = sweep(every, list(looks.values()), what="attributing", **how)
    lost = {one.path: one for one in done.skipped}
    used = {}
    for name, images in sets.items():
        own = [lost[one.path] for one in images if one.path in lost]
        check_skipped(own, len(images), how.get("max_skipped", 0.01))
        used[name] = _without(images, lost)
    tables: dict[str, list[pd.DataFrame]] = {label: [] for label in looks}
    for name, images in used.items():
        for label, look in looks.items():
            table = attributed(look, images, sources=sources)
            stems = [Path(path).name for path in table["path"]]
            table.insert(0, "set", name)
            table.insert(6, "photograph", photograph_names(stems))
            table.insert(7, "crop", stems)
            tables[label].append(table)
    return {label: pd.concat(own, ignore_index=True) for label, own in tables.items()}


def _together(sets: Mapping[str, ImageSet]) -> ImageSet:
    first = next(iter(sets.values()))
    return replace(first, entries=tuple(entry for images in sets.values() for entry in images))


def _without(images: ImageSet, lost: Container[Path]) -> ImageSet:
    return replace(images, entries=tuple(one for one in images if one.path not in lost))


def labelled(specs: Sequence[str]) -> dict[str, str]:
    """Return which detector (NAME, NAME:VARIANT, NAME=FILE) each label of ``LABEL:=SPEC`` means.

    Raises:
        UserError: two of one label.
    """
    found: dict[str, str] = {}
    for text in specs:
        label, mark, spec = text.partition(":=")
        spec = spec if mark else text
        label = label if mark else Path(spec.rpartition("=")[2]).stem
        if label in found:
            raise UserError(f"{text}: a second detector labelled {label}; write LABEL:={spec}")
        found[label] = spec
    return found


def study(
    detectors: Mapping[str, Detector],
    data: Path,
    *,
    per_group: int = 0,
    crops: int = 0,
    layer: str = LAYER,
    resamples: int = RESAMPLES,
    **how: Unpack[How],
) -> Study:
    """Let detectors name the family of every image of a world; compare the first with the rest.

    detectors: by a label for people; data: the world. per_group: images of each network in the
    t-SNE; crops: that Grad-CAM is made of, in ``layer``; 0 leaves them out.

    Raises:
        UserError: a set is missing, or a detector without the classes.
    """
    sets = study_sets(data)
    classes = {label: detector.classes for label, detector in detectors.items()}
    skipped = how.setdefault("skipped", [])
    found = predictions(detectors, sets, **how)
    # The share of unusable images was judged above, on whole sets; pictures show few of them.
    lost = {one.path for one in skipped}
    shown = {name: _without(images, lost) for name, images in sets.items()}
    embeddings, maps = {}, {}
    for label, detector in detectors.items():
        if per_group:
            embeddings[label] = world_embedding(detector, shown, per_group=per_group, **how)
        if crops:
            maps[label] = class_maps(detector, shown, crops=crops, layer=layer, **how)
    result = tabulate(found, classes, resamples=resamples, seed=how.get("seed", 0))
    facts = {
        "detectors": [
            {
                "name": label,
                "file": one.weights.path,
                "sha256": one.weights.sha256,
                "preset": one.preset.name,
                "classes": one.classes,
            }
            for label, one in detectors.items()
        ],
        "image_sets_sha256": {name: images.hash() for name, images in sets.items()},
        "images": sum(map(len, sets.values())),
        "resamples": resamples,
        "layer": layer,
        "seed": how.get("seed", 0),
    }
    return replace(result, embeddings=embeddings, maps=maps, facts=facts)


def tabulate(
    found: Mapping[str, pd.DataFrame],
    classes: Mapping[str, tuple[str, ...]],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Study:
    """Return all tables for the predictions of some detectors; the first is compared with the rest.

    found: the detectors' names for people → :func:`predictions`; classes: their classes.
    """
    metrics, confusion = [], []
    for detector, table in found.items():
        for name, own in _with_all(table):
            scored = evaluate_source_attribution(
                own, classes[detector], seed=seed, resamples=resamples,
                clusters=own["photograph"].to_numpy(),
            )  # fmt: skip
            metrics.append(_labelled(scored, detector, name))
            counts = confusion_table(own, classes[detector])
            long = counts.melt("truth", var_name="predicted", value_name="n")
            confusion.append(_labelled(long, detector, name))
    together = [_labelled(table, detector) for detector, table in found.items()]
    return Study(
        pd.concat(together, ignore_index=True),
        pd.concat(metrics, ignore_index=True),
        pd.concat(confusion, ignore_index=True),
        _differences(found, resamples, seed),
        _drops(found, resamples, seed),
        classes=classes,
    )


def world_embedding(
    detector: Detector,
    sets: Mapping[str, ImageSet],
    *,
    per_group: int | None = 25,
    settings: str = "dna-det",
    perplexity: float | None = None,
    **how: Unpack[How],
) -> Embedding:
    """Return the t-SNE of the pooled features over all sets, as published but seeded.

    The published picture mixes closed and cross images in a list that nobody made public; here it
    is ``per_group`` images of each network and of the reals, the same crops for all. The table has
    two columns more: set and truth.
    """
    entries = tuple(entry for images in sets.values() for entry in images)
    # Reals are one group, not one a generator that they were forged beside.
    entries = tuple(_real_of_its_own(entry) for entry in entries)
    root = next(iter(sets.values())).root
    found = embed(
        detector, ImageSet(root, entries), settings=settings, perplexity=perplexity,
        per_group=per_group, **how,
    )  # fmt: skip
    table = found.table
    reals = table["label"] == REAL
    table["set"] = ["/".join(Path(path).parts[:-3]) for path in table["path"]]
    table["truth"] = table["generator"].map(family_of).where(~reals, REAL_CLASS)
    return found


def _real_of_its_own(entry: ImageEntry) -> ImageEntry:
    if entry.label == FAKE:
        return entry
    return ImageEntry(entry.path, entry.label, REAL_CLASS, entry.class_name)


def _with_all(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    parts = [(str(name), own) for name, own in table.groupby("set", sort=False)]
    return [*parts, (ALL_CROSS, table[table["set"].isin(CROSS)])]


def _labelled(table: pd.DataFrame, detector: str, name: str | None = None) -> pd.DataFrame:
    table = table.copy()
    if name is not None:
        table.insert(0, "set", name)
    table.insert(0, "detector", detector)
    return table


def _differences(found: Mapping[str, pd.DataFrame], resamples: int, seed: int) -> pd.DataFrame:
    columns = ["set", "first", "second", "difference", "low", "high", "n"]
    rows = []
    first, *others = found
    for second in others:
        pairs = found[first].merge(found[second], on=["set", "path"], suffixes=("", "_other"))
        right = (pairs["truth"] == pairs["predicted"]).astype(float)
        other = (pairs["truth_other"] == pairs["predicted_other"]).astype(float)
        pairs["gain"] = right - other
        for name, own in _with_all(pairs):
            value, low, high = _mean(own["gain"], own["photograph"], resamples, seed)
            rows.append((name, first, second, value, low, high, len(own)))
    return pd.DataFrame(rows, columns=columns)


def _drops(found: Mapping[str, pd.DataFrame], resamples: int, seed: int) -> pd.DataFrame:
    columns = ["detector", "set", "closed", "crossed", "drop", "low", "high", "n"]
    rows = []
    for detector, table in found.items():
        fakes = table[table["label"] == FAKE]
        fakes = fakes.assign(right=(fakes["truth"] == fakes["predicted"]).astype(float))
        closed = fakes[fakes["set"] == TEST][["truth", "crop", "right"]]
        for name, own in _with_all(fakes[fakes["set"] != TEST]):
            pairs = own.merge(closed, on=["truth", "crop"], suffixes=("", "_closed"))
            fall = pairs["right_closed"] - pairs["right"]
            value, low, high = _mean(fall, pairs["photograph"], resamples, seed)
            before, after = pairs["right_closed"].mean(), pairs["right"].mean()
            rows.append((detector, name, before, after, value, low, high, len(pairs)))
    return pd.DataFrame(rows, columns=columns)


def _mean(
    values: pd.Series, photographs: pd.Series, resamples: int, seed: int
) -> tuple[float, float, float]:
    """Return the mean of differences of right and wrong, whole photographs drawn."""
    return cluster_mean(
        values.to_numpy(), photographs.to_numpy(), least=-1.0, resamples=resamples, seed=seed
    )
