"""Deletion and insertion curves: does the score follow the pixels that an explanation names?

Petsiuk et al. 2018. Deletion replaces the most relevant part of an image first and the score should
fall early; insertion puts it first on a replaced image and the score should rise early. Parts are
square cells, as single replaced pixels would themselves be a high-frequency trace.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter

from ..errors import UserError

FILLS = ("blur", "mean")
SIGMA = 5.0  # pixels, of the blur
KINDS = ("deletion", "insertion")

Score = Callable[[np.ndarray], np.ndarray]  # uint8 (N, 3, H, W) → (N,)


def filled(pixels: np.ndarray, fill: str = "blur") -> np.ndarray:
    """Return what replaces an image, uint8 (3, H, W).

    fill: 'blur', a Gaussian blur of 5 pixels, or 'mean', the image's mean colour.

    Raises:
        UserError: no such fill.
    """
    if fill == "blur":
        blurred = [gaussian_filter(channel.astype(np.float64), SIGMA) for channel in pixels]
        return np.rint(np.stack(blurred)).astype(np.uint8)
    if fill == "mean":
        mean = np.rint(pixels.mean(axis=(1, 2), keepdims=True)).astype(np.uint8)
        return np.broadcast_to(mean, pixels.shape).copy()
    raise UserError(f"fill {fill!r}: choose {' or '.join(FILLS)}")


def cell_sums(relevance: np.ndarray, cell: int) -> np.ndarray:
    """Return the sum of a map (H, W) over each cell × cell square, row by row from the top left.

    Cells at the right and lower edge hold what is left.
    """
    height, width = relevance.shape
    padded = np.pad(relevance.astype(np.float64), ((0, -height % cell), (0, -width % cell)))
    rows, columns = padded.shape[0] // cell, padded.shape[1] // cell
    return padded.reshape(rows, cell, columns, cell).sum(axis=(1, 3)).ravel()


def falling(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the positions of ``values`` (K,) in falling order, equal ones in random order."""
    return np.lexsort((rng.random(len(values)), -values))


def taken(order: np.ndarray, fraction: float, shape: tuple[int, int], cell: int) -> np.ndarray:
    """Return which pixels (H, W) lie in the first ``fraction`` of the cells in ``order``."""
    chosen = np.zeros(len(order), dtype=bool)
    chosen[order[: round(fraction * len(order))]] = True
    rows, columns = -(-shape[0] // cell), -(-shape[1] // cell)
    grid = chosen.reshape(rows, columns).repeat(cell, axis=0).repeat(cell, axis=1)
    return grid[: shape[0], : shape[1]]


def curves(
    pixels: np.ndarray,
    order: np.ndarray,
    score: Score,
    fractions: np.ndarray,
    *,
    cell: int,
    fill: np.ndarray,
    ends: tuple[float, float] | None = None,
) -> dict[str, np.ndarray]:
    """Return score against fraction for deletion and insertion, each as long as ``fractions``.

    pixels, fill: uint8 (3, H, W); order: of the cells, most relevant first; fractions: rising from
    0 to 1; ends: the score of the image and of the fill, where they are known already.
    """
    inner = fractions[1:-1]
    shape = (pixels.shape[1], pixels.shape[2])
    masks = [taken(order, fraction, shape, cell) for fraction in inner]
    deleted = [np.where(mask, fill, pixels) for mask in masks]
    inserted = [np.where(mask, pixels, fill) for mask in masks]
    both = [] if ends is not None else [pixels, fill]
    found = score(np.stack([*deleted, *inserted, *both]))
    whole, gone = ends if ends is not None else (found[-2], found[-1])
    n = len(inner)
    return {
        "deletion": np.concatenate([[whole], found[:n], [gone]]),
        "insertion": np.concatenate([[gone], found[n : 2 * n], [whole]]),
    }


def area(fractions: np.ndarray, values: np.ndarray) -> float:
    """Return the area under a curve by the trapezoid rule: its mean height."""
    return float(np.trapezoid(values, fractions))
