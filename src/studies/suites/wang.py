"""The thirteen test sets of Wang et al. 2020, with and without the centre crop."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Unpack

import pandas as pd

from ...detectors import load_detector
from ...errors import UserError
from ...histograms import first_instances
from ...sweep import How
from ...views.text import number, with_interval
from ..published import NO_DATA, OTHER_WEIGHTS, published_table
from .measure import (
    NUMBERS,
    Published,
    measure,
    verdict,
)
from .suites import WANG, Found, find_suites

CROP, NO_CROP = "crop 224", "no crop"
PRESETS = {CROP: "wang-crop224", NO_CROP: "wang-nocrop"}
VARIANTS = {"0.5": "cnndetection_blur_jpg_0.5.csv", "0.1": "cnndetection_blur_jpg_0.1.csv"}
_TAGS = {CROP: "crop224", NO_CROP: "nocrop"}

COLUMNS = (
    "weights", "training", "input", "generator", "folder", *NUMBERS,
    *(f"published_{quantity}_{variant}" for variant in VARIANTS for quantity in ("accuracy", "ap")),
    "verdict",
)  # fmt: skip


def wang_weights(given: Sequence[str]) -> list[tuple[str, Path | None]]:
    """Return (variant, file) of each weights file: '0.5' or '0.1' (Blur+JPEG), '' for others.

    given: FILE, whose name tells by ``prob0.5`` or ``prob0.1``, or 0.5=FILE; the shipped weights
    if none.

    Raises:
        UserError: two files of one name, by which the results are saved.
    """
    found: list[tuple[str, Path | None]] = []
    for text in given:
        head, equals, path = text.partition("=")
        if equals and head in VARIANTS:
            found.append((head, Path(path).expanduser()))
            continue
        tagged = re.search(r"prob(0\.[15])(?!\d)", Path(text).name)
        found.append((tagged[1] if tagged else "", Path(text).expanduser()))
    stems = [path.stem for _, path in found if path is not None]
    if len(set(stems)) < len(stems):
        raise UserError(
            f"--weights: {', '.join(stems)}: results are saved by file name; rename one"
        )
    return found or [("", None)]


def reproduce_wang(
    data: Path,
    weights: Sequence[tuple[str, Path | None]],
    *,
    inputs: Sequence[str] = (CROP, NO_CROP),
    limit: int | None = None,
    device: str = "cpu",
    **how: Unpack[How],
) -> Published:
    """Evaluate the ResNet-50 on the thirteen sets, classes pooled, beside the published figures.

    inputs: 'crop 224' (zero-padded where an image is smaller), 'no crop', or both; no resize ever
    (§2.3). weights: see :func:`wang_weights`. A set that is not in the data is a row without
    figures. ``texts`` holds the published results file of each weights file and input,
    fractions, sets in the published order.

    Raises:
        UserError: none of the sets, no such weights, or too many unreadable images.
    """
    found = find_suites(data, (WANG,))[0]
    sets = dict(found.sets)
    if limit is not None:
        sets = {name: first_instances(images, limit) for name, images in sets.items()}
    cells = published_cells()
    missed = how.setdefault("skipped", [])
    loaded = [
        (variant, load_detector("resnet50", weights=path, preset=PRESETS[NO_CROP], device=device))
        for variant, path in weights
    ]
    rows: list[dict[str, Any]] = []
    scores: list[pd.DataFrame] = []
    texts: dict[str, str] = {}
    for variant, detector in loaded:
        stem = Path(detector.weights.path).stem
        for seen in inputs:
            fractions: dict[str, tuple[float, float]] = {}
            for name in WANG.names:
                head = {"weights": stem, "training": _training(variant), "input": seen}
                head |= {"generator": name, "folder": found.folders.get(name, "")}
                numbers: Mapping[str, float] = dict.fromkeys(NUMBERS, math.nan)
                if name in sets:
                    part = f"{stem}-{PRESETS[seen]}-{found.folders[name]}"
                    got = measure(detector, sets[name], PRESETS[seen], part, how)
                    numbers = got.numbers
                    fractions[found.folders[name]] = got.fractions
                    keys = ("weights", "input", "generator")
                    named = got.scores.assign(**{key: head[key] for key in keys})
                    scores.append(named[[*keys, *got.scores.columns]])
                rows.append(_row(head, numbers, cells, variant))
            texts[f"published-layout/{_TAGS[seen]}/{stem}.csv"] = published_layout(stem, fractions)
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    result = Published("wang", "CNN-generated images (Wang et al. 2020)", table)
    for key in ("n_real", "n_fake"):
        table[key] = table[key].astype("Int64")
    result.texts = texts
    result.scores = pd.concat(scores, ignore_index=True)
    result.skipped = tuple(dict.fromkeys(missed))
    result.shown = _shown(table)
    result.notes = _notes(found, weights, limit)
    result.facts = {
        "study": "wang",
        "data": str(data),
        "folder": str(found.root),
        "sets": {name: len(images) for name, images in sets.items()},
        "missing_sets": [name for name in WANG.names if name not in sets],
        "image_set_sha256": {name: images.hash() for name, images in sets.items()},
        "weights": [asdict(detector.weights) for _, detector in loaded],
        "presets": {seen: PRESETS[seen] for seen in inputs},
        "used": sum(len(images) for images in sets.values())
        - len({one.path for one in result.skipped}),
        "skipped": len(result.skipped),
        "device": device,
        "limit": limit,
        "seed": how.get("seed", 0),
    }
    return result


def published_cells() -> dict[tuple[str, str, str], dict[str, float]]:
    """Return published accuracy and ap (percent) by (variant, input, generator).

    Raises:
        UserError: a file of ``published/`` is missing.
    """
    cells = {}
    for variant, name in VARIANTS.items():
        for row in published_table(name).to_dict("records"):
            for seen, tag in _TAGS.items():
                cells[variant, seen, str(row["generator"])] = {
                    "accuracy": float(row[f"accuracy_{tag}"]),
                    "ap": float(row[f"ap_{tag}"]),
                }
    return cells


def published_layout(stem: str, sets: Mapping[str, tuple[float, float]]) -> str:
    """Return the results file of the published evaluation: a title, a head, a row a set.

    sets: accuracy and AP, fractions, by the set's folder, in the published order.
    """
    text = io.StringIO()
    lines = csv.writer(text)
    lines.writerow([f"{stem} model testing on..."])
    lines.writerow(["testset", "accuracy", "avg precision"])
    for folder, (accuracy, ap) in sets.items():
        lines.writerow([folder, accuracy, ap])
    return text.getvalue()


def _training(variant: str) -> str:
    return f"Blur+JPEG({variant})" if variant else ""


def _row(
    head: Mapping[str, Any],
    numbers: Mapping[str, float],
    cells: Mapping[tuple[str, str, str], Mapping[str, float]],
    variant: str,
) -> dict[str, Any]:
    row: dict[str, Any] = {**head, **numbers}
    for one in VARIANTS:
        for quantity, value in cells[one, head["input"], head["generator"]].items():
            row[f"published_{quantity}_{one}"] = value
    if numbers["accuracy"] != numbers["accuracy"]:
        return row | {"verdict": NO_DATA}
    if not variant:
        return row | {"verdict": OTHER_WEIGHTS}
    return row | {"verdict": verdict(row, cells[variant, head["input"], head["generator"]])}


def _shown(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    shown = []
    for (stem, seen), own in table.groupby(["weights", "input"], sort=False):
        rows = []
        for row in own.to_dict("records"):
            measured = row["accuracy"] == row["accuracy"]
            cells = {
                "test set": row["generator"],
                "images": f"{row['n_real']}+{row['n_fake']}" if measured else "-",
                "accuracy [95 %]": with_interval(row, "accuracy"),
                "AP [95 %]": with_interval(row, "ap"),
                "reals": number(row["real_accuracy"]),
                "fakes": number(row["fake_accuracy"]),
            }
            for variant in VARIANTS:
                cells[f"published {variant}"] = "/".join(
                    number(row[f"published_{key}_{variant}"]) for key in ("accuracy", "ap")
                )
            rows.append(cells | {"verdict": row["verdict"]})
        training = own["training"].iloc[0]
        title = ", ".join([str(stem), *([training] if training else []), str(seen)])
        shown.append((title, pd.DataFrame(rows)))
    return shown


def _notes(
    found: Found, weights: Sequence[tuple[str, Path | None]], limit: int | None
) -> list[str]:
    used = "All images"
    if limit is not None:
        used = f"The first {limit} reals and fakes of each set and class"
    notes = [
        f"Percent. {used}; classes of a set are pooled; no resize. Accuracy at 0.5 and AP on the "
        "sigmoid in float32, as published; 95 % intervals (Wilson, bootstrap); reals, fakes: "
        "accuracy on them. Published: accuracy/AP of Blur+JPEG(0.5) and Blur+JPEG(0.1). Verdict: "
        "whether those of these weights lie in our intervals.",
    ]
    if any(not variant for variant, _ in weights):
        notes.append(
            "No verdict on weights that are neither published variant: say --weights 0.5=FILE or "
            "0.1=FILE for them. Without --weights, forensift's own are measured."
        )
    return [*notes, *found.notes]
