"""Detectors × generators × conditions: how well, with intervals, and how much less than clean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Unpack

import numpy as np
import pandas as pd

from ..data import jpeg_equaliser, require_both_classes
from ..data.conditions import CLEAN, CONDITIONS, parse_conditions
from ..detectors import Detector
from ..errors import UserError
from ..records import ImageSet, Skipped
from ..sweep import How, sweep
from .evaluate import MACRO, THRESHOLD
from .intervals import RESAMPLES, percentile_interval
from .metrics import accuracies, average_precision, roc_auc
from .paired import DRAWN, paired_draws, photograph_names
from .scores import ScoreLook

FALLS = ("ap", "auc", "accuracy")  # of which the fall from clean is given
SCORES = ("detector", "condition", "path", "label", "generator", "class", "logit", "score")
ROBUSTNESS = (
    "detector",
    "generator",
    "condition",
    "n_real",
    "n_fake",
    *(f"{name}{end}" for name in DRAWN for end in ("", "_low", "_high")),
    *(f"{name}_fall{end}" for name in FALLS for end in ("", "_low", "_high")),
)


@dataclass(frozen=True)
class Robustness:
    """The table of ``robustness.csv``, the scores it is made of, and facts for the manifest."""

    table: pd.DataFrame
    scores: pd.DataFrame
    skipped: tuple[Skipped, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def robustness(
    detectors: Mapping[str, Detector] | Sequence[Detector] | Detector,
    images: ImageSet,
    conditions: Sequence[str] = CONDITIONS,
    *,
    equalise_jpeg: str = "none",
    resamples: int = RESAMPLES,
    **how: Unpack[How],
) -> Robustness:
    """Score an image set with every detector under every condition; see :func:`robustness_table`.

    detectors: by the name they get in the table, or as a list (then by their own names);
    conditions: names, see :mod:`forensift.data.conditions`; 'clean' is always among them.
    equalise_jpeg: before any condition, see :func:`forensift.data.jpeg_equaliser`.

    Raises:
        UserError: an unknown condition, a generator without reals or fakes, two detectors of one
            name, or see :func:`forensift.sweep`.
    """
    named = _named(detectors)
    chosen = [one.name for one in parse_conditions(conditions)]
    require_both_classes(images)
    seed = how.get("seed", 0)
    equaliser = jpeg_equaliser(images, equalise_jpeg, seed=seed)
    looks = {name: ScoreLook(detector, conditions=chosen) for name, detector in named.items()}
    done = sweep(images, list(looks.values()), what="robustness", transform=equaliser, **how)
    parts = [
        look.table(done.used, condition).assign(detector=name, condition=condition)
        for name, look in looks.items()
        for condition in chosen
    ]
    scores = pd.concat(parts, ignore_index=True)[list(SCORES)]
    facts = {
        "conditions": chosen,
        "equalise_jpeg": equaliser.facts if equaliser is not None else {"mode": "none"},
        "used": len(done.used),
        "skipped": len(done.skipped),
        "decoded": done.decoded,
        "network_passes": done.networks,
        "seed": seed,
        "threshold": THRESHOLD,
        "intervals": {"confidence": 0.95, "drawn": "photograph", "resamples": resamples},
    }
    table = robustness_table(scores, seed=seed, resamples=resamples)
    return Robustness(table, scores, done.skipped, facts)


def robustness_table(
    scores: pd.DataFrame, *, seed: int = 0, resamples: int = RESAMPLES
) -> pd.DataFrame:
    """Return one row a detector, generator and condition, and the macro means, columns ROBUSTNESS.

    scores: columns SCORES; the same images in the same order for each detector and condition.
    Fractions. Intervals are 95 %, drawn by photograph (:func:`photograph_names`); all detectors
    and conditions of a generator see the same draws, so those of the falls from clean are paired:
    what the images have in common cancels. Generators made of the same photographs share their
    draws in the macro mean, as in :func:`forensift.evaluation.evaluate`.
    """
    pairs = list(dict.fromkeys(zip(scores["detector"], scores["condition"], strict=True)))
    cells: dict[tuple[str, str, str], tuple[dict[str, float], dict[str, np.ndarray]]] = {}
    counts: dict[str, dict[str, int]] = {}
    for name, part in scores.groupby("generator", sort=True):
        by_pair = dict(iter(part.groupby(["detector", "condition"], sort=False)))
        first = by_pair[pairs[0]]
        for pair, own in by_pair.items():
            if own["path"].tolist() != first["path"].tolist():
                raise UserError(f"{name}: {pair} does not score the same images as {pairs[0]}")
        labels = first["label"].to_numpy()
        values = np.stack([by_pair[pair]["score"].to_numpy() for pair in pairs])
        clusters = photograph_names(first["path"])
        drawn = paired_draws(
            labels, values, clusters, threshold=THRESHOLD, resamples=resamples, seed=seed
        )
        counts[str(name)] = {"n_real": int((labels == 0).sum()), "n_fake": int(labels.sum())}
        for at, pair in enumerate(pairs):
            cells[str(name), *pair] = (
                _points(labels, values[at]),
                {metric: drawn[metric][at] for metric in DRAWN},
            )
    names = list(counts)
    counts[MACRO] = {key: sum(counts[name][key] for name in names) for key in ("n_real", "n_fake")}
    for pair in pairs:
        own_cells = [cells[name, *pair] for name in names]
        cells[MACRO, *pair] = (
            {key: float(np.mean([points[key] for points, _ in own_cells])) for key in DRAWN},
            {key: np.mean([draws[key] for _, draws in own_cells], axis=0) for key in DRAWN},
        )
    rows = []
    for detector in dict.fromkeys(name for name, _ in pairs):
        for generator in (*names, MACRO):
            for condition in dict.fromkeys(name for _, name in pairs):
                key = {"detector": detector, "generator": generator, "condition": condition}
                points, draws = cells[generator, detector, condition]
                clean = cells[generator, detector, CLEAN]
                rows.append({**key, **counts[generator], **_row(points, draws, clean)})
    return pd.DataFrame(rows, columns=list(ROBUSTNESS))


def _points(labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    ranked = {"ap": average_precision(labels, scores), "auc": roc_auc(labels, scores)}
    return {**vars(accuracies(labels, scores, THRESHOLD)), **ranked}


def _row(
    points: dict[str, float],
    draws: dict[str, np.ndarray],
    clean: tuple[dict[str, float], dict[str, np.ndarray]],
) -> dict[str, float]:
    row: dict[str, float] = {}
    for name in DRAWN:
        row[name] = points[name]
        row[f"{name}_low"], row[f"{name}_high"] = percentile_interval(draws[name])
    for name in FALLS:
        row[f"{name}_fall"] = clean[0][name] - points[name]
        interval = percentile_interval(clean[1][name] - draws[name])
        row[f"{name}_fall_low"], row[f"{name}_fall_high"] = interval
    return row


def _named(
    detectors: Mapping[str, Detector] | Sequence[Detector] | Detector,
) -> dict[str, Detector]:
    if isinstance(detectors, Detector):
        detectors = [detectors]
    if isinstance(detectors, Mapping):
        named = dict(detectors)
    else:
        named = {one.name: one for one in detectors}
        if len(named) < len(detectors):
            raise UserError("two detectors have one name; give a dict of names and detectors")
    if not named:
        raise UserError("no detector is given")
    return named
