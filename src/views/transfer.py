"""The transfer matrix."""

from __future__ import annotations

import pandas as pd

from .. import figures
from ..sensitivity import Transfer
from .text import number, other_rules
from .view import Shown, View

CAPTION = (
    "Above: what dropping the top maps of one generator (down) takes from the AP on another "
    "(across), beside as many random maps of the same layers; red is AP lost, blue gained. Below: "
    "how alike two generators' rankings are; the framed diagonal is two halves of one generator's "
    "images, which is the most that could be expected. Pale rows rest on few fakes."
)


def view(result: Transfer) -> View:
    """Return what the top maps of one generator are to another."""
    k = int(str(result.facts["k"]))
    tables = {
        "transfer": result.table,
        "agreement": result.agreement,
        "transferability": result.transferability,
    }
    caption = "fall of AP in points: ranked on (down), dropped on (across)"
    shown = [Shown(caption, rows(result.matrix()))]
    control = result.matrix("fall_ap_points_matched")
    if not control.isna().all(axis=None):
        shown.append(Shown(f"{caption}; random maps of the same layers", rows(control)))
    drawn = {
        "transfer": lambda: figures.plot_transfer(
            result.table, result.agreement, k, title=_finding(result, k), note=_note(result, k)
        )
    }
    captions = {"transfer": CAPTION}
    told = said(result, k)
    return View("Transfer matrix", told, tables, shown, drawn, {}, result.facts, captions)


def _finding(result: Transfer, k: int) -> str:
    """Say what the top maps of others take from a generator, and what random ones do."""
    elsewhere = result.table[result.table["ranked_on"] != result.table["dropped_on"]]
    text = f"{result.facts['detector']}: the top {k} maps of one generator take"
    if not len(elsewhere):
        return f"{result.facts['detector']}: the top {k} maps of its only generator"
    text += f" {elsewhere['fall_ap_points'].mean():.1f} points of AP from others"
    control = elsewhere["fall_ap_points_matched"].mean()
    return text if control != control else f"{text}, as many random ones {control:.1f}"


def _note(result: Transfer, k: int) -> str:
    ranked, dropped = (set(result.table[name]) for name in ("ranked_on", "dropped_on"))
    lost = ", ".join(sorted(dropped - ranked))
    family = result.facts.get("training_family")
    n = result.table[["n_real", "n_fake"]].iloc[0]
    return "; ".join(
        [
            f"{result.facts['detector']}, {k} maps dropped, {n.iloc[0]} reals, {n.iloc[1]} fakes",
            *([f"it was trained on {family}"] if family else []),
            *([f"no ranking, too few fakes are found: {lost}"] if lost else []),
            "pale rows: ranked on fewer than 8 fakes; framed: on itself",
        ]
    )


def rows(matrix: pd.DataFrame) -> pd.DataFrame:
    """Return a matrix of falls in points, one decimal."""
    shown = matrix.map(lambda value: number(value, missing=""))
    return shown.rename_axis(columns=None).reset_index(names="ranked on")


def said(result: Transfer, k: int) -> str:
    """Say how far the top maps of one generator are those of another; the training family apart."""
    table, family = result.table, result.facts.get("training_family")
    elsewhere = table[table["ranked_on"] != table["dropped_on"]]
    seen = elsewhere["ranked_on"] == family
    whose = "another generator" if family is None else "another family"
    parts = []
    for part, what in ((elsewhere[seen], str(family)), (elsewhere[~seen], whose)):
        if len(part):
            parts.append(
                f"ranked on {what}, {part['fall_ap_points'].mean():.1f} points (as many random "
                f"maps of the same layers {part['fall_ap_points_matched'].mean():.1f})"
            )
    text = ""
    if parts:
        text = (
            f"What dropping the top {k} maps of one generator takes from the AP on others: "
            f"{'; '.join(parts)}. "
        )
    between = result.agreement[result.agreement["first"] != result.agreement["second"]]
    if len(between):
        tau, overlap = between["kendall_tau"], between["jaccard"]
        shared = int(result.transferability["transferable"].sum())
        text += (
            f"Rankings of two generators agree with τ = {tau.min():.2f} to {tau.max():.2f}, and "
            f"their top {k} overlap (Jaccard) by {overlap.min():.2f} to {overlap.max():.2f}; "
            f"{shared} maps are in the top {k} of all {len(result.rankings)}. "
        )
    return (text + " ".join(f"({note})" for note in result.notes)).strip() + other_rules(
        result.facts
    )
