"""From scores in several colour modes to ``colour.csv`` and the box plot's numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..evaluation import (
    MACRO,
    THRESHOLD,
    accuracies,
    average_precision,
    bootstrap,
    calibrated_threshold,
    percentile_interval,
    wilson,
)
from ..records import FAKE

LEAST_PROBABILITY = 0.2  # of fakes in rgb, to be in the published box plot
RESAMPLES = 1000
WHISKER = 1.5  # interquartile ranges that a whisker reaches at most (Tukey)
_POINTS = ("accuracy", "real_accuracy", "fake_accuracy")


def colour_table(
    scores: pd.DataFrame,
    modes: Sequence[str],
    *,
    seed: int = 0,
    clusters: np.ndarray | None = None,
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """Return one row a generator and mode, and rows ``macro mean`` over two generators or more.

    scores: path, label, generator, mode, logit, score; the same images in every mode, in the same
        order; ``modes[0]`` is rgb. clusters: one name an image, see :func:`bootstrap`.

    Columns: n_real, n_fake; ap and its change against rgb; accuracies at 0.5 and, ``calibrated_…``,
    at the threshold that is best in rgb on the same images (published, so optimistic for rgb);
    mean and median score of the fakes; mean logits and their changes. All shares are fractions.
    Intervals (``…_low``, ``…_high``) are 95 %: bootstrap for AP, drawing the same images in every
    mode, so that the interval of the change is one of paired differences; Wilson for accuracies
    (bootstrap with clusters). The macro mean draws generators apart unless clusters tie them.
    """
    plain = scores["mode"] == modes[0]
    names = scores.loc[plain, "generator"].to_numpy(dtype=object)
    labels = scores.loc[plain, "label"].to_numpy()
    values = _wide(scores, modes, "score")
    logits = _wide(scores, modes, "logit")
    rows: list[dict[str, Any]] = []
    draws: list[np.ndarray] = []
    generators = sorted(set(names))
    for generator in generators:
        chosen = names == generator
        own = None if clusters is None else clusters[chosen]
        found, drawn = _rows(
            str(generator), modes, labels[chosen], values[chosen], logits[chosen],
            seed, own, resamples,
        )  # fmt: skip
        rows += found
        draws.append(drawn)
    table = pd.DataFrame(rows)
    if len(generators) > 1:
        table = pd.concat([table, _macro(table, modes, np.mean(draws, axis=0))], ignore_index=True)
    return table


def box_table(
    scores: pd.DataFrame,
    modes: Sequence[str],
    *,
    least_probability: float = LEAST_PROBABILITY,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """Return the box plot's numbers: the fakes' probabilities in each mode, one row each.

    Of every generator those fakes with p_RGB ≥ ``least_probability`` (published 0.2). Columns:
    n (of ``n_fake``), whisker_low, q1, median, q3, whisker_high (the outermost values within 1.5
    interquartile ranges), drop_of_median (median in rgb − median in this mode, in probability) with
    a 95 % bootstrap interval that draws fakes. NaN where no fake reaches the probability.
    """
    fakes = scores[scores["label"] == FAKE]
    names = fakes.loc[fakes["mode"] == modes[0], "generator"].to_numpy(dtype=object)
    values = _wide(fakes, modes, "score")
    rows = []
    for generator in sorted(set(names)):
        of_it = values[names == generator]
        kept = of_it[of_it[:, 0] >= least_probability]
        drawn = _medians(kept, f"box\t{seed}\t{generator}", resamples)
        for column, mode in enumerate(modes):
            low, high = percentile_interval(drawn[:, 0] - drawn[:, column])
            box = _box(kept[:, column])
            drop = np.median(kept[:, 0]) - box["median"] if len(kept) else np.nan
            rows.append(
                {"generator": generator, "mode": mode, "n": len(kept), "n_fake": len(of_it)}
                | box
                | {"drop_of_median": drop, "drop_low": low, "drop_high": high}
            )
    return pd.DataFrame(rows)


def _wide(scores: pd.DataFrame, modes: Sequence[str], column: str) -> np.ndarray:
    """Return (images, modes)."""
    by_mode = dict(list(scores.groupby("mode", sort=False)))
    return np.stack([by_mode[mode][column].to_numpy() for mode in modes], axis=1)


def _rows(
    generator: str,
    modes: Sequence[str],
    labels: np.ndarray,
    scores: np.ndarray,
    logits: np.ndarray,
    seed: int,
    clusters: np.ndarray | None,
    resamples: int,
) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Return the rows of one generator and the bootstrap draws of its AP (modes, resamples)."""
    fake = labels == FAKE
    n_real, n_fake = int((~fake).sum()), int(fake.sum())
    threshold = calibrated_threshold(labels, scores[:, 0])
    first = average_precision(labels, scores[:, 0])
    rows, draws = [], []
    for column, mode in enumerate(modes):
        own, logit = scores[:, column], logits[:, column]
        drawn = bootstrap(
            labels, own, threshold=THRESHOLD, resamples=resamples, seed=seed,
            key=generator, clusters=clusters,
        )  # fmt: skip
        draws.append(drawn["ap"])
        ap = average_precision(labels, own)
        row: dict[str, Any] = {"generator": generator, "mode": mode}
        row |= {"n_real": n_real, "n_fake": n_fake, "ap": ap}
        row["ap_low"], row["ap_high"] = percentile_interval(drawn["ap"])
        row["change_ap"] = ap - first
        row["change_ap_low"], row["change_ap_high"] = percentile_interval(drawn["ap"] - draws[0])
        at_half = accuracies(labels, own, THRESHOLD)
        for name, n in zip(_POINTS, (n_real + n_fake, n_real, n_fake), strict=True):
            row[name] = getattr(at_half, name)
            row[f"{name}_low"], row[f"{name}_high"] = (
                wilson(round(row[name] * n), n)
                if clusters is None
                else percentile_interval(drawn[name])
            )
        row["calibrated_threshold"] = threshold
        at_best = accuracies(labels, own, threshold)
        row |= {f"calibrated_{name}": getattr(at_best, name) for name in _POINTS}
        row["mean_score_fake"] = float(own[fake].mean())
        row["median_score_fake"] = float(np.median(own[fake]))
        for kind, which in (("real", ~fake), ("fake", fake)):
            row[f"mean_logit_{kind}"] = float(logit[which].mean())
            change = logit[which] - logits[which, 0]
            row[f"change_mean_logit_{kind}"] = float(change.mean())
        rows.append(row)
    return rows, np.stack(draws)


def _macro(table: pd.DataFrame, modes: Sequence[str], drawn: np.ndarray) -> pd.DataFrame:
    """Return the means over generators; intervals of AP and its change, none of the rest."""
    rows = []
    for column, mode in enumerate(modes):
        own = table[table["mode"] == mode]
        row: dict[str, Any] = {"generator": MACRO, "mode": mode}
        for name in table.columns.drop(["generator", "mode"]):
            ends = name.endswith(("_low", "_high"))
            row[name] = np.nan if ends else own[name].mean()
        row |= {name: int(own[name].sum()) for name in ("n_real", "n_fake")}
        row["calibrated_threshold"] = np.nan  # each generator has its own
        row["ap_low"], row["ap_high"] = percentile_interval(drawn[column])
        interval = percentile_interval(drawn[column] - drawn[0])
        row["change_ap_low"], row["change_ap_high"] = interval
        rows.append(row)
    return pd.DataFrame(rows)


def _box(values: np.ndarray) -> dict[str, float]:
    """Return quartiles and Tukey's whiskers; NaN of nothing."""
    if not len(values):
        return dict.fromkeys(("whisker_low", "q1", "median", "q3", "whisker_high"), np.nan)
    q1, median, q3 = np.quantile(values, [0.25, 0.5, 0.75])
    reach = WHISKER * (q3 - q1)
    # A quartile may lie between two values, so a whisker may have nothing beyond the box.
    return {
        "whisker_low": min(float(values[values >= q1 - reach].min()), float(q1)),
        "q1": float(q1),
        "median": float(median),
        "q3": float(q3),
        "whisker_high": max(float(values[values <= q3 + reach].max()), float(q3)),
    }


def _medians(values: np.ndarray, key: str, resamples: int) -> np.ndarray:
    """Return each mode's median (resamples, modes) under resamples of the fakes (n, modes)."""
    if not len(values):
        return np.full((resamples, values.shape[1]), np.nan)
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(key.encode()).digest(), "big"))
    n = len(values)
    return np.stack([np.median(values[rng.integers(0, n, n)], axis=0) for _ in range(resamples)])
