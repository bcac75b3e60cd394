"""Tables that list images: CSV and its kin."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from ..errors import UserError
from ..records import FAKE, ImageEntry, ImageSet
from .names import VALUES

COLUMNS = ("path", "label", "generator", "class")
# Other names that CSVs give these columns.
COLUMN_NAMES = {
    "path": ("path", "filename", "file_name", "file", "filepath", "file_path", "image_path",
             "image", "img_path"),
    "label": ("label", "target", "is_fake", "fake"),
    "generator": ("generator", "model", "architecture", "source"),
    "class": ("class", "class_name", "category"),
}  # fmt: skip


def read_csv(source: Path) -> ImageSet:
    table = _columns(source)
    if table.empty:
        raise UserError(f"{source}: no images are listed")
    labels = table["label"].str.strip().str.lower().map(VALUES)
    if labels.isna().any():
        row = int(labels.isna().to_numpy().argmax())
        raise UserError(
            f"{source}, row {row + 2}: label {table['label'].iloc[row]!r}; "
            "it must be 0 or real, 1 or fake"
        )
    unnamed = (table["path"] == "") | (table["generator"] == "")
    if unnamed.any():
        row = int(unnamed.to_numpy().argmax())
        raise UserError(f"{source}, row {row + 2}: path or generator is empty")
    folder = source.absolute().parent
    entries = [
        ImageEntry(Path(os.path.normpath(folder / path)), int(label), generator, class_name)
        for path, label, generator, class_name in zip(
            table["path"], labels, table["generator"], table["class"], strict=True
        )
    ]
    _refuse_repeats(source, entries, list(table["path"]))
    # By path parts, the order in which a folder is walked.
    entries.sort(key=lambda entry: (entry.path.parts, entry.generator))
    # What the images share, not where the CSV lies: an image's id must not hold a machine's path.
    root = Path(os.path.commonpath([entry.path.parent for entry in entries]))
    return ImageSet(root, tuple(entries), "csv")


def _columns(source: Path) -> pd.DataFrame:
    """Return a CSV's columns by the names of COLUMNS; generator and class may be missing."""
    try:
        with source.open(encoding="utf-8-sig", newline="") as opened:
            first = opened.readline()
        separator = max(",;\t", key=first.count)
        table = pd.read_csv(source, dtype=str, keep_default_na=False, sep=separator)
    except (ValueError, OSError) as error:  # pandas' parser errors are ValueErrors
        raise UserError(f"{source}: cannot be read as CSV: {str(error).strip()}") from None
    given = {str(name).strip().lower(): name for name in table.columns}
    found = {}
    for column, names in COLUMN_NAMES.items():
        own = next((given[name] for name in names if name in given), None)
        if own is not None:
            found[column] = table[own]
        elif column in ("path", "label"):
            others = ", ".join(map(repr, names[1:4]))
            raise UserError(
                f"{source}: column {column!r} is missing (also {others} …); the columns found are "
                f"{', '.join(map(str, table.columns))}; a manifest has {','.join(COLUMNS)}"
            )
    empty = pd.Series("", index=table.index)
    found.setdefault("generator", empty.replace("", source.stem))
    found.setdefault("class", empty)
    return pd.DataFrame(found)


def _refuse_repeats(source: Path, entries: list[ImageEntry], paths: list[str]) -> None:
    """Refuse a file listed twice, however it is spelt; a real may stand once for each generator."""
    seen: dict[Path, list[ImageEntry]] = {}
    for row, entry in enumerate(entries):
        before = seen.setdefault(entry.path, [])
        for other in before:
            if entry.generator == other.generator or FAKE in (entry.label, other.label):
                raise UserError(f"{source}, row {row + 2}: {paths[row]} is listed twice")
        before.append(entry)
