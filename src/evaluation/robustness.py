"""Detectors × generators × conditions: how well, with intervals, and how much less than clean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Unpack

import numpy as np
import pandas as pd

from ..data import jpeg_equaliser, require_both_classes
from ..data.conditions import CLEAN, CONDITIONS, parse_conditions
from ..data.presets import Preset
from ..detectors import Detector
from ..errors import UserError
from ..records import ImageSet, Result, Skipped
from ..sweep import RGB, How, sweep
from .intervals import (
    Cluster,
    change_interval,
    clusters_of,
    macro_interval,
    macro_mean,
    metric_interval,
)
from .metrics import accuracies, average_precision, roc_auc
from .resampling import DRAWN, RESAMPLES, bootstrap
from .scores import ScoreLook
from .table import THRESHOLD

GREY = "grey"  # a condition and a colour mode: the same bytes
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
    "intervals_over",
)


@dataclass(frozen=True, eq=False, repr=False)
class Robustness(Result):
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
    cluster: Cluster = "photograph",
    resamples: int = RESAMPLES,
    seen: Mapping[str, ScoreLook] | None = None,
    **how: Unpack[How],
) -> Robustness:
    """Score an image set with every detector under every condition; see :func:`robustness_table`.

    detectors: by the name they get in the table, or as a list (then by their own names);
    conditions: names, see :mod:`forensift.data.conditions`; 'clean' is always among them.
    cluster: what the intervals draw, see :func:`forensift.evaluation.metrics`.
    equalise_jpeg: before any condition, see :func:`forensift.data.jpeg_equaliser`.
    seen: looks that have been over these very images, by detector; what they know is not computed
        again: clean, and grey where a preset does no more than crop.

    Raises:
        UserError: an unknown condition, a generator without reals or fakes, two detectors of one
            name, or see :func:`forensift.sweep`.
    """
    named = _named(detectors)
    chosen = [one.name for one in parse_conditions(conditions)]
    require_both_classes(images)
    seed = how.get("seed", 0)
    equaliser = jpeg_equaliser(images, equalise_jpeg, seed=seed)
    known = {name: _known(look) for name, look in (seen or {}).items()}
    looks = {
        name: ScoreLook(detector, conditions=[c for c in chosen if c not in known.get(name, ())])
        for name, detector in named.items()
    }
    done = sweep(images, list(looks.values()), what="robustness", transform=equaliser, **how)
    parts = []
    for name, look in looks.items():
        for condition in chosen:
            if seen and condition in known.get(name, ()):
                colour = known[name][condition]
                table = seen[name].table(done.used, colour=colour)
            else:
                table = look.table(done.used, condition)
            parts.append(table.assign(detector=name, condition=condition))
    scores = pd.concat(parts, ignore_index=True)[list(SCORES)]
    facts = {
        "detectors": {
            name: {
                "name": one.name,
                "preset": one.preset.name,
                **one.weights.facts(),
            }
            for name, one in named.items()
        },
        "conditions": chosen,
        "equalise_jpeg": equaliser.facts if equaliser is not None else {"mode": "none"},
        "several_fakes": [name for name, one in named.items() if len(one.classes) > 2],
        "used": len(done.used),
        "skipped": len(done.skipped),
        "decoded": done.decoded,
        "network_passes": done.networks,
        "seed": seed,
        "threshold": THRESHOLD,
        "intervals": {"confidence": 0.95, "cluster": cluster, "resamples": resamples},
    }
    table = robustness_table(scores, cluster=cluster, seed=seed, resamples=resamples)
    return Robustness(table, scores, done.skipped, facts)


def _known(look: ScoreLook) -> dict[str, str]:
    """Return the conditions that a look over clean images has seen: condition → colour mode."""
    preset = look.detector.preset
    crops = preset.shape_key() == Preset(preset.name, crop=preset.crop).shape_key()
    modes = {CLEAN: RGB} | ({GREY: GREY} if crops else {})
    return {condition: mode for condition, mode in modes.items() if mode in look.colours}


@dataclass(frozen=True)
class _Cell:
    """One detector, generator and condition: a row's numbers, and the draws behind them."""

    row: dict[str, Any]
    draws: dict[str, np.ndarray]
    falls: dict[str, np.ndarray]


def robustness_table(
    scores: pd.DataFrame,
    *,
    cluster: Cluster = "photograph",
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """Return one row a detector, generator and condition, and the macro means, columns ROBUSTNESS.

    scores: columns SCORES; the same images in the same order for each detector and condition.
    Fractions. Intervals are 95 %, over what ``cluster`` says (see :func:`forensift.evaluate`, which
    has the same); all detectors and conditions of a generator see the same draws, so those of the
    falls from clean are paired: what the images have in common cancels.
    """
    pairs = list(dict.fromkeys(zip(scores["detector"], scores["condition"], strict=True)))
    cells: dict[tuple[str, str], list[_Cell]] = {pair: [] for pair in pairs}
    for name, part in scores.groupby("generator", sort=True):
        by_pair = dict(iter(part.groupby(["detector", "condition"], sort=False)))
        first = by_pair[pairs[0]]
        for pair, own in by_pair.items():
            if own["path"].tolist() != first["path"].tolist():
                raise UserError(f"{name}: {pair} does not score the same images as {pairs[0]}")
        values = np.stack([by_pair[pair]["score"].to_numpy() for pair in pairs])
        for pair, cell in _cells(str(name), first, values, pairs, cluster, seed, resamples).items():
            cells[pair].append(cell)
    rows = []
    for detector in dict.fromkeys(name for name, _ in pairs):
        conditions = [condition for name, condition in pairs if name == detector]
        blocks = [[one.row for one in cells[detector, name]] for name in conditions]
        rows += [row for block in zip(*blocks, strict=True) for row in block]
        rows += [row for name in conditions if (row := _macro(cells[detector, name]))]
    return pd.DataFrame(rows, columns=list(ROBUSTNESS))


def _cells(
    name: str,
    images: pd.DataFrame,
    values: np.ndarray,
    pairs: Sequence[tuple[str, str]],
    cluster: Cluster,
    seed: int,
    resamples: int,
) -> dict[tuple[str, str], _Cell]:
    """Return the cells of one generator; values: scores (pairs, N) of its ``images``."""
    labels = images["label"].to_numpy()
    clusters, over = clusters_of(images, cluster)
    drawn = bootstrap(
        labels, values, threshold=THRESHOLD, resamples=resamples, seed=seed, key=name,
        clusters=clusters,
    )  # fmt: skip
    points = {pair: _points(labels, own) for pair, own in zip(pairs, values, strict=True)}
    found = {}
    for at, (detector, condition) in enumerate(pairs):
        row: dict[str, Any] = {"detector": detector, "generator": name, "condition": condition}
        row |= {"n_real": int((labels == 0).sum()), "n_fake": int(labels.sum())}
        row |= points[detector, condition] | {"intervals_over": over}
        draws = {metric: drawn[metric][at] for metric in DRAWN}
        for metric in DRAWN:
            row[f"{metric}_low"], row[f"{metric}_high"] = metric_interval(
                metric, row[metric], draws[metric], labels, clusters
            )
        clean = pairs.index((detector, CLEAN))
        falls = {metric: drawn[metric][clean] - draws[metric] for metric in FALLS}
        for metric, own in falls.items():
            row[f"{metric}_fall"] = points[detector, CLEAN][metric] - row[metric]
            ends = (
                (0.0, 0.0)
                if at == clean
                else change_interval(metric, row[f"{metric}_fall"], own, labels, clusters)
            )
            row[f"{metric}_fall_low"], row[f"{metric}_fall_high"] = ends
        found[detector, condition] = _Cell(row, draws, falls)
    return found


def _macro(cells: Sequence[_Cell]) -> dict[str, Any]:
    """Return the row of the mean over generators, {} of one."""
    rows = [one.row for one in cells]
    row = macro_mean(rows, (*DRAWN, *(f"{name}_fall" for name in FALLS)))
    if not row:
        return {}
    row |= {key: rows[0][key] for key in ("detector", "condition")}
    row["intervals_over"] = ", ".join(sorted({one["intervals_over"] for one in rows}))
    for name, draws, least in (
        *((metric, [one.draws[metric] for one in cells], 0.0) for metric in DRAWN),
        *((f"{metric}_fall", [one.falls[metric] for one in cells], -1.0) for metric in FALLS),
    ):
        intervals = [(one[f"{name}_low"], one[f"{name}_high"]) for one in rows]
        row[f"{name}_low"], row[f"{name}_high"] = macro_interval(draws, intervals, least)
    return row


def _points(labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    ranked = {"ap": average_precision(labels, scores), "auc": roc_auc(labels, scores)}
    return {**vars(accuracies(labels, scores, THRESHOLD)), **ranked}


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
