"""From a photograph to a crop: antialiased rescale and position, keyed by the photograph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ..data.decode import read_image
from ..errors import UserError

SCALES = (0.5, 0.9)  # below 1, so that the antialiasing washes out the JPEG grid of the photograph


def random_crop(photo: Image.Image, side: int, rng: np.random.Generator) -> Image.Image:
    """Return an RGB crop (side × side) of the photograph rescaled by a factor from SCALES.

    The factor is drawn uniformly, but never below what leaves ``side`` pixels.

    Raises:
        UserError: the photograph is too small even at the largest factor.
    """
    shorter = min(photo.size)
    smallest = max(SCALES[0], side / shorter)
    if smallest > SCALES[1]:
        raise UserError(
            f"a photograph of {photo.width} × {photo.height} is too small for crops of {side} "
            f"pixels: the shorter side must be at least {int(np.ceil(side / SCALES[1]))}"
        )
    factor = rng.uniform(smallest, SCALES[1])
    width, height = (max(side, round(length * factor)) for length in photo.size)
    left = int(rng.integers(0, width - side + 1))
    top = int(rng.integers(0, height - side + 1))
    # Only the crop's own part is resampled: the same pixels, a fraction of the time.
    x, y = photo.width / width, photo.height / height
    box = (left * x, top * y, (left + side) * x, (top + side) * y)
    return photo.resize((side, side), Image.Resampling.BICUBIC, box=box)


def read_photograph(path: Path) -> Image.Image:
    """Decode a photograph to RGB.

    Raises:
        UserError: it cannot be read; the message names the file.
    """
    try:
        return read_image(path)
    except Exception as error:
        raise UserError(f"{path}: {error}") from error
