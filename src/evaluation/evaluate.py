"""From scores to the table of ``evaluation.csv``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Unpack, get_args

import numpy as np
import pandas as pd

from ..data import jpeg_equaliser, require_both_classes
from ..detectors import Detector
from ..errors import UserError
from ..records import ImageSet, Result, Skipped
from ..sweep import How, Pass, sweep
from .intervals import BOOTSTRAPPED, RESAMPLES, bootstrap, percentile_interval, wilson
from .metrics import (
    accuracies,
    average_precision,
    calibrated_threshold,
    checked,
    equal_error_rate,
    roc_auc,
)
from .paired import photograph_names
from .scores import ScoreLook

Cluster = Literal["photograph", "class", "none"]
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


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation(Result):
    """How well a detector does: ``table``, see :func:`metrics`, of ``scores``, see :func:`score`.

    skipped: the images that could not be used; facts: what decided the numbers.
    """

    table: pd.DataFrame
    scores: pd.DataFrame
    skipped: tuple[Skipped, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def evaluate(
    detector: Detector,
    images: ImageSet,
    *,
    cluster: Cluster = "photograph",
    equalise_jpeg: str = "none",
    **how: Unpack[How],
) -> Evaluation:
    """Score every image, and measure every generator; see :func:`metrics`.

    cluster: what intervals draw, see :func:`clusters_of`; equalise_jpeg: see
    :func:`forensift.data.jpeg_equaliser`.

    Raises:
        UserError: a generator without reals or fakes, or see :func:`forensift.sweep`.
    """
    require_both_classes(images)
    seed = how.get("seed", 0)
    equaliser = jpeg_equaliser(images, equalise_jpeg, seed=seed)
    look = ScoreLook(detector)
    done = sweep(images, [look], what="scoring", transform=equaliser, **how)
    return evaluation_of(look, done, cluster=cluster, seed=seed)


def evaluation_of(
    look: ScoreLook,
    done: Pass,
    *,
    cluster: Cluster = "photograph",
    seed: int = 0,
) -> Evaluation:
    """Return the evaluation of what a pass has shown."""
    scores = look.table(done.used)
    table = metrics(scores, seed=seed, clusters=clusters_of(scores, cluster))
    facts = {
        "detector": look.detector.name,
        "used": len(done.used),
        "skipped": len(done.skipped),
        "seed": seed,
        "threshold": THRESHOLD,
        "intervals": {"confidence": 0.95, "drawn": cluster},
    }
    return Evaluation(table, scores, done.skipped, facts)


def metrics(
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


def clusters_of(scores: pd.DataFrame, cluster: Cluster) -> np.ndarray | None:
    """Return which cluster each row belongs to (N,), None where every image stands alone.

    scores: columns path and class. 'photograph': images whose file names differ in a final -NUMBER
    only are crops of one photograph, as ``forensift forge`` writes them.

    Raises:
        UserError: another word.
    """
    if cluster not in get_args(Cluster):
        raise UserError(f"cluster {cluster}: choose {', '.join(get_args(Cluster))}")
    if cluster == "none":
        return None
    if cluster == "class":
        return scores["class"].to_numpy(dtype=object)
    return photograph_names(scores["path"])


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
