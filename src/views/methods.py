"""The explanation methods, and which of them apply to a detector."""

from __future__ import annotations

import pandas as pd

from ..explain import MethodList
from ..explain.attribution import LARGE
from .view import Shown, View


def view(result: MethodList) -> View:
    """Return what each method needs and where it comes from, and what it costs."""
    table, facts = result.table, result.facts
    tables = {"methods": table}
    small = f"what needs a baseline or passes sees images of more than {LARGE} pixels smaller"
    shown = [Shown(f"needs, how a map is read, whose code, and the paper; {small}", rows(table))]
    said = f"{len(table)} explanation methods."
    if "applies" in table:
        caption = (
            f"time of one image of {facts['height']} × {facts['width']} pixels; one gradient, "
            f"{facts['gradient_seconds'] * 1000:.0f} ms of the processor here, is 1; {small}"
        )
        shown = [Shown(caption, rows(table))]
        applies = int(table["applies"].sum())
        said = f"{applies} of {len(table)} explanation methods apply to {facts['detector']}."
        refused = table[~table["applies"]]
        if len(refused):
            shown.append(Shown("what does not apply, and why", _reasons(refused)))
    return View("Explanation methods", said, tables, shown, facts=facts)


def rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row a method."""
    found = []
    for row in table.to_dict("records"):
        shown = {"method": str(row["method"])}
        if "gradients" in row:
            known = row["gradients"] == row["gradients"]
            shown["time"] = f"{row['gradients']:.3g}" if known else "does not apply"
        shown |= {name: str(row[name]) for name in ("needs", "reading", "library", "source")}
        found.append(shown)
    return pd.DataFrame(found)


def _reasons(refused: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {"method": refused["method"].astype(str), "why": refused["reason"].str.slice(0, 400)}
    )
