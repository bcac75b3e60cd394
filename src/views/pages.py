"""A view as Markdown."""

from __future__ import annotations

from .text import markdown
from .view import View


def markdown_of(view: View, level: int = 3) -> str:
    """Return title, sentence and tables for people; no figures."""
    parts = [f"{'#' * level} {view.title}", view.said]
    for table in view.shown:
        parts += [f"*{table.caption}*", markdown(table.rows)]
    return "\n\n".join(part for part in parts if part)
