"""Feature-map dropout."""

from __future__ import annotations

import pandas as pd

from .. import figures
from ..sensitivity import DropoutResult, sentence
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
        plain = row["mask"] == "baseline"
        change, sign = ("", "") if plain else ("change_", "+")
        draws = f" ({row['draws']} draws)" if row["draws"] > 1 else ""
        spread = f" ± {100 * row['ap_sd']:.1f}" if row["draws"] > 1 else ""
        found.append(
            {
                "generator": str(row["generator"]),
                "mask": f"{row['mask']}{draws}",
                "AP": f"{100 * row['ap']:.1f}{spread}",
                "reals right": f"{100 * row['real_accuracy']:.1f}",
                "fakes right": f"{100 * row['fake_accuracy']:.1f}",
                "reals' logit": f"{row[change + 'mean_logit_real']:{sign}.2f}",
                "fakes' logit": f"{row[change + 'mean_logit_fake']:{sign}.2f}",
                "effect": "" if plain else str(row["effect"]),
            }
        )
    return pd.DataFrame(found)
