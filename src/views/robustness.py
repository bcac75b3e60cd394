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

CAPTION = (
    "A panel a treatment of the same images, detectors down, generators across, AP in the cells: "
    "yellow tells all apart, dark blue is guessing. A boxed number has fallen from clean for "
    "certain: the 95 % interval of the fall, on the same images, lies above zero."
)


def view(result: Robustness) -> View:
    """Return every detector under every condition."""
    table = result.table
    shown = tuple(robustness_tables(table))
    text = f"{robustness_about(table)} {robustness_said(table)}".strip()
    if several := ", ".join(result.facts.get("several_fakes", ())):
        text += f" Kinds of fakes told apart, and so trained on more than one: {several}."
    drawn = {"robustness": lambda: figures.plot_robustness(table, title=_finding(table))}
    files: dict[str, Write] = {
        "scores.parquet": lambda path: result.scores.to_parquet(path, index=False)
    }
    title = "Every detector, family and condition"
    told = {"robustness": table}
    return View(title, text, told, shown, drawn, files, result.facts, {"robustness": CAPTION})


def _finding(table: pd.DataFrame) -> str:
    """Say what each treatment costs on average."""
    macro = _whole(table)
    changed = macro[macro["condition"] != CLEAN]
    if not len(changed):
        return "AP on clean images"
    costs = 100 * changed.groupby("condition", sort=False)["ap_fall"].mean()
    parts = [f"{figures.said(str(name))} {cost:.1f}" for name, cost in costs.items()]
    return f"Points of AP lost on average over detectors and generators: {', '.join(parts)}"


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
    least = f", and {costs[costs <= costs.iloc[0]].index[0]} least, {100 * costs.iloc[0]:.1f}"
    return (
        f"Of these conditions {costs.index[-1]} costs most, {100 * costs.iloc[-1]:.1f} points of "
        f"AP on average over detectors and generators{least * (len(costs) > 1)}. "
        f"On clean images {best.idxmax()} has the highest AP ({100 * best.max():.1f}), under the "
        f"conditions {kept.idxmax()} ({100 * kept.max():.1f} on average)."
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
