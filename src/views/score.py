"""Scores of loose images, with what they are worth."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from ..errors import counted
from ..evaluation import LooseScores
from .text import number
from .view import Shown, View

SHOWN = 20  # images; all are in scores.csv
CAVEAT = (
    "A score is a probability only for generators like those that the weights were trained on; "
    "photographs that were enlarged, blurred or filtered are often called synthetic."
)


def view(result: LooseScores) -> View:
    """Return each image's probability of being synthetic, and the folders' statistics."""
    scored = "score" in result.table
    tables = {"scores" if scored else "sizes": result.table, "summary": result.summary}
    shown = [Shown("percent" if scored else "pixels", rows(result.table))]
    if len(result.table) > 1:
        shown.append(Shown("all images together", summary_rows(result.summary.iloc[0])))
    return View("Scores", said(result), tables, shown, facts=result.facts)


def rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return the first images for people."""
    classes = [name for name in table if str(name).startswith("p_")]
    return pd.DataFrame(
        [
            {
                "image": str(row["path"]),
                "size": f"{row['width']} × {row['height']}",
                **_called(row),
                **{str(n).removeprefix("p_"): f"{100 * row[n]:.2f}" for n in classes},
            }
            for row in table.head(SHOWN).to_dict("records")
        ]
    )


def _called(row: Mapping[Hashable, Any]) -> dict[str, str]:
    if "score" not in row:
        return {}
    called = "fake" if row["score"] > 0.5 else "real"
    return {"called": called, "synthetic": f"{100 * row['score']:.2f}"}


def summary_rows(row: pd.Series) -> pd.DataFrame:
    """Return the folders' statistics for people."""
    found = {
        key: f"{row[f'{name}_mean']:.2f} ± {row[f'{name}_sd']:.2f}"
        for key, name in (("height", "height"), ("width", "width"), ("megapixels", "mpix"))
    }
    found["real + fake + unknown"] = " + ".join(
        f"{row[f'n_{kind}']:.0f}" for kind in ("real", "fake", "unknown")
    )
    heads = {"ap": "AP", "accuracy": "accuracy", "real_accuracy": "reals right",
             "fake_accuracy": "fakes right", "called_fake": "called fake"}  # fmt: skip
    known = {head: 100 * row[key] for key, head in heads.items() if row[key] == row[key]}
    found |= {f"{head} (%)": number(value, 2) for head, value in known.items()}
    return pd.DataFrame({"": list(found), "value": list(found.values())})


def said(result: LooseScores) -> str:
    """Say how many images are called fake, and what a score is worth."""
    if "score" not in result.table:
        return f"{counted(len(result.table), 'image')}."
    fakes, n = int((result.table["score"] > 0.5).sum()), len(result.table)
    first = f"{result.facts['detector']} calls {fakes} of {n} images fake."
    if n == 1:
        row = result.table.iloc[0]
        called = "fake" if row["score"] > 0.5 else "real"
        first = (
            f"{result.facts['detector']} calls the image {called}: probability of being synthetic "
            f"{100 * row['score']:.2f} %."
        )
    trained = ", ".join(result.facts["trained_on"])
    return f"{first} {CAVEAT}" + f" Trained on {trained}." * bool(trained)
