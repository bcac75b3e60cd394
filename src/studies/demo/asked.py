"""What a study of transferable features must show, asked against measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from ...evaluation import MACRO
from ...records import Result
from ...sensitivity import UNSEEN
from ...views import Shown, View
from ..arms import asked_of


@dataclass(frozen=True, eq=False, repr=False)
class Measured(Result):
    """One row a thing asked: what, asked, measured, met ('yes', 'no' or '')."""

    table: pd.DataFrame
    facts: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, evaluation: Any, dropouts: Mapping[int, Any], causal: Any, family: str) -> Measured:
        """Return what an evaluation and dropouts measured; family: that was trained on.

        causal: the dropout by pursuit, None where there is none.
        """
        ap = 100 * evaluation.table.set_index("generator")["ap"]
        rows = [_asked("AP on the training family", "≥ 98", ap[family], 98)]
        for name in ap.index.drop([family, MACRO], errors="ignore"):
            rows.append(_asked(f"AP on {name}, unseen", "≥ 85", ap[name], 85))
        for k, result in dropouts.items():
            summary = result.summary
            rows += _dropped(k, summary[summary["generator"] == UNSEEN].set_index("mask"))
        if causal is not None and UNSEEN in set(causal.gap["generator"]):
            rows += asked_of(causal.gap, causal.facts["k"], UNSEEN)
        table = pd.DataFrame(rows, columns=["what", "asked", "measured", "met"])
        return cls(table, {"detector": evaluation.facts["detector"]})

    def view(self) -> View:
        """Return the table, and how many rows are met."""
        judged = self.table[self.table["met"] != ""]
        said = f"{(judged['met'] == 'yes').sum()} of {len(judged)} are met."
        shown = Shown("points are of AP or accuracy in percent", self.table)
        return View("Asked and measured", said, {"asked": self.table}, (shown,), facts=self.facts)


Row = tuple[str, str, str, str]


def _dropped(k: int, unseen: pd.DataFrame) -> list[Row]:
    if not len(unseen):
        return []
    base, top, random = (unseen.loc[name] for name in ("baseline", "top-k", "random-k"))
    fall = float(top["fall_ap_points"])
    fakes, reals = (
        100 * float(base[name] - top[name]) for name in ("fake_accuracy", "real_accuracy")
    )
    met = "yes" if fall >= 25 or fakes >= 50 else "no"
    what = f"top-{k}: fall of AP, or of the accuracy on fakes, on unseen families"
    rows = [
        (what, "≥ 25, or ≥ 50 points", f"{fall:.1f}, {fakes:.1f}", met),
        _asked(f"top-{k}: fall of the accuracy on reals", "≤ 10", reals, 10, most=True),
        _asked(f"random-{k}: mean fall of AP", "≤ 5", random["fall_ap_points"], 5, most=True),
    ]
    if "random-k-layer-matched" in unseen.index:
        matched = unseen.loc["random-k-layer-matched"]
        text = (
            f"AP falls by {matched['fall_ap_points']:.1f}; logit of reals "
            f"{matched['change_mean_logit_real']:+.2f}, of fakes "
            f"{matched['change_mean_logit_fake']:+.2f}: {matched['effect']}"
        )
        rows.append((f"layer-matched random-{k}", "whatever it says", text, ""))
    return rows


def _asked(what: str, asked: str, value: float, limit: float, *, most: bool = False) -> Row:
    met = value <= limit if most else value >= limit
    return what, asked, f"{value:.1f}", "yes" if met else "no"
