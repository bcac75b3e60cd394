"""Colour-robust detectors beside the baseline: AP on RGB and on grey (T-FF)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from ... import figures
from ...evaluation import MACRO
from ...records import Result
from ...views import Shown, View, percent

CAPTION = (
    "AP with its 95 % interval, of detectors trained as usual and on images of which half were "
    "grey, on the same images in RGB and in grey. Training is robust where grey lies on RGB."
)


@dataclass(frozen=True, eq=False, repr=False)
class ColourRobust(Result):
    """The rows rgb and grey of ``colour.csv``, with the columns detector and training."""

    table: pd.DataFrame
    facts: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, baselines: Mapping[str, Any], robust: Mapping[str, Any]) -> ColourRobust:
        """Return both trainings' colour results of the same detectors, by name."""
        parts = []
        for kind, results in (("baseline", baselines), ("colour-robust", robust)):
            for name, found in results.items():
                kept = found.table[found.table["mode"].isin(["rgb", "grey"])]
                parts.append(kept.assign(detector=name, training=kind))
        return cls(pd.concat(parts, ignore_index=True))

    def view(self) -> View:
        """Return AP by training and colours, the published table's shape."""
        table = self.table
        named = table["training"] + ", " + table["mode"].replace({"rgb": "RGB"})
        drawn = table.assign(kind=named, panel=table["detector"], group=table["generator"])
        drawn = drawn.assign(value=table["ap"], low=table["ap_low"], high=table["ap_high"])
        return View(
            "Colour-robust detectors",
            said(table),
            {"colour_robust": table},
            (Shown("AP in percent, [ ] 95 % intervals drawn by photograph", rows(table)),),
            {
                "colour_robust": lambda: figures.plot_intervals(
                    drawn, xlabel="AP (%)", title=f"AP lost without colour: {_lost(table)}"
                )
            },
            captions={"colour_robust": CAPTION},
        )


def _lost(table: pd.DataFrame) -> str:
    """Return what grey costs each detector, before and after colour-robust training."""
    parts = []
    whole = table[table["generator"] == MACRO] if MACRO in set(table["generator"]) else table
    for name, own in whole.groupby("detector", sort=False):
        ap = 100 * own.pivot_table("ap", "training", "mode")
        fall = ap["rgb"] - ap["grey"]
        parts.append(
            f"{name} {fall['baseline']:.1f} points, {fall['colour-robust']:.1f} trained so"
        )
    return "; ".join(parts)


def rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return the published table's shape: detector, training and colours down, families across."""
    found = []
    for (name, training, mode), own in table.groupby(["detector", "training", "mode"], sort=False):
        shown = {"detector": f"{name}, {training}, {'RGB' if mode == 'rgb' else mode}"}
        shown |= {str(row["generator"]): percent(row, "ap") for row in own.to_dict("records")}
        found.append(shown)
    return pd.DataFrame(found)


def said(table: pd.DataFrame) -> str:
    """Say what training with grey images does to the fall of AP without colour."""
    parts = []
    for name, own in table.groupby("detector", sort=False):
        ap = {}
        for training, part in own.groupby("training", sort=False):
            macro = part[part["generator"] == MACRO]
            ap[str(training)] = 100 * (macro if len(macro) else part).set_index("mode")["ap"]
        falls = {training: values["rgb"] - values["grey"] for training, values in ap.items()}
        before, after = ap["baseline"], ap["colour-robust"]
        parts.append(
            f"{name}: without colour AP falls by {falls['baseline']:.1f} points, after "
            f"colour-robust training by {falls['colour-robust']:.1f} (in RGB it goes from "
            f"{before['rgb']:.1f} to {after['rgb']:.1f}, in grey from {before['grey']:.1f} to "
            f"{after['grey']:.1f})"
        )
    return "; ".join(parts) + " (means over the generators)."
