"""A pruned detector beside the whole one, one that is only fitted anew, and random pruning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..data.conditions import CLEAN
from ..evaluation import (
    THRESHOLD,
    accuracies,
    average_precision,
    bootstrap,
    change_interval,
    clusters_of,
    macro_interval,
    metric_interval,
    percentile_interval,
)
from ..evaluation.intervals import MACRO
from ..evaluation.resampling import RESAMPLES

WHOLE, REFITTED, PRUNED, UNFITTED, RANDOM = (
    "whole", "re-fitted alone", "pruned, re-fitted", "pruned, own layer", "random, re-fitted",
)  # fmt: skip
PROCESSED = "mean of processed"  # over the conditions other than clean
METRICS = ("ap", "accuracy", "real_accuracy", "fake_accuracy")
AGAINST = (WHOLE, REFITTED, RANDOM)  # what the pruned detector is compared with
ENDS = ("", "_low", "_high")
CERTIFICATE = (
    "generator", "condition", "detector", "draws", "n_real", "n_fake",
    *(f"{name}{end}" for name in METRICS for end in ENDS), "intervals_over",
)  # fmt: skip
DIFFERENCES = (
    "generator", "condition", "less", "draws", "draws_as_good",
    *(f"{name}{end}" for name in METRICS for end in ENDS), "intervals_over",
)  # fmt: skip


@dataclass(frozen=True)
class _Number:
    """A metric, its bootstrap draws (B,), and its interval."""

    value: float
    drawn: np.ndarray
    low: float
    high: float


_Cell = dict[str, _Number]  # metric → number


def certificate(
    scores: pd.DataFrame,
    one: str = PRUNED,
    against: Sequence[str] = AGAINST,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the tables CERTIFICATE and DIFFERENCES (``certificate.csv``, ``differences.csv``).

    one, against: the version that others are taken off, and these.

    scores: columns detector (the versions above), draw, condition, path, label, generator, class,
    score; the same images in the same order for each version, draw and condition.
    Fractions, at threshold 0.5; several draws are one row, their mean. 95 % intervals by
    photograph; every version, draw and condition sees the same resamples, so that a difference
    (``one`` less another) is paired. ``mean of processed``: over all conditions but clean;
    ``macro mean``: over generators, all alike. draws_as_good: random draws whose AP is at least
    that of ``one``.
    """
    levels: list[dict[str, Any]] = []
    changes: list[dict[str, Any]] = []
    for name, part in scores.groupby("generator", sort=True):
        own_levels, own_changes = _of_generator(str(name), part, (one, *against), seed, resamples)
        levels += own_levels
        changes += own_changes
    generators = scores["generator"].nunique()
    if generators > 1:
        levels += _macro(levels, ("condition", "detector"), 0.0)
        changes += _macro(changes, ("condition", "less"), -1.0)
    return _table(levels, CERTIFICATE), _table(changes, DIFFERENCES)


def _of_generator(
    name: str, part: pd.DataFrame, compared: Sequence[str], seed: int, resamples: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    keys = list(dict.fromkeys(zip(part["detector"], part["draw"], part["condition"], strict=True)))
    groups = dict(iter(part.groupby(["detector", "draw", "condition"], sort=False)))
    first = groups[keys[0]]
    labels = first["label"].to_numpy()
    clusters, over = clusters_of(first, "photograph")
    values = np.stack([groups[key]["score"].to_numpy() for key in keys])
    drawn = bootstrap(
        labels, values, threshold=THRESHOLD, resamples=resamples, seed=seed, key=name,
        clusters=clusters,
    )  # fmt: skip
    single: dict[tuple[str, int, str], _Cell] = {}
    for row, key in enumerate(keys):
        points = {"ap": average_precision(labels, values[row]),
                  **vars(accuracies(labels, values[row], THRESHOLD))}  # fmt: skip
        single[key] = {
            metric: _Number(
                points[metric],
                drawn[metric][row],
                *metric_interval(metric, points[metric], drawn[metric][row], labels, clusters),
            )
            for metric in METRICS
        }
    conditions = list(dict.fromkeys(condition for *_, condition in keys))
    versions: dict[str, list[int]] = {}
    for detector, draw, _ in keys:
        if draw not in versions.setdefault(detector, []):
            versions[detector].append(draw)
    cells = {
        (detector, condition): _mean([single[detector, draw, condition] for draw in draws], 0.0)
        for condition in conditions
        for detector, draws in versions.items()
    }
    facts = {"generator": name, "intervals_over": over}
    counts = {"n_real": int((labels == 0).sum()), "n_fake": int(labels.sum())}
    levels = [
        {**facts, **counts, "condition": condition, "detector": detector,
         "draws": len(versions[detector]), "cell": cell}
        for (detector, condition), cell in cells.items()
    ]  # fmt: skip
    changes = []
    for condition in conditions:
        for less in (name for name in compared[1:] if name in versions):
            cell = _less(cells[compared[0], condition], cells[less, condition], labels, clusters)
            own = [single[less, draw, condition]["ap"].value for draw in versions[less]]
            good = sum(one >= single[compared[0], 0, condition]["ap"].value for one in own)
            changes.append({**facts, "condition": condition, "less": less, "cell": cell,
                            "draws": len(own), "draws_as_good": good})  # fmt: skip
    levels += _processed(levels, "detector", 0.0)
    changes += _processed(changes, "less", -1.0)
    return levels, changes


def _less(
    one: _Cell, other: _Cell, labels: np.ndarray, clusters: np.ndarray | None
) -> dict[str, _Number]:
    found = {}
    for metric in METRICS:
        value = one[metric].value - other[metric].value
        drawn = one[metric].drawn - other[metric].drawn
        ends = change_interval(metric, value, drawn, labels, clusters)
        found[metric] = _Number(value, drawn, *ends)
    return found


def _mean(cells: Sequence[Mapping[str, _Number]], least: float) -> _Cell:
    """Return the mean of the same metrics; its interval is that of the mean of their draws.

    A level's is widened by what each one's has beyond its draws; a change (least below 0) that
    moves under redrawing is its draws' alone, for the same photographs stand behind all of them.
    """
    found: _Cell = dict(cells[0])
    if len(cells) == 1:
        return found
    for metric in METRICS:
        own = [cell[metric] for cell in cells]
        drawn = [one.drawn for one in own]
        value, mean = float(np.mean([one.value for one in own])), np.mean(drawn, axis=0)
        low, high = percentile_interval(mean)
        if least < 0 and high - low > 1e-12:
            ends = min(low, value), max(high, value)
        else:
            ends = macro_interval(drawn, [(one.low, one.high) for one in own], least)
        found[metric] = _Number(value, mean, *ends)
    return found


def _processed(rows: list[dict[str, Any]], key: str, least: float) -> list[dict[str, Any]]:
    """Return the rows of the mean over conditions other than clean, none for fewer than two."""
    found = []
    for name in dict.fromkeys(row[key] for row in rows):
        own = [row for row in rows if row[key] == name and row["condition"] != CLEAN]
        if len(own) > 1:
            cell = _mean([row["cell"] for row in own], least)
            found.append({**own[0], "condition": PROCESSED, "cell": cell, "draws_as_good": np.nan})
    return found


def _macro(rows: list[dict[str, Any]], keys: tuple[str, str], least: float) -> list[dict[str, Any]]:
    found = []
    for pair in dict.fromkeys(tuple(row[key] for key in keys) for row in rows):
        own = [row for row in rows if tuple(row[key] for key in keys) == pair]
        counted = [key for key in ("n_real", "n_fake") if key in own[0]]
        sums: dict[str, Any] = {key: sum(row[key] for row in own) for key in counted}
        cell = _mean([row["cell"] for row in own], least)
        found.append({**own[0], **sums, "generator": MACRO, "cell": cell, "draws_as_good": np.nan})
    return found


def _table(rows: list[dict[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    flat = []
    for row in rows:
        numbers = {
            f"{metric}{end}": value
            for metric, one in row["cell"].items()
            for end, value in zip(ENDS, (one.value, one.low, one.high), strict=True)
        }
        flat.append({**row, **numbers})
    return pd.DataFrame(flat, columns=list(columns))
