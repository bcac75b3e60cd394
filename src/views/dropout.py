"""Feature-map dropout."""

from __future__ import annotations

import pandas as pd

from .. import figures
from ..sensitivity import DropoutResult, sentence
from .text import number
from .view import Draw, Shown, View

CAPTION = (
    "percent; ± standard deviation over draws; logits: change of the mean against the baseline; "
    "accuracies at the threshold that suits the whole network best on the same images, 0.5 on the "
    "training family"
)


def view(result: DropoutResult) -> View:
    """Return what dropping feature maps did to every generator."""
    k, title = result.facts["k"], f"{result.facts['k']} of {result.facts['feature_maps']} maps"
    named = f"{result.facts['detector']}: {title} dropped"
    drawn: dict[str, Draw] = {"dropout": lambda: figures.plot_dropout(result.summary, title=named)}
    tables = {
        "dropout": result.table,
        "dropout_summary": result.summary,
        "ap_curve": result.curve,
        "dropped": result.dropped(),
    }
    if len(result.curve):
        drawn["ap_curve"] = lambda: figures.plot_ap_curve(result.curve, int(str(k)), title=named)
    else:
        del tables["ap_curve"]
    shown = Shown(CAPTION, rows(result.summary), keys=2)
    scores = {"scores.parquet": lambda path: result.scores().to_parquet(path, index=False)}
    return View(f"{title} dropped", sentence(result), tables, (shown,), drawn, scores, result.facts)


def rows(summary: pd.DataFrame) -> pd.DataFrame:
    """Return the dropout summary for people: percent, and the signed change of the mean logits."""
    found = []
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
