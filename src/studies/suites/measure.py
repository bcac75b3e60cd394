"""One test set under one preset: accuracy and AP as the published scripts compute them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch

from ...data import get_preset
from ...detectors import Detector
from ...evaluation import (
    accuracies,
    average_precision,
    bootstrap,
    checked,
    metric_interval,
    percentile_interval,
    score,
    wilson,
)
from ...records import ImageSet, Result, Skipped
from ...sweep import How
from ...views import Shown, View, markdown
from ...views.view import Write
from ..published import INSIDE, NO_DATA, OUTSIDE, within

NUMBERS = (
    "n_real", "n_fake", "accuracy", "accuracy_low", "accuracy_high", "ap", "ap_low", "ap_high",
    "real_accuracy", "fake_accuracy", "exact_ap",
)  # fmt: skip


@dataclass(eq=False, repr=False)
class Published(Result):
    """What ``reproduce npr`` and ``reproduce wang`` give.

    table: one row a test set, percent; more: further tables, and texts: more files, by file name;
    shown: (title, rows of strings) for people; scores: one row an image.
    """

    name: str
    title: str
    table: pd.DataFrame
    shown: list[tuple[str, pd.DataFrame]] = field(default_factory=list)
    more: dict[str, pd.DataFrame] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    scores: pd.DataFrame = field(default_factory=pd.DataFrame)
    notes: list[str] = field(default_factory=list)
    skipped: tuple[Skipped, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)

    def view(self) -> View:
        """Return the tables, the notes, and the published files with our figures."""
        files: dict[str, Write] = {name: _writer(text) for name, text in self.texts.items()}
        files["scores.parquet"] = lambda path: self.scores.to_parquet(path, index=False)
        files[f"{self.name}.md"] = _writer(self.markdown())
        tables = {self.name: self.table} | {
            name.removesuffix(".csv"): table for name, table in self.more.items()
        }
        shown = tuple(Shown(title, rows) for title, rows in self.shown)
        return View(self.title, " ".join(self.notes), tables, shown, files=files, facts=self.facts)

    def markdown(self) -> str:
        """Return the notes and the tables as one Markdown page."""
        parts = [f"# Published against ours: {self.title}", *self.notes]
        for title, rows in self.shown:
            parts += [f"## {title}", markdown(rows)]
        return "\n\n".join(parts) + "\n"


def _writer(text: str) -> Write:
    return lambda path: path.write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class Measured:
    """Numbers of one test set (NUMBERS, percent), its accuracy and AP as fractions, bootstrap
    draws of both, and a row an image."""

    numbers: dict[str, float]
    fractions: tuple[float, float]
    drawn: Mapping[str, np.ndarray]
    scores: pd.DataFrame


def measure(detector: Detector, images: ImageSet, preset: str, part: str, how: How) -> Measured:
    """Return what a published evaluation prints of one test set, its classes pooled.

    The score is the sigmoid in float32, as published: it is exactly 1 from logits of about 16.7
    on, so that AP can meet ties; ``exact_ap`` is AP on the logits. Intervals are 95 %: Wilson for
    the accuracy, stratified bootstrap for AP.

    Raises:
        UserError: one class has no readable image, or too many images cannot be read.
    """
    table = score(detector.with_preset(get_preset(preset)), images, what=part, **how)
    logits = table["logit"].to_numpy()
    labels, scores = checked(
        table["label"].to_numpy(), published_scores(logits), where=str(images.root)
    )
    right = accuracies(labels, scores)
    drawn = bootstrap(labels, scores, seed=how.get("seed", 0), key=part)
    ap = average_precision(labels, scores)
    ends = metric_interval("ap", ap, drawn["ap"], labels)
    numbers = {
        "n_real": int((labels == 0).sum()),
        "n_fake": int((labels == 1).sum()),
        "accuracy": right.accuracy,
        "ap": ap,
        "ap_low": min(ap, ends[0]),
        "ap_high": max(ap, ends[1]),
        "real_accuracy": right.real_accuracy,
        "fake_accuracy": right.fake_accuracy,
        "exact_ap": average_precision(labels, logits),
    }
    low, high = wilson(round(right.accuracy * len(labels)), len(labels))
    numbers |= {"accuracy_low": low, "accuracy_high": high}
    percent = {key: 100 * value for key, value in numbers.items() if key[:2] != "n_"}
    table = table.assign(score=scores)[["path", "class", "label", "logit", "score"]]
    return Measured({**numbers, **percent}, (right.accuracy, ap), drawn, table)


def published_scores(logits: np.ndarray) -> np.ndarray:
    """Return the sigmoid of logits (N,) as a float32 network's own, in float64 (N,)."""
    single = torch.from_numpy(np.asarray(logits, dtype=np.float32))
    return torch.sigmoid(single).numpy().astype(np.float64)


def mean_of(measured: list[Measured]) -> dict[str, float]:
    """Return the unweighted mean over test sets, with bootstrap intervals of both means."""
    keys = [key for key in NUMBERS if not key.endswith(("_low", "_high"))]
    numbers = {key: float(np.mean([one.numbers[key] for one in measured])) for key in keys}
    for key in ("n_real", "n_fake"):
        numbers[key] = int(sum(one.numbers[key] for one in measured))
    for key in ("accuracy", "ap"):
        mean = np.mean([one.drawn[key] for one in measured], axis=0)
        low, high = percentile_interval(100 * mean)
        numbers |= {f"{key}_low": min(low, numbers[key]), f"{key}_high": max(high, numbers[key])}
    return numbers


def verdict(row: Mapping[str, Any], published: Mapping[str, float]) -> str:
    """Return whether every published figure lies in our interval, widened by its rounding."""
    judged = {key: value for key, value in published.items() if value == value}
    if row["accuracy"] != row["accuracy"]:
        return NO_DATA
    if not judged:
        return ""
    inside = all(
        within(value, row[f"{key}_low"], row[f"{key}_high"]) for key, value in judged.items()
    )
    return INSIDE if inside else OUTSIDE
