"""``forensift report``: one page of any saved results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .run import Out
from .verb import verb

if TYPE_CHECKING:
    from ..report import Report


@verb
def report(
    run: Out,
    results: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="Folders that verbs wrote, or above them."),
    ],
    title: Annotated[
        str, typer.Option("--title", metavar="TEXT", help="The question at the top of the page.")
    ] = "",
) -> Report:
    """Make one page of any results: a single HTML file that needs no network.

    Example: `forensift report output/evaluate output/dropout --out output/report`

    At its top stand the question, the answer in three sentences and the picture that shows it; then
    every result that lies in the folders or below them, with its sentence, its figures and its
    tables, which sort, filter and copy as CSV; what was run, from which weights and images; what
    was left out and why. It prints, and fits a telephone.

    Writes `report.html` and `manifest.json`.
    """
    from ..report import report as page

    return page(results, title=title)
