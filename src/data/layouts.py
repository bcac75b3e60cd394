"""Find the images of a folder or a CSV, whatever layout people keep them in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from ..errors import UserError
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

COLUMNS = ("path", "label", "generator", "class")
THREE_CLASSES = {"dm_generated": FAKE, "gan_generated": FAKE, "real": REAL}  # DeepFeatureX
LAYOUTS = (*PAIRS.values(), "deepfeaturex", "csv")
EXPECTED = (
    "expected <generator>/[<class>/]{0_real,1_fake}/*, a folder of such, "
    "<generator>/[train|val/]{nature,ai}/*, <generator>/{real,fake}/*, "
    "{dm_generated,gan_generated,real}/<architecture>/*, "
    "or a CSV with the columns path,label,generator,class"
)


def scan(folder_or_csv: Path | str, *, layout: str = "auto") -> ImageSet:
    """Return the images of a folder or CSV manifest, sorted by path whatever the file system.

    Folders named 0_real, 1_fake, nature, ai, real or fake hold the images of one label, at any
    depth below them, also with ``_grad`` at their end (gradient images of LGrad). The first folder
    between the root and that one names the generator, the others the class; a level whose folders
    are all called train, val or test is passed over. The root itself names the generator where no
    folder is left, or where all that are left are object classes of ForenSynths
    (``scan("stylegan2")``). A CSV settles what names cannot. Of folders dm_generated,
    gan_generated and real (DeepFeatureX) each is a class, and those in it are its generators.
    Hidden files and folders are ignored. A folder called like an image is listed as one, so that
    it is skipped by name later.

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
        if layout not in ("auto", "csv") or source.suffix.lower() != ".csv":
            raise UserError(f"{source} is a file; give a folder of images or a CSV manifest")
        return _from_csv(source)
    root = Path(os.path.normpath(source.absolute()))
    fakes = [name for name, label in THREE_CLASSES.items() if label == FAKE]
    if layout in ("auto", "deepfeaturex") and any((root / name).is_dir() for name in fakes):
        return _three_classes(root)
    found: list[tuple[Path, int, tuple[str, ...]]] = []  # path, label, folders above the label's
    layouts, stray = set(), 0
    for relative in _images(root, Path()):
        at = label_folder(relative)
        if at is None:
            stray += 1
            continue
        name = _plain(relative.parts[at])
        pair = next(pair for pair in PAIRS if name in pair)
        if layout in ("auto", PAIRS[pair]):
            layouts.add(PAIRS[pair])
            found.append((root / relative, LABELS[name], relative.parts[:at]))
    if not found:
        _refuse(root, stray, layout)
    named = _generators_and_classes(root.name, [folders for _, _, folders in found])
    entries = tuple(
        ImageEntry(path, label, *name) for (path, label, _), name in zip(found, named, strict=True)
    )
    return ImageSet(root, entries, "+".join(sorted(layouts)))


def _three_classes(root: Path) -> ImageSet:
    """Return DeepFeatureX's ``{dm_generated,gan_generated,real}/<architecture>/*``."""
    entries = [
        ImageEntry(root / path, THREE_CLASSES[path.parts[0]], path.parts[1], path.parts[0])
        for path in _images(root, Path())
        if path.parts[0] in THREE_CLASSES and len(path.parts) > 2
    ]
    if not entries:
        raise UserError(f"{root}: no images in {'/, '.join(THREE_CLASSES)}/<architecture>/")
    return ImageSet(root, tuple(entries), "deepfeaturex")


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
                f"(and {other} {present})"
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


def _images(root: Path, below: Path, above: tuple[str, ...] = ()) -> Iterator[Path]:
    """Yield the paths of images below the root, depth first, sorted by name in each folder."""
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
            yield from _images(root, below / one.name, (*above, here))


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


def _plain(folder: str) -> str:
    return folder.lower().removesuffix(GRADIENTS)


def _generators_and_classes(
    root_name: str, folders: list[tuple[str, ...]]
) -> list[tuple[str, str]]:
    """Return generator and class of each image from the folders between the root and the label."""
    folders = _without_splits(folders)
    firsts = {names[0].lower() for names in folders if names}
    if firsts <= CLASSES and max(map(len, folders)) <= 1:
        return [(root_name, "/".join(names)) for names in folders]
    below: dict[str, list[tuple[str, ...]]] = {}
    for names in folders:
        below.setdefault(names[0] if names else root_name, []).append(names[1:])
    cleaned = {generator: iter(_without_splits(rest)) for generator, rest in below.items()}
    generators = [names[0] if names else root_name for names in folders]
    return [(generator, "/".join(next(cleaned[generator]))) for generator in generators]


def _without_splits(folders: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Drop the first folder of each where all of them are called train, val or test."""
    if all(names and names[0].lower() in SPLITS for names in folders):
        return [names[1:] for names in folders]
    return folders


def _refuse(root: Path, stray: int, layout: str) -> None:
    if stray:
        what = f"{stray} images, but none in a folder that says real or fake"
        if _plain(root.name) in LABELS:
            what = f"{stray} images of one label; give the folder above it"
        raise UserError(f"{root}: {what}; {EXPECTED}")
    if not any(root.iterdir()):
        raise UserError(f"{root} is empty; {EXPECTED}")
    asked = "" if layout == "auto" else f" in the layout {layout}"
    raise UserError(f"{root}: no images ({' '.join(EXTENSIONS)}){asked}; {EXPECTED}")


def _from_csv(source: Path) -> ImageSet:
    try:
        table = pd.read_csv(source, dtype=str, keep_default_na=False)
    except (ValueError, OSError) as error:  # pandas' parser errors are ValueErrors
        raise UserError(f"{source}: cannot be read as CSV: {str(error).strip()}") from None
    lacking = [column for column in COLUMNS if column not in table.columns]
    if lacking:
        raise UserError(
            f"{source}: column {lacking[0]!r} is missing; a manifest has {','.join(COLUMNS)}"
        )
    if table.empty:
        raise UserError(f"{source}: no images are listed")
    wrong = table[~table["label"].isin(["0", "1"])]
    if len(wrong):
        raise UserError(
            f"{source}, row {wrong.index[0] + 2}: label {wrong.iloc[0]['label']!r}; "
            "it must be 0 (real) or 1 (fake)"
        )
    unnamed = table[(table["path"] == "") | (table["generator"] == "")]
    if len(unnamed):
        raise UserError(f"{source}, row {unnamed.index[0] + 2}: path or generator is empty")
    repeated = table[table["path"].duplicated()]
    if len(repeated):
        raise UserError(
            f"{source}, row {repeated.index[0] + 2}: {repeated.iloc[0]['path']} is listed twice"
        )
    folder = source.absolute().parent
    entries = [
        ImageEntry(Path(os.path.normpath(folder / path)), int(label), generator, class_name)
        for path, label, generator, class_name in table[list(COLUMNS)].itertuples(index=False)
    ]
    # By path parts, the order in which a folder is walked.
    entries.sort(key=lambda entry: entry.path.parts)
    # What the images share, not where the CSV lies: an image's id must not hold a machine's path.
    root = Path(os.path.commonpath([entry.path.parent for entry in entries]))
    return ImageSet(root, tuple(entries), "csv")
