"""The robustness table as Markdown, made of ``robustness.csv`` alone."""

from __future__ import annotations

import pandas as pd

from ..evaluation import MACRO
from .pages import markdown
from .rows import percent

HEADS = {"ap": "AP", "accuracy": "accuracy"}


def robustness_markdown(table: pd.DataFrame, *, title: str = "Robustness") -> str:
    """Return ``robustness.md``: macro means, each detector's AP a generator, and what falls most.

    table: columns of :data:`forensift.evaluation.ROBUSTNESS`. Percent; intervals are 95 %.
    """
    conditions = list(dict.fromkeys(table["condition"]))
    macro = table[table["generator"] == MACRO]
    first = table[(table["condition"] == conditions[0])].drop_duplicates("generator")
    images = first[first["generator"] != MACRO]
    parts = [
        f"## {title}",
        f"{images['n_real'].sum()} reals and {images['n_fake'].sum()} fakes of {len(images)} "
        "generators. Percent; [ ] 95 % intervals, drawn by photograph; a fall is clean minus "
        "condition on the same draws (paired), and **bold** where its interval lies above zero.",
    ]
    for value, head in HEADS.items():
        parts += [f"*{head}, mean over generators*", markdown(_wide(macro, "detector", value))]
    parts += ["*Fall of AP from clean, in points, mean over generators*", markdown(_falls(macro))]
    for detector in dict.fromkeys(table["detector"]):
        own = table[table["detector"] == detector]
        parts += [f"*{detector}: AP*", markdown(_wide(own, "generator", "ap", marked=True))]
    return "\n\n".join(parts) + "\n"


def _wide(table: pd.DataFrame, rows: str, value: str, *, marked: bool = False) -> pd.DataFrame:
    """Return a column a condition, a row a detector or generator; marked: falls in bold."""
    found = []
    for name in dict.fromkeys(table[rows]):
        shown = {rows: str(name)}
        for row in table[table[rows] == name].to_dict("records"):
            cell = percent(row, value)
            bold = marked and row[f"{value}_fall_low"] > 0
            shown[str(row["condition"])] = f"**{cell}**" if bold else cell
        found.append(shown)
    return pd.DataFrame(found)


def _falls(macro: pd.DataFrame) -> pd.DataFrame:
    found = []
    for name in dict.fromkeys(macro["detector"]):
        shown = {"detector": str(name)}
        for row in macro[macro["detector"] == name].to_dict("records"):
            if row["condition"] == "clean":
                continue
            ends = f"[{100 * row['ap_fall_low']:.1f}, {100 * row['ap_fall_high']:.1f}]"
            cell = f"{100 * row['ap_fall']:.1f} {ends}"
            shown[str(row["condition"])] = f"**{cell}**" if row["ap_fall_low"] > 0 else cell
        found.append(shown)
    return pd.DataFrame(found)
