"""Does a map lie where the evidence is known to be? Shares, and the pointing game."""

from __future__ import annotations

import numpy as np
import pandas as pd


def in_box(maps: np.ndarray, boxes: np.ndarray) -> pd.DataFrame:
    """Return how much of each map lies in its image's box.

    maps: (N, H, W), signed; boxes: int (N, 4), left, top, right, bottom in pixels.
    In the result, one row a map: share (of the positive values, 0 … 1; NaN without any), hit
    (whether the largest value lies inside: the pointing game), area (the box's share of the map),
    and other_share, other_hit: the same for the box of the next image, which tells a map that
    finds the trace from one that always looks at the same place.
    """
    inside = np.zeros(maps.shape, dtype=bool)
    for mask, (left, top, right, bottom) in zip(inside, boxes, strict=True):
        mask[top:bottom, left:right] = True
    positive = np.maximum(maps, 0)
    total = positive.sum(axis=(1, 2))
    largest = maps.reshape(len(maps), -1).argmax(axis=1)
    rows = np.arange(len(maps))
    table = pd.DataFrame({"area": inside.mean(axis=(1, 2))})
    for prefix, masks in (("", inside), ("other_", np.roll(inside, 1, axis=0))):
        covered = (positive * masks).sum(axis=(1, 2))
        share = np.divide(covered, total, out=np.full(len(maps), np.nan), where=total > 0)
        table[f"{prefix}share"] = share
        table[f"{prefix}hit"] = masks.reshape(len(maps), -1)[rows, largest].astype(float)
    return table
