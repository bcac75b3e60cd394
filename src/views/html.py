"""A view as HTML: in Jupyter, and on pages."""

from __future__ import annotations

import html

from .view import View


def html_of(view: View, figures: str | None = None, level: int = 3) -> str:
    """Return title, sentence, and tables for people; every text is escaped.

    figures: the folder below the page that holds the saved figures; None leaves them out.
    """
    parts = [f"<h{level}>{html.escape(view.title)}</h{level}>"]
    if view.said:
        parts.append(f"<p class='said'>{html.escape(view.said)}</p>")
    for name in view.figures if figures is not None else ():
        source = html.escape(f"{figures}{name}.png")
        parts.append(f"<p><img src='{source}' alt='{html.escape(f'{view.title}: {name}')}'></p>")
    for table in view.shown:
        parts.append(f"<p><i>{html.escape(table.caption)}</i></p>")
        parts.append(table.rows.to_html(index=False, border=0, escape=True))
    return "\n".join(parts)
