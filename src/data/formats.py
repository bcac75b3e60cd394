"""What an image file gives away before any pixel is decoded: format, size, JPEG tables, sampling.

Only headers are read. The quality of a JPEG is the one of libjpeg's standard tables (ITU-T T.81,
annex K, scaled as libjpeg scales them) that its own tables are equal to. Cameras, Photoshop and
mozjpeg bring tables of their own: there the quality is the nearest standard one, and ``tables``
says 'unknown'.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from ..archives import opened
from ..records import ImageSet, Skipped
from .decode import UnreadableImage, image_formats, refuse_bomb

Tables = tuple[tuple[int, ...], ...]  # quantisation tables, 64 steps each, row by row

# fmt: off
_LUMA = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)
_CHROMA = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99,
    24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
    *[99] * 32,
)
# fmt: on
# Sampling factors of luma, where chroma has one sample: what people call them.
_SAMPLINGS = {
    (1, 1): "4:4:4",
    (2, 1): "4:2:2",
    (2, 2): "4:2:0",
    (1, 2): "4:4:0",
    (4, 1): "4:1:1",
    (4, 2): "4:1:0",
}
GREY = "grey"
COLUMNS = (
    "path",
    "label",
    "generator",
    "class",
    "format",
    "width",
    "height",
    "quality",
    "tables",
    "tables_sha256",
    "subsampling",
    "bytes",
    "mode",
    "exif",
    "icc",
)


@dataclass(frozen=True)
class FormatFacts:
    """What the header of one image file says.

    format: Pillow's name, e.g. 'PNG'; width, height: pixels; mode: Pillow's, e.g. 'RGB';
    quality: 1 … 100 of a JPEG, else None; tables: 'standard', 'unknown', '' where it is no JPEG;
    subsampling: '4:4:4', '4:2:0' …, 'grey' of a JPEG without colour, '' where it is no JPEG;
    bytes: of the file; exif, icc: whether it holds such a block;
    quantisation: the JPEG's tables as they are, () elsewhere.
    """

    format: str
    width: int
    height: int
    quality: int | None
    tables: str
    subsampling: str
    bytes: int
    mode: str
    exif: bool
    icc: bool
    quantisation: Tables = ()


def format_facts(path: Path) -> FormatFacts:
    """Return what the header of the image file at ``path`` says.

    Raises:
        UnreadableImage: as :func:`forensift.data.image_size`.
    """
    path = Path(path)
    if path.is_dir():
        raise UnreadableImage("a directory, not a file")
    try:
        with (
            opened(path) as content,
            Image.open(content, formats=image_formats(path)) as image,
        ):
            refuse_bomb(image)
            tables = quantisation(image)
            quality, exact = jpeg_quality(tables) if tables else (None, False)
            return FormatFacts(
                str(image.format),
                image.width,
                image.height,
                quality,
                ("standard" if exact else "unknown") if tables else "",
                subsampling(image),
                content.seek(0, os.SEEK_END),
                image.mode,
                # Pillow puts the raw block in info; getexif() would parse it.
                "exif" in image.info,
                "icc_profile" in image.info,
                tables,
            )
    except UnreadableImage:
        raise
    except Exception as error:
        raise UnreadableImage(type(error).__name__) from None


def quantisation(image: Image.Image) -> Tables:
    """Return the quantisation tables of an opened JPEG, luma first; () of anything else."""
    found: dict[int, Any] = getattr(image, "quantization", None) or {}
    return tuple(tuple(int(step) for step in found[at]) for at in sorted(found))


def subsampling(image: Image.Image) -> str:
    """Return the chroma subsampling of an opened JPEG, 'grey' without chroma, '' of no JPEG."""
    layers: list[tuple[int, int, int, int]] = getattr(image, "layer", None) or []
    if not layers or not getattr(image, "quantization", None):
        return ""
    if len(layers) == 1:
        return GREY
    factors = [(across, down) for _, across, down, _ in layers]
    (across, down), (chroma_across, chroma_down) = factors[0], factors[1]
    whole = across % chroma_across == 0 and down % chroma_down == 0
    if whole and len(set(factors[1:3])) == 1:
        ratio = across // chroma_across, down // chroma_down
        if ratio in _SAMPLINGS:
            return _SAMPLINGS[ratio]
    return " ".join(f"{across}x{down}" for across, down in factors)


@cache
def standard_tables(quality: int) -> Tables:
    """Return libjpeg's luma and chroma tables of a quality of 1 … 100 (8-bit steps, baseline)."""
    if not 1 <= quality <= 100:
        raise ValueError(f"JPEG quality {quality}: 1 … 100")
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return tuple(
        tuple(min(max((step * scale + 50) // 100, 1), 255) for step in table)
        for table in (_LUMA, _CHROMA)
    )


@lru_cache(4096)
def jpeg_quality(tables: Tables) -> tuple[int, bool]:
    """Return the quality whose standard tables are equal to or nearest to ``tables``, and which.

    Equal means all 64 steps of luma and, where there is one, of chroma. The nearest has the least
    mean difference of the logarithms of the luma steps.
    """
    for quality in range(100, 0, -1):
        standard = standard_tables(quality)
        if tables[0] == standard[0] and all(table in standard for table in tables[1:]):
            return quality, True
    own = np.log(np.maximum(np.array(tables[0], dtype=float), 1))
    far = [np.abs(own - np.log(standard_tables(quality)[0])).mean() for quality in range(1, 101)]
    return int(np.argmin(far)) + 1, False


def format_table(
    images: ImageSet,
    *,
    skipped: list[Skipped],
    progress: Callable[[int], object] | None = None,
) -> pd.DataFrame:
    """Return the table of ``formats.csv``, columns COLUMNS, one row a readable image.

    path is the image's id; tables_sha256 tells apart tables that are not standard.

    skipped: images whose header cannot be read are appended; progress: is told 1 after each image.
    """
    rows = []
    for entry in images:
        try:
            facts = vars(format_facts(entry.path))
        except UnreadableImage as error:
            skipped.append(Skipped(entry.path, error.reason))
        else:
            named = (images.image_id(entry), entry.label, entry.generator, entry.class_name)
            given = {**facts, "tables_sha256": _digest(facts["quantisation"])}
            rows.append((*named, *(given[column] for column in COLUMNS[4:])))
        if progress is not None:
            progress(1)
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"quality": "Int64"})


@lru_cache(4096)
def _digest(tables: Tables) -> str:
    return hashlib.sha256(repr(tables).encode()).hexdigest()[:12] if tables else ""
