"""Which photograph a fake was made from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import torch

from ..data import batches
from ..detectors import Detector
from ..errors import UserError
from ..records import FAKE, REAL, ImageEntry, ImageSet, Skipped

Pairs = dict[str, ImageEntry]  # id of a fake → its photograph
COLUMNS = ("fake", "photograph")


def pairs_of(images: ImageSet, table: Path | pd.DataFrame | None = None) -> Pairs:
    """Return the photograph of each fake that has one.

    table: columns ``fake`` and ``photograph``, paths below the set's root or absolute. Without it a
    fake belongs to the real of its generator and class that has its file name without the ending,
    as `forensift forge` writes them; else to the only real of the whole set that has.

    Raises:
        UserError: the table lacks a column, names a file that is not there, or a fake twice.
    """
    if table is not None:
        return _listed(images, table)
    own: dict[tuple[str, str, str], ImageEntry] = {}
    anywhere: dict[str, list[ImageEntry]] = {}
    for entry in images:
        if entry.label == REAL:
            own[entry.generator, entry.class_name, entry.path.stem] = entry
            anywhere.setdefault(entry.path.stem, []).append(entry)
    found: Pairs = {}
    for entry in images:
        if entry.label != FAKE:
            continue
        one = own.get((entry.generator, entry.class_name, entry.path.stem))
        others = anywhere.get(entry.path.stem, [])
        if one is None and len(others) == 1:
            one = others[0]
        if one is not None:
            found[images.image_id(entry)] = one
    return found


def _listed(images: ImageSet, table: Path | pd.DataFrame) -> Pairs:
    where = "the table of pairs" if isinstance(table, pd.DataFrame) else str(table)
    try:
        rows = table if isinstance(table, pd.DataFrame) else pd.read_csv(table, dtype=str)
    except (OSError, ValueError) as error:
        raise UserError(f"{where}: cannot be read ({error})") from None
    for column in COLUMNS:
        if column not in rows:
            raise UserError(f"{where}: column {column} is missing; give {','.join(COLUMNS)}")
    known = {entry.path.resolve(): entry for entry in images}
    found: Pairs = {}
    for fake, photograph in rows[list(COLUMNS)].itertuples(index=False):
        ends = []
        for name in (fake, photograph):
            path = (images.root / str(name)).resolve()
            if not path.is_file():
                raise UserError(f"{where}: {name} is no file below {images.root}")
            ends.append(known.get(path, ImageEntry(path, REAL, "")))
        if ends[0].path.resolve() not in known:
            raise UserError(f"{where}: {fake} is none of the images")
        key = images.image_id(ends[0])
        if key in found:
            raise UserError(f"{where}: {fake} is there twice")
        found[key] = ends[1]
    return found


def pixels_of(
    detector: Detector, images: ImageSet, entries: Iterable[ImageEntry], seed: int = 0
) -> torch.Tensor:
    """Return images as the detector's preset makes them: uint8 (N, 3, H, W), in their order.

    Raises:
        UserError: one cannot be read, or they have several sizes.
    """
    wanted = list(entries)
    once = ImageSet(images.root, tuple(dict.fromkeys(wanted)), images.layout)
    skipped: list[Skipped] = []
    rows: dict[str, torch.Tensor] = {}
    for batch in batches(once, detector.preset, len(once), seed=seed, skipped=skipped):
        rows |= dict(zip(batch.ids, batch.pixels, strict=True))
    if skipped:
        raise UserError(f"{skipped[0].path}: {skipped[0].reason}")
    if len({row.shape for row in rows.values()}) > 1:
        raise UserError(
            f"{detector.name}: an image and what it is compared with differ in size; take a "
            "preset that crops"
        )
    return torch.stack([rows[images.image_id(entry)] for entry in wanted])
