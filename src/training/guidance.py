"""DeepFeatureX's guidance file: which image trains the base models, the complete one, or none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from ..data.photos import photograph_name
from ..errors import UserError
from ..forge.families import DIFFUSION
from ..records import REAL, ImageEntry, ImageSet
from ..rng import keyed_short

COLUMNS = ("label", "image_path", "model")
STAGES = ("base", "complete", "test")
BASE, COMPLETE, TEST = range(3)
SHARES = (0.4, 0.4, 0.2)
UNITS = ("photograph", "name", "image")


def class_of(entry: ImageEntry, diffusion: Sequence[str] = DIFFUSION) -> str:
    """Return the class of an image: by its folder in the published layout, else by its generator.

    diffusion: names of the generators that are diffusion models; every other one counts as a GAN.
    """
    if entry.class_name in ("dm_generated", "gan_generated"):
        return entry.class_name
    if entry.label == REAL:
        return "real"
    return "dm_generated" if entry.generator in diffusion else "gan_generated"


def architecture_of(entry: ImageEntry) -> str:
    """Return the generator of a fake, and 'real' for a real image, whoever's folder it lies in."""
    return "real" if entry.label == REAL else entry.generator


def unit_of(path: Path, by: str, key: str = "") -> str:
    """Return what is drawn as one with an image: its photograph, its name, or itself (``key``)."""
    if by == "photograph":
        return photograph_name(path.stem)
    return path.stem if by == "name" else key or path.as_posix()


def make_guidance(
    images: ImageSet,
    *,
    seed: int = 0,
    by: str = "photograph",
    shares: Sequence[float] = SHARES,
    diffusion: Sequence[str] = DIFFUSION,
) -> pd.DataFrame:
    """Return the guidance table, columns label, image_path (below the data folder), model.

    label: 0 base models, 1 complete model, 2 test; for each image u ~ U[0, 1), 0 below 0.4, 1 below
    0.8, else 2; ``shares`` of the three, which sum to 1, set other bounds. model: the architecture,
    'real' for reals.
    by: 'photograph' draws one u for all crops of a photograph, real or fake, so that no test image
    shows what was trained on; 'name' draws one for all images of one name, a crop and its fakes;
    'image' draws one for each image, as published. The draws depend on
    the seed and the name alone (the published ones on nothing).

    Raises:
        UserError: another word for ``by``, or shares that are not three that sum to 1.
    """
    if by not in UNITS:
        raise UserError(f"guidance by {by!r}: choose {', '.join(UNITS)}")
    if len(shares) != 3 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise UserError(f"guidance shares {tuple(shares)}: give three that sum to 1")
    rows = []
    for entry in images:
        key = images.image_id(entry)
        at = keyed_short(seed, "guidance", unit_of(entry.path, by, key)).random()
        label = BASE if at < shares[0] else COMPLETE if at < shares[0] + shares[1] else TEST
        rows.append((label, key, architecture_of(entry)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def read_guidance(path: Path) -> pd.DataFrame:
    """Return a guidance table from a CSV.

    Raises:
        UserError: no such file, a column is missing, or a label is none of 0, 1, 2.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as CSV: {str(error).strip()}") from None
    lacking = [column for column in COLUMNS if column not in table.columns]
    if lacking:
        raise UserError(f"{path}: column {lacking[0]!r} is missing; expected {','.join(COLUMNS)}")
    wrong = table[~table["label"].isin(["0", "1", "2"])]
    if len(wrong):
        raise UserError(
            f"{path}, row {wrong.index[0] + 2}: label {wrong.iloc[0]['label']!r}; it must be 0 "
            "(base models), 1 (complete model) or 2 (test)"
        )
    return table[list(COLUMNS)].astype({"label": int})


def of_stage(images: ImageSet, guidance: pd.DataFrame, stage: int) -> ImageSet:
    """Return the images that the guidance gives to a stage (0, 1 or 2), in their order.

    Its paths may be below the data folder, with or without a leading slash, or absolute: the
    published scripts write one and read the other.

    Raises:
        UserError: an image that the guidance does not know, or a stage without any.
    """
    labels = {
        _below(path, images.root): label
        for label, path in zip(guidance["label"], guidance["image_path"], strict=True)
    }
    kept = []
    for entry in images:
        key = images.image_id(entry)
        if key not in labels:
            raise UserError(f"{images.root / key} is not in the guidance file; make it anew")
        if labels[key] == stage:
            kept.append(entry)
    if not kept:
        raise UserError(
            f"{images.root}: the guidance gives no image to the stage {STAGES[stage]!r}; "
            "make it with another seed or more images"
        )
    return ImageSet(images.root, tuple(kept), images.layout)


def _below(path: str, root: Path) -> str:
    absolute = PurePosixPath(root.absolute().as_posix())
    found = PurePosixPath(path)
    if found.is_relative_to(absolute):
        return found.relative_to(absolute).as_posix()
    return path.lstrip("/")
