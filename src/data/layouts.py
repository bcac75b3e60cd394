"""Find the images of a folder or a CSV, whatever layout people keep them in."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import takewhile
from pathlib import Path

import pandas as pd

from ..errors import UserError, counted
from ..records import FAKE, REAL, ImageEntry, ImageSet
from .decode import EXTENSIONS

# Pairs of folder names (real, fake) and the layout they stand for.
PAIRS = {
    ("0_real", "1_fake"): "forensynths",
    ("nature", "ai"): "genimage",
    ("real", "fake"): "real-fake",
}
LABELS = {name: label for pair in PAIRS for name, label in zip(pair, (REAL, FAKE), strict=True)}
GRADIENTS = "_grad"  # ends the name of a folder of LGrad's gradient images: 0_real_grad
SPLITS = frozenset({"train", "val", "valid", "validation", "test"})
CONTAINERS = frozenset({"data", "dataset", "datasets", "images", "imgs"})  # say nothing either
# The class folders of ForenSynths, by which a single generator with classes is told apart from a
# folder of generators without: the two trees have the same shape.
# fmt: off
CLASSES = frozenset(
    [
        "airplane", "apple", "bedroom", "bicycle", "bird", "boat", "bottle", "bus", "car",
        "cat", "chair", "church", "cow", "diningtable", "dog", "horse", "motorbike",
        "orange", "person", "pottedplant", "sheep", "sofa", "summer", "train", "tvmonitor",
        "winter", "zebra",
    ]
)
# fmt: on

_QUALIFIER = re.compile(r"imagenet_.*|n\d{8}")  # GenImage's second folders, ImageNet's classes
COLUMNS = ("path", "label", "generator", "class")
# Other names that CSVs give these columns.
COLUMN_NAMES = {
    "path": ("path", "filename", "file_name", "file", "filepath", "file_path", "image_path",
             "image", "img_path"),
    "label": ("label", "target", "is_fake", "fake"),
    "generator": ("generator", "model", "architecture", "source"),
    "class": ("class", "class_name", "category"),
}  # fmt: skip
THREE_CLASSES = {"dm_generated": FAKE, "gan_generated": FAKE, "real": REAL}  # DeepFeatureX
SHARED = "shared-reals"
LAYOUTS = (*PAIRS.values(), SHARED, "deepfeaturex", "csv")
EXPECTED = (
    "expected <generator>/[<class>/]{0_real,1_fake}/*, a folder of such, "
    "<generator>/[train|val/]{nature,ai}/*, <generator>/{real,fake}/*, "
    "{real,<generator>,<generator> …}/*, {dm_generated,gan_generated,real}/<architecture>/*, "
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
    "{real,<generator>,<generator> …}, or in a CSV with the columns path,label,generator"
)


def scan(folder_or_csv: Path | str, *, layout: str = "auto") -> ImageSet:
    """Return the images of a folder or CSV manifest, sorted by path whatever the file system.

    Folders named 0_real, 1_fake, nature, ai, real or fake hold the images of one label, at any
    depth below them, also with ``_grad`` at their end (gradient images of LGrad). The first folder
    between the root and that one names the generator, the others the class; levels that all images
    share, or whose folders are all called train, val, test, data or images, are passed over. The
    root itself names the generator where no folder is left, or where all that are left are object
    classes of ForenSynths (``scan("stylegan2")``). Where a folder of reals has none of fakes beside
    it, the other folders there are generators, each paired with these reals (``{real,sdxl,adm}``).
    Of folders dm_generated, gan_generated and real (DeepFeatureX) each is a class, and those in it
    are its generators. A CSV settles what names cannot; its columns may have other usual names,
    its labels be words, the generator default to the CSV's name and the class to none.
    Hidden files and folders are ignored. A folder called like an image is listed as one, so that
    it is skipped by name later. What else is passed over stands in the set's ``left_out``.

    layout: 'auto', or one of LAYOUTS to take only that one.

    Raises:
        UserError: no such folder, no images, no known layout, or a CSV that does not fit.
    """
    source = Path(folder_or_csv).expanduser()
    if layout not in ("auto", *LAYOUTS):
        raise UserError(f"no layout {layout!r}; there are auto, {', '.join(LAYOUTS)}")
    if not source.exists():
        raise UserError(f"{source}: no such folder or file")
    if source.is_file():
        if layout not in ("auto", "csv") or source.suffix.lower() not in (".csv", ".tsv"):
            raise UserError(
                f"{source} is a file; give a folder of images or a CSV manifest (an archive or a "
                "table of images must be unpacked first)"
            )
        return _from_csv(source)
    root = Path(os.path.normpath(source.absolute()))
    others: Counter[str] = Counter()
    images = list(_images(root, Path(), others))
    left_out = _other_files(others)
    fakes = [name for name, label in THREE_CLASSES.items() if label == FAKE]
    if layout in ("auto", "deepfeaturex") and any((root / name).is_dir() for name in fakes):
        return _three_classes(root, images, left_out)
    return _by_folders(root, images, layout, left_out)


def _by_folders(root: Path, images: list[Path], layout: str, left_out: list[str]) -> ImageSet:
    """Return the images whose folders say what they are, the others as lines of ``left_out``."""
    found: list[tuple[Path, int, tuple[str, ...]]] = []  # path, label, folders above the label's
    unsaid, unasked = [], Counter[str]()
    layouts = set()
    for relative in images:
        at = label_folder(relative)
        if at is None:
            unsaid.append(relative)
            continue
        name = _plain(relative.parts[at])
        kind = next(kind for pair, kind in PAIRS.items() if name in pair)
        if layout in ("auto", SHARED, kind):
            layouts.add(kind)
            found.append((relative, LABELS[name], relative.parts[:at]))
        else:
            unasked[kind] += 1
    shared, unsaid = _shared(found, unsaid) if layout in ("auto", SHARED) else ([], unsaid)
    if layout == SHARED:
        found = []
    elif shared:
        pools = {above for _, _, above, _ in shared}
        found = [one for one in found if one[2] not in pools]
    if not found and not shared:
        _refuse(root, unsaid, layout, left_out)
    named = _generators_and_classes(root.name, [folders for _, _, folders in found])
    entries = [
        ImageEntry(root / path, label, *name)
        for (path, label, _), name in zip(found, named, strict=True)
    ]
    several = len({above for _, _, above, _ in shared}) > 1
    entries += [
        ImageEntry(root / path, label, generator, _joined(above) * several)
        for path, label, above, generator in shared
    ]
    if shared:
        entries.sort(key=lambda entry: (entry.path.parts, entry.generator))
        layouts = {SHARED} | (layouts if found else set())
    left_out += [
        f"{counted(n, 'image')} of the layout {kind}" for kind, n in sorted(unasked.items())
    ]
    left_out += _unlabelled(unsaid)
    return ImageSet(root, tuple(entries), "+".join(sorted(layouts)), tuple(left_out))


def _joined(folders: tuple[str, ...]) -> str:
    return "/".join(one for one in folders if one.lower() not in SPLITS | CONTAINERS)


Shared = tuple[Path, int, tuple[str, ...], str]  # path, label, folders above, generator


def _shared(
    found: list[tuple[Path, int, tuple[str, ...]]], unsaid: list[Path]
) -> tuple[list[Shared], list[Path]]:
    """Return images of generators' folders beside folders of reals alone, and these reals.

    A real is there once for each generator. Images in no such place are returned as they came.
    """
    reals: dict[tuple[str, ...], list[Path]] = {}
    for path, label, above in found:
        if label == REAL:
            reals.setdefault(above, []).append(path)
    pools = set(reals) - {above for _, label, above in found if label == FAKE}
    fakes: dict[tuple[tuple[str, ...], str], list[Path]] = {}
    rest = []
    for path in unsaid:
        folders = path.parts[:-1]
        at = next((n for n in range(len(folders) - 1, -1, -1) if folders[:n] in pools), None)
        if at is None or folders[at].lower() in SPLITS:
            rest.append(path)
        else:
            fakes.setdefault((folders[:at], folders[at]), []).append(path)
    paired: list[Shared] = []
    for (above, generator), paths in fakes.items():
        paired += [(path, FAKE, above, generator) for path in paths]
        paired += [(path, REAL, above, generator) for path in reals[above]]
    return paired, rest


def _unlabelled(paths: Iterable[Path]) -> list[str]:
    counts = Counter(path.parent.as_posix() for path in paths)
    return [
        f"{counted(n, 'image')} in {'the folder itself' if folder == '.' else f'{folder}/'}: no "
        f"folder above {'them' if n > 1 else 'it'} says real or fake"
        for folder, n in sorted(counts.items())
    ]


def _other_files(suffixes: Counter[str]) -> list[str]:
    return [
        f"{counted(n, f'{suffix} file'.strip())}{' without a suffix' * (not suffix)}: not a format "
        "that Pillow reads here"
        for suffix, n in sorted(suffixes.items())
    ]


def _three_classes(root: Path, images: list[Path], left_out: list[str]) -> ImageSet:
    """Return DeepFeatureX's ``{dm_generated,gan_generated,real}/<architecture>/*``."""
    fits = [path for path in images if path.parts[0] in THREE_CLASSES and len(path.parts) > 2]
    entries = [
        ImageEntry(root / path, THREE_CLASSES[path.parts[0]], path.parts[1], path.parts[0])
        for path in fits
    ]
    if not entries:
        raise UserError(f"{root}: no images in {'/, '.join(THREE_CLASSES)}/<architecture>/")
    stray = sorted(set(images) - set(fits))
    lines = (*left_out, *_unlabelled(stray))
    return ImageSet(root, tuple(entries), "deepfeaturex", lines)


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


def _images(
    root: Path, below: Path, others: Counter[str], above: tuple[str, ...] = ()
) -> Iterator[Path]:
    """Yield the paths of images below the root, depth first, sorted by name in each folder.

    others: other files are counted there by suffix, but for ``NOTES``.
    """
    here = os.path.realpath(root / below)
    if here in above:  # a link to a folder above itself
        return
    try:
        with os.scandir(here) as found:
            listed = sorted(found, key=lambda one: one.name)
    except OSError as error:
        raise UserError(f"{root / below}: {error.strerror}") from None
    for one in listed:
        if one.name.startswith("."):
            continue
        if not _is_text(one.name):
            raise UserError(f"{root / below}: the name {one.name!a} is not UTF-8; rename it")
        if one.name.lower().endswith(EXTENSIONS):
            yield below / one.name
        elif one.is_dir():
            yield from _images(root, below / one.name, others, (*above, here))
        elif (suffix := Path(one.name).suffix.lower()) not in NOTES and (suffix or below.parts):
            others[suffix] += 1


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def label_folder(relative: Path) -> int | None:
    """Return which of the folders above an image says its label; 0_real before nature and real."""
    folders = [_plain(part) for part in relative.parts[:-1]]
    for pair in PAIRS:
        for at, name in enumerate(folders):
            if name in pair:
                return at
    return None


def folder_label(relative: Path) -> int | None:
    """Return the label that the folders above an image say; None where they say none."""
    at = label_folder(relative)
    return None if at is None else LABELS[_plain(relative.parts[at])]


def _plain(folder: str) -> str:
    return folder.lower().removesuffix(GRADIENTS)


def _generators_and_classes(
    root_name: str, folders: list[tuple[str, ...]]
) -> list[tuple[str, str]]:
    """Return generator and class of each image from the folders between the root and the label."""
    folders = _without_shared(_without_splits(folders))
    firsts = {names[0].lower() for names in folders if names}
    if firsts <= CLASSES and all(len(names) <= 1 for names in folders):
        return [(root_name, "/".join(names)) for names in folders]
    below: dict[str, list[tuple[str, ...]]] = {}
    for names in folders:
        below.setdefault(names[0] if names else root_name, []).append(names[1:])
    cleaned = {generator: iter(_without_splits(rest)) for generator, rest in below.items()}
    generators = [names[0] if names else root_name for names in folders]
    return [(generator, "/".join(next(cleaned[generator]))) for generator in generators]


def _without_splits(folders: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Drop the first folder of each where all of them are called train, val, test or the like."""
    if folders and all(names and names[0].lower() in SPLITS | CONTAINERS for names in folders):
        return _without_splits([names[1:] for names in folders])
    return folders


def _without_shared(folders: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Drop leading folders that all images share and that name no generator.

    The folder nearest the label names the generator where there is one chain of folders alone, or
    where two or more levels are shared; object classes below it never do.
    """
    levels = zip(*folders, strict=False)
    shared = len(list(takewhile(lambda level: len(set(level)) == 1, levels)))
    alone = len(set(folders)) == 1
    drop = 0
    if alone or shared > 1:  # what is left must name a generator
        drop = shared - any(len(names) == shared for names in folders)
    while drop > 0 and any(_is_class(names[drop]) for names in folders if len(names) > drop):
        drop -= 1
    return [names[max(drop, 0) :] for names in folders]


def _is_class(folder: str) -> bool:
    name = folder.lower()
    return name in CLASSES | SPLITS or bool(_QUALIFIER.fullmatch(name))


def _refuse(root: Path, stray: list[Path], layout: str, left_out: list[str]) -> None:
    if stray:
        folders = sorted({one.parent.as_posix() for one in stray} - {"."})
        there = f" (they lie in {', '.join(folders[:3])}{' …' * (len(folders) > 3)})" * bool(
            folders
        )
        what = (
            f"{counted(len(stray), 'image')}, but none in a folder that says real or fake{there}; "
            "call the folders real and fake, or list the images in a CSV"
        )
        if _plain(root.name) in LABELS:
            what = f"{counted(len(stray), 'image')} of one label; give the folder above it"
        raise UserError(f"{root}: {what}; {EXPECTED}")
    if not any(root.iterdir()):
        raise UserError(f"{root} is empty; {EXPECTED}")
    asked = "" if layout == "auto" else f" in the layout {layout}"
    seen = f" (found {'; '.join(left_out)})" if left_out else ""
    raise UserError(f"{root}: no images (.png, .jpg, .webp …){asked}{seen}; {EXPECTED}")


def _from_csv(source: Path) -> ImageSet:
    table = _columns(source)
    if table.empty:
        raise UserError(f"{source}: no images are listed")
    words = {"0": REAL, "1": FAKE, "0.0": REAL, "1.0": FAKE, **LABELS}
    labels = table["label"].str.strip().str.lower().map(words)
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
