"""What a detector is worth at a threshold: ROC and PR curves, operating points, calibration."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from ..rng import keyed
from .intervals import Cluster, Interval, clusters_of, percentile_interval, units_of, widened
from .resampling import RESAMPLES, resample_weights

FALSE_ALARMS = (0.0, 0.01, 0.001)  # shares of reals called fake, at which fakes found are counted
BINS = 10  # of p, equally wide, for calibration
CHANCE_DRAWS = 200  # of labels that a calibrated detector would have met
GRID = np.unique([0, 0.001, 0.002, 0.005, *np.linspace(0.01, 1, 100)])
OPERATING = tuple(f"tpr_at_fpr_{at:g}" for at in FALSE_ALARMS)
CALIBRATION = ("ece", "brier")


def needed_reals(false_alarms: float) -> int:
    """Return how many reals there must be for one false alarm to be so small a share of them."""
    return math.ceil(1 / false_alarms - 1e-9) if false_alarms > 0 else 1


def weighted_rates(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return false alarms, hits and precision at every threshold, each (B, 1 + T), from (0, 0) on.

    labels, scores: (N,); weights: (B, N) ≥ 0. Thresholds fall; T is the number of unequal scores.
    Rates of a class without weight are NaN; precision is 1 before anything is called fake.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, fake = scores[order], labels[order] == 1
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    weights = weights[:, order]
    fakes, reals = (
        np.pad(np.cumsum(np.where(own, weights, 0.0), axis=1)[:, last], ((0, 0), (1, 0)))
        for own in (fake, ~fake)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        flagged = fakes + reals
        precision = np.where(flagged > 0, fakes / np.where(flagged > 0, flagged, 1), 1.0)
        return reals / reals[:, -1:], fakes / fakes[:, -1:], precision


def hits_at(false_alarms: np.ndarray, hits: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return the most hits (B, G) with no more than ``at`` (G,) false alarms, both (B, T)."""
    found = np.full((len(hits), len(at)), np.nan)
    for row in range(len(hits)):
        if not (np.isnan(false_alarms[row, -1]) or np.isnan(hits[row, -1])):
            place = np.searchsorted(false_alarms[row], at + 1e-12, side="right") - 1
            found[row] = hits[row, place]
    return found


def precision_at(hits: np.ndarray, precision: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return the precision (B, G) of the highest threshold that finds ``at`` (G,) of the fakes."""
    found = np.full((len(hits), len(at)), np.nan)
    for row in range(len(hits)):
        if not np.isnan(hits[row, -1]):
            place = np.searchsorted(hits[row], np.maximum(at, 1e-12) - 1e-12, side="left")
            found[row] = precision[row, np.minimum(place, hits.shape[1] - 1)]
    return found


def calibration_errors(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Return ECE and Brier score under each row of ``weights`` (B, N).

    ECE: Σ over ten equally wide bins of p of |share of fakes − mean p| · the bin's share of images
    (Naeini et al. 2015, of the probability of fake). Brier: mean (p − label)² (Brier 1950).
    """
    off = scores - labels
    total = weights.sum(axis=1)
    binned = np.zeros((len(scores), BINS))
    binned[np.arange(len(scores)), _bins(scores)] = off
    return {
        "ece": np.abs(weights @ binned).sum(axis=1) / total,
        "brier": weights @ off**2 / total,
    }


def operating_points(
    labels: np.ndarray,
    scores: np.ndarray,
    clusters: np.ndarray | None,
    *,
    key: str = "",
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> tuple[dict[str, float], dict[str, np.ndarray], pd.DataFrame]:
    """Return one generator's columns OPERATING and CALIBRATION, their draws, and its curves.

    Of a share of false alarms that so few reals cannot show (below 1 / n) fakes found are NaN.
    ``ece_by_chance`` is the mean ECE of labels drawn with probability p, as a calibrated detector
    would meet: with few images it is far from 0. The interval of ECE is moved by what redrawing
    adds on average, for it adds noise to every bin.
    curves: curve ('roc': x false alarms, y hits; 'pr': x hits, y precision), x, y, low, high.
    """
    n_real = int((labels == 0).sum())
    known = np.array([n_real >= needed_reals(at) for at in FALSE_ALARMS])
    points = {**_of_weights(labels, scores, np.ones((1, len(labels))))}
    parts = [
        _of_weights(labels, scores, weights)
        for weights in resample_weights(
            labels, clusters=clusters, key=key, resamples=resamples, seed=seed
        )
    ]
    drawn = {name: np.concatenate([part[name] for part in parts]) for name in points}
    units = [units_of(labels, clusters, label) for label in (0, 1)]
    row: dict[str, float] = {}
    at_points = {}
    for place, name in enumerate(OPERATING):
        value = float(points["points"][0, place]) if known[place] else math.nan
        at_points[name] = drawn["points"][:, place] if known[place] else np.full(resamples, np.nan)
        ends = _around(value, widened(value, percentile_interval(at_points[name]), units[1]))
        row |= _with_ends(name, value, ends)
    for name in CALIBRATION:
        value = float(points[name][0])
        shift = float(drawn[name].mean()) - value if name == "ece" else 0.0
        at_points[name] = drawn[name] - shift
        low, high = percentile_interval(at_points[name])
        row |= _with_ends(name, value, (max(low, 0.0), min(high, 1.0)))
    row["ece_by_chance"] = _by_chance(scores, seed, key)
    return row, at_points, _curves(points, drawn, units)


def reliability(
    scores: pd.DataFrame, cluster: Cluster, *, seed: int = 0, resamples: int = RESAMPLES
) -> pd.DataFrame:
    """Return the share of fakes in each bin of p that holds images, over all generators.

    Columns n, units (photographs or images), p (mean), fakes (share), low, high.
    """
    labels, values = scores["label"].to_numpy(), scores["score"].to_numpy(dtype=np.float64)
    clusters, _ = clusters_of(scores, cluster)
    bins = _bins(values)
    inside = np.zeros((len(values), BINS))
    inside[np.arange(len(values)), bins] = 1
    with np.errstate(invalid="ignore"):
        drawn = np.concatenate(
            [
                (weights * labels) @ inside / (weights @ inside)
                for weights in resample_weights(
                    labels, clusters=clusters, key="reliability", resamples=resamples, seed=seed
                )
            ]
        )
    rows: list[dict[str, Any]] = []
    for place in sorted(set(bins)):
        own = bins == place
        share = float(labels[own].mean())
        units = units_of(own[own], None if clusters is None else clusters[own])
        ends = _around(share, widened(share, percentile_interval(drawn[:, place]), units))
        rows.append(
            {
                "n": int(own.sum()),
                "units": units,
                "p": float(values[own].mean()),
                **_with_ends("fakes", share, ends),
            }
        )
    return pd.DataFrame(rows).rename(columns={"fakes_low": "low", "fakes_high": "high"})


def _bins(scores: np.ndarray) -> np.ndarray:
    return np.clip((scores * BINS).astype(int), 0, BINS - 1)


def _of_weights(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    alarms, hits, precision = weighted_rates(labels, scores, weights)
    return {
        "points": hits_at(alarms, hits, np.array(FALSE_ALARMS)),
        "roc": hits_at(alarms, hits, GRID),
        "pr": precision_at(hits, precision, GRID),
        **calibration_errors(labels, scores, weights),
    }


def _by_chance(scores: np.ndarray, seed: int, key: str) -> float:
    rng, scores = keyed("calibrated", seed, key), np.sort(scores)  # in whatever order they came
    ones = np.ones((1, len(scores)))
    drawn = [
        float(calibration_errors(rng.random(len(scores)) < scores, scores, ones)["ece"][0])
        for _ in range(CHANCE_DRAWS)
    ]
    return float(np.mean(drawn))


def _curves(
    points: dict[str, np.ndarray], drawn: dict[str, np.ndarray], units: list[int]
) -> pd.DataFrame:
    rows = []
    for curve, bound in (("roc", units[1]), ("pr", min(units))):
        for place, x in enumerate(GRID):
            value = float(points[curve][0, place])
            interval = percentile_interval(drawn[curve][:, place])
            ends = _around(value, widened(value, interval, bound))
            rows.append({"curve": curve, "x": x, **_with_ends("y", value, ends)})
    found = pd.DataFrame(rows).rename(columns={"y_low": "low", "y_high": "high"})
    roc = found["curve"] == "roc"  # which rises, and so do the ends of its band
    found.loc[roc, "low"] = found.loc[roc, "low"][::-1].cummin()
    found.loc[roc, "high"] = found.loc[roc, "high"].cummax()
    return found


def _around(value: float, interval: Interval) -> Interval:
    """Return the interval with the value inside: few images are biased under redrawing."""
    return min(interval[0], value), max(interval[1], value)


def _with_ends(name: str, value: float, ends: Interval) -> dict[str, float]:
    return {name: value, f"{name}_low": ends[0], f"{name}_high": ends[1]}
