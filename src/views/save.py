"""A result on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..figures import save as save_figure
from ..files import write_csv, write_manifest, write_with


def save(result: Any, folder: Path, facts: Mapping[str, Any] | None = None) -> Path:
    """Write a result's tables (CSV), figures (PNG and PDF), files and ``manifest.json``.

    A table that the files hold as NAME.parquet is written there alone.
    facts: of the run, for the manifest, before the result's own.
    """
    from . import view_of

    view, folder = view_of(result), Path(folder)
    for name, table in view.tables.items():
        if f"{name}.parquet" not in view.files:
            write_csv(folder / f"{name}.csv", table)
    for name, write in view.files.items():
        write_with(folder / name, write)
    for name, draw in view.figures.items():
        save_figure(draw(), folder, name)
    write_manifest(folder, {**(facts or {}), **view.facts, "said": view.said})
    return folder
