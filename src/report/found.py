"""Saved results, found below folders and read back as they were shown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import UserError
from ..views.save import VIEW

MANIFEST = "manifest.json"
SKIPPED = "skipped.csv"
# The order in which a study is read: how good, what carries it, what that is, what it hangs on.
ORDER = (
    "Evaluation", "Ranking", "Rankings", "DropoutResult", "Patches", "Collages",
    "ColourResult", "ColourRobust", "MedianTestResult", "Embedding", "Transfer", "Explanations",
    "Faithfulness", "Robustness", "Spectra", "Planted", "Measured",
)  # fmt: skip
WHOLE = ("Demo", "OwnStudy", "Report")  # results that are made of others, which have own folders
MOST_PICTURES = 24  # of single images, of one result
MOST_ROWS = 200  # of a table without a view: the file has the rest


@dataclass(frozen=True)
class Table:
    """A table as people read it; keys: how many columns, from the left, name the row."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    keys: int = 1


@dataclass(frozen=True)
class Picture:
    """A figure; files: its formats, paths."""

    name: str
    caption: str
    files: Sequence[Path]


@dataclass(frozen=True, eq=False)
class Part:
    """One saved result.

    place: its folder below the one that was asked for; result: the record's class, '' if unknown;
    manifest: what ``manifest.json`` says.
    """

    folder: Path
    place: str
    result: str
    title: str
    said: str
    tables: Sequence[Table]
    figures: Sequence[Picture]
    files: Sequence[Path]
    manifest: Mapping[str, Any] = field(default_factory=dict)

    @property
    def detector(self) -> str:
        """The detector that it is of, '' where it is of several or of none."""
        named = self.manifest.get("detector")
        above = Path(self.place).parent.name
        if not isinstance(named, str):
            return ""
        return above if above.startswith(named) else named  # a variant's folder says which

    @property
    def is_whole(self) -> bool:
        """Whether it is made of the other parts, and so no section of its own."""
        return self.result in WHOLE

    @cached_property
    def skipped(self) -> pd.DataFrame:
        """The images that were left out: path, reason."""
        path = self.folder / SKIPPED
        return pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=["path", "reason"])

    def csv(self, name: str) -> pd.DataFrame | None:
        """Return a tidy table that the result saved, None where there is none."""
        path = self.folder / f"{name}.csv"
        return pd.read_csv(path) if path.is_file() else None


def read(folders: Iterable[Path | str]) -> list[Part]:
    """Return every result saved in or below the folders, in the order in which they are read.

    Raises:
        UserError: a folder is missing, or holds no result.
    """
    found: dict[Path, Part] = {}
    for given in map(Path, folders):
        if not given.is_dir():
            raise UserError(f"{given} is no folder; give one that a verb wrote with --out")
        below = [path.parent for path in sorted(given.rglob(MANIFEST))]
        results = [folder for folder in below if not _hidden(folder, given)]
        if not results:
            raise UserError(
                f"{given} holds no result: no {MANIFEST} in it or below; give a folder that a verb "
                "wrote with --out"
            )
        for folder in results:
            part = _read(folder, folder.relative_to(given).as_posix())
            if folder.resolve() not in found and (part.is_whole or _has_something(part)):
                found[folder.resolve()] = part
    if not any(not part.is_whole for part in found.values()):
        raise UserError(f"{', '.join(map(str, folders))}: no result there has tables or figures")
    return sorted(found.values(), key=_place)


def _hidden(folder: Path, root: Path) -> bool:
    # Image sets have manifests too; partial results are no results.
    return any(name in ("partials", "images") for name in folder.relative_to(root).parts)


def _has_something(part: Part) -> bool:
    return bool(part.tables or part.figures)


def _place(part: Part) -> tuple[Any, ...]:
    kind = ORDER.index(part.result) if part.result in ORDER else len(ORDER)
    return kind, part.place


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}; make the result again") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} is not what a verb writes there; make the result again")
    return found


def _read(folder: Path, place: str) -> Part:
    manifest = _json(folder / MANIFEST)
    files = sorted(path for path in folder.glob("*.csv") if path.name != SKIPPED)
    if not (folder / VIEW).is_file():
        return _unviewed(folder, place, manifest, files)
    told = _json(folder / VIEW)
    try:
        tables = [
            Table(one["caption"], one["columns"], one["rows"], one["keys"]) for one in told["shown"]
        ]
        figures = [
            Picture(one["name"], one["caption"], [folder / name for name in one["files"]])
            for one in told["figures"]
        ]
        kind, title, said = told["result"], told["title"], told["said"]
        figures += _others(folder, figures)
    except (KeyError, TypeError) as error:
        raise UserError(f"{folder / VIEW}: {error} is missing; make the result again") from None
    return Part(folder, place, kind, title, said, tables, figures, files, manifest)


# What an earlier version saved has no view; a table that one result alone writes says what it is.
KNOWN_BY = {
    "asked": "Measured", "evaluation": "Evaluation", "gap": "DropoutResult",
    "dropout": "DropoutResult", "boxes": "ColourResult", "colour_robust": "ColourRobust",
    "median_test": "MedianTestResult", "patches": "Patches", "quality": "Embedding",
    "transfer": "Transfer",
    "explained": "Explanations", "faithfulness": "Faithfulness", "robustness": "Robustness",
}  # fmt: skip


def _others(folder: Path, figures: Sequence[Picture]) -> list[Picture]:
    """Return pictures that a verb made image by image, beside its figures."""
    known = {path.name for one in figures for path in one.files}
    paths = [path for path in sorted(folder.glob("*.png")) if path.name not in known]
    return [Picture(path.stem, "", [path]) for path in paths[:MOST_PICTURES]]


def _unviewed(folder: Path, place: str, manifest: Mapping[str, Any], files: Sequence[Path]) -> Part:
    """Return a result that an earlier version saved: its tables and pictures as they lie there."""
    tables = []
    for path in files:
        rows = pd.read_csv(path, nrows=MOST_ROWS)
        shown = rows.map(lambda cell: f"{cell:.4g}" if isinstance(cell, float) else str(cell))
        tables.append(Table(path.name, list(rows.columns), shown.to_numpy().tolist()))
    pictures: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in (".png", ".svg"):
            pictures.setdefault(path.stem, []).append(path)
    title = folder.name.replace("-", " ").replace("_", " ")
    figures = [Picture(name, "", paths) for name, paths in pictures.items()]
    said = str(manifest.get("said", ""))
    names = {path.stem for path in files}
    kind = next((result for name, result in KNOWN_BY.items() if name in names), "")
    return Part(folder, place, kind, title, said, tables, figures, files, manifest)
