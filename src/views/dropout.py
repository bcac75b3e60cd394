"""Feature-map dropout."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from .. import figures
from ..sensitivity import DropoutResult, sentence
from .text import number
from .view import Draw, Shown, View

VALUES = {
    "zero": "zero",
    "mean": "the mean",
    "mean-real": "the mean over reals",
    "resample": "another real's maps",
    "paired": "their own photographs' maps in fakes",
    "optimal": "learnt constants",
}
CAPTION = (
    "percent; ± standard deviation over draws; logits: change of the mean against the baseline; "
    "accuracies at the threshold that suits the whole network best on the same images, 0.5 on the "
    "training family"
)


def view(result: DropoutResult) -> View:
    """Return what dropping feature maps did to every generator."""
    title = f"{result.facts['k']} of {result.facts['feature_maps']} maps"
    values = list(dict.fromkeys(result.values))
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
    if not len(result.curve):
        del tables["ap_curve"]
    shown = Shown(CAPTION + instead(result.facts), rows(result.summary), keys=2 + (len(values) > 1))
    scores = {"scores.parquet": lambda path: result.scores().to_parquet(path, index=False)}
    return View(f"{title} dropped", sentence(result), tables, (shown,), drawn, scores, result.facts)


def _figures(result: DropoutResult, value: str, named: str, ending: str) -> dict[str, Draw]:
    """Return the figures of one value."""
    own, curve = (
        one[one["value"] == value] if len(one) else one for one in (result.summary, result.curve)
    )
    named += "" if value == "zero" else f", {VALUES[value]} in their place"
    drawn: dict[str, Draw] = {f"dropout{ending}": lambda: figures.plot_dropout(own, title=named)}
    if len(curve):
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
