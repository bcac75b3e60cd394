"""How the documentation is built: ``make docs``, or ``sphinx-build -W docs build/docs``."""

from __future__ import annotations

import re
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
# Pages are found below this folder alone, and notebooks are looked for beside it.
shutil.copytree(
    HERE.parent / "notebooks",
    HERE / "notebooks",
    ignore=shutil.ignore_patterns(".*"),
    dirs_exist_ok=True,
)

project = "forensift"
author = "The forensift authors"
copyright = "The forensift authors, MIT"
version = release = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"][
    "version"
]

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "command_pages"]
nb_execution_mode = "off"  # notebooks are shown with the outputs that are stored in them
nb_merge_streams = True
myst_heading_anchors = 4
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
suppress_warnings = ["mystnb.unknown_mime_type"]

html_theme = "furo"
html_title = "forensift"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_show_sourcelink = False
html_copy_source = False

ITEM = re.compile(r"(?=[a-z_])([\w*]+(?:, (?:and )?[\w*]+)*): ")
SECTION = re.compile(r"(Args|Raises|Returns|Yields|Example|Note)s?:$")


def as_definitions(
    _app: Any, _what: str, _name: str, _of: Any, _options: Any, lines: list[str]
) -> None:
    """Make definitions of the lines ``name: what it is`` of a docstring, in place.

    The sections of Google's style are left to napoleon.
    """
    found: list[str] = []
    inside = False
    for at, line in enumerate(lines):
        if SECTION.match(line):
            found.extend(lines[at:])
            break
        item = ITEM.match(line)
        if item:
            named = ", ".join(f"``{one}``" for one in item[1].split(", "))
            found.extend(["", named, f"    {line[item.end() :]}"])
            inside = True
        elif not line.strip():
            found.append("")
            inside = False
        else:
            found.append(f"    {line.strip()}" if inside else line)
    lines[:] = found


def where_they_are(_app: Any, name: str, source: list[str]) -> None:
    """Let links between pages and notebooks, which hold in the repository, hold here too."""
    if name.startswith("notebooks/"):
        source[0] = source[0].replace("](../docs/", "](../")
    else:
        source[0] = source[0].replace("](../notebooks/", "](notebooks/")


def with_levels(_app: Any, _page: str, _template: str, context: dict[str, Any], _tree: Any) -> None:
    """Give the sidebar's captions the level that a heading needs for screen readers."""
    tree = context.get("furo_navigation_tree", "")
    context["furo_navigation_tree"] = tree.replace(
        'role="heading"', 'role="heading" aria-level="2"'
    )


def setup(app: Any) -> None:
    """Put the docstrings' own style in front of napoleon's, and links where pages are."""
    app.connect("source-read", where_they_are)
    app.connect("html-page-context", with_levels, priority=900)
    app.connect("autodoc-process-docstring", as_definitions, priority=400)
