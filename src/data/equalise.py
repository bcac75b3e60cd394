"""JPEG made equal between reals and fakes before a detector sees them.

Data sets often keep reals as JPEG and fakes as PNG, and a detector that has learnt the difference
looks good. Three ways to take it away, none of them without a flaw, so show all three: compress
the fakes as the reals are (fair to the reals, but only fakes lose detail), compress both at one
quality (reals are then compressed twice), or nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from ..errors import UserError
from ..records import FAKE, REAL, ImageSet
from ..rng import keyed
from .decode import UnreadableImage
from .degrade import jpeg
from .formats import Tables, format_facts, standard_tables

MODES = ("none", "fakes", "both")
FORMS = "none, fakes, fakes:QUALITY, both or both:QUALITY"
QUALITY = 96  # of ``both``: that of most of GenImage's reals, and of published aligned sets
_WRITTEN = ("4:4:4", "4:2:2", "4:2:0")  # what Pillow can write


@dataclass(frozen=True)
class Kind:
    """How a JPEG is compressed: quantisation tables and chroma subsampling."""

    tables: Tables
    subsampling: str

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return the RGB image compressed so."""
        tables = [list(table) for table in self.tables]
        return jpeg(image, qtables=tables, subsampling=self.subsampling)


@dataclass(frozen=True)
class JpegEqualiser:
    """A transform for :func:`forensift.data.batches` that compresses some images in memory.

    kinds: image id → how that image is compressed; images not named stay as they are.
    facts: for the manifest: mode, quality, images compressed by label.
    """

    kinds: Mapping[str, Kind]
    facts: Mapping[str, object] = field(default_factory=dict)

    def __call__(self, image: Image.Image, key: str) -> Image.Image:
        kind = self.kinds.get(key)
        return image if kind is None else kind(image)


def jpeg_equaliser(images: ImageSet, asked: str, *, seed: int = 0) -> JpegEqualiser | None:
    """Return the transform that makes JPEG equal as ``asked`` (one of FORMS), None for 'none'.

    ``fakes``: in each generator the fakes get the tables and subsamplings of its reals, in the same
    shares; a fake that has one of them already keeps it, as far as the share goes, and which of
    the others gets which is drawn by the seed and the image's id. ``fakes:QUALITY``: every fake is
    compressed at that quality, 4:2:0. ``both:QUALITY`` (96 if not said): every image is.

    Raises:
        UserError: another word or quality, or ``fakes`` without one where no real is a JPEG.
    """
    mode, quality = parse(asked)
    if mode == "none":
        return None
    if mode == "both" and quality is None:
        quality = QUALITY
    kinds: dict[str, Kind] = {}
    unmatched = 0
    if quality is not None:
        kind = Kind(standard_tables(quality), "4:2:0")
        for entry in images:
            if mode == "both" or entry.label == FAKE:
                kinds[images.image_id(entry)] = kind
    else:
        for name in images.generators:
            given, missed = _as_reals(images.only(generator=name), seed)
            kinds |= given
            unmatched += missed
    compressed = Counter(entry.label for entry in images if images.image_id(entry) in kinds)
    facts = {
        "mode": mode,
        "quality": quality if quality is not None else "as the reals",
        "reals_compressed": compressed[REAL],
        "fakes_compressed": compressed[FAKE],
        "fakes_that_stay_unlike_the_reals": unmatched,
    }
    return JpegEqualiser(kinds, facts)


def parse(asked: str) -> tuple[str, int | None]:
    """Return mode and quality of one of FORMS.

    Raises:
        UserError: it is none of them.
    """
    match = re.fullmatch(r"(none|fakes|both)(?::(\d{1,3}))?", asked)
    if match is None or (match[2] and (match[1] == "none" or not 1 <= int(match[2]) <= 100)):
        raise UserError(f"equalise_jpeg {asked}: choose {FORMS} (1 to 100)")
    return match[1], int(match[2]) if match[2] else None


def _as_reals(images: ImageSet, seed: int) -> tuple[dict[str, Kind], int]:
    """Return how each fake of one generator is compressed, and how many cannot be made alike."""
    reals = Counter(_kind(entry.path) for entry in images.only(label=REAL))
    fakes = {images.image_id(entry): _kind(entry.path) for entry in images.only(label=FAKE)}
    if not any(reals):  # None alone, or nothing
        raise UserError(
            f"{images.root}: no real image of {images.generators[0]!r} is a JPEG, so that fakes "
            "cannot be compressed as the reals are; give a quality, e.g. equalise_jpeg both:90"
        )
    room = _shares(reals, len(fakes))
    drawn = sorted(fakes, key=lambda key: keyed(seed, key).random())
    open_ones = []
    for key in drawn:
        if room[fakes[key]] > 0:
            room[fakes[key]] -= 1
        else:
            open_ones.append(key)
    left = [kind for kind in sorted(room, key=repr) for _ in range(room[kind])]
    given = dict(zip(open_ones, left, strict=True))
    # What was compressed once cannot be made lossless again.
    unmatched = sum(kind is None for kind in given.values())
    return {key: kind for key, kind in given.items() if kind is not None}, unmatched


def _shares(counts: Counter[Kind | None], n: int) -> Counter[Kind | None]:
    """Return n split in the proportions of ``counts``, by largest remainders."""
    kinds = sorted(counts, key=repr)
    exact = np.array([counts[kind] for kind in kinds]) * n / counts.total()
    whole = np.floor(exact).astype(int)
    order = np.argsort(whole - exact, kind="stable")
    whole[order[: n - whole.sum()]] += 1
    return Counter(dict(zip(kinds, whole.tolist(), strict=True)))


def _kind(path: object) -> Kind | None:
    """Return how a file is compressed, None if it is no JPEG or cannot be read."""
    try:
        facts = format_facts(path)  # type: ignore[arg-type]
    except UnreadableImage:
        return None
    if not facts.quantisation:
        return None
    # A JPEG without colour says something of the image, not of how it was compressed.
    written = facts.subsampling if facts.subsampling in _WRITTEN else "4:2:0"
    return Kind(facts.quantisation, written)
