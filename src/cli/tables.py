"""Tables on a terminal of any width: columns move below one another, numbers are never cut."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from ..views import Shown, View

PIPE = 140  # columns in a file or pipe
PROSE = 28  # characters: a longer cell with spaces is prose and may be wrapped
PADDING = 3  # two spaces and a rule a column


def console(*, stderr: bool = False) -> Console:
    """Return where tables are printed: as wide as the terminal, or what COLUMNS says, or PIPE."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    known = stream.isatty() or "COLUMNS" in os.environ
    return Console(width=None if known else PIPE, highlight=False, stderr=stderr)


def show(view: View, on: Console) -> None:
    """Print a view's tables for people, and what they say."""
    for table in view.shown:
        show_table(table, on, title=view.title)
    if view.said:
        on.print(view.said, markup=False)


def show_table(table: Shown, on: Console, title: str = "") -> None:
    """Print one table, in as many blocks as the width asks for, each with the rows' names."""
    from rich.markup import escape
    from rich.table import Table

    rows = table.rows.astype(str)
    keys, widths = min(table.keys, rows.shape[1]), [_width(rows, at) for at in range(rows.shape[1])]
    prose = _prose(rows, keys)
    words = [at for at in range(rows.shape[1]) if not rows.iloc[:, at].str.contains(r"\d").any()]
    named = [at for at in range(keys) if not rows.iloc[:, at].str.isdigit().all()]
    left = {*prose, *words, *named}
    grouped = keys > 1 and bool(rows.iloc[:, 0].duplicated().any())
    for number, block in enumerate(_blocks(widths, keys, on.width - 1, prose)):
        heading = escape(title) if title and not number else None
        drawn = Table(title=heading, title_justify="left", title_style="bold")
        shown = [*range(keys), *block]
        room = on.width - 1 - sum(widths[at] + PADDING for at in shown)
        for at in shown:
            wraps = room < 0 and (at < keys or at in prose)
            least = min(widths[at], max(8, widths[at] + room)) if wraps else widths[at]
            drawn.add_column(
                escape(str(rows.columns[at])),
                justify="left" if at in left else "right",
                no_wrap=not wraps,
                overflow="fold",
                width=None if wraps else least,
            )
        before: Sequence[str] = ()
        for row in rows.itertuples(index=False):
            cells = [str(row[at]) for at in shown]
            again = grouped and bool(before) and cells[0] == before[0]
            if grouped and before and not again:
                drawn.add_section()
            drawn.add_row(*map(escape, ["", *cells[1:]] if again else cells))
            before = cells
        on.print(drawn)
    if table.caption:
        on.print(table.caption, markup=False, style="dim")


def _blocks(widths: Sequence[int], keys: int, width: int, prose: Sequence[int]) -> list[list[int]]:
    """Return which columns stand side by side, in as few blocks as there must be, of like widths.

    A column of prose takes what room is left.
    """
    start = sum(widths[at] + PADDING for at in range(keys)) + 1
    needs = {
        at: PADDING + (min(widths[at], PROSE) if at in prose else widths[at])
        for at in range(keys, len(widths))
    }

    def filled(width: int) -> list[list[int]]:
        blocks: list[list[int]] = [[]]
        for at, need in needs.items():
            if blocks[-1] and start + sum(needs[one] for one in blocks[-1]) + need > width:
                blocks.append([])
            blocks[-1].append(at)
        return blocks

    fewest = len(filled(width))
    return next(blocks for room in range(width + 1) if len(blocks := filled(room)) == fewest)


def _prose(rows: pd.DataFrame, keys: int) -> list[int]:
    """Return the columns whose cells are sentences."""
    return [
        at
        for at in range(keys, rows.shape[1])
        if any(len(cell) > PROSE and cell.count(" ") > 3 for cell in rows.iloc[:, at])
    ]


def _width(rows: pd.DataFrame, at: int) -> int:
    from rich.cells import cell_len

    return max([cell_len(str(rows.columns[at])), *map(cell_len, rows.iloc[:, at])])
