"""Feature-map dropout."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from .. import figures
from ..sensitivity import VALUES, DropoutResult, sentence
from .text import number
from .view import Draw, Shown, View

GAP_CAPTION = (
    "percent [95 % by photograph, one left out after another]; gap removed: of the mean logits' "
    "distance between fakes and reals; found and right at the detector's own threshold, logit 0; "
    "residual: mean distance of a fake's logit from its own photograph's under the whole network; "
    "reals' correlation: of their logits with their own under the whole network"
)
CAPTION = (
    "percent; ± standard deviation over draws; logits: change of the mean against the baseline; "
    "accuracies at the threshold that suits the whole network best on the same images, 0.5 on the "
    "training family"
)


def view(result: DropoutResult) -> View:
    """Return what dropping feature maps did to every generator."""
    title = f"{result.facts['k']} of {result.facts['feature_maps']} maps"
    values = list(dict.fromkeys(result.in_place))
    drawn: dict[str, Draw] = {}
    for place, value in enumerate(values):
        ending = f"-{value}" if place else ""
        drawn |= _figures(result, value, f"{result.facts['detector']}: {title} dropped", ending)
    tables = {
        "dropout": result.table,
        "dropout_summary": result.summary,
        "ap_curve": result.curve,
        "dropped": result.dropped(),
    }
    measured = ("gap", "gap_curve", "gap_area", "spoofing")
    tables |= {name: getattr(result, name) for name in measured}
    tables = {name: table for name, table in tables.items() if len(table)}
    shown = Shown(CAPTION + instead(result.facts), rows(result.summary), keys=2 + (len(values) > 1))
    scores = {"scores.parquet": lambda path: result.scores().to_parquet(path, index=False)}
    told = (shown, Shown(GAP_CAPTION, gap_rows(result.gap), keys=shown.keys))
    return View(f"{title} dropped", sentence(result), tables, told, drawn, scores, result.facts)


def gap_rows(gap: pd.DataFrame) -> pd.DataFrame:
    """Return the gap table for people: percent with intervals."""
    several_values, found = len(set(gap["value"])) > 1, []
    for row in gap.to_dict("records"):

        def cell(name: str, scale: int = 100, row: dict[Any, Any] = row) -> str:
            value, low, high = (scale * row[f"{name}{end}"] for end in ("", "_low", "_high"))
            if math.isnan(value):
                return ""
            digits = 0 if scale == 100 else 2
            ends = "" if math.isnan(low) else f" [{low:.{digits}f}, {high:.{digits}f}]"
            return f"{value:.{digits}f}{ends}"

        if row["mask"] == "baseline":
            row["residual"], row["residual_low"], row["residual_high"] = (
                row["residual_before"], math.nan, math.nan
            )  # fmt: skip
        found.append(
            {
                "generator": str(row["generator"]),
                **({"value": str(row["value"])} if several_values else {}),
                "mask": str(row["mask"]),
                "gap removed": "" if row["mask"] == "baseline" else cell("gap_removed"),
                "reals' change of fakes'": cell("change_real_of_fake"),
                "fakes found": cell("fake_accuracy_05"),
                "reals right": cell("real_accuracy_05"),
                "AP": cell("ap"),
                "residual": cell("residual", 1),
                "reals' correlation": cell("real_correlation", 1),
            }
        )
    return pd.DataFrame(found)


def _figures(result: DropoutResult, value: str, named: str, ending: str) -> dict[str, Draw]:
    """Return the figures of one value."""
    own, curve = (
        one[one["value"] == value] if len(one) else one for one in (result.summary, result.curve)
    )
    named += "" if value == "zero" else f", {VALUES[value]} in their place"
    drawn: dict[str, Draw] = {f"dropout{ending}": lambda: figures.plot_dropout(own, title=named)}
    gap = result.gap_curve
    gap = gap[gap["value"] == value] if len(gap) else gap
    if len(curve):
        drawn[f"gap_curve{ending}"] = lambda: figures.plot_gap_curve(gap, k, title=named)
        k = int(str(result.facts["k"]))
        drawn[f"ap_curve{ending}"] = lambda: figures.plot_ap_curve(curve, k, title=named)
    return drawn


def instead(facts: Mapping[str, object]) -> str:
    """Return what stands in the maps' place, where that is not the published zero."""
    values = str(facts["value"]).split(",")
    if values == ["zero"] and facts["site"] == "conv":
        return ""
    where = f"; in the maps' place: {', '.join(VALUES[one] for one in values)}"
    source = facts.get("reference_is")
    site = "" if facts["site"] == "conv" else f", behind {facts['site']}"
    return where + site + (f", from {source}" if source else "")


def rows(summary: pd.DataFrame) -> pd.DataFrame:
    """Return the dropout summary for people: percent, and the signed change of the mean logits."""
    found = []
    several_values = "value" in summary and len(set(summary["value"])) > 1
    for row in summary.to_dict("records"):
        plain, several = row["mask"] == "baseline", row["draws"] > 1
        change = "" if plain else "change_"
        logits = {
            f"{kind}s' logit": number(row[f"{change}mean_logit_{kind}"], 2, sign=not plain)
            for kind in ("real", "fake")
        }
        found.append(
            {
                "generator": str(row["generator"]),
                **({"value": str(row["value"])} if several_values else {}),
                "mask": str(row["mask"]),
                "draws": str(row["draws"]) if several else "",
                "AP": number(100 * row["ap"]) + (f" ± {100 * row['ap_sd']:.1f}" * several),
                "reals right": number(100 * row["real_accuracy"]),
                "fakes right": number(100 * row["fake_accuracy"]),
                **logits,
                "effect": "" if plain else str(row["effect"]),
            }
        )
    return pd.DataFrame(found)
