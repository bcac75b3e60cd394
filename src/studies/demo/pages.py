"""The pages of a demo: an index for a browser, and the results as Markdown."""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ... import views
from ...records import Result
from .weights import weights_rows

if TYPE_CHECKING:
    from .demo import Demo

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 66rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; font-size: 13px; margin: 1rem 0 }
table { display: block; overflow-x: auto }
td, th { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #ddd }
td:first-child, th:first-child, td:nth-child(2) { text-align: left }
img { max-width: 100% } p.said { background: #f4f4f0; padding: .8rem 1rem }
nav { columns: 3; font-size: 13px; margin: 1rem 0 }
"""
ABOUT = (
    "Fakes are held-out photographs re-synthesised by small trained networks. Detectors are "
    "trained on `progan-like` fakes of training photographs only; ω is ranked on validation "
    "photographs; the rest is measured on test photographs. Accuracies under dropout use the "
    "threshold that suits the whole network best on the same images (0.5 on the training family), "
    "as published."
)


def results_markdown(demo: Demo) -> str:
    """Return the results as Markdown: every stage's sentence and tables, seeds and times."""
    parts = [
        "# Results on the embedded default",
        f"Made by `forensift demo`. {ABOUT}",
        _scale(demo),
    ]
    heading = ""
    for name, _, result in _every(demo):
        if name != heading:
            parts.append(f"## {name or 'All detectors'}")
            heading = name
        parts.append(views.markdown_of(views.view_of(result)))
    parts += [
        "## Where the weights come from",
        "Minutes are of two CPU cores that had other work too. The images that the detectors were "
        "trained on are made by the commands in [training.md](training.md).",
        views.markdown(weights_rows()),
    ]
    return "\n\n".join(parts) + "\n"


def write_index(demo: Demo, path: Path) -> None:
    """Write the page that shows every table and figure of a demo; no script, no network."""
    links, body, heading = [], [], None
    for name, stage, result in _every(demo):
        if name != heading:
            heading = name
            body.append(f"<h2>{html.escape(name or 'All detectors')}</h2>")
        folder = f"{name}/{stage}/" if name else f"{stage}/"
        view, anchor = views.view_of(result), html.escape(folder.strip("/").replace("/", "-"))
        title = html.escape(f"{name}: {view.title}" if name else view.title)
        links.append(f"<a href='#{anchor}'>{title}</a><br>")
        files = ", ".join(
            f"<a href='{html.escape(folder + one)}'>{html.escape(one)}</a>"
            for one in [*(f"{table}.csv" for table in view.tables), *view.files, "manifest.json"]
        )
        body.append(f"<section id='{anchor}'>{views.html_of(view, folder)}<p>{files}</p></section>")
    text = html.escape(f"{ABOUT} {_scale(demo)}".replace("`", ""))
    path.write_text(
        "<!doctype html><html lang='en'><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width'><title>forensift demo</title>"
        f"<style>{STYLE}</style><body><h1>What do these detectors look at?</h1><p>{text}</p>"
        f"<nav>{''.join(links)}</nav>{''.join(body)}</body></html>\n",
        encoding="utf-8",
    )


def _every(demo: Demo) -> Iterator[tuple[str, str, Result]]:
    for name, stages in [*demo.studies.items(), ("", demo.whole)]:
        for stage, result in stages.items():
            yield name, stage, result


def _scale(demo: Demo) -> str:
    scale, seconds = demo.facts["scale"], demo.facts["seconds"]
    took = ", ".join(f"{stage} {value:.0f} s" for stage, value in seconds.items())
    return (
        f"{scale['pairs']} pairs a family, {scale['side']} pixels, seed {demo.facts['seed']}, "
        f"{scale['draws']} draws of each random control. Time: {took}."
    )
