"""Detectors under JPEG, blur, scaling and loss of colour."""

from __future__ import annotations

import pandas as pd

from .. import figures
from ..evaluation import MACRO, Robustness
from .text import percent
from .view import Shown, View, Write

HEADS = {"ap": "AP", "accuracy": "accuracy"}
CLEAN = "clean"
FELL = " ↓"  # after a number whose fall from clean has an interval above zero


def view(result: Robustness) -> View:
    """Return every detector under every condition."""
    table = result.table
    shown = tuple(robustness_tables(table))
    text = f"{robustness_about(table)} {robustness_said(table)}".strip()
    drawn = {"robustness": lambda: figures.plot_robustness(table)}
    files: dict[str, Write] = {
        "scores.parquet": lambda path: result.scores.to_parquet(path, index=False)
    }
    title = "Every detector, family and condition"
    return View(title, text, {"robustness": table}, shown, drawn, files, result.facts)


def robustness_about(table: pd.DataFrame) -> str:
    """Return what was measured and how to read it."""
    first = table[table["condition"] == CLEAN].drop_duplicates("generator")
    images = first[first["generator"] != MACRO]
    return (
        f"{images['n_real'].sum()} reals and {images['n_fake'].sum()} fakes of {len(images)} "
        f"generators. Percent; [ ] 95 % intervals over {first['intervals_over'].iloc[-1]}. A fall "
        "is clean minus condition on the same draws (paired); where its interval, each by itself, "
        f"lies above zero:{FELL}."
    )


def robustness_said(table: pd.DataFrame) -> str:
    """Say what costs most, and which detector keeps most, by the means over generators."""
    macro = _whole(table)
    changed = macro[macro["condition"] != CLEAN]
    if not len(changed):
        return ""
    costs = changed.groupby("condition", sort=False)["ap_fall"].mean().sort_values()
    kept = changed.groupby("detector", sort=False)["ap"].mean()
    best = macro[macro["condition"] == CLEAN].set_index("detector")["ap"]
    least = costs[costs <= costs.iloc[0]].index[0]
    return (
        f"Of these conditions {costs.index[-1]} costs most, {100 * costs.iloc[-1]:.1f} points of "
        f"AP on average over detectors and generators, and {least} least, "
        f"{100 * costs.iloc[0]:.1f}. On clean images {best.idxmax()} has the highest AP "
        f"({100 * best.max():.1f}), under the conditions {kept.idxmax()} ({100 * kept.max():.1f} "
        "on average). Detectors of several classes have seen more generators than the others."
    )


def robustness_tables(table: pd.DataFrame) -> tuple[Shown, ...]:
    """Return the means over generators, then a table a detector and value."""
    macro = _whole(table)
    found = [
        Shown(f"{head}, mean over generators", _wide(macro, "detector", value))
        for value, head in HEADS.items()
    ]
    found.append(Shown("fall of AP from clean, in points, mean over generators", _falls(macro)))
    for detector in dict.fromkeys(table["detector"]):
        own = table[table["detector"] == detector]
        for value, head in HEADS.items():
            rows = _wide(own, "generator", value, marked=value == "ap")
            found.append(Shown(f"{detector}: {head}", rows))
    return tuple(found)


def _whole(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the mean over generators, or the only generator's."""
    macro = table[table["generator"] == MACRO]
    return macro if len(macro) else table


def _wide(table: pd.DataFrame, rows: str, value: str, *, marked: bool = False) -> pd.DataFrame:
    """Return a column a condition, a row a detector or generator."""
    found = []
    for name in dict.fromkeys(table[rows]):
        shown = {rows: str(name)}
        for row in table[table[rows] == name].to_dict("records"):
            fell = marked and row[f"{value}_fall_low"] > 0
            shown[str(row["condition"])] = percent(row, value) + FELL * fell
        found.append(shown)
    return pd.DataFrame(found)


def _falls(macro: pd.DataFrame) -> pd.DataFrame:
    found = []
    for name in dict.fromkeys(macro["detector"]):
        shown = {"detector": str(name)}
        for row in macro[macro["detector"] == name].to_dict("records"):
            if row["condition"] == CLEAN:
                continue
            cell = percent(row, "ap_fall")
            shown[str(row["condition"])] = cell + FELL * bool(row["ap_fall_low"] > 0)
        found.append(shown)
    return pd.DataFrame(found)
