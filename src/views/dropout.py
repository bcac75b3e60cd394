"""Feature-map dropout."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from .. import figures
from ..evaluation import MACRO
from ..sensitivity import VALUES, DropoutResult, sentence
from ..sensitivity.masks import LAYER_MATCHED, RANDOM, TOP
from ..sensitivity.tables import UNSEEN, spoken_of
from .text import number
from .view import Draw, Shown, View

GAP_CAPTION = (
    "percent [95 % by photograph, one left out after another]; gap removed: of the mean logits' "
    "distance between fakes and reals; found and right at the detector's own threshold, logit 0; "
    "residual: mean distance of a fake's logit from its own photograph's under the whole network; "
    "reals' correlation: of their logits with their own under the whole network"
)
CAPTIONS = {
    "dropout": "First column of a panel: the whole network. The others: what changes where the top "
    "maps are dropped, or as many others, the controls (± standard deviation over random draws). "
    "Red is less, blue more; the sign stands in the cell. Evidence for fake was removed where the "
    "fakes' logits fall and the reals' stay; where both move alike, the network was damaged. "
    "Accuracies are at the threshold that suits the whole network best on the same images, 0.5 on "
    "the family seen.",
    "ap_curve": "AP as more maps are dropped. Top maps matter if their line falls below the random "
    "ones, which are as many maps of anywhere, or of the same layers; bars and bands are the range "
    "of their draws. Where the line meets guessing nothing is told apart any more.",
    "gap_curve": "Of the distance between the mean logits of fakes and reals, the share that goes "
    "as maps are dropped; 100 is all of it. Bands are 95 % intervals by photograph.",
}
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
        drawn |= _figures(result, value, ending)
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
    captions = {name: CAPTIONS[name.split("-")[0]] for name in drawn}
    said = sentence(result)
    return View(f"{title} dropped", said, tables, told, drawn, scores, result.facts, captions)


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


def _figures(result: DropoutResult, value: str, ending: str) -> dict[str, Draw]:
    """Return the figures of one value."""
    own, curve = (
        one[one["value"] == value] if len(one) else one for one in (result.summary, result.curve)
    )
    facts, k = result.facts, int(str(result.facts["k"]))
    family = facts.get("training_family")
    seen = None if family is None else str(family)
    how: dict[str, Any] = {
        "seen": seen,
        "note": _note(result, value),
        "title": _finding(own, facts),
    }
    drawn: dict[str, Draw] = {f"dropout{ending}": lambda: figures.plot_dropout(own, **how)}
    gap = result.gap_curve
    gap = gap[gap["value"] == value] if len(gap) else gap
    if len(curve):
        drawn[f"gap_curve{ending}"] = lambda: figures.plot_gap_curve(gap, k, **how)
        drawn[f"ap_curve{ending}"] = lambda: figures.plot_ap_curve(
            _with_draws(curve, own, k), k, chance=_chance(result.table), **how
        )
    return drawn


def _finding(summary: pd.DataFrame, facts: Mapping[str, Any]) -> str:
    """Say what dropping the top maps takes from AP, and as many random ones."""
    where = spoken_of(summary["generator"])
    on = {UNSEEN: "families it has not seen", MACRO: "all families"}.get(where, where)
    rows = summary[summary["generator"] == where].set_index("mask")["fall_ap_points"]

    def falls(mask: str) -> str:
        fall = float(rows[mask])
        return f"{'falls' if fall >= 0 else 'rises'} by {abs(fall):.1f} points"

    text = f"{facts['detector']}: AP on {on} {falls(TOP)} without the top {facts['k']} maps"
    control = next((mask for mask in (LAYER_MATCHED, RANDOM) if mask in rows.index), None)
    if control is None:
        return text
    of = " of the same layers" * (control == LAYER_MATCHED)
    return f"{text}, and {falls(control)} without as many random ones{of}"


def _note(result: DropoutResult, value: str) -> str:
    """Return what was dropped and on how many images, for the foot of a figure."""
    facts, own = result.facts, result.table[result.table["mask"] == "baseline"]
    counts = []
    for kind in ("real", "fake"):
        n = sorted(set(own[f"n_{kind}"].astype(int)))
        counts.append(f"{n[0] if len(n) == 1 else f'{n[0]} to {n[-1]}'} {kind}s")
    return (
        f"{facts['detector']}; {facts['k']:,} of {facts['feature_maps']:,} maps, "
        f"{VALUES[value]} in their place; {' and '.join(counts)} a generator; accuracies at the "
        "threshold that suits the whole network best on these images"
    )


def _with_draws(curve: pd.DataFrame, summary: pd.DataFrame, k: int) -> pd.DataFrame:
    """Return the curve with the mean and the range over all draws at k, where more were made."""
    curve = curve.astype({"ap": float, "ap_low": float, "ap_high": float}).copy()
    for row in summary[summary["draws"] > 1].to_dict("records"):
        at = (
            (curve["generator"] == row["generator"])
            & (curve["mask"] == row["mask"])
            & (curve["k"] == k)
            & (curve["draws"] < row["draws"])
        )
        curve.loc[at, ["ap", "ap_low", "ap_high"]] = [row["ap"], row["ap_min"], row["ap_max"]]
        curve.loc[at, "draws"] = row["draws"]
    return curve


def _chance(table: pd.DataFrame) -> dict[str, float]:
    """Return what AP is by guessing: the share of fakes."""
    own = table[table["mask"] == "baseline"].drop_duplicates("generator").set_index("generator")
    return (own["n_fake"] / (own["n_real"] + own["n_fake"])).to_dict()  # type: ignore[no-any-return]


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
