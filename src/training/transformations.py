"""DNA-Det's pre-training classes: 170 transformations of an image (Yang et al. 2022)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ..data.degrade import blur_opencv, jpeg_opencv, resize_opencv

SIDE = 128  # pixels of the crop that is transformed

QUALITIES = tuple(range(30, 100, 3))
# Of the second JPEG, for each first one; four pairs have equal qualities, as published.
SECOND = (
    39, 99, 36, 93, 60, 75, 81, 39, 63, 69, 60, 87, 90, 48, 81, 75, 72, 78, 54, 33, 81, 30, 36, 99,
)  # fmt: skip
KERNELS = tuple(range(3, 30, 2))
INTERPOLATIONS = ("nearest", "linear", "cubic", "area", "lanczos4")
SCALES = tuple(percent / 100 for percent in range(15, 91, 5))
VARIANCES = tuple(range(10, 50, 3))


@dataclass(frozen=True)
class Transformation:
    """One class of the pre-training task.

    kind: 'jpeg' (values: qualities, one after the other), 'blur' (kernel), 'median' (kernel),
    'resize' (scale; method: an interpolation) or 'noise' (variance, grey levels²).
    """

    kind: str
    values: tuple[float, ...]
    method: str = ""

    def __str__(self) -> str:
        return "-".join((self.kind, *filter(None, (self.method,)), *map(str, self.values)))

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the transformed uint8 (H, W, 3) RGB image; only noise draws from ``rng``."""
        value = self.values[0]
        if self.kind == "jpeg":
            for quality in self.values:
                # R and B exchanged, as the library of the published code did.
                image = jpeg_opencv(image, int(quality), exchanged=True)
            return image
        if self.kind == "blur":
            size = int(value)
            return blur_opencv(image, size, blur_sigma(size))
        if self.kind == "median":
            return cv2.medianBlur(image, int(value))
        if self.kind == "resize":
            return down_and_up(image, value, self.method)
        noisy = image + rng.normal(0.0, value**0.5, image.shape)
        return np.clip(noisy, 0, 255).astype(np.uint8)  # truncated, not rounded, as published


def blur_sigma(kernel: int) -> float:
    """Return the σ that goes with a kernel's size in pixels."""
    return 0.3 * ((kernel - 1) / 2 - 1) + 0.8


def down_and_up(image: np.ndarray, scale: float, method: str) -> np.ndarray:
    """Resize to int(side · scale) and back by the same interpolation."""
    height, width = image.shape[:2]
    small = resize_opencv(image, method, size=(int(width * scale), int(height * scale)))
    return resize_opencv(small, method, size=(width, height))


TRANSFORMATIONS: tuple[Transformation, ...] = (
    *(Transformation("jpeg", (quality,)) for quality in QUALITIES),
    *(Transformation("jpeg", pair) for pair in zip(QUALITIES, SECOND, strict=True)),
    *(Transformation("blur", (kernel,)) for kernel in KERNELS),
    *(Transformation("median", (kernel,)) for kernel in KERNELS),
    *(Transformation("resize", (scale,), name) for name in INTERPOLATIONS for scale in SCALES),
    *(Transformation("noise", (variance,)) for variance in VARIANCES),
)
