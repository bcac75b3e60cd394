"""The words by which folders and tables say what an image is: one table, asked from the top."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..records import FAKE, REAL

# layout → words of real images, words of fakes; letters of any case. The first line with a word in
# a path decides, so that real/biggan/0_real is what 0_real says.
WORDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "forensynths": (("0_real",), ("1_fake",)),
    "genimage": (("nature",), ("ai",)),
    "real-fake": (("real", "reals"), ("fake", "fakes")),
    "words": (
        ("natural", "original", "originals", "authentic", "photo", "photos", "photograph",
         "photographs", "genuine", "pristine"),
        ("synthetic", "generated", "ai_generated", "ai-generated", "aigc", "aigi", "artificial",
         "synthesized", "synthesised", "synthesis", "computer_generated", "manipulated",
         "tampered", "full_synthetic", "fully_synthetic", "deepfake", "deepfakes"),
    ),
    "0-1": (("0",), ("1",)),
}  # fmt: skip
DIGITS, OTHER = "0-1", "words"
STRONG = tuple(kind for kind in WORDS if kind not in (DIGITS, OTHER))
LABELS = {
    word: label
    for kind, both in WORDS.items()
    if kind != DIGITS
    for label, words in zip((REAL, FAKE), both, strict=True)
    for word in words
}
# What a generator is called where a table says of an image that it has none.
NO_GENERATOR = frozenset({"", "real", "reals", "none", "nan", "null", "-", "n/a", "nature"})
# Words in the label column of a table, beside LABELS.
VALUES = {"0": REAL, "1": FAKE, "0.0": REAL, "1.0": FAKE, "false": REAL, "true": FAKE} | LABELS | {
    "gan": FAKE, "sd": FAKE, "diffusion": FAKE,
}  # fmt: skip
GRADIENTS = "_grad"  # ends the name of a folder of LGrad's gradient images: 0_real_grad
SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing", "eval"})
CONTAINERS = frozenset({"data", "dataset", "datasets", "images", "imgs"})  # say nothing either
# Folders beside images that hold something else than images to be judged.
ASIDE = frozenset(
    {"mask", "masks", "annotation", "annotations", "map", "maps", "prompt", "prompts", "thumbs",
     "thumbnails", "landmarks", "ground_truth", "groundtruth", "gt"}
)  # fmt: skip
# Collections of photographs: where no folder says real or fake, one so named holds the reals.
PHOTOGRAPHS = re.compile(
    r"(raise|ms[-_]?coco|coco|imagenet|laion|redcaps|ffhq|celeba|lsun|open[-_]?images|flickr|"
    r"dresden|vision|fodb|mit[-_]?5k|fivek|unsplash)([-_ ]?(\d+k?|hq|png|jpe?g|val|train|test|"
    r"real|20\d\d|v\d))*",
    re.I,
)
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
Folder = tuple[str, ...]


@dataclass(frozen=True)
class Said:
    """What the place of a folder says: a label, the word for it, and the folders around it."""

    label: int
    kind: str
    word: str
    above: Folder
    below: Folder


def plain(folder: str) -> str:
    """Return a folder's name as the table has it."""
    return folder.lower().removesuffix(GRADIENTS)


def is_class(folder: str) -> bool:
    """Whether a name is one of an object class or a split, and so of no generator."""
    name = folder.lower()
    return name in CLASSES | SPLITS or bool(_QUALIFIER.fullmatch(name))


def is_number(folder: str) -> bool:
    """Whether a folder only cuts many files into parts: 000, 001 …"""
    return bool(re.fullmatch(r"(part|chunk|shard)?[-_]?\d+", folder.lower()))


def label_folder(relative: Path) -> int | None:
    """Return which of the folders above an image says its label; 0_real before nature and real."""
    return _place(relative.parts[:-1], STRONG)[0]


def folder_label(relative: Path) -> int | None:
    """Return the label that the folders above an image say; None where they say none."""
    at = label_folder(relative)
    return None if at is None else LABELS[plain(relative.parts[at])]


def said(folders: Iterable[Folder]) -> dict[Folder, Said]:
    """Return what each folder of a tree says, without those that say nothing.

    Words that may also name a generator or a class (``generated``, ``photo``) count only where no
    plainer word says the opposite beside them; 0 and 1 only where nothing else says anything.
    """
    folders = list(folders)
    found = {one: what for one in folders if (what := _said(one, (*STRONG, OTHER)))}
    if not found:
        return _by_digits(folders)
    plainly: dict[Folder, set[int]] = {}
    pools: dict[Folder, set[int]] = {}
    for what in found.values():
        pools.setdefault(what.above, set()).add(what.label)
        if what.kind != OTHER:
            plainly.setdefault(what.above, set()).add(what.label)
    others = {
        one[:depth]
        for one in folders
        if one not in found and not ASIDE.intersection(map(str.lower, one))
        for depth in range(len(one))
    }
    return {
        one: what
        for one, what in found.items()
        if what.kind != OTHER
        or not (
            len(plainly.get(what.above, ())) == 2
            or (what.label == FAKE and what.above in others and REAL in pools[what.above])
        )
    }


def _by_digits(folders: list[Folder]) -> dict[Folder, Said]:
    """Take 0 for real and 1 for fake where these two are all that lies beside each other."""
    beside: dict[Folder, set[str]] = {}
    for folder in folders:
        for depth, name in enumerate(folder):
            beside.setdefault(folder[:depth], set()).add(name)
    pairs = {above for above, names in beside.items() if names == {"0", "1"}}
    found = {}
    for folder in folders:
        at = next((n for n in range(len(folder)) if folder[:n] in pairs), None)
        if at is not None:
            found[folder] = Said(int(folder[at]), DIGITS, folder[at], folder[:at], folder[at + 1 :])
    return found


def _said(folder: Folder, kinds: Iterable[str]) -> Said | None:
    at, kind = _place(folder, kinds)
    if at is None:
        return None
    return Said(LABELS[plain(folder[at])], kind, folder[at], folder[:at], folder[at + 1 :])


def _place(folder: Folder, kinds: Iterable[str]) -> tuple[int | None, str]:
    names = [plain(part) for part in folder]
    for kind in kinds:
        words = WORDS[kind]
        for at, name in enumerate(names):
            if name in words[0] or name in words[1]:
                return at, kind
    return None, ""
