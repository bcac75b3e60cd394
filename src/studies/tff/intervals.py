"""Cells of ours, in percent, with 95 % intervals over other images (and other random draws)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ...evaluation import (
    accuracies,
    average_precision,
    bootstrap,
    calibrated_threshold,
    metric_interval,
    percentile_interval,
    sigmoid,
    wilson,
)
from ...evaluation.resampling import RESAMPLES
from ...records import Ranking
from ...rng import keyed
from ...sensitivity import BASELINE, LOW, RANDOM, TOP, Mask
from ...sensitivity.tables import ENSEMBLE_DRAWS

ENSEMBLES = 20  # sets of five draws that the interval of random-k is pooled over
TOP_SHOWN = 10  # feature maps whose ω is set beside the published one

Cell = dict[str, Any]


def threshold_of(labels: np.ndarray, logits: np.ndarray, training_family: bool) -> float:
    """Return the published threshold: best ROC point of these images, 0.5 if trained on them."""
    return 0.5 if training_family else calibrated_threshold(labels, sigmoid(logits))


def dropout_cells(
    head: Cell,
    labels: np.ndarray,
    logits: np.ndarray,
    masks: Sequence[Mask],
    threshold: float,
    seed: int,
) -> list[Cell]:
    """Return AP and both accuracies of baseline, top-k, random-k and low-k.

    labels: (N,); logits: (masks, N). The threshold is held as it is in every resample. random-k is
    the published figure, the scores averaged over five draws; its interval is pooled over other
    sets of five among the draws there are, so that it holds their spread too.
    """
    cells: list[Cell] = []
    scores = sigmoid(logits)
    rows: dict[str, list[int]] = {}
    for row, mask in enumerate(masks):
        rows.setdefault(mask.name, []).append(row)
    for name in (BASELINE, TOP, RANDOM, LOW):
        drawn = rows[name]
        sets = [np.array(drawn[:ENSEMBLE_DRAWS])]
        if len(drawn) > ENSEMBLE_DRAWS:
            rng = keyed("ensembles", seed, len(drawn))
            others = (rng.choice(drawn, ENSEMBLE_DRAWS, replace=False) for _ in range(ENSEMBLES))
            sets += list(others)
        ours = scores[sets[0]].mean(axis=0)
        pooled: dict[str, list[np.ndarray]] = {}
        for number, chosen in enumerate(sets if len(sets) == 1 else sets[1:]):
            found = bootstrap(
                labels,
                scores[chosen].mean(axis=0),
                threshold=threshold,
                resamples=RESAMPLES if len(sets) == 1 else RESAMPLES // ENSEMBLES,
                seed=seed + number,
                key=str(head["generator"]),
            )
            for quantity, values in found.items():
                pooled.setdefault(quantity, []).append(values)
        right = accuracies(labels, ours, threshold)
        n_real, n_fake = int((labels == 0).sum()), int((labels == 1).sum())
        for quantity, value in (
            ("ap", average_precision(labels, ours)),
            ("real_accuracy", right.real_accuracy),
            ("fake_accuracy", right.fake_accuracy),
        ):
            low, high = percentile_interval(np.concatenate(pooled[quantity]))
            # The draws of random-k widen it, but a share of all or none has no width of its own.
            ends = metric_interval(quantity, value, np.concatenate(pooled[quantity]), labels)
            low, high = min(low, ends[0]), max(high, ends[1])
            low, high = min(low, value), max(high, value)
            cells.append(
                {**head, "mask": name, "quantity": quantity, **_percent(value, low, high)}
                | {"n_real": n_real, "n_fake": n_fake}
            )
    return cells


def plain_cells(
    head: Cell, labels: np.ndarray, logits: np.ndarray, quantities: Sequence[str], seed: int
) -> list[Cell]:
    """Return AP, or AP and the accuracy at 0.5, of the whole network on one set of images."""
    scores = sigmoid(logits)
    n_real, n_fake = int((labels == 0).sum()), int((labels == 1).sum())
    cells: list[Cell] = []
    for quantity in quantities:
        if quantity == "ap":
            value = average_precision(labels, scores)
            drawn = bootstrap(labels, scores, seed=seed, key=str(head["generator"]))
            low, high = metric_interval("ap", value, drawn["ap"], labels)
        else:
            value = accuracies(labels, scores).accuracy
            low, high = wilson(round(value * len(labels)), len(labels))
        numbers = _percent(value, min(low, value), max(high, value))
        numbers |= {"n_real": n_real, "n_fake": n_fake}
        cells.append({**head, "mask": BASELINE, "quantity": quantity, **numbers})
    return cells


def median_cells(head: Cell, shares: pd.DataFrame, fakes: int) -> list[Cell]:
    """Return the share of colour-conditional maps by each criterion; intervals are over maps."""
    return [
        {**head, "mask": TOP, "quantity": f"colour-conditional, {row['criterion']}"}
        | _percent(row["share"], row["low"], row["high"])
        | {"n_real": 0, "n_fake": fakes}
        for row in shares.to_dict("records")
    ]


def ranking_cells(head: Cell, own: Ranking, published: Ranking, k: int) -> list[Cell]:
    """Return our ω of the published top maps (± 1.96 standard errors), and how many we share."""
    table = own.table.assign(key=[str(one) for one in own.feature_maps()]).set_index("key")
    cells: list[Cell] = []
    for one, omega in zip(
        published.feature_maps(slice(0, TOP_SHOWN)), published.table["omega"], strict=False
    ):
        value = float(table.loc[str(one), "omega"])
        half = 1.96 * float(table.loc[str(one), "standard_error"])
        cells.append(
            {**head, "mask": str(one), "quantity": "omega", "published": 100 * float(omega)}
            | _percent(value, value - half, value + half)
            | {"n_real": 0, "n_fake": own.counts.get("used", 0)}
        )
    shared = set(own.feature_maps(slice(0, k))) & set(published.feature_maps(slice(0, k)))
    cells.append(
        {**head, "mask": TOP, "quantity": "shared top-k", "published": np.nan}
        | _percent(len(shared) / k, np.nan, np.nan)
        | {"n_real": 0, "n_fake": own.counts.get("used", 0)}
    )
    return cells


def _percent(value: float, low: float, high: float) -> Cell:
    return {"ours": 100 * value, "low": 100 * low, "high": 100 * high}
