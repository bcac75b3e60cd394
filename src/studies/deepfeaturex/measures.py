"""What DeepFeatureX is measured by: three classes, real against fake, base models, families."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Unpack

import numpy as np
import pandas as pd
from sklearn.metrics import precision_recall_fscore_support

from ...data.photos import photograph_names
from ...detectors import Detector
from ...errors import UserError
from ...evaluation.intervals import RESAMPLES
from ...evaluation.source_attribution import attribute, evaluate_source_attribution
from ...records import REAL, ImageSet
from ...rng import keyed_short
from ...sweep import How
from ...training.guidance import class_of

AVERAGES = ("macro", "micro", "binary")
NUMBERS = ("accuracy", "precision", "recall", "f1")
POSITIVE = "real"  # the published binary numbers count real as the positive class


def predictions(
    detector: Detector,
    images: ImageSet,
    *,
    diffusion: Sequence[str],
    what: str = "testing",
    **how: Unpack[How],
) -> pd.DataFrame:
    """Return path, label, generator, truth, predicted and p:CLASS of every readable image.

    truth: the image's class of the three; for a base model (classes rest and its own) 'rest' where
    it is another one. Reals that several generators share are listed once.
    """
    sources = sources_of(detector, images, diffusion)
    return attribute(detector, images, sources=sources, what=what, **how)


def sources_of(detector: Detector, images: ImageSet, diffusion: Sequence[str]) -> dict[str, str]:
    """Return the class of each generator's fakes, 'rest' where a base model has it not."""
    kinds = {entry.generator: class_of(entry, diffusion) for entry in images if entry.label != REAL}
    if "rest" in detector.classes:
        kinds = {name: kind if kind in detector.classes else "rest" for name, kind in kinds.items()}
    return kinds


def balanced(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Return as many rows of each true class as the smallest has, drawn by seed and path."""
    least = int(table["truth"].value_counts().min())
    return _drawn(table, dict.fromkeys(table["truth"].unique(), least), seed)


def as_binary(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Return the table with 'real' and 'fake' as truth and prediction, as many fakes as reals.

    Where there are fewer fakes than reals, reals are drawn instead.
    """
    two = table.copy()
    for column in ("truth", "predicted"):
        two[column] = np.where(two[column] == POSITIVE, POSITIVE, "fake")
    counts = two["truth"].value_counts()
    if len(counts) < 2:
        raise UserError("real against fake: there are images of one of the two only")
    return _drawn(two, dict.fromkeys(counts.index, int(counts.min())), seed)


def _drawn(table: pd.DataFrame, counts: Mapping[str, int], seed: int) -> pd.DataFrame:
    kept: list[int] = []
    for name, count in counts.items():
        rows = np.flatnonzero(table["truth"] == name)
        order = keyed_short(seed, "balanced", name, len(rows)).permutation(len(rows))
        kept += rows[order[:count]].tolist()
    return table.iloc[sorted(kept)].reset_index(drop=True)


def numbers(table: pd.DataFrame, average: str = "macro") -> dict[str, float]:
    """Return accuracy, precision, recall and F1 as fractions.

    average: 'macro', 'micro' (with three classes all four are then equal), or 'binary', whose
    positive class is real, as published.

    Raises:
        UserError: another word.
    """
    if average not in AVERAGES:
        raise UserError(f"average {average!r}: choose {', '.join(AVERAGES)}")
    positive = {"pos_label": POSITIVE} if average == "binary" else {}
    precision, recall, f1, _ = precision_recall_fscore_support(
        table["truth"], table["predicted"], average=average, zero_division=0.0, **positive
    )
    accuracy = float((table["truth"] == table["predicted"]).mean())
    return {"accuracy": accuracy, "precision": precision, "recall": recall, "f1": f1}


def with_intervals(
    table: pd.DataFrame, classes: Sequence[str], seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, float]:
    """Return accuracy and balanced_accuracy (the mean recall over classes), each with _low, _high.

    95 % intervals, drawn by photograph.
    """
    found = evaluate_source_attribution(
        table, classes, seed=seed, resamples=resamples, clusters=photograph_names(table["path"])
    )
    whole = found[found["generator"] == ""].set_index("metric")
    row: dict[str, float] = {}
    for metric, name in (("accuracy", "accuracy"), ("macro_recall", "balanced_accuracy")):
        one = whole.loc[metric]
        row |= {name: one["value"], f"{name}_low": one["low"], f"{name}_high": one["high"]}
    return row


def measure(
    table: pd.DataFrame, classes: Sequence[str], *, seed: int = 0, resamples: int = RESAMPLES
) -> pd.DataFrame:
    """Return the published protocols on one table of predictions, one row each.

    protocol: 'three classes' on all images; 'three classes, balanced' (the smallest class's count
    drawn from each, as published); 'real or fake' (as many fakes as reals, as published).
    Columns: protocol, n, average, positive, accuracy, balanced_accuracy (the mean recall), each
    with an interval drawn by photograph, precision, recall, f1.
    """
    rows = []
    for protocol, chosen, names, average in (
        ("three classes", table, tuple(classes), "macro"),
        ("three classes, balanced", balanced(table, seed), tuple(classes), "macro"),
        ("real or fake", as_binary(table, seed), ("fake", POSITIVE), "binary"),
    ):
        own = numbers(chosen, average)
        own.pop("accuracy")
        shown = with_intervals(chosen, names, seed, resamples)
        head = {"protocol": protocol, "n": len(chosen), "average": average}
        positive = POSITIVE if average == "binary" else ""
        rows.append({**head, "positive": positive, **shown, **own})
    return pd.DataFrame(rows)
