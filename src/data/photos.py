"""The photographs of the embedded default, split once by photograph and never by crop."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Literal, get_args

import numpy as np
import pandas as pd

from ..errors import UserError
from ..files import home

Split = Literal["train", "train-interiors", "train-others", "validation", "test", "all"]

# How many photographs of each content kind go to each side; 36 + 6 + 15 = 57.
SHARES = {
    "interior": {"test": 10, "validation": 4, "train": 24},
    "outdoor": {"test": 4, "validation": 2, "train": 9},
    "object": {"test": 1, "validation": 0, "train": 3},
}

# One photographer's shoot in the same rooms with the same furniture: all of it is trained on, so
# that no held-out wall, chair or plant was ever seen.
ONE_SHOOT = (
    "pexels-6956495.jpg",
    "pexels-6963783.jpg",
    "pexels-6963788.jpg",
    "pexels-7303773.jpg",
    "pexels-7303782.jpg",
    "pexels-7303800.jpg",
    "pexels-7303842.jpg",
    "pexels-7303992.jpg",
    "pexels-7303994.jpg",
    "pexels-7303995.jpg",
    "pexels-cup-of-couple-6962851.jpg",
    "pexels-cup-of-couple-6963787.jpg",
    "pexels-cup-of-couple-7303788.jpg",
    "pexels-cup-of-couple-7303987.jpg",
)


def split_photographs(attribution: pd.DataFrame) -> pd.DataFrame:
    """Return the split that ``photos/SPLIT.csv`` holds: columns file, split, sorted by file.

    attribution: columns file and content (interior, outdoor or object), as in ATTRIBUTION.csv.
    Within a content kind, photographs outside the one shoot are ordered by the SHA-256 of their
    file name; the first go to test, the next to validation, all others to train.
    """
    side: dict[str, str] = {}
    for content, shares in SHARES.items():
        files = attribution.loc[attribution["content"] == content, "file"]
        free = sorted(set(files) - set(ONE_SHOOT), key=_keyed)
        held_out = shares["test"] + shares["validation"]
        side.update(dict.fromkeys(files, "train"))
        side.update(dict.fromkeys(free[: shares["test"]], "test"))
        side.update(dict.fromkeys(free[shares["test"] : held_out], "validation"))
    return pd.DataFrame(sorted(side.items()), columns=["file", "split"])


def photographs(split: Split = "all") -> list[Path]:
    """Return the paths of the embedded photographs of one split, sorted by file name.

    train-interiors and train-others (outdoors and objects) are the two parts of train, by what
    ATTRIBUTION.csv says of their content: 24 and 12 photographs.

    Raises:
        UserError: the split is unknown, or the photographs or their SPLIT.csv are missing.
    """
    if split not in get_args(Split):
        raise UserError(f"no split {split!r} of the photographs; there are {get_args(Split)}")
    folder = home() / "photos"
    listed = folder / "SPLIT.csv"
    if not listed.is_file():
        raise UserError(f"{listed} is missing; restore it from the repository")
    table = pd.read_csv(listed)
    side, _, part = split.partition("-")
    chosen = table if split == "all" else table[table["split"] == side]
    if part:
        contents = pd.read_csv(folder / "ATTRIBUTION.csv").set_index("file")["content"]
        inside = chosen["file"].map(contents) == "interior"
        chosen = chosen[inside if part == "interiors" else ~inside]
    paths = [folder / name for name in sorted(chosen["file"])]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise UserError(f"{folder} lacks {len(missing)} photographs, first {missing[0]}")
    return paths


def _keyed(name: str) -> str:
    return hashlib.sha256(f"forensift photographs {name}".encode()).hexdigest()


def photograph_names(paths: Iterable[str | PurePath]) -> np.ndarray:
    """Return the photograph of each image: its file name without a final -NUMBER, that of a crop.

    Where that leaves one or two names for everything the number is no crop's, and each file name
    stands for a photograph of its own. Equal names in different folders are one photograph.
    """
    stems = [PurePath(path).stem for path in paths]
    names = [photograph_name(stem) for stem in stems]
    return np.array(names if len(set(names)) > 2 else stems, dtype=str)


def photograph_name(stem: str) -> str:
    """Return what one image shows, by its file's stem; of a set ask :func:`photograph_names`."""
    return re.sub(r"-\d+$", "", stem)
