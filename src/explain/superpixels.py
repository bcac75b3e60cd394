"""Superpixels: parts of an image that are of one colour and hang together (SLIC by k-means)."""

from __future__ import annotations

import cv2
import numpy as np

SIDE = 160  # pixels: larger images are cut up at this size
COMPACT = 12.0  # units of L*a*b* that a distance of one superpixel weighs
ROUNDS = 10


def superpixels(pixels: np.ndarray, count: int = 48) -> np.ndarray:
    """Return the number of each pixel's superpixel, int64 (H, W), 0 … at most ``count`` − 1.

    K-means over colour (L*a*b*) and place from a regular grid (Achanta et al. 2012), without
    chance. pixels: uint8 (3, H, W) or float32 in any unit, which is stretched to 0 … 255.
    """
    image = np.ascontiguousarray(np.moveaxis(pixels, 0, -1))
    if image.dtype != np.uint8:
        low, high = float(image.min()), float(image.max())
        image = np.rint((image - low) / (high - low or 1.0) * 255).astype(np.uint8)
    height, width = image.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    h, w = max(1, round(height * scale)), max(1, round(width * scale))
    small = cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA)
    down = max(1, min(h, round((count * h / w) ** 0.5)))
    across = max(1, min(w, count // down))
    rows, columns = np.mgrid[:h, :w]
    start = (rows * down // h * across + columns * across // w).astype(np.int32)
    colours = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    step = (h * w / (down * across)) ** 0.5
    places = np.stack([rows, columns], axis=-1) * (COMPACT / step)
    data = np.concatenate([colours, places], axis=-1).reshape(-1, 5).astype(np.float32)
    rule = (cv2.TERM_CRITERIA_COUNT, ROUNDS, 0.0)
    labels = start.reshape(-1, 1)
    if down * across > 1:
        _, labels, _ = cv2.kmeans(
            data, down * across, labels.copy(), rule, 1, cv2.KMEANS_USE_INITIAL_LABELS
        )
    whole = cv2.resize(labels.reshape(h, w), (width, height), interpolation=cv2.INTER_NEAREST)
    _, numbers = np.unique(whole, return_inverse=True)
    return numbers.reshape(height, width).astype(np.int64)
