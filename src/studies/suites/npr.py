"""NPR's test suites (Tan et al. 2024): accuracy and AP by generator, beside what was published."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Unpack

import pandas as pd

from ...detectors import Detector, load_detector
from ...errors import UserError
from ...histograms import first_instances
from ...sweep import How
from ..published import OTHER_WEIGHTS
from .measure import (
    NUMBERS,
    Measured,
    Published,
    mean_of,
    measure,
    verdict,
)
from .npr_tables import MEAN, published_cells, shown_tables, wide_tables
from .suites import NPR_SUITES, Found, find_suites

COLUMNS = (
    "suite", "generator", "folder", "preset", *NUMBERS,
    "published_accuracy", "published_ap", "verdict",
)  # fmt: skip


def weights_by_suite(given: Sequence[str]) -> dict[str, Path | None]:
    """Return the weights of each suite by its name, and under '' those of all others.

    given: at most one FILE, and SUITE=FILE for suites of their own; without FILE, those shipped.

    Raises:
        UserError: two files for one suite.
    """
    names = {suite.name for suite in NPR_SUITES}
    found: dict[str, Path | None] = {}
    for text in given:
        head, equals, path = text.partition("=")
        name = head.lower() if equals and head.lower() in names else ""
        if name in found:
            of = name or "every suite without its own"
            raise UserError(f"--weights {text}: a second file for {of}; say SUITE=FILE")
        found[name] = Path(path if name else text).expanduser()
    return {"": None, **found}


def reproduce_npr(
    data: Path,
    weights: Mapping[str, Path | None],
    *,
    suites: Mapping[str, Path] | None = None,
    limit: int | None = None,
    device: str = "cpu",
    **how: Unpack[How],
) -> Published:
    """Evaluate NPR on every suite found below ``data`` by the suite's own resize rule (§3.3).

    weights: see :func:`weights_by_suite`; suites: folders of suites, where names do not tell.
    limit: use the first so many reals and fakes of each generator and class only.

    The published figures are of the ProGAN 4-class weights, those of GenImage of weights trained
    on Stable Diffusion v1.4. Means are over the generators found, for every method alike.

    Raises:
        UserError: no suite, no such weights, or too many unreadable images.
    """
    found = find_suites(data, NPR_SUITES, suites)
    if limit is not None:
        found = [_limited(one, limit) for one in found]
    detectors: dict[Path | None, Detector] = {}
    of_suite: dict[str, Detector] = {}
    for one in found:  # all weights are read before anything is measured
        path = weights.get(one.suite.name, weights.get(""))
        if path not in detectors:
            detectors[path] = load_detector("npr", weights=path, device=device)
        of_suite[one.suite.name] = detectors[path]
    missed = how.setdefault("skipped", [])
    rows: list[dict[str, Any]] = []
    scores: list[pd.DataFrame] = []
    for one in found:
        suite, ours, measured = one.suite, of_suite[one.suite.name], []
        cells = published_cells(suite.name)
        for name, images in one.sets.items():
            part = f"{suite.name}-{one.folders[name]}"
            got = measure(ours, images, suite.preset, part, how)
            measured.append(got)
            own = weights.get(suite.name, weights.get("")) is not None
            rows.append(_row(one, name, one.folders[name], got.numbers, cells, own))
            head = {"suite": suite.title, "generator": name}
            scores.append(got.scores.assign(**head)[[*head, *got.scores.columns]])
        rows.append(_mean_row(one, measured, cells))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    result = Published("npr", "NPR", table)
    result.scores = pd.concat(scores, ignore_index=True)
    result.skipped = tuple(dict.fromkeys(missed))
    result.more = wide_tables(table, found)
    result.shown = shown_tables(table, found, result.more)
    result.notes = _notes(found, weights, of_suite, limit)
    result.facts = {
        "study": "npr",
        "data": str(data),
        "suites": {one.suite.name: {n: len(s) for n, s in one.sets.items()} for one in found},
        "folders": {one.suite.name: str(one.root) for one in found},
        "image_set_sha256": {
            one.suite.name: {name: images.hash() for name, images in one.sets.items()}
            for one in found
        },
        "weights": {name: asdict(one.weights) for name, one in of_suite.items()},
        "presets": {one.suite.name: one.suite.preset for one in found},
        "used": len(result.scores),
        "skipped": len(result.skipped),
        "device": device,
        "limit": limit,
        "seed": how.get("seed", 0),
    }
    return result


def _row(
    found: Found,
    name: str,
    folder: str,
    numbers: Mapping[str, float],
    cells: Mapping[str, tuple[float, float]],
    own_weights: bool,
) -> dict[str, Any]:
    accuracy, ap = cells.get(name, (math.nan, math.nan))
    row: dict[str, Any] = {
        "suite": found.suite.title,
        "generator": name,
        "folder": folder,
        "preset": found.suite.preset,
        **numbers,
        "published_accuracy": accuracy,
        "published_ap": ap,
    }
    said = verdict(row, {"accuracy": accuracy, "ap": ap})
    return row | {"verdict": said if own_weights or not said else OTHER_WEIGHTS}


def _mean_row(
    found: Found, measured: list[Measured], cells: Mapping[str, tuple[float, float]]
) -> dict[str, Any]:
    """Return the unweighted mean over the generators found, published figures likewise."""
    known = [cells.get(name, (math.nan, math.nan)) for name in found.sets]
    means = tuple(sum(column) / len(known) for column in zip(*known, strict=True))
    row = _row(found, MEAN, "", mean_of(measured), {MEAN: (means[0], means[1])}, True)
    return row | {"verdict": ""}


def _limited(found: Found, limit: int) -> Found:
    sets = {name: first_instances(images, limit) for name, images in found.sets.items()}
    return Found(found.suite, found.root, sets, found.folders, found.notes)


def _notes(
    found: Sequence[Found],
    weights: Mapping[str, Path | None],
    of_suite: Mapping[str, Detector],
    limit: int | None,
) -> list[str]:
    used = "All images."
    if limit is not None:
        used = f"The first {limit} reals and fakes of each generator and class."
    notes = [
        f"Percent. {used} Accuracy at 0.5 and AP on the sigmoid in float32, as published; 95 % "
        "intervals (Wilson for accuracy, bootstrap for AP). Mean: over the generators found, for "
        "every method alike. Verdict: whether the published figures of NPR lie in our intervals.",
    ]
    named = {name: one.weights.path for name, one in of_suite.items()}
    said = [f"{name} {path}" for name, path in named.items()]
    if len(set(named.values())) == 1:
        said = list(set(named.values()))
    notes.append(f"Weights: {', '.join(said)}.")
    if any(weights.get(name, weights.get("")) is None for name in of_suite):
        notes.append(
            "Without --weights these are forensift's own, trained on its small generators: the "
            "published figures stand beside them for orientation alone."
        )
    if any(one.suite.name == "genimage" for one in found):
        notes.append(
            "The published GenImage figures are of weights trained on Stable Diffusion v1.4 "
            "(seed 70), all others of the ProGAN 4-class weights; --weights genimage=FILE."
        )
    if any(one.suite.name == "diffusion1kstep" for one in found):
        notes.append("No resize rule is published for Diffusion1kStep: squashed to 256 × 256.")
    return [*notes, *(note for one in found for note in one.notes)]
