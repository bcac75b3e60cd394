"""The leader board as people read it: a table a detector, a figure, and ``methods.md``."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from ... import figures
from ...views import Shown, View
from ...views.pages import markdown_of
from ...views.text import with_interval
from .board import JUDGED, LEAST, Leaderboard
from .trial import EPSILON, FLOORS, MOVED, STEPS

TITLE = "Which explanation method to trust"


def view(result: Leaderboard) -> View:
    """Return the board: its tables, what it says, a figure, and the page."""
    shown = [
        Shown(_caption(detector, own), rows(own))
        for detector, own in result.board.groupby("detector", sort=False)
    ]
    tables = {"board": result.board, "trials": result.trials}
    drawn = {"leaderboard": lambda: figures.plot_leaderboard(result.board, FLOORS)}
    bare = View(TITLE, said(result), tables, shown, drawn, facts=result.facts)

    def page(path: Path) -> None:
        path.write_text(_page(result, bare), encoding="utf-8")

    return View(TITLE, said(result), tables, shown, drawn, {"methods.md": page}, result.facts)


def _caption(detector: object, own: pd.DataFrame) -> str:
    return (
        f"{detector}, {own['images'].iloc[0]} fakes; box: a quarter of the image; deletion: lower "
        "is better, all else higher, but for ρ (near 0 is right); [ ] 95 % over photographs; "
        "* better than noise and edges beyond chance; time: 1 is one gradient"
    )


def rows(own: pd.DataFrame) -> pd.DataFrame:
    """Return a row a method, those that beat the floors most often first."""
    ordered = own.assign(rank=own["beats"].fillna(-1)).sort_values(
        ["rank", "share"], ascending=False, kind="stable"
    )
    names = {"share": "in the box", "hit": "pointing", "deletion": "deletion",
             "insertion": "insertion", "flip": "flip"}  # fmt: skip
    found = []
    for row in ordered.to_dict("records"):
        shown = {"method": str(row["method"])}
        for measure, name in names.items():
            star = " *" if row.get(f"{measure}_beats") is True else ""
            shown[name] = with_interval(row, measure, 2) + star
        known = row["spearman"] == row["spearman"]
        shown["ρ, random weights"] = f"{row['spearman']:+.2f}" if known else ""
        known = row["beats"] == row["beats"]
        shown["beats"] = f"{row['beats']:.0f} of {len(JUDGED)}" if known else "floor"
        shown["time"] = f"{row['gradients']:.3g}" if row.get("gradients", 0) > 0 else ""
        found.append(shown)
    return pd.DataFrame(found)


def said(result: Leaderboard) -> str:
    """Say which methods beat the floors most, over all detectors, and which nowhere."""
    known = result.board[~result.board["method"].isin(FLOORS)]
    mean = known.groupby("method", sort=False)["beats"].mean().sort_values(ascending=False)
    best = [f"{name} ({value:.1f} of {len(JUDGED)})" for name, value in mean.head(3).items()]
    never = [str(name) for name, value in mean.items() if value == 0]
    number = result.board["detector"].nunique()
    over = f", on average over {number} detectors" if number > 1 else ""
    text = (
        f"Better than noise and than an edge detector in the most measures{over}: "
        f"{', '.join(best)}."
    )
    if never:
        text += f" In none: {', '.join(never)}."
    return " ".join([text, *result.notes])


def _page(result: Leaderboard, bare: View) -> str:
    facts = result.facts
    parts = [
        f"# {TITLE}",
        f"Made by `forensift faithfulness {','.join(facts['detectors'])} --board --data DIR "
        f"--method {facts['asked']} --n {facts['n']} --seed {facts['seed']}`, DIR as "
        f"`forensift forge` writes; every number is of that run. {said(result)}",
        "**Planted truth.** A box, a quarter of the area, of the fake is put into the photograph "
        "that it was made of, which fits pixel for pixel. What the detector finds lies in the box: "
        "*in the box* is the share of the map's positive values there (0.25 is chance), *pointing* "
        "whether its largest value is. Images whose logit the box does not raise are left out. "
        "Evidence for fake is asked for, also where the detector decides real after all; LRP with "
        "β = 0, which shows evidence for the decision alone, then has next to none.",
        "**Deletion and insertion** replace the fake by its photograph, or the other way round, in "
        f"squares of {facts['cell']} pixels in the order of the map, {STEPS} parts: no image "
        "leaves the distribution. The figures are areas under the probability of fake.",
        f"**Flip.** One step of {EPSILON} of 255 against the decision (the sign of the gradient): "
        f"what share of the logit's fall is left when only the {MOVED:.0%} highest squares move. "
        "It is made of the gradient, and favours maps that are.",
        "**ρ** is the rank correlation of the map with that of the same network with random "
        "weights: near 0 is right, near 1 is a map that does not look at what was learnt.",
        "**Floors**: a random map, and Sobel's edges of the image. A star is a paired difference "
        "from the better of the two whose 95 % interval over photographs is above 0; of fewer than "
        f"{LEAST} photographs none is given.",
        markdown_of(bare, level=2),
    ]
    return "\n\n".join(parts) + "\n"
