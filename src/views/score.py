"""Scores of loose images, with what they are worth."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from ..errors import counted
from ..evaluation import Agreement, LooseScores
from ..evaluation.loose import CANNOT
from .text import number
from .view import Shown, View

SHOWN = 20  # images; all are in scores.csv
CAVEAT = (
    "Of anything else the score is no probability: photographs that were enlarged, blurred or "
    "filtered are often called synthetic, and fakes of other generators real. It is no evidence."
)
UNKNOWN = "unknown (nothing in their file says it)"


def view(result: LooseScores | Agreement) -> View:
    """Return each image's probability of being synthetic, and the folders' statistics."""
    if isinstance(result, Agreement):
        return _of_several(result)
    scored = "score" in result.table
    tables = {"scores" if scored else "sizes": result.table, "summary": result.summary}
    shown = [Shown("percent" if scored else "pixels", rows(result.table))]
    if len(result.table) > 1:
        shown.append(Shown("all images together", summary_rows(result.summary.iloc[0])))
    return View("Scores", said(result), tables, shown, facts=result.facts)


def rows(table: pd.DataFrame, most: int = SHOWN) -> pd.DataFrame:
    """Return the first images for people."""
    classes = [name for name in table if str(name).startswith("p_")]
    return pd.DataFrame(
        [
            {
                "image": str(row["path"]),
                "size": f"{row['width']} × {row['height']}",
                **_judged(row),
                **{str(n).removeprefix("p_"): f"{100 * row[n]:.2f}" for n in classes},
            }
            for row in table.head(most).to_dict("records")
        ]
    )


def _judged(row: Mapping[Hashable, Any]) -> dict[str, str]:
    if "score" not in row:
        return {}
    quality = "" if pd.isna(row["quality"]) else f", quality {row['quality']}"
    found = {"file": f"{row['format']}{quality}", "verdict": str(row["verdict"])}
    if "score_low" in row:
        found["judged again"] = f"{100 * row['score_low']:.2f} … {100 * row['score_high']:.2f}"
    return {**found, "synthetic": f"{100 * row['score']:.2f}"}


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
    table = result.table
    if "score" not in table:
        return f"{counted(len(table), 'image')}."
    name, n = result.facts["detector"], len(table)
    verdicts = table["verdict"].value_counts()
    fakes, open_ = int(verdicts.get("fake", 0)), int(verdicts.get(CANNOT, 0))
    first = f"{name} calls {fakes} of {n} images fake."
    if n == 1:
        row = table.iloc[0]
        called = CANNOT if open_ else f"calls the image {row['verdict']}"
        first = f"{name} {called}: probability of being synthetic {100 * row['score']:.2f} %."
    if open_:
        where = "its call" if n == 1 else f"of {open_} it cannot say: the call"
        first += f" {where[0].upper()}{where[1:]} changes when {_again(result.facts)}."
    return f"{first} {trained_on(result.facts)} {CAVEAT}"


def trained_on(facts: Mapping[str, Any]) -> str:
    """Say what the weights were trained on, and that they know nothing else."""
    known = "; ".join(facts["trained_on"]) or UNKNOWN
    return f"What the weights were trained on, and all they know: {known}."


def _again(facts: Mapping[str, Any]) -> str:
    """Say what the images are judged again under."""
    known = {"mirror": "mirrored", "clean": "as it is"}
    names = [known.get(one, one) for one in facts["judged_again"]]
    return f"the image is judged again ({', '.join(names)})"


def _of_several(result: Agreement) -> View:
    """Return what several detectors say of each image, and how many agree."""
    table, counts = result.table, result.agreement
    few = table[table["path"].isin(table["path"].unique()[:SHOWN])].sort_values(
        "path", kind="stable"
    )
    few = few.drop(columns=[name for name in few if str(name).startswith("p_")])
    shown = rows(few, most=len(few))
    shown.insert(1, "detector", few["detector"].to_numpy())
    whole = counts.astype(str).rename(columns={"path": "image"})
    several = len(result.results)
    alike = int((counts[["fake", "real", CANNOT]].max(axis=1) == several).sum())
    known = [one for own in result.results.values() for one in own.facts["trained_on"] or [UNKNOWN]]
    words = f"The {several} detectors agree on {alike} of {counted(len(counts), 'image')}."
    if len(counts) == 1:
        row = counts.iloc[0]
        words = (
            f"Of {several} detectors {row['fake']} call the image fake, {row['real']} real, and "
            f"{row[CANNOT]} cannot say."
        )
    words += (
        " They share photographs and generators that they were trained on, so that they may be "
        f"wrong together. {trained_on({'trained_on': dict.fromkeys(known)})} {CAVEAT}"
    )
    return View(
        "Scores",
        " ".join(words.split()),
        {"scores": table, "agreement": counts},
        [Shown("percent", shown, keys=2), Shown("how many detectors say so", whole)],
        facts=result.facts,
    )
