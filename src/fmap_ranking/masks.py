"""Where in an image a generator was at work: boxes of a table, or pictures of masks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from ..data import Preset, read_image
from ..errors import UserError
from ..records import FAKE, ImageEntry, ImageSet

TRUTH = "truth.csv"  # what `forensift planted` writes beside its images
BOX = ("left", "top", "right", "bottom")


@dataclass(frozen=True, eq=False)
class Masks:
    """Where each fake was made, by its image id: a box in pixels, or a picture, white inside."""

    of: dict[str, tuple[int, int, int, int] | Path]

    def inside(self, entry: ImageEntry, key: str, preset: Preset, seed: int) -> torch.Tensor:
        """Return the share of each pixel inside the mask, float32 (H, W), as the preset crops it.

        Raises:
            UserError: the image and its mask differ in size, or the mask cannot be read.
        """
        size, found = read_image(entry.path).size, self.of[key]
        if isinstance(found, Path):
            mask = read_image(found)
            if mask.size != size:
                raise UserError(f"{found}: {mask.size} pixels, and its image {size}")
        else:
            mask = Image.new("RGB", size)
            mask.paste((255, 255, 255), found)
        cropped = np.asarray(preset.geometry(mask, key, seed), dtype=np.float32)
        return torch.from_numpy(cropped[..., 0] / 255)


def load_masks(images: ImageSet, source: Path | None = None) -> Masks:
    """Return where the fakes of a set were made.

    source: a table with the column path (below its folder or the set's root, or absolute) and
        either left, top, right, bottom (pixels, right and bottom outside), as the truth.csv of
        ``forensift planted`` writes, or mask (a picture, white where it was generated); or a
        folder of such pictures, by the fake's path below the set's root or by its file name without
        the ending. By default the set's own truth.csv.

    Raises:
        UserError: there is none, a column or a file is missing, or it names no fake of the set.
    """
    source = images.root / TRUTH if source is None else Path(source)
    fakes = {one.path.resolve(): images.image_id(one) for one in images if one.label == FAKE}
    if source.is_dir():
        found = _pictures(source, images)
    elif source.is_file():
        found = _listed(source, images, fakes)
    else:
        raise UserError(
            f"{source}: no masks are there; give a table (path and left, top, right, bottom or "
            "mask), a folder of pictures as masks, or images whose fakes have their photographs"
        )
    if not found:
        raise UserError(f"{source}: names no fake of {images.root}")
    return Masks(found)


def _listed(
    source: Path, images: ImageSet, fakes: dict[Path, str]
) -> dict[str, tuple[int, int, int, int] | Path]:
    try:
        table = pd.read_csv(source)
    except (OSError, ValueError) as error:
        raise UserError(f"{source}: cannot be read ({error})") from None
    boxes = set(BOX) <= set(table.columns)
    if "path" not in table or not (boxes or "mask" in table):
        raise UserError(f"{source}: needs the columns path, and {', '.join(BOX)} or mask")
    found: dict[str, tuple[int, int, int, int] | Path] = {}
    for row in table.to_dict("records"):
        name = str(row["path"])
        paths = [(root / name).resolve() for root in (source.parent, images.root)]
        key = next((fakes[one] for one in paths if one in fakes), None)
        if key is None:
            continue
        if boxes:
            left, top, right, bottom = (int(row[end]) for end in BOX)
            found[key] = left, top, right, bottom
        else:
            found[key] = source.parent / str(row["mask"])
            if not Path(str(found[key])).is_file():
                raise UserError(f"{source}: {row['mask']} is no file below {source.parent}")
    return found


def _pictures(source: Path, images: ImageSet) -> dict[str, tuple[int, int, int, int] | Path]:
    by_path = {
        one.relative_to(source).with_suffix("").as_posix(): one
        for one in source.rglob("*")
        if one.is_file()
    }
    found: dict[str, tuple[int, int, int, int] | Path] = {}
    for entry in images.only(label=FAKE):
        key = images.image_id(entry)
        one = by_path.get(Path(key).with_suffix("").as_posix()) or by_path.get(entry.path.stem)
        if one is not None:
            found[key] = one
    return found
