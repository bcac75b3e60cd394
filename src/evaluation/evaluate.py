"""From scores to the table of ``evaluation.csv``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from .intervals import BOOTSTRAPPED, RESAMPLES, bootstrap, percentile_interval, wilson
from .metrics import (
    accuracies,
    average_precision,
    calibrated_threshold,
    checked,
    equal_error_rate,
    roc_auc,
)

MACRO = "macro mean"
THRESHOLD = 0.5
POINTS = (
    "accuracy",
    "real_accuracy",
    "fake_accuracy",
    "ap",
    "auc",
    "eer",
    "calibrated_accuracy",
    "calibrated_threshold",
)
COLUMNS = (
    "generator",
    "n_real",
    "n_fake",
    *POINTS,
    *(f"{name}_{end}" for name in BOOTSTRAPPED for end in ("low", "high")),
)


def evaluate(
    scores: pd.DataFrame,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    clusters: np.ndarray | None = None,
) -> pd.DataFrame:
    """Return one row a generator, sorted by name, and the row ``macro mean``, columns COLUMNS.

    scores: columns label, generator, score, one row an image. All numbers are fractions.
    The decision is score > 0.5; ``calibrated_…`` uses the generator's own best threshold, so it is
    optimistic. Intervals are 95 %: Wilson for accuracies, stratified bootstrap for AP; with
    ``clusters`` (one value a row; see :func:`bootstrap`) cluster bootstrap for all four.
    The macro mean weighs generators alike. Its intervals draw each generator apart, which is too
    narrow where generators share reals; with clusters of the same names they share the draws.

    Raises:
        UserError: no scores, NaN scores, or a generator that lacks one class.
    """
    labels, values = checked(scores["label"].to_numpy(), scores["score"].to_numpy())
    names = scores["generator"].to_numpy(dtype=object)
    rows, draws = [], []
    for name in sorted(set(names)):
        chosen = names == name
        own = None if clusters is None else np.asarray(clusters)[chosen]
        row, drawn = _row(str(name), labels[chosen], values[chosen], seed, resamples, own)
        rows.append(row)
        draws.append(drawn)
    macro: dict[str, Any] = {"generator": MACRO}
    macro |= {name: sum(row[name] for row in rows) for name in ("n_real", "n_fake")}
    macro |= {name: float(np.mean([row[name] for row in rows])) for name in POINTS}
    macro["calibrated_threshold"] = math.nan  # each generator has its own
    for name in BOOTSTRAPPED:
        mean = np.mean([drawn[name] for drawn in draws], axis=0)
        macro[f"{name}_low"], macro[f"{name}_high"] = percentile_interval(mean)
    return pd.DataFrame([*rows, macro], columns=list(COLUMNS))


def _row(
    name: str,
    labels: np.ndarray,
    scores: np.ndarray,
    seed: int,
    resamples: int,
    clusters: np.ndarray | None,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    labels, scores = checked(labels, scores, where=f"generator {name!r}")
    plain = accuracies(labels, scores, THRESHOLD)
    threshold = calibrated_threshold(labels, scores)
    n_real, n_fake = int((labels == 0).sum()), int((labels == 1).sum())
    row: dict[str, Any] = {
        "generator": name,
        "n_real": n_real,
        "n_fake": n_fake,
        "accuracy": plain.accuracy,
        "real_accuracy": plain.real_accuracy,
        "fake_accuracy": plain.fake_accuracy,
        "ap": average_precision(labels, scores),
        "auc": roc_auc(labels, scores),
        "eer": equal_error_rate(labels, scores),
        "calibrated_accuracy": accuracies(labels, scores, threshold).accuracy,
        "calibrated_threshold": threshold,
    }
    drawn = bootstrap(
        labels,
        scores,
        threshold=THRESHOLD,
        resamples=resamples,
        seed=seed,
        key=name,
        clusters=clusters,
    )
    counts = {"accuracy": n_real + n_fake, "real_accuracy": n_real, "fake_accuracy": n_fake}
    for metric in BOOTSTRAPPED:
        if metric == "ap" or clusters is not None:
            interval = percentile_interval(drawn[metric])
        else:
            interval = wilson(round(row[metric] * counts[metric]), counts[metric])
        row[f"{metric}_low"], row[f"{metric}_high"] = interval
    return row, drawn
