"""The lattice of strided layers in a map of pixels: what measures it, and an average over shifts.

A 1×1 convolution of stride 2 reads every second position. Five such steps, as along the residual
branches of a ResNet, read every 32nd pixel, and relevance has no other way down.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .lrp import LRP

PERIODS = (32, 16, 8)


def lattice_index(values: np.ndarray, period: int = 32) -> float:
    """Return the share of a map's variance that repeats with a period, less what chance gives.

    values: (H, W). The variance of the means over each of the period × period phases, over the
    whole: by Parseval this is the share of its spectral energy at multiples of 1 / period cycles a
    pixel. Unstructured noise has 0 on average, a map that is nothing but a lattice 1. What does not
    fill a whole period at the right and lower edge is left out; NaN of a constant map.
    """
    height, width = (length - length % period for length in values.shape)
    kept = np.asarray(values[:height, :width], dtype=np.float64)
    rows, columns = height // period, width // period
    if rows * columns < 2:
        return float("nan")
    phases = kept.reshape(rows, period, columns, period).mean(axis=(0, 2))
    whole = kept.var()
    chance = (period**2 - 1) / (kept.size - 1)
    return float((phases.var() / whole - chance) / (1 - chance)) if whole else float("nan")


def shift_averaged(
    lrp: LRP, batch: Tensor, start: Tensor | None = None, shifts: int = 4, stride: int = 32
) -> Tensor:
    """Return the mean relevance (N, 3, H, W) of shifts² shifted images, each shifted back.

    The images are rolled by multiples of stride / shifts pixels down and to the right, so that
    every sum is kept and each image meets itself at its edges. Costs shifts² passes.
    """
    total = torch.zeros_like(batch)
    steps = [round(i * stride / shifts) for i in range(shifts)]
    for y in steps:
        for x in steps:
            pixels = lrp(batch.roll((y, x), (2, 3)), start, layers=()).pixels
            assert pixels is not None
            total += pixels.roll((-y, -x), (2, 3))
    return total / shifts**2
