"""A result on disk: its tables, its figures, and ``view.json``, from which pages are made."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..figures import save as save_figure
from ..files import write_bytes, write_csv, write_manifest, write_with
from .view import View

VIEW = "view.json"


def save(
    result: Any,
    folder: Path,
    facts: Mapping[str, Any] | None = None,
    progress: Callable[[str, float, int], None] | None = None,
) -> Path:
    """Write a result's tables (CSV), figures, files, ``view.json`` and ``manifest.json``.

    A table that the files hold as NAME.parquet is written there alone.
    facts: of the run, for the manifest, before the result's own. progress: told what is being
    done, how many figures are drawn, and of how many.
    """
    from . import view_of

    view, folder = view_of(result), Path(folder)
    for name, table in view.tables.items():
        if f"{name}.parquet" not in view.files:
            write_csv(folder / f"{name}.csv", table)
    for name, write in view.files.items():
        write_with(folder / name, write)
    drawn = {}
    for number, (name, draw) in enumerate(view.figures.items()):
        if progress:
            progress("drawing figures", number, len(view.figures))
        drawn[name] = save_figure(draw(), folder, name)
    write_bytes(folder / VIEW, _as_json(type(result).__name__, view, drawn, folder).encode())
    write_manifest(folder, {**(facts or {}), **view.facts, "said": view.said})
    return folder


def _as_json(kind: str, view: View, drawn: Mapping[str, list[Path]], folder: Path) -> str:
    """Return what a page shows: title, sentence, tables as people read them, figures by file."""
    shown = [
        {
            "caption": one.caption,
            "keys": one.keys,
            "columns": [str(name) for name in one.rows.columns],
            "rows": [[str(cell) for cell in row] for row in one.rows.to_numpy().tolist()],
        }
        for one in view.shown
    ]
    pictures = [
        {
            "name": name,
            "caption": view.captions.get(name, ""),
            "files": [path.relative_to(folder).as_posix() for path in paths],
        }
        for name, paths in drawn.items()
    ]
    told = {
        "result": kind,
        "title": view.title,
        "said": view.said,
        "shown": shown,
        "figures": pictures,
        "tables": list(view.tables),
    }
    return json.dumps(told, indent=1, ensure_ascii=False) + "\n"
