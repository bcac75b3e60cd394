"""From scores in several colour modes to ``colour.csv`` and the box plot's numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..evaluation import (
    THRESHOLD,
    Cluster,
    accuracies,
    average_precision,
    bootstrap,
    calibrated_threshold,
    change_interval,
    clusters_of,
    macro_interval,
    macro_mean,
    metric_interval,
    percentile_interval,
)
from ..evaluation.resampling import RESAMPLES
from ..records import FAKE
from ..rng import keyed

LEAST_PROBABILITY = 0.2  # of fakes in rgb, to be in the published box plot
WHISKER = 1.5  # interquartile ranges that a whisker reaches at most (Tukey)
_POINTS = ("accuracy", "real_accuracy", "fake_accuracy")


def colour_table(
    scores: pd.DataFrame,
    modes: Sequence[str],
    *,
    cluster: Cluster = "photograph",
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """Return one row a generator and mode, and rows ``macro mean`` over two generators or more.

    scores: path, label, generator, mode, logit, score; the same images in every mode, in the same
        order; ``modes[0]`` is rgb. cluster: what the 95 % intervals (``…_low``, ``…_high``) draw,
        see :func:`forensift.evaluation.metrics`; ``intervals_over`` says what that was.

    Columns: n_real, n_fake; ap and its change against rgb; accuracies at 0.5 and, ``calibrated_…``,
    at the threshold that is best in rgb on the same images (published, so optimistic for rgb);
    mean and median score of the fakes; mean logits and their changes. All shares are fractions.
    The same images are drawn in every mode, so that the interval of the change is one of paired
    differences.
    """
    plain = scores["mode"] == modes[0]
    first = scores[plain].reset_index(drop=True)
    values, logits = (_wide(scores, modes, column) for column in ("score", "logit"))
    rows: dict[str, list[dict[str, Any]]] = {mode: [] for mode in modes}
    draws: list[np.ndarray] = []
    generators = sorted(set(first["generator"]))
    for generator in generators:
        chosen = (first["generator"] == generator).to_numpy()
        found, drawn = _rows(
            first[chosen], modes, values[chosen], logits[chosen], cluster, seed, resamples
        )
        for row in found:
            rows[row["mode"]].append(row)
        draws.append(drawn)
    every = [row for block in zip(*rows.values(), strict=True) for row in block]
    every += [
        row
        for at, mode in enumerate(modes)
        if (row := _macro(rows[mode], [own[at] for own in draws], [own[0] for own in draws]))
    ]
    return pd.DataFrame(every)


def box_table(
    scores: pd.DataFrame,
    modes: Sequence[str],
    *,
    least_probability: float = LEAST_PROBABILITY,
    cluster: Cluster = "photograph",
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """Return the box plot's numbers: the fakes' probabilities in each mode, one row each.

    Of every generator those fakes with p_RGB ≥ ``least_probability`` (published 0.2). Columns:
    n (of ``n_fake``), whisker_low, q1, median, q3, whisker_high (the outermost values within 1.5
    interquartile ranges), drop_of_median (median in rgb − median in this mode, in probability) with
    a 95 % bootstrap interval, drop_low and drop_high, that draws fakes as ``cluster`` says (see
    :func:`forensift.evaluation.metrics`; ``intervals_over``). NaN where no fake reaches the
    probability.
    """
    fakes = scores[scores["label"] == FAKE]
    first = fakes[fakes["mode"] == modes[0]].reset_index(drop=True)
    names = first["generator"].to_numpy(dtype=object)
    values = _wide(fakes, modes, "score")
    rows = []
    for generator in sorted(set(names)):
        of_it, paths = values[names == generator], first[names == generator]
        enough = of_it[:, 0] >= least_probability
        kept = of_it[enough]
        clusters, over = clusters_of(paths[enough], cluster)
        drawn = _medians(kept, clusters, seed, str(generator), resamples)
        for column, mode in enumerate(modes):
            low, high = percentile_interval(drawn[:, 0] - drawn[:, column])
            box = _box(kept[:, column])
            drop = np.median(kept[:, 0]) - box["median"] if len(kept) else np.nan
            rows.append(
                {"generator": generator, "mode": mode, "n": len(kept), "n_fake": len(of_it)}
                | box
                | {"drop_of_median": drop, "drop_low": low, "drop_high": high}
                | {"intervals_over": over}
            )
    return pd.DataFrame(rows)


def _wide(scores: pd.DataFrame, modes: Sequence[str], column: str) -> np.ndarray:
    """Return (images, modes)."""
    by_mode = dict(list(scores.groupby("mode", sort=False)))
    return np.stack([by_mode[mode][column].to_numpy() for mode in modes], axis=1)


def _rows(
    images: pd.DataFrame,
    modes: Sequence[str],
    scores: np.ndarray,
    logits: np.ndarray,
    cluster: Cluster,
    seed: int,
    resamples: int,
) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Return the rows of one generator and the bootstrap draws of its AP (modes, resamples).

    images: path, label, generator; scores, logits: (images, modes).
    """
    labels, generator = images["label"].to_numpy(), str(images["generator"].iloc[0])
    clusters, over = clusters_of(images, cluster)
    fake = labels == FAKE
    threshold = calibrated_threshold(labels, scores[:, 0])
    drawn = bootstrap(
        labels, scores.T, threshold=THRESHOLD, resamples=resamples, seed=seed, key=generator,
        clusters=clusters,
    )  # fmt: skip
    first = average_precision(labels, scores[:, 0])
    rows = []
    for column, mode in enumerate(modes):
        own, logit = scores[:, column], logits[:, column]
        row: dict[str, Any] = {"generator": generator, "mode": mode}
        row |= {"n_real": int((~fake).sum()), "n_fake": int(fake.sum())}
        points = {"ap": average_precision(labels, own)}
        points |= vars(accuracies(labels, own, THRESHOLD))
        for name, value in points.items():
            row[name] = value
            row[f"{name}_low"], row[f"{name}_high"] = metric_interval(
                name, value, drawn[name][column], labels, clusters
            )
            if name == "ap":
                row["change_ap"] = value - first
                changes = drawn["ap"][column] - drawn["ap"][0]
                row["change_ap_low"], row["change_ap_high"] = (
                    change_interval("ap", value - first, changes, labels, clusters)
                    if column
                    else (0.0, 0.0)
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
        rows.append(row | {"intervals_over": over})
    return rows, drawn["ap"]


def _macro(
    rows: Sequence[dict[str, Any]], drawn: Sequence[np.ndarray], in_rgb: Sequence[np.ndarray]
) -> dict[str, Any]:
    """Return the means over generators; intervals of AP and its change, none of the rest."""
    words = ("generator", "mode", "n_real", "n_fake", "intervals_over")
    ends = ("_low", "_high")
    row = macro_mean(
        rows, [name for name in rows[0] if name not in words and not name.endswith(ends)]
    )
    if not row:
        return {}
    row |= {"mode": rows[0]["mode"], "calibrated_threshold": np.nan}  # each generator has its own
    row["intervals_over"] = ", ".join(sorted({one["intervals_over"] for one in rows}))
    changes = [own - first for own, first in zip(drawn, in_rgb, strict=True)]
    for name, draws, least in (("ap", drawn, 0.0), ("change_ap", changes, -1.0)):
        intervals = [(one[f"{name}_low"], one[f"{name}_high"]) for one in rows]
        row[f"{name}_low"], row[f"{name}_high"] = macro_interval(draws, intervals, least)
    return row


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


def _medians(
    values: np.ndarray, clusters: np.ndarray | None, seed: int, generator: str, resamples: int
) -> np.ndarray:
    """Return each mode's median (resamples, modes) under resamples of the fakes (n, modes)."""
    if not len(values):
        return np.full((resamples, values.shape[1]), np.nan)
    rng = keyed("box", seed, generator)
    names = np.arange(len(values)) if clusters is None else np.unique(clusters)
    members = [
        np.array([at]) if clusters is None else np.flatnonzero(clusters == at) for at in names
    ]
    found = np.empty((resamples, values.shape[1]))
    for row in found:
        drawn = rng.integers(0, len(members), len(members))
        row[:] = np.median(values[np.concatenate([members[at] for at in drawn])], axis=0)
    return found
