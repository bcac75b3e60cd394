"""Colour ablation."""

from __future__ import annotations

import pandas as pd

from .. import figures
from ..evaluation import MACRO
from ..sensitivity import ColourResult
from .text import number, percent, with_interval
from .view import Draw, Shown, View


def view(result: ColourResult) -> View:
    """Return what a detector makes of the same images without colour."""
    facts = result.facts
    name, modes = str(facts["detector"]), list(dict.fromkeys(result.table["mode"]))
    least = float(str(facts["least_probability"]))
    drawn: dict[str, Draw] = {
        f"boxes_{mode}": _boxes(result, mode, f"{name}: fakes of p ≥ {least:g} in RGB", least)
        for mode in modes[1:]
    }
    modes_of = f"{name}: AP by colour mode"
    drawn["colour_modes"] = lambda: figures.plot_colour_modes(result.table, title=modes_of)
    tables = {"colour": result.table, "scores": result.scores, "boxes": result.box}
    caption = (
        f"AP in percent, [ ] 95 % intervals over {result.table['intervals_over'].iloc[-1]}; "
        "logits: mean in RGB, else change against RGB"
    )
    shown = Shown(caption, rows(result.table), keys=2)
    return View("Colour", said(result, least), tables, (shown,), drawn, facts=facts)


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


def _boxes(result: ColourResult, mode: str, title: str, least: float) -> Draw:
    return lambda: figures.plot_colour_boxes(
        result.box, result.scores, mode, least_probability=least, title=title
    )
