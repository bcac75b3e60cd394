"""The pages of a demo: an index for a browser, and the results as Markdown."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from ...files import write_bytes
from ...views.sections import Section
from ...views.text import markdown
from .demo import Demo
from .weights import weights_rows

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 66rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; font-size: 13px; margin: 1rem 0 }
td, th { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #ddd }
td:first-child, th:first-child, td:nth-child(2) { text-align: left }
img { max-width: 100% } p.said { background: #f4f4f0; padding: .8rem 1rem }
"""


def write_results(demo: Demo, path: Path) -> None:
    """Write the results as Markdown: every stage's sentence and tables, seeds and times."""
    took = ", ".join(f"{stage} {value:.0f} s" for stage, value in demo.seconds.items())
    scale = demo.facts["scale"]
    assert isinstance(scale, dict)
    parts = [
        "# Results on the embedded default",
        "Made by `forensift demo`; every number below comes from its tables. Fakes are held-out "
        "photographs re-synthesised by small trained networks. Detectors are trained on "
        "`progan-like` fakes of training photographs only; ω is ranked on validation photographs; "
        "the rest is measured on test photographs. Percent; [ ] are 95 % intervals drawn by "
        "photograph; ± is the standard deviation over draws. Accuracies under dropout use the "
        "threshold that suits the whole network best on the same images (0.5 on the training "
        "family), as published.",
        f"{scale['pairs']} pairs a family, {scale['side']} pixels, seed {demo.facts['seed']}, "
        f"{scale['draws']} draws of each random control. {demo.facts['images_decoded']} images "
        f"were decoded, once each, though the stages asked {demo.facts['images_asked_for']} times. "
        f"Time: {took}.",
    ]
    for study in demo.studies:
        parts.append(f"## {study.name}")
        parts += [text for section in study.sections for text in _written(section)]
    if demo.sections:
        parts.append("## All detectors")
        parts += [text for section in demo.sections for text in _written(section)]
    parts += [
        "## Where the weights come from",
        "Minutes are of two CPU cores that had other work too. The images that the detectors were "
        "trained on are made by the commands in [training.md](training.md).",
        markdown(weights_rows()),
    ]
    write_bytes(path, ("\n\n".join(parts) + "\n").encode())


def write_index(demo: Demo, path: Path) -> None:
    """Write the page that shows every table and figure of a demo; no script, no network."""
    scale = demo.facts["scale"]
    assert isinstance(scale, dict)
    body = [
        "<h1>What do these detectors look at?</h1>",
        "<p>Photographs that no training saw, re-synthesised by small trained generators. "
        f"{scale['pairs']} pairs a family; made in {demo.seconds['whole']:.0f} s.</p>",
    ]
    for study in demo.studies:
        body.append(f"<h2>{html.escape(study.name)}</h2>")
        body += _shown(study.sections, f"{study.name}/")
        files = sorted(one.name for one in (demo.folder / study.name).iterdir() if one.is_file())
        links = ", ".join(
            f"<a href='{html.escape(f'{study.name}/{one}')}'>{html.escape(one)}</a>"
            for one in files
        )
        body.append(f"<p>Files: {links}</p>")
    if demo.sections:
        body.append("<h2>All detectors</h2>")
        body += _shown(demo.sections, "")
    page = (
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>forensift demo</title>"
        f"<style>{STYLE}</style><body>{''.join(body)}</body></html>\n"
    )
    write_bytes(path, page.encode())


def _written(section: Section) -> list[str]:
    if not (section.said or section.tables):
        return []
    parts = [f"### {section.title}"]
    if section.said:
        parts.append(section.said)
    for table in section.tables:
        parts += [f"*{table.caption}*", markdown(table.rows)]
    return parts


def _shown(sections: Sequence[Section], folder: str) -> list[str]:
    parts = []
    for section in sections:
        parts.append(f"<h3>{html.escape(section.title)}</h3>")
        if section.said:
            parts.append(f"<p class='said'>{html.escape(section.said)}</p>")
        for name, text in section.figures:
            source = html.escape(folder + name)
            parts.append(f"<p><img src='{source}' alt='{html.escape(text)}'></p>")
        for table in section.tables:
            parts.append(f"<p><i>{html.escape(table.caption)}</i></p>")
            parts.append(table.rows.to_html(index=False, border=0, escape=True))
    return parts
