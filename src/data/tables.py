"""Tables that list images, or hold them: CSV, TSV, JSON, JSON lines, parquet, WebDataset."""

from __future__ import annotations

import gc
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from ..archives import Parquet, Tar, Zip, container
from ..errors import UserError, counted
from ..records import FAKE, REAL, ImageEntry, ImageSet
from .decode import EXTENSIONS
from .names import NO_GENERATOR, SPLITS, VALUES

COLUMNS = ("path", "label", "generator", "class")
# Other names that tables give these columns, the first that is there counts.
COLUMN_NAMES = {
    "path": ("path", "filename", "file_name", "file", "filepath", "file_path", "image_path",
             "image", "img_path"),
    "label": ("label", "target", "is_fake", "fake"),
    "generator": ("generator", "model_name", "model", "architecture", "typ", "method", "source"),
    "class": ("class", "class_name", "category"),
}  # fmt: skip
SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".txt")
_SHARD = re.compile(r"[-_.]?\d+([-_]of[-_]\d+)?$")


class Words:
    """What is said of a table's words: its columns' names and its labels.

    columns: the table's own name → one of COLUMNS; reals: the values of label that are real, all
    others are fake; none: the usual words.
    """

    def __init__(self, columns: Mapping[str, str] | None = None, reals: Sequence[str] = ()) -> None:
        for own, meant in (columns or {}).items():
            if meant not in COLUMNS:
                raise UserError(f"map {own}={meant}: there are {', '.join(COLUMNS)}")
        self.columns = {meant: own for own, meant in (columns or {}).items()}
        self.reals = {one.strip().lower() for one in reals}

    def names(self, given: Iterable[str]) -> dict[str, str]:
        """Return COLUMNS → the table's own names, of those that are there.

        Raises:
            UserError: a column that the words name is not there.
        """
        by_name = {str(name).strip().lower(): str(name) for name in given}
        found = {}
        for column, names in COLUMN_NAMES.items():
            wanted = self.columns.get(column)
            if wanted is not None and wanted.lower() not in by_name:
                raise UserError(f"no column {wanted!r}; there are {', '.join(by_name.values())}")
            taken = {one.lower() for one in self.columns.values()} - {str(wanted).lower()}
            names = (wanted.lower(),) if wanted else tuple(one for one in names if one not in taken)
            own = next((by_name[name] for name in names if name in by_name), None)
            if own is not None:
                found[column] = own
        return found

    def label(self, value: str) -> int | None:
        """Return what a value of the label column means, None where that is not known."""
        word = value.strip().lower()
        if self.reals:
            return REAL if word in self.reals else FAKE
        return VALUES.get(word)


PLAIN = Words()


def read_table(source: Path, words: Words = PLAIN) -> ImageSet:
    """Return the images that a CSV, TSV, JSON, JSONL or text list names.

    Raises:
        UserError: it cannot be read, or lacks what is needed.
    """
    table = _columns(source, words)
    if table.empty:
        raise UserError(f"{source}: no images are listed")
    urls = table["path"].str.match(r"(?i)(https?|ftp)://")
    if urls.any():
        raise UserError(
            f"{source}: lists addresses ({table['path'][urls].iloc[0]}); nothing is downloaded "
            "here: fetch the files and list their paths"
        )
    labels = [words.label(value) for value in table["label"]]
    if None in labels:
        row = labels.index(None)
        seen = ", ".join(sorted(set(table["label"]))[:6])
        raise UserError(
            f"{source}, row {row + 2}: label {table['label'].iloc[row]!r}; it must be 0 or real, 1 "
            f"or fake (found: {seen}); --real-values says which of these are real"
        )
    _refuse_one_label(source, words, table["label"])
    generators = list(table["generator"])
    if any(one and label == FAKE for one, label in zip(generators, labels, strict=True)):
        generators = [
            one or ("real" if label == REAL else "")
            for one, label in zip(generators, labels, strict=True)
        ]
    unnamed = [not path or not one for path, one in zip(table["path"], generators, strict=True)]
    if any(unnamed):
        row = unnamed.index(True)
        raise UserError(f"{source}, row {row + 2}: path or generator is empty")
    folder = source.absolute().parent
    entries = [
        ImageEntry(Path(os.path.normpath(folder / path)), int(label or 0), generator, class_name)
        for path, label, generator, class_name in zip(
            table["path"], labels, generators, table["class"], strict=True
        )
    ]
    _refuse_repeats(source, entries, list(table["path"]))
    # By path parts, the order in which a folder is walked.
    entries.sort(key=lambda entry: (entry.path.parts, entry.generator))
    # What the images share, not where the CSV lies: an image's id must not hold a machine's path.
    root = Path(os.path.commonpath([entry.path.parent for entry in entries]))
    return ImageSet(root, tuple(entries), "csv", reading=_reading(table["label"], words))


def _refuse_one_label(source: Path, words: Words, values: Iterable[str]) -> None:
    seen = set(values)
    if words.reals and not words.reals & {one.strip().lower() for one in seen}:
        raise UserError(
            f"{source}: real_values {', '.join(sorted(words.reals))}: the labels are "
            f"{', '.join(sorted(seen)[:6])}"
        )


def _reading(values: Iterable[str], words: Words) -> tuple[tuple[str, str], ...]:
    seen: dict[int | None, set[str]] = {}
    for one in set(values):
        seen.setdefault(words.label(one), set()).add(one)
    kinds = ((REAL, "real"), (FAKE, "fake"))
    return tuple((kind, ", ".join(sorted(seen[label]))) for label, kind in kinds if label in seen)


def _columns(source: Path, words: Words) -> pd.DataFrame:
    """Return a table's columns by the names of COLUMNS; generator and class may be missing."""
    try:
        table = _frame(source)
    except (ValueError, OSError) as error:  # pandas' parser errors are ValueErrors
        if isinstance(error, UserError):
            raise
        raise UserError(f"{source}: cannot be read as {source.suffix[1:].upper()}: "
                        f"{str(error).strip()}") from None  # fmt: skip
    try:
        names = words.names(table.columns)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    if "label" not in names and "generator" in names:  # one column says both: real, sdxl, adm
        own = table[names["generator"]].str.strip().str.lower()
        reals = words.reals or {one for one, label in VALUES.items() if label == REAL} - {"0"}
        if own.isin(reals).any():
            table = table.assign(label_=[str(int(one not in reals)) for one in own])
            names["label"] = "label_"
            words.reals = set()
    for column in ("path", "label"):
        if column not in names:
            others = ", ".join(map(repr, COLUMN_NAMES[column][1:4]))
            raise UserError(
                f"{source}: column {column!r} is missing (also {others} …); the columns found are "
                f"{', '.join(map(str, table.columns))}; --map OWN={column} says which it is; a "
                f"manifest has {','.join(COLUMNS)}"
            )
    found = {column: table[own] for column, own in names.items()}
    empty = pd.Series("", index=table.index)
    found.setdefault("generator", empty.replace("", source.stem))
    found.setdefault("class", empty)
    return pd.DataFrame(found)


def _frame(source: Path) -> pd.DataFrame:
    suffix = source.suffix.lower()
    if suffix in (".csv", ".tsv"):
        with source.open(encoding="utf-8-sig", newline="") as opened:
            first = opened.readline()
        separator = max(",;\t", key=first.count)
        return pd.read_csv(source, dtype=str, keep_default_na=False, sep=separator,
                           encoding="utf-8-sig")  # fmt: skip
    text = source.read_text(encoding="utf-8-sig")
    if suffix == ".txt":  # 'path label', as published lists have it
        pairs = [line.rsplit(maxsplit=1) for line in text.splitlines() if line.strip()]
        if any(len(one) == 1 and re.match(r"(?i)(https?|ftp)://", one[0]) for one in pairs):
            return pd.DataFrame({"path": [one[0] for one in pairs], "label": "0"})
        if any(len(one) != 2 for one in pairs):
            raise ValueError("a list has a path and a label in each line")
        return pd.DataFrame(pairs, columns=["path", "label"], dtype=str)
    if suffix in (".jsonl", ".ndjson"):
        rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    else:
        rows = _records(json.loads(text))
    if not rows or not all(isinstance(one, dict) for one in rows):
        raise ValueError("expected a list of objects with path and label")
    return pd.DataFrame(rows).map(_text)


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and value != value):
        return ""
    return str(int(value)) if isinstance(value, bool | float) and value in (0, 1) else str(value)


def _records(found: Any) -> list[Any]:
    """Return the rows of a JSON: a list, a list in an object, {path: label}, or nested frames."""
    if isinstance(found, list):
        return found
    if not isinstance(found, dict):
        return []
    if found and all(str(key).lower().endswith(EXTENSIONS) for key in found):
        return [
            {"path": path, **(facts if isinstance(facts, dict) else {"label": facts})}
            for path, facts in found.items()
        ]
    if isinstance(found.get("frames"), list):  # DeepfakeBench: dataset → label → split → video
        label = str(found.get("label", ""))
        real = bool(re.search(r"(^|[^a-z])real($|[^a-z])", label.lower()))
        return [
            {"path": str(one).replace("\\", "/"), "label": int(not real), "generator": label}
            for one in found["frames"]
        ]
    return [row for one in found.values() if isinstance(one, dict | list) for row in _records(one)]


def _refuse_repeats(source: Path, entries: list[ImageEntry], paths: list[str]) -> None:
    """Refuse a file listed twice, however it is spelt; a real may stand once for each generator."""
    seen: dict[Path, list[ImageEntry]] = {}
    for row, entry in enumerate(entries):
        before = seen.setdefault(entry.path, [])
        for other in before:
            if entry.generator == other.generator or FAKE in (entry.label, other.label):
                raise UserError(f"{source}, row {row + 2}: {paths[row]} is listed twice")
        before.append(entry)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep Python from looking for cycles again and again among millions of new objects."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@_uncollected()
def read_parquets(root: Path, files: Sequence[Path], words: Words = PLAIN) -> ImageSet:
    """Return the rows of parquets of image bytes, of which no image is read.

    A label is what the schema's ClassLabel calls it, never its integer. Without a column for the
    generator, files of several splits that are no train, test … (``sd15-00000-of-00004``) are
    generators.

    Raises:
        UserError: no column of images or labels, or a label whose meaning is not known.
    """
    entries: list[ImageEntry] = []
    notes: set[str] = set()
    seen: Counter[str] = Counter()
    splits = {path: _SHARD.sub("", path.stem) for path in files}
    several = {one for one in splits.values() if one.lower() not in SPLITS}
    known: dict[int, set[str]] = {REAL: set(), FAKE: set()}
    for path in files:
        held = container(path)
        assert isinstance(held, Parquet)
        columns = _parquet_columns(path, held, words)
        n = held.file.metadata.num_rows
        if "label" not in columns:
            raise UserError(
                f"{path}: no column of labels; there are {', '.join(held.schema.names)}; "
                "--map OWN=label says which it is"
            )
        values, codes = columns["label"]
        labels = [words.label(one) for one in values]
        if None in labels:
            raise UserError(
                f"{path}: label {values[labels.index(None)]!r} of {', '.join(sorted(values)[:6])} "
                "is not known; --real-values says which of these are real"
            )
        _refuse_one_label(path, words, values)
        for value, label in zip(values, labels, strict=True):
            known[int(label or 0)].add(value)
        if not held.class_labels and set(values) <= {"0", "1"} and not words.reals:
            notes.add("label 0 is taken for real and 1 for fake: the file does not name them")
        default = splits[path] if len(several) > 1 else _SHARD.sub("", root.stem)
        own, at = columns.get("generator", ([default], None))
        own = ["real" if one.lower() in NO_GENERATOR else one for one in own]
        classes, class_at = columns.get("class", ([""], None))
        names = _file_names(held)
        base, stem = f"{path}/", path.stem
        for row in range(n):
            name = names[row] if names else None
            # The stem is the photograph's name, and no two members have the same name.
            name = f"{_stem(name)}.{row}" if name else f"{stem}.{row}.row"
            label = labels[codes[row]]
            generator = own[at[row]] if at is not None else own[0]
            class_name = classes[class_at[row]] if class_at is not None else ""
            where = Path(base + name)
            entries.append(ImageEntry(where, int(label or 0), generator, class_name))
        if splits[path].lower() in SPLITS:
            seen[splits[path]] += n
    if len(seen) > 1:
        told = " and ".join(f"{one} ({counted(seen[one], 'image')})" for one in sorted(seen))
        notes.add(f"{told} are taken together; give the file of one for it alone")
    reading = [(kind, ", ".join(sorted(known[label])))
               for label, kind in ((REAL, "real"), (FAKE, "fake")) if known[label]]  # fmt: skip
    return ImageSet(root, tuple(entries), "parquet", (), tuple(sorted(notes)), tuple(reading))


def _parquet_columns(path: Path, held: Parquet, words: Words) -> dict[str, tuple[list[str], Any]]:
    """Return label, generator and class of a parquet: their values, and which each row has."""
    if held.image is None:
        raise UserError(
            f"{path}: no column holds image bytes; there are {', '.join(held.schema.names)}"
        )
    try:
        names = words.names([one for one in held.schema.names if one != held.image])
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    names.pop("path", None)
    found = {}
    for column, own in names.items():
        coded = held.file.read(columns=[own]).column(0).combine_chunks().dictionary_encode()
        texts = [_text(one) for one in coded.dictionary.to_pylist()]
        if own in held.class_labels:
            given = held.class_labels[own]
            texts = [given[int(one)] if one.isdigit() and int(one) < len(given) else one
                     for one in texts]  # fmt: skip
        codes = coded.indices.fill_null(len(texts)).to_numpy(zero_copy_only=False)
        found[column] = [*texts, ""] if coded.null_count else texts, codes.tolist()
    return found


def _stem(name: str) -> str:
    return name.rsplit("/", 1)[-1].rsplit(".", 1)[0] or "_"


def _file_names(held: Parquet) -> list[str | None] | None:
    if not held.has_path:
        return None
    read = held.file.read(columns=[f"{held.image}.path"]).column(0).combine_chunks()
    names: list[str | None] = read.field("path").to_pylist()
    return names if any(names) else None


def read_samples(
    root: Path, shards: Sequence[tuple[Path, Zip | Tar]], words: Words = PLAIN
) -> ImageSet | None:
    """Return the samples of WebDataset shards, ``000.jpg`` with ``000.cls`` or ``000.json``.

    None where no such file says a label.

    Raises:
        UserError: a label whose meaning is not known.
    """
    entries, values = [], []
    for path, held in shards:
        samples: dict[str, dict[str, str]] = {}
        for name in held.names:
            folder, _, base = name.rpartition("/")
            key, _, suffix = base.partition(".")
            samples.setdefault(f"{folder}/{key}", {})["." + suffix.lower()] = name
        group = _SHARD.sub("", path.stem)
        default = root.stem if group.lower() in {*SPLITS, ""} else group
        for parts in samples.values():
            image = next((parts[one] for one in parts if one.endswith(EXTENSIONS)), None)
            if image is None or not ({".cls", ".json", ".txt"} & parts.keys()):
                continue
            facts: dict[str, Any] = {}
            try:
                if ".json" in parts:
                    told = json.loads(held.read(parts[".json"]))
                    facts = told if isinstance(told, dict) else {"label": told}
                if ".cls" in parts:
                    facts["label"] = held.read(parts[".cls"]).decode().strip()
            except (ValueError, OSError):
                continue
            names = words.names(facts) if "label" not in words.columns else words.columns
            value = _text(facts.get(names.get("label", "label")))
            if not value:
                continue
            label = words.label(value)
            if label is None:
                raise UserError(f"{path}: label {value!r} of {image}; --real-values says which "
                                "labels are real")  # fmt: skip
            generator = _text(facts.get(names.get("generator", ""))) or default
            values.append(value)
            where = Path(f"{path}/{image}")
            class_name = _text(facts.get(names.get("class", "")))
            entries.append(ImageEntry(where, label, generator, class_name))
    if not entries:
        return None
    entries.sort(key=lambda entry: (entry.path.parts, entry.generator))
    return ImageSet(root, tuple(entries), "webdataset", reading=_reading(values, words))
