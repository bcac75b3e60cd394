"""From scores to the metrics of each generator, the table of ``evaluation.csv``."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from .intervals import Cluster, clusters_of, macro_interval, macro_mean, metric_interval
from .metrics import (
    accuracies,
    average_precision,
    calibrated_threshold,
    checked,
    equal_error_rate,
    roc_auc,
)
from .operating import CALIBRATION, OPERATING, operating_points
from .resampling import RESAMPLES, bootstrap

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
BOOTSTRAPPED = ("ap", "accuracy", "real_accuracy", "fake_accuracy")
COLUMNS = (
    "generator",
    "n_real",
    "n_fake",
    *POINTS,
    *(f"{name}_{end}" for name in BOOTSTRAPPED for end in ("low", "high")),
    "intervals_over",
    *(f"{name}{end}" for name in OPERATING + CALIBRATION for end in ("", "_low", "_high")),
    "ece_by_chance",
)


def metrics(
    scores: pd.DataFrame,
    *,
    cluster: Cluster | np.ndarray = "photograph",
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """Return one row a generator, see :func:`measured`, which has the curves too."""
    return measured(scores, cluster=cluster, seed=seed, resamples=resamples)[0]


def measured(
    scores: pd.DataFrame,
    *,
    cluster: Cluster | np.ndarray = "photograph",
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return one row a generator, sorted by name, and the macro mean of two or more; and curves.

    scores: columns path, label, generator, score (class for 'class'), one row an image. All numbers
    are fractions, columns COLUMNS. The decision is score > 0.5; ``calibrated_…`` uses the
    generator's own best threshold, so it is optimistic. ``tpr_at_fpr_X``: fakes found where no more
    than the share X of the reals is called fake; NaN where there are fewer than 1 / X reals. Curves
    and calibration: see :func:`forensift.evaluation.operating.operating_points`.

    cluster: what the 95 % intervals draw: 'photograph' (crops of one photograph by their file
    names, see :func:`forensift.data.photos.photograph_names`; images where no name is shared),
    'class', 'none' (images), or any name a row. ``intervals_over`` says in each row what was drawn;
    how, :func:`metric_interval` says. The macro mean weighs generators alike; generators made of
    the same photographs share their draws, others draw apart.

    Raises:
        UserError: no scores, NaN scores, or a generator that lacks one class.
    """
    labels, values = checked(scores["label"].to_numpy(), scores["score"].to_numpy())
    names = scores["generator"].to_numpy(dtype=object)
    rows, draws, curves = [], [], []
    for name in sorted(set(names)):
        chosen = names == name
        if isinstance(cluster, str):
            clusters, over = clusters_of(scores[chosen], cluster)
        else:
            clusters, over = np.asarray(cluster)[chosen], "clusters given"
        row, drawn = _row(str(name), labels[chosen], values[chosen], seed, resamples, clusters)
        more, drawn_more, curve = operating_points(
            labels[chosen], values[chosen], clusters, key=str(name), seed=seed, resamples=resamples
        )
        rows.append(row | {"intervals_over": over} | more)
        draws.append(drawn | drawn_more)
        curve.insert(0, "generator", str(name))
        curves.append(curve)
    if macro := macro_mean(rows, (*POINTS, *OPERATING, *CALIBRATION, "ece_by_chance")):
        macro["calibrated_threshold"] = math.nan  # each generator has its own
        macro["intervals_over"] = ", ".join(sorted({row["intervals_over"] for row in rows}))
        for name in BOOTSTRAPPED + OPERATING + CALIBRATION:
            macro[f"{name}_low"], macro[f"{name}_high"] = macro_interval(
                [drawn[name] for drawn in draws],
                [(row[f"{name}_low"], row[f"{name}_high"]) for row in rows],
            )
        rows.append(macro)
    return pd.DataFrame(rows, columns=list(COLUMNS)), pd.concat(curves, ignore_index=True)


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
    for metric in BOOTSTRAPPED:
        row[f"{metric}_low"], row[f"{metric}_high"] = metric_interval(
            metric, row[metric], drawn[metric], labels, clusters
        )
    return row, drawn
