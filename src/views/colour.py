"""Colour ablation."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from .. import figures
from ..evaluation import MACRO
from ..sensitivity import ColourResult
from .text import number, percent, with_interval
from .view import Draw, Shown, View

BOXES = (
    "The probability of fake of the same fakes in RGB (left) and in another mode (right), of "
    "those that are not far from being called fake in RGB. Boxes go from quartile to quartile, "
    "the line is the median, the arrow how it moves; fewer than ten fakes are points."
)
MODES = (
    "AP of the same images in each colour mode, a line its 95 % interval; dotted is RGB. A mode "
    "whose line lies left of it takes away what the detector needs."
)


def view(result: ColourResult) -> View:
    """Return what a detector makes of the same images without colour."""
    facts = result.facts
    name, modes = str(facts["detector"]), list(dict.fromkeys(result.table["mode"]))
    least = float(str(facts["least_probability"]))
    weights = Path(str(facts.get("weights_file", ""))).stem
    shown_as = weights if weights.startswith(f"{name}-") else name  # resnet50-colour-robust
    drawn: dict[str, Draw] = {
        f"boxes_{mode}": _boxes(result, mode, shown_as, least) for mode in modes[1:]
    }
    captions = dict.fromkeys(drawn, BOXES) | {"colour_modes": MODES}
    drawn["colour_modes"] = lambda: figures.plot_colour_modes(
        result.table, title=_finding(result.table, shown_as), note=shown_as
    )
    tables = {"colour": result.table, "scores": result.scores, "boxes": result.box}
    caption = (
        f"AP in percent, [ ] 95 % intervals over {result.table['intervals_over'].iloc[-1]}; "
        "logits: mean in RGB, else change against RGB"
    )
    shown = Shown(caption, rows(result.table), keys=2)
    told = said(result, least)
    return View("Colour", told, tables, (shown,), drawn, facts=facts, captions=captions)


def _finding(table: pd.DataFrame, name: str) -> str:
    """Say what the mode that costs most AP costs, and what grey does."""
    whole = table[table["generator"] == MACRO]
    whole = (whole if len(whole) else table).drop_duplicates("mode").set_index("mode")["ap"]
    falls = 100 * (whole.iloc[0] - whole.iloc[1:])
    if not len(falls):
        return f"{name}: AP in RGB"
    most = falls.idxmax()
    costs = f"{_words(most)} costs {falls[most]:.1f} points of AP"
    grey = f", grey {falls['grey']:.1f}" if "grey" in falls and most != "grey" else ""
    return f"{name}: {costs}{grey}"


def _words(mode: str) -> str:
    return {"grey": "grey", "chroma-only": "colour without brightness"}.get(mode, mode)


def rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return ``colour.csv`` for people: AP, calibrated accuracies, and what the logits do."""
    found = []
    for row in table.to_dict("records"):
        change, sign = ("", "") if row["mode"] == "rgb" else ("change_", "+")
        found.append(
            {
                "generator": str(row["generator"]),
                "mode": str(row["mode"]),
                "AP": percent(row, "ap"),
                "reals right": f"{100 * row['calibrated_real_accuracy']:.1f}",
                "fakes right": f"{100 * row['calibrated_fake_accuracy']:.1f}",
                "reals' logit": f"{row[change + 'mean_logit_real']:{sign}.2f}",
                "fakes' logit": f"{row[change + 'mean_logit_fake']:{sign}.2f}",
            }
        )
    return pd.DataFrame(found)


def said(result: ColourResult, least: float) -> str:
    """Say what the first other mode does to AP and to the fakes' probabilities."""
    table = result.table
    macro = table[table["generator"] == MACRO]
    whole = (macro if len(macro) else table).drop_duplicates("mode").set_index("mode")
    others = [mode for mode in whole.index if mode != "rgb"]
    if not others:
        return f"AP in RGB is {100 * whole.loc['rgb', 'ap']:.1f}; no other mode was asked for."
    mode = "grey" if "grey" in others else others[0]
    rgb, grey = whole.loc["rgb"], whole.loc[mode]
    change = with_interval(grey, "change_ap", scale=100, sign=True)
    what = "Without colour" if mode == "grey" else f"In mode {mode}"
    over = " on average over the generators" if len(macro) else ""
    text = (
        f"{what} AP goes from {100 * rgb['ap']:.1f} to {100 * grey['ap']:.1f}, a change "
        f"of {change} points{over}; the mean logit of fakes changes "
        f"by {grey['change_mean_logit_fake']:+.2f}, of reals by "
        f"{grey['change_mean_logit_real']:+.2f}."
    )
    box = result.box[(result.box["mode"] == mode) & (result.box["n"] > 0)]
    if len(box):
        changes = -box["drop_of_median"]
        by = _range(*(number(one, 2, sign=True) for one in (changes.min(), changes.max())))
        n = _range(str(box["n"].min()), str(box["n"].max()))
        text += (
            f" Over fakes of p ≥ {least:g} in RGB ({n} a generator) the median probability "
            f"changes by {by}."
        )
    return text


def _range(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"


def _boxes(result: ColourResult, mode: str, name: str, least: float) -> Draw:
    box = result.box[(result.box["mode"] == mode) & (result.box["n"] > 0)]
    fell = int((box["drop_of_median"] >= 0.05).sum())
    title = (
        f"{name}: in {_words(mode)} the median fake's probability falls by 5 points or more for "
        f"{fell} of {len(box)} generators"
    )
    note = f"{name}; fakes that have p ≥ {least:g} in RGB, the published rule"
    return lambda: figures.plot_colour_boxes(
        result.box, result.scores, mode, least_probability=least, title=title, note=note
    )
