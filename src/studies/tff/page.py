"""What a reproduction looks like: published against ours, table by table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from ... import figures
from ...fmap_ranking import save_ranking
from ...views import Shown, View
from ...views.view import Draw, Write
from .tables import TABLES, reproduction_markdown, shown_rows, tally

if TYPE_CHECKING:
    from .study import Reproduction


def view(result: Reproduction) -> View:
    """Return the cells, and what they rest on: each detector's tables in a folder of its own."""
    tables = {"reproduction": result.cells}
    drawn: dict[str, Draw] = {}
    for name, table in result.dropout.items():
        summary = result.summary[name]
        tables |= {f"{name}/dropout": table, f"{name}/dropout_summary": summary}
        tables[f"{name}/dropped"] = result.dropped[name]
        drawn[f"{name}/dropout"] = _dropout(summary, f"{name}: {result.facts['k'][name]} maps")
    tables |= {f"{name}/median_test": table for name, table in result.median_test.items()}
    files: dict[str, Write] = {
        "reproduction.md": lambda path: path.write_text(
            reproduction_markdown(result.cells, result.notes), encoding="utf-8"
        )
    }
    if len(result.scores):
        files["scores.parquet"] = lambda path: result.scores.to_parquet(path, index=False)
    for name, kinds in result.rankings.items():
        for kind, one in kinds.items():
            files[f"{name}/progan_val-{kind}.csv"] = _ranking(one)
    measured = result.cells[result.cells["ours"].notna()]
    there = set(measured.loc[measured["published"].notna(), "table"]) & set(TABLES)
    for name in sorted(there):
        drawn[f"reproduction-{name}"] = _reproduction(measured, name)
    shown = tuple(_shown(str(name), own) for name, own in measured.groupby("table", sort=False))
    said = " ".join([f"{tally(result.cells)}.", *result.notes])
    return View("Published against ours", said, tables, shown, drawn, files, result.facts)


def _shown(name: str, cells: pd.DataFrame) -> Shown:
    """Return one table without the columns that say the same in every row."""
    rows = shown_rows(cells)
    heads = ("input", "generator", "mask", "quantity")
    same = [head for head in heads if len(set(rows[head])) == 1]
    caption = ", ".join([name, *(str(rows[head].iloc[0]) for head in same), "percent"])
    return Shown(f"{caption}; [ ] 95 % intervals", rows.drop(columns=same), keys=2)


def _dropout(summary: pd.DataFrame, title: str) -> Draw:
    return lambda: figures.plot_dropout(summary, title=f"{title} dropped")


def _reproduction(cells: pd.DataFrame, name: str) -> Draw:
    own = cells[cells["published"].notna()]
    return lambda: figures.plot_reproduction(own, name)


def _ranking(ranking: object) -> Callable[[Path], object]:
    return lambda path: save_ranking(ranking, path)  # type: ignore[arg-type]
