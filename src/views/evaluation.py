"""How well a detector tells fakes from reals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from .. import figures
from ..data.decode import UnreadableImage, read_image
from ..evaluation import FALSE_ALARMS, MACRO, OPERATING, Evaluation, needed_reals
from .text import number, percent
from .view import Draw, Shown, View

HEADS = {"ap": "AP", "accuracy": "accuracy", "real_accuracy": "reals right",
         "fake_accuracy": "fakes right", "auc": "AUC", "eer": "EER"}  # fmt: skip
MISTAKES = 6  # of reals, and of fakes, that are drawn
SIDE = 200  # pixels of the longer side of what is drawn of them
NAME = 22  # characters of a file's name; folders, which may name people, are not shown
CAPTIONS = {
    "scores": "Bars up are reals, bars down fakes, by their logit; right of the dotted line they "
    "are called fake. The farther apart the two, the better they are told apart.",
    "curves": "Above: fakes found against reals called fake, as the threshold falls (ROC); the "
    "nearer to the upper left corner, the better. Below: how many of those called fake are. Dotted "
    "is guessing, bands are 95 % intervals.",
    "calibration": "Of images with a probability of fake of about x, y percent are fake; on the "
    "dotted line the probability means what it says. Lines are 95 % intervals, numbers images. It "
    "depends on how many of the images are fakes: half of them here are not half of them anywhere.",
    "mistakes": "The reals most surely called fake, and the fakes most surely called real, p the "
    "probability of fake. What they have in common is where to look next.",
}


def view(result: Evaluation) -> View:
    """Return every generator's AP, accuracies, AUC, operating points, curves and mistakes."""
    table, facts = result.table, result.facts
    over = table["intervals_over"].iloc[-1]
    tables = {
        "evaluation": table,
        "scores": result.scores,
        "curves": result.curves,
        "reliability": result.reliability,
    }
    caption = f"percent, at a threshold of 0.5; [ ] 95 % intervals over {over}"
    shown = (Shown(caption, rows(table)), Shown(_about_points(over), operating_rows(table)))
    name, note = str(facts.get("detector", "")), about(result)
    rated = f"{name}: {said(table)[:-1]}"

    def calibration(ax: Any = None) -> Any:
        return figures.plot_calibration(
            result.reliability, title=_calibrated(name, table), note=note, ax=ax
        )

    drawn: dict[str, Draw] = {
        "scores": lambda: figures.plot_scores(
            result.scores, table, title=_called(name, result), note=note
        ),
        "curves": lambda: figures.plot_curves(result.curves, table, title=rated, note=note),
        "calibration": calibration,
    }
    wrong = mistakes(result.scores)
    if any(len(own) for own in wrong):
        drawn["mistakes"] = lambda: _mistakes(result, wrong, name, note)
    return View(
        "Evaluation", said(table), tables, shown, drawn, facts=facts,
        captions={key: CAPTIONS[key] for key in drawn},
    )  # fmt: skip


def about(result: Evaluation) -> str:
    """Return what was scored, for the foot of a figure."""
    own = result.table[result.table["generator"] != MACRO]
    reals = result.scores[result.scores["label"] == 0]
    different, shared = len(_once(reals)), ""
    if different < len(reals):
        shared = f" (files of {different:,} real images)"
    many = len(own) > 1
    return (
        f"{result.facts.get('detector', '')}; {len(reals):,} reals{shared} and "
        f"{own['n_fake'].sum():,} fakes of {len(own)} generator{'s' * many}; called fake above a "
        f"logit of 0; intervals over {result.table['intervals_over'].iloc[-1]}"
    )


def rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return the evaluation for people: percent with one decimal, intervals in brackets."""
    return pd.DataFrame(
        [
            {"generator": str(row["generator"]), "images": f"{row['n_real']} + {row['n_fake']}"}
            | {head: percent(row, name) for name, head in HEADS.items()}
            for row in table.to_dict("records")
        ]
    )


def operating_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return fakes found at few false alarms, and calibration."""
    found = []
    for row in table.to_dict("records"):
        shown = {"generator": str(row["generator"])}
        for at, name in zip(FALSE_ALARMS, OPERATING, strict=True):
            head = f"TPR at {100 * at:g} % FPR"
            shown[head] = percent(row, name) or f"needs {needed_reals(at):,} reals"
        shown["ECE"] = percent(row, "ece")
        shown["ECE if calibrated"] = f"{100 * row['ece_by_chance']:.1f}"
        shown["Brier score"] = number(row["brier"], 3)
        found.append(shown)
    return pd.DataFrame(found)


def _about_points(over: str) -> str:
    return (
        f"percent; [ ] 95 % intervals over {over}; TPR: fakes found where at most so many of the "
        "reals are called fake (FPR), which takes as many reals as one of them is to be; ECE: how "
        "far, on average, shares of fakes lie from the probability, in ten bins of it; if "
        "calibrated: what it is by chance with as many images; Brier score: mean squared distance "
        "of the probability from 0 or 1"
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


def mistakes(scores: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the reals called fake, surest first, and the fakes called real.

    An image that several generators share is there once.
    """
    wrong = []
    for label in (0, 1):
        own = scores[(scores["label"] == label) & ((scores["logit"] > 0) != (label == 1))]
        own = own.sort_values("logit", ascending=label == 1, kind="stable")
        wrong.append(_once(own))
    return wrong[0], wrong[1]


def _once(scores: pd.DataFrame) -> pd.DataFrame:
    """Return each image once that generators share: of one file name and one logit."""
    files = scores["path"].map(lambda path: Path(path).name)
    return scores[~pd.DataFrame({"file": files, "logit": scores["logit"]}).duplicated()]


def _called(name: str, result: Evaluation) -> str:
    """Say how many of the images are called what they are not."""
    parts = []
    for label, (kind, other) in enumerate((("reals", "fake"), ("fakes", "real"))):
        own = _once(result.scores[result.scores["label"] == label])
        n = int(((own["logit"] > 0) != (label == 1)).sum())
        parts.append(f"{n or 'none'} of {len(own):,} {kind} {other}")
    return f"{name} calls {', and '.join(parts)}"


def short(path: str) -> str:
    """Return a file's name without its folders, its middle left out where it is long."""
    name = Path(path).stem
    half = NAME // 2
    return name if len(name) <= NAME else f"{name[:half]}…{name[1 - half :]}"


def _calibrated(name: str, table: pd.DataFrame) -> str:
    row = table.iloc[-1]
    mean = " on average" * (len(table) > 1)
    off, chance = 100 * row["ece"], 100 * row["ece_by_chance"]
    more = row["ece_low"] > row["ece_by_chance"]
    verdict = f"{chance:.0f} by chance" if more else f"no more than by chance, {chance:.0f}"
    return f"{name}: the probability of fake is {off:.0f} points off{mean} ({verdict})"


def _mistakes(result: Evaluation, wrong: tuple, name: str, note: str) -> Any:
    where = {result.images.image_id(entry): entry.path for entry in result.images}
    drawn = []
    kinds = (("real", "fake"), ("fake", "real"))
    for label, ((kind, called), own) in enumerate(zip(kinds, wrong, strict=True)):
        few = own.head(MISTAKES)
        head = f"{kind}, called {called}" if len(own) else f"no {kind} is called {called}"
        shown = []
        for row in few.to_dict("records"):
            made = f"\n{row['generator']}" if label else ""
            text = f"{short(row['path'])}{made}\np = {row['score']:.2g}"
            shown.append((_small(where.get(row["path"])), text))
        drawn.append((head, shown))
    return figures.plot_mistakes(drawn, MISTAKES, title=_called(name, result), note=note)


def _small(path: Path | None) -> Image.Image | None:
    if path is None:
        return None
    try:
        picture = read_image(path)
    except UnreadableImage:
        return None
    picture.thumbnail((SIDE, SIDE))
    return picture
