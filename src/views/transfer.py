"""The transfer matrix."""

from __future__ import annotations

import pandas as pd

from .. import figures
from ..sensitivity import Transfer
from .text import number, other_rules
from .view import Shown, View


def view(result: Transfer) -> View:
    """Return what the top maps of one generator are to another."""
    k = int(str(result.facts["k"]))
    name = result.facts["detector"]
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
            result.table, result.agreement, k, title=f"{name}, k = {k}"
        )
    }
    return View("Transfer matrix", said(result, k), tables, shown, drawn, facts=result.facts)


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
