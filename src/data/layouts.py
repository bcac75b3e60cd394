"""Find the images of a folder or a table, whatever layout people keep them in."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from ..archives import COMPRESSED, Tar, Zip, container, is_container
from ..archives import SUFFIXES as CONTAINERS
from ..errors import UserError, counted
from ..records import FAKE, REAL, ImageEntry, ImageSet
from .decode import EXTENSIONS
from .folders import BELOW, SHARED, Reading, Tree, read_folders, unlabelled
from .names import LABELS, WORDS, plain
from .tables import COLUMNS, SUFFIXES, Words, read_parquets, read_samples, read_table

THREE_CLASSES = {"dm_generated": FAKE, "gan_generated": FAKE, "real": REAL}  # DeepFeatureX
LAYOUTS = (*WORDS, BELOW, SHARED, "deepfeaturex", "csv")
EXPECTED = (
    "expected <generator>/[<class>/]{0_real,1_fake}/*, a folder of such, "
    "<generator>/[train|val/]{nature,ai}/*, <generator>/{real,fake}/*, "
    "{real/*,fake/<generator>/*}, {real,<generator>,<generator> …}/*, "
    "{dm_generated,gan_generated,real}/<architecture>/*, a folder of generators with --reals DIR, "
    "or a CSV with the columns path,label,generator,class"
)
# Files that lie beside images and are none; any other suffix is told of.
NOTES = frozenset(
    {
        ".txt", ".csv", ".tsv", ".json", ".jsonl", ".md", ".xml", ".yaml", ".yml", ".html", ".log",
        ".ini", ".db", ".py", ".ipynb", ".toml", ".cfg", ".sha256", ".md5", ".pdf", ".rst", ".sh",
    }
)  # fmt: skip
MEND = (
    "reals that several generators share belong in a folder 'real' beside the generators' own, "
    "{real,<generator>,<generator> …}, are given to scan as reals (--reals DIR), or stand in a CSV "
    "with the columns path,label,generator"
)
REALS_OF = 3  # generators, pools … that a line names


def scan(
    folder_or_csv: Path | str,
    *,
    layout: str = "auto",
    reals: Path | str | None = None,
    columns: Mapping[str, str] | None = None,
    real_values: Sequence[str] = (),
) -> ImageSet:
    """Return the images of a folder or CSV manifest, sorted by path whatever the file system.

    Folders named 0_real, 1_fake, nature, ai, real or fake (or another word of
    ``data.names.WORDS``) hold the images of one label, at any depth below them, also with
    ``_grad`` at their end (gradient images of LGrad). The first folder between the root and that
    one names the generator, the others the class; levels that all images share, or whose folders
    are all called train, val, test, data or images, are passed over. The root itself names the
    generator where no folder is left, or where all that are left are object classes of
    ForenSynths (``scan("stylegan2")``). Where nothing is left above and the folders below the label
    differ between reals and fakes (``real/redcaps``, ``fake/flux``, ``fake/sdxl``), these name the
    generators; where both readings are possible, ``layout`` has to say which.

    Reals may be shared: beside a folder of reals without one of fakes, the other folders are
    generators (``{real,sdxl,adm}``); generators that have fakes alone get the reals of those that
    have reals alone (``imagenet/0_real``, ``ldm_200/1_fake``). Such a real is listed once for each
    generator, and ``notes`` says so.

    Of folders dm_generated, gan_generated and real (DeepFeatureX) each is a class, and those in it
    are its generators. A CSV settles what names cannot; its columns may have other usual names,
    its labels be words, the generator default to the CSV's name and the class to none.
    Hidden files and folders are ignored. A folder called like an image is listed as one, so that
    it is skipped by name later. What else is passed over stands in the set's ``left_out``.

    ZIP and TAR files, alone or in a folder without images, are read as the folders in them say,
    or, where a ``.cls`` or ``.json`` lies beside each image (WebDataset), as these say; parquets by
    their columns; JSON and JSON lines as CSV. Nothing is unpacked: paths lead through the file,
    ``set.zip/a/b.png``, for every stage.

    layout: 'auto', or one of LAYOUTS to take only that one; reals: a folder of reals, in this one
    or anywhere, for all generators that have none; what no folder calls real is then a fake;
    columns: a table's own column → path, label, generator or class; real_values: the labels that
    are real, all others are then fake.

    Raises:
        UserError: no such folder, no images, no known layout, two possible ones, or a CSV that
            does not fit.
    """
    source = Path(folder_or_csv).expanduser()
    words = Words(columns, real_values)
    if layout not in ("auto", *LAYOUTS):
        raise UserError(f"no layout {layout!r}; there are auto, {', '.join(LAYOUTS)}")
    if not source.exists():
        raise UserError(f"{source}: no such folder or file")
    if source.is_file() and not is_container(source):
        if source.suffix.lower() not in SUFFIXES or layout not in ("auto", "csv"):
            _refuse_file(source)
        return share_reals(read_table(source, words))
    root = Path(os.path.normpath(source.absolute()))
    others: Counter[str] = Counter()
    beside: Counter[str] = Counter()
    tree: Tree = {}
    held: list[Path] = []
    if source.is_file():
        held = [root]
    else:
        _walk(root, (), tree, others, beside, held)
    left_out = _other_files(others)
    if tree and held:
        kinds = Counter(path.suffix.lower() for path in held)
        left_out += [
            f"{counted(n, f'{suffix} file')}: not looked into beside images; give it by itself"
            for suffix, n in sorted(kinds.items())
        ]
    elif held:
        found = _listed(root, held, words)
        if found is not None:
            return share_reals(found)
        left_out += _unpacked(root, held, tree, others)
    fakes = [name for name, label in THREE_CLASSES.items() if label == FAKE]
    if layout in ("auto", "deepfeaturex") and any((root / name).is_dir() for name in fakes):
        reading = _three_classes(root, tree)
    else:
        pool = None if reals is None else _pool(root, tree, Path(reals))
        reading = _read(root, tree, layout, pool)
        if not reading.rows:
            _refuse(root, reading.stray, layout, left_out)
    reading.left_out[:0] = left_out
    return _image_set(root, tree, reading, beside)


def _listed(root: Path, held: list[Path], words: Words) -> ImageSet | None:
    """Return what parquets or the samples of WebDataset shards say, None where there are none."""
    parquets = [path for path in held if path.suffix.lower() == ".parquet"]
    if parquets:
        return read_parquets(root, parquets, words)
    shards = [(path, container(path)) for path in held]
    return read_samples(root, shards, words)  # type: ignore[arg-type]


def _unpacked(root: Path, held: list[Path], tree: Tree, others: Counter[str]) -> list[str]:
    """Add what lies in archives to the tree, as if each were a folder; return what is left out."""
    lines = []
    for path in held:
        found = container(path)
        assert isinstance(found, Zip | Tar)
        below: tuple[str, ...] = ()
        if path != root:
            below = (*path.relative_to(root).parts[:-1], path.stem)
        prefix = "" if path == root else f"{path.relative_to(root).as_posix()}/"
        for name in sorted(found.names, key=lambda one: one.split("/")):
            *folders, base = name.split("/")
            if any(one.startswith(".") or one == "__MACOSX" for one in (*folders, base)):
                continue
            if base.lower().endswith(EXTENSIONS):
                inside = folders[1:] if folders[:1] == [path.stem] else folders
                tree.setdefault((*below, *inside), []).append(prefix + name)
            elif (suffix := Path(base).suffix.lower()) not in NOTES:
                others[suffix] += 1
        if found.refused:
            lines.append(
                f"{counted(len(found.refused), 'member')} of {path.name}: a link, or a name that "
                f"leads out of it ({found.refused[0][:60]!a})"
            )
    return lines + _other_files(others)


def _refuse_file(source: Path) -> None:
    name = source.name.lower()
    if name.endswith(COMPRESSED):
        raise UserError(
            f"{source} is compressed as a whole, so that no image in it can be reached by itself; "
            "take that off (gunzip, unxz) and give the .tar"
        )
    raise UserError(
        f"{source} is a file; give a folder of images, a ZIP, TAR or parquet of them, or a CSV, "
        "TSV, JSON or JSONL that lists them"
    )


def _read(root: Path, tree: Tree, layout: str, pool: tuple[str, ...] | None) -> Reading:
    try:
        return read_folders(tree, root.stem if root.is_file() else root.name, layout, pool)
    except UserError as error:
        raise UserError(f"{root}: {error}") from None


def _pool(root: Path, tree: Tree, reals: Path) -> tuple[str, ...]:
    """Return where in the tree the reals are; those from elsewhere are added to it.

    Raises:
        UserError: no such folder, or no images in it.
    """
    there = next((one for one in (root / reals, reals.expanduser()) if one.is_dir()), None)
    if there is None:
        raise UserError(f"reals {reals}: no such folder, here or in {root}")
    there = Path(os.path.normpath(there.absolute()))
    if there.is_relative_to(root):
        place = there.relative_to(root).parts
    else:
        own: Tree = {}
        _walk(there, (), own, Counter(), Counter(), [])
        place = (there.as_posix(),)
        tree |= {
            (*place, *one): [f"{there}/{path}" for path in paths] for one, paths in own.items()
        }
    if not place or not any(one[: len(place)] == place for one in tree):
        raise UserError(f"reals {there}: no images (.png, .jpg, .webp …) in this folder")
    return place


def _image_set(root: Path, tree: Tree, reading: Reading, beside: Counter[str]) -> ImageSet:
    base = f"{root}/"
    paths = {one: [Path(base + path if path[:1] != "/" else path) for path in tree[one]]
             for one in {row[0] for row in reading.rows}}  # fmt: skip
    entries = [
        ImageEntry(path, label, generator, name)
        for folder, label, generator, name in reading.rows
        for path in paths[folder]
    ]
    entries.sort(key=lambda entry: (entry.path.parts, entry.generator))
    if any(one[0].startswith("/") for one in paths if one):
        root = Path(os.path.commonpath([root, *(entry.path.parent for entry in entries)]))
    words = {
        kind: ", ".join(sorted(reading.words[label]))
        for label, kind in ((REAL, "real"), (FAKE, "fake"))
    }
    read = [(kind, said) for kind, said in words.items() if said]
    read += [("generator", reading.named)] * bool(reading.named)
    told = ", ".join(f"{n} {suffix}" for suffix, n in sorted(beside.items()))
    read += [("no images", told)] * bool(told)
    images = ImageSet(
        root,
        tuple(entries),
        "+".join(sorted(reading.layouts)),
        tuple(reading.left_out),
        tuple(reading.notes),
        tuple(read),
    )
    # Real is a class beside the others there, and each of its images counts once.
    return images if "deepfeaturex" in reading.layouts else share_reals(images)


def share_reals(images: ImageSet) -> ImageSet:
    """Return the set with the reals of generators without fakes under each that has no reals."""
    kinds: dict[str, set[int]] = {}
    for entry in images:
        kinds.setdefault(entry.generator, set()).add(entry.label)
    pools = sorted(name for name, labels in kinds.items() if labels == {REAL})
    lone = sorted(name for name, labels in kinds.items() if labels == {FAKE})
    notes = list(images.notes)
    if pools and lone:
        kept: list[ImageEntry] = []
        for entry in images:
            if entry.generator not in pools:
                kept.append(entry)
                continue
            parts = [entry.generator] * (len(pools) > 1) + [entry.class_name] * bool(
                entry.class_name
            )
            kept += [ImageEntry(entry.path, REAL, name, "/".join(parts)) for name in lone]
        kept.sort(key=lambda entry: (entry.path.parts, entry.generator))
        layout = "+".join(sorted({*images.layout.split("+"), SHARED}))
        images = replace(images, entries=tuple(kept), layout=layout)
        if len(pools) > 1:
            notes.append(
                f"the reals are those of {_some(pools)} together; to take one of them, give it as "
                "reals (--reals DIR)"
            )
    if images.shared_reals:
        notes.append(shared_note(images))
    return replace(images, notes=tuple(notes))


def shared_note(images: ImageSet) -> str:
    """Say how many reals several generators share."""
    times = Counter(entry.path for entry in images if entry.label == REAL)
    shared = {path for path, n in times.items() if n > 1}
    names = sorted({e.generator for e in images if e.label == REAL and e.path in shared})
    verb = "is" if len(shared) == 1 else "are"
    return f"{counted(len(shared), 'real')} {verb} shared by {counted(len(names), 'generator')}"


def _some(names: list[str]) -> str:
    more = len(names) - REALS_OF
    return ", ".join(names[:REALS_OF]) + f" and {more} more" * (more > 0)


def _other_files(suffixes: Counter[str]) -> list[str]:
    return [
        f"{counted(n, f'{suffix} file'.strip())}{' without a suffix' * (not suffix)}: not a format "
        "that Pillow reads here"
        for suffix, n in sorted(suffixes.items())
    ]


def _three_classes(root: Path, tree: Tree) -> Reading:
    """Return the reading of DeepFeatureX's ``{dm_generated,gan_generated,real}/<architecture>``."""
    fits = [one for one in tree if one[:1] and one[0] in THREE_CLASSES and len(one) > 1]
    if not fits:
        raise UserError(f"{root}: no images in {'/, '.join(THREE_CLASSES)}/<architecture>/")
    reading = Reading(layouts={"deepfeaturex"}, named="the folder below the class")
    reading.rows = [(one, THREE_CLASSES[one[0]], one[1], one[0]) for one in fits]
    for one in fits:
        reading.words[THREE_CLASSES[one[0]]].add(one[0])
    reading.left_out = unlabelled(tree, set(tree) - set(fits))
    return reading


def require_both_classes(images: ImageSet) -> None:
    """Check that every generator has real and fake images.

    Raises:
        UserError: a generator lacks one of the two, or the set is empty.
    """
    if not len(images):
        raise UserError(f"{images.root}: no images")
    counts: dict[str, list[int]] = {}
    for entry in images:
        counts.setdefault(entry.generator, [0, 0])[entry.label] += 1
    for generator, (n_real, n_fake) in sorted(counts.items()):
        if n_real == 0 or n_fake == 0:
            lacking, other = ("real", n_fake) if n_real == 0 else ("fake", n_real)
            present = "fake" if n_real == 0 else "real"
            raise UserError(
                f"{images.root}: generator {generator!r} has no {lacking} images "
                f"(and {other} {present}); {MEND}"
                + (f"; left out: {'; '.join(images.left_out)}" if images.left_out else "")
            )


def manifest_table(images: ImageSet, relative_to: Path | None = None) -> pd.DataFrame:
    """Return the table of ``manifest.csv``: path, label, generator, class.

    relative_to: the folder the CSV will lie in; paths are relative to it, else as they are.
    """
    rows = []
    for entry in images:
        path = entry.path.absolute()
        if relative_to is not None:
            path = Path(os.path.relpath(path, Path(relative_to).absolute()))
        rows.append((path.as_posix(), entry.label, entry.generator, entry.class_name))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _walk(
    root: Path,
    below: tuple[str, ...],
    tree: Tree,
    others: Counter[str],
    beside: Counter[str],
    held: list[Path],
    above: tuple[str, ...] = (),
) -> None:
    """Add the images below the root to the tree, a list a folder, sorted by name.

    Archives are added to ``held``; other files are counted by suffix, notes in ``beside``, all else
    in ``others``.
    """
    folder = root.joinpath(*below)
    here = os.path.realpath(folder)
    if here in above:  # a link to a folder above itself
        return
    try:
        with os.scandir(here) as found:
            listed = sorted(found, key=lambda one: one.name)
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}") from None
    prefix = "".join(f"{one}/" for one in below)
    images = []
    for one in listed:
        if one.name.startswith("."):
            continue
        if not _is_text(one.name):
            raise UserError(f"{folder}: the name {one.name!a} is not UTF-8; rename it")
        if one.name.lower().endswith(EXTENSIONS):
            images.append(prefix + one.name)
        elif one.is_dir():
            _walk(root, (*below, one.name), tree, others, beside, held, (*above, here))
        elif one.name.lower().endswith(CONTAINERS):
            held.append(folder / one.name)
        elif (suffix := Path(one.name).suffix.lower()) in NOTES:
            beside[suffix] += 1
        elif suffix or below:
            others[suffix] += 1
    if images:
        tree[below] = images


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse(root: Path, stray: dict[str, int], layout: str, left_out: list[str]) -> None:
    if stray:
        folders = sorted(one for one in stray if one)
        there = f" (they lie in {', '.join(folders[:3])}{' …' * (len(folders) > 3)})"
        images = counted(sum(stray.values()), "image")
        what = (
            f"{images}, but none in a folder that says real or fake{there * bool(folders)}; "
            "call the folders real and fake, name that of the reals (--reals DIR), or list the "
            "images in a CSV"
        )
        if plain(root.name) in LABELS:
            what = f"{images} of one label; give the folder above it"
        raise UserError(f"{root}: {what}; {EXPECTED}")
    if root.is_dir() and not any(root.iterdir()):
        raise UserError(f"{root} is empty; {EXPECTED}")
    asked = "" if layout == "auto" else f" in the layout {layout}"
    seen = f" (found {'; '.join(left_out)})" if left_out else ""
    raise UserError(f"{root}: no images (.png, .jpg, .webp …){asked}{seen}; {EXPECTED}")
