"""How well a detector tells fakes from reals."""

from __future__ import annotations

import pandas as pd

from ..evaluation import Evaluation
from .text import percent
from .view import Shown, View

HEADS = {"ap": "AP", "accuracy": "accuracy", "real_accuracy": "reals right",
         "fake_accuracy": "fakes right", "auc": "AUC", "eer": "EER"}  # fmt: skip


def view(result: Evaluation) -> View:
    """Return every generator's AP, accuracies, AUC and equal error rate."""
    over = result.table["intervals_over"].iloc[-1]
    caption = f"percent, at a threshold of 0.5; [ ] 95 % intervals over {over}"
    tables = {"evaluation": result.table, "scores": result.scores}
    shown = Shown(caption, rows(result.table))
    return View("Evaluation", said(result.table), tables, (shown,), facts=result.facts)


def rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return the evaluation for people: percent with one decimal, intervals in brackets."""
    return pd.DataFrame(
        [
            {"generator": str(row["generator"]), "images": f"{row['n_real']} + {row['n_fake']}"}
            | {head: percent(row, name) for name, head in HEADS.items()}
            for row in table.to_dict("records")
        ]
    )


def said(table: pd.DataFrame) -> str:
    """Say how far AP reaches, and where it is lowest."""
    own = table[table["generator"] != "macro mean"]
    low, high = own.loc[own["ap"].idxmin()], own.loc[own["ap"].idxmax()]
    if len(own) == 1:
        return f"AP on {low['generator']} is {100 * low['ap']:.1f} % ({low['n_fake']} fakes)."
    if f"{100 * low['ap']:.1f}" == f"{100 * high['ap']:.1f}":
        return f"AP is {100 * low['ap']:.1f} % on each of {len(own)} generators."
    return (
        f"AP is {100 * own['ap'].mean():.1f} % on average over {len(own)} generators, highest on "
        f"{high['generator']} ({100 * high['ap']:.1f}), lowest on {low['generator']} "
        f"({100 * low['ap']:.1f})."
    )
