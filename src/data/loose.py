"""Images that need no label: single files, and all that lie in folders."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import UserError
from ..records import ImageEntry, ImageSet
from .decode import EXTENSIONS


def image_files(paths: Path | str | Sequence[Path | str]) -> ImageSet:
    """Return files, and the images in folders (recursively, sorted), each once, in that order.

    Hidden files and folders are passed over. The entries' label and generator say nothing. The
    set's root is the folder that all images share, so that ids are the paths below it.

    Raises:
        UserError: a path that is not there, or a folder without images.
    """
    given = [paths] if isinstance(paths, (str, Path)) else list(paths)
    found: dict[Path, None] = {}
    for one in given:
        path = absolute(Path(one))
        if path.is_dir():
            inside = _below(path)
            if not inside:
                raise UserError(f"{path}: no images (.png, .jpg, .webp …) in this folder")
            found.update(dict.fromkeys(inside))
        elif path.exists():
            found[path] = None
        else:
            raise UserError(f"{one}: no such file or folder")
    if not found:
        raise UserError("no images are given")
    root = Path(os.path.commonpath([path.parent for path in found]))
    return ImageSet(root, tuple(ImageEntry(path, 0, "") for path in found))


def absolute(path: Path) -> Path:
    """Return where a path leads, as the entries of an image set say it."""
    return Path(os.path.normpath(Path(path).expanduser().absolute()))


def short_names(images: ImageSet) -> list[str]:
    """Return for each image a short name for its results: its stem, made unique by a number.

    No two names are equal, in letters of any case.
    """
    taken: set[str] = set()
    names = []
    for entry in images:
        stem = name = entry.path.stem
        number = 1
        while name.lower() in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.lower())
        names.append(name)
    return names


def _below(folder: Path) -> list[Path]:
    inside = [
        path
        for path in folder.rglob("*")
        if path.name.lower().endswith(EXTENSIONS)
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and not path.is_dir()
    ]
    return sorted(inside, key=lambda path: path.parts)
