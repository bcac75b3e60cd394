"""The directive ``commands``: what ``--help`` says of every verb, from the command line itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from forensift.cli.app import VERBS, app


def cell(text: str) -> str:
    """Return a text as one cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def marked(text: str) -> str:
    """Return a text with its flags as code, where they are not already."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"(?<![\w-])(--[a-z][\w-]*)", r"`\1`", one) for one in parts[::2]]
    return "`".join(parts)


def sections(name: str, command: Any, level: int) -> Iterator[str]:
    """Yield Markdown: a heading, what a verb does, its options; commands of a verb below it."""
    context = typer.Context(command, info_name=name)
    yield f"{'#' * level} {name}\n"
    yield marked(command.help or "") + "\n"
    if hasattr(command, "list_commands"):
        for below in command.list_commands(context):
            yield from sections(f"{name} {below}", command.get_command(context, below), level + 1)
        return
    yield "| option | |\n|---|---|"
    for one in command.get_params(context):
        record = one.get_help_record(context)
        if record and one.name != "help":
            yield f"| `{cell(record[0])}` | {marked(cell(record[1]))} |"
    yield ""


class Commands(SphinxDirective):
    """Every verb, panel by panel."""

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        every = typer.main.get_command(app)
        context = typer.Context(every)
        text = []
        for panel, verbs in VERBS.items():
            text.append(f"## {panel}\n")
            for name in verbs:
                text.extend(sections(name, every.get_command(context, name), 3))
        return self.parse_text_to_nodes("\n".join(text), allow_section_headings=True)


def setup(app: Any) -> dict[str, bool]:
    """Let pages use it."""
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True}
