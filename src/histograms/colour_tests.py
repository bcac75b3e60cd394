"""Does a feature map respond to colour? Two tests a map, corrected for their number.

Mood's median test (published) asks whether the maxima in colour and in grey have one median, as if
they came from different images. They come from the same ones, so it throws the pairing away: where
the pairs correlate, it hardly ever rejects, rightly or not. The paired tests use the differences
image by image. They are so sharp that with many images they find even what rounding grey values to
8 bits does; ``effect`` says whether a difference matters.

All but the published p know which images are crops of one photograph, where ``clusters`` says so:
taken for independent, they would find differences that other photographs do not show.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ..errors import UserError
from ..evaluation import wilson
from ..records import FeatureMap
from .clustered import clustered_mood, flipped_p

LEVEL = 0.05
ROUNDING = 1e-6  # of the largest maximum: float32 tells no more apart
MIN_EFFECT = 0.1  # interquartile ranges of the map in colour
TIES = ("below", "above", "ignore")
CRITERIA = {
    "colour_conditional": "Mood p (published)",
    "colour_conditional_mood_q": "Mood q",
    "colour_conditional_paired_q": "paired q",
    "colour_conditional_paired_q_effect": "paired q and effect",
}


def colour_tests(
    feature_maps: Sequence[FeatureMap],
    colour: np.ndarray,
    grey: np.ndarray,
    *,
    clusters: np.ndarray | None = None,
    ties: str = "below",
    level: float = LEVEL,
    min_effect: float = MIN_EFFECT,
) -> pd.DataFrame:
    """Return one row a feature map, in the order given.

    colour, grey: maxima (N, k) of the same N images, row by row.
    clusters: (N,), names of what images belong to (photographs); None where each stands alone.
    ties: what Mood's test does with values equal to the grand median: counts them as 'below' (the
        default of scipy, published) or 'above', or leaves them out ('ignore').

    Columns:
        feature_map; p_value: Mood's test with Yates' correction, as published;
        clustered_p_value: the same with the clusters' design effect (:func:`clustered_mood`), and
        q_value, Benjamini and Hochberg's of it over the live maps; paired_p_value,
        paired_q_value: Wilcoxon's signed-rank test (zero differences left out; p = 1 if all are);
        sign_p_value, sign_q_value: the sign test; both turn whole clusters
        (:func:`flipped_p`); effect: median of colour − grey over the interquartile range of
        colour (infinite where that is 0 and the median is not); rank_biserial: −1 … 1; clusters:
        how many;
        median_colour, median_grey; pairs: N;
        status: 'tested'; 'dead' where all 2N maxima are equal to rounding (no number is given);
        'tied' where Mood's test is undefined for its ties (its p is NaN and takes no part in q);
        colour_conditional: p_value ≤ level (published), and three stricter ones, see ``CRITERIA``.

    Raises:
        UserError: fewer than two images, or an unknown ``ties``.
    """
    if ties not in TIES:
        raise UserError(f"ties {ties!r}: choose {', '.join(TIES)}")
    if len(colour) < 2:
        raise UserError(f"{len(colour)} image is no sample: the median test needs 2 or more")
    colour, grey = np.asarray(colour, np.float64), np.asarray(grey, np.float64)
    rows = [
        {"feature_map": str(one)} | _row(first, second, clusters, ties)
        for one, first, second in zip(feature_maps, colour.T, grey.T, strict=True)
    ]
    table = pd.DataFrame(rows)
    for name, of in (("", "clustered_"), ("paired_", "paired_"), ("sign_", "sign_")):
        table[f"{name}q_value"] = q_values(table[f"{of}p_value"].to_numpy())
    strong = table["effect"].abs() >= min_effect
    table["colour_conditional"] = table["p_value"] <= level  # NaN is not
    table["colour_conditional_mood_q"] = table["q_value"] <= level
    table["colour_conditional_paired_q"] = table["paired_q_value"] <= level
    table["colour_conditional_paired_q_effect"] = (table["paired_q_value"] <= level) & strong
    return table[
        [
            "feature_map", "p_value", "q_value", "paired_p_value", "effect", "colour_conditional",
            "paired_q_value", "sign_p_value", "sign_q_value", "rank_biserial",
            "median_colour", "median_grey", "pairs", "status", *list(CRITERIA)[1:],
            "clustered_p_value", "clusters",
        ]
    ]  # fmt: skip


def percentages(table: pd.DataFrame) -> pd.DataFrame:
    """Return the share of colour-conditional maps by each criterion, with Wilson's 95 % interval.

    table: of :func:`colour_tests`. Columns: criterion, maps (all, as published: a dead map responds
    to nothing, so not to colour), dead, colour_conditional (a count), share, low, high (fractions).
    The interval takes the maps for independent; maps of one network are not quite.
    """
    rows = []
    for column, name in CRITERIA.items():
        count, n = int(table[column].sum()), len(table)
        low, high = wilson(count, n)
        dead = int((table["status"] == "dead").sum())
        rows.append((name, n, dead, count, count / n, low, high))
    names = ["criterion", "maps", "dead", "colour_conditional", "share", "low", "high"]
    return pd.DataFrame(rows, columns=names).assign(intervals_over="maps")


def mood(first: np.ndarray, second: np.ndarray, ties: str = "below") -> float:
    """Return the p of Mood's median test; NaN where its 2 × 2 table has an empty row or column."""
    try:
        return float(stats.median_test(first, second, ties=ties).pvalue)
    except ValueError:  # no value on one side of the grand median, or all are on it
        return float("nan")


def wilcoxon(differences: np.ndarray, clusters: np.ndarray | None = None) -> tuple[float, float]:
    """Return p of the signed-rank test and the rank-biserial correlation, zeros left out."""
    there = differences != 0
    moved = differences[there]
    if not len(moved):
        return 1.0, 0.0
    ranks = stats.rankdata(np.abs(moved))
    signed = ranks * np.sign(moved)
    biserial = float(signed.sum() / ranks.sum())
    if clusters is not None:
        return flipped_p(signed, clusters[there]), biserial
    return float(stats.wilcoxon(moved).pvalue), biserial


def q_values(p_values: np.ndarray) -> np.ndarray:
    """Return Benjamini and Hochberg's adjusted p-values; NaN stays NaN and is not counted."""
    known = ~np.isnan(p_values)
    found = np.full(len(p_values), np.nan)
    if known.any():
        found[known] = stats.false_discovery_control(p_values[known], method="bh")
    return found


def _row(
    colour: np.ndarray, grey: np.ndarray, clusters: np.ndarray | None, ties: str
) -> dict[str, Any]:
    p_values = [f"{name}p_value" for name in ("", "clustered_", "paired_", "sign_")]
    row: dict[str, Any] = dict.fromkeys([*p_values, "effect", "rank_biserial"], np.nan)
    row |= {"median_colour": np.median(colour), "median_grey": np.median(grey)}
    row["pairs"] = len(colour)
    row["clusters"] = len(colour) if clusters is None else len(set(clusters))
    both = np.concatenate([colour, grey])
    if np.ptp(both) <= ROUNDING * np.abs(both).max():
        return row | {"status": "dead"}
    difference = colour - grey
    row["p_value"] = row["clustered_p_value"] = mood(colour, grey, ties)
    row["paired_p_value"], row["rank_biserial"] = wilcoxon(difference, clusters)
    up, down = int((difference > 0).sum()), int((difference < 0).sum())
    if clusters is None:
        row["sign_p_value"] = float(stats.binomtest(up, up + down).pvalue) if up + down else 1.0
    else:
        row["clustered_p_value"] = clustered_mood(colour, grey, clusters, ties)
        row["sign_p_value"] = flipped_p(np.sign(difference), clusters)
    shift, spread = float(np.median(difference)), float(stats.iqr(colour))
    row["effect"] = shift / spread if spread else np.copysign(np.inf, shift) if shift else 0.0
    return row | {"status": "tied" if np.isnan(row["p_value"]) else "tested"}
