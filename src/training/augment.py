"""The augmentations of Wang et al. 2020 (§ training): Gaussian blur and JPEG, by both codecs."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ..data import degrade

BLUR_SIGMA = (0.0, 3.0)
JPEG_QUALITY = (30, 100)
CODECS = ("cv2", "pil")


def blur(image: np.ndarray, sigma: float, *, published: bool = False) -> np.ndarray:
    """Blur uint8 (H, W, 3): with 8 bits between the passes as ``published``, or rounded once."""
    if published:
        return degrade.blur_in_place(image, sigma)
    return np.asarray(degrade.blur(Image.fromarray(image), sigma, np.float32))


def jpeg(image: np.ndarray, quality: int, codec: str) -> np.ndarray:
    """Send uint8 (H, W, 3) RGB through the JPEG of one of ``CODECS``."""
    if codec == "cv2":
        return degrade.jpeg_opencv(image, quality)
    return np.asarray(degrade.jpeg(Image.fromarray(image), quality))


def blur_and_jpeg(
    image: np.ndarray,
    probabilities: tuple[float, float],
    rng: np.random.Generator,
    *,
    published_blur: bool = False,
    validation: bool = False,
) -> np.ndarray:
    """Blur and compress uint8 (H, W, 3), independently of each other (§2.2 of the recipe).

    probabilities: of blur and of JPEG. σ is uniform in [0, 3), the quality uniform over the
    integers 30 … 100, the codec a fair coin; at ``validation`` they are 1.5, 65 and Pillow.
    The same number of draws is made whatever happens, so that later draws stay aligned.
    """
    if validation:
        wants_blur, wants_jpeg = rng.random(2)
        sigma, quality, codec = sum(BLUR_SIGMA) / 2, sum(JPEG_QUALITY) // 2, "pil"
    else:
        wants_blur, wants_jpeg, coin = rng.random(3)
        sigma = rng.uniform(*BLUR_SIGMA)
        quality = int(rng.integers(JPEG_QUALITY[0], JPEG_QUALITY[1] + 1))
        codec = CODECS[int(coin < 0.5)]
    if wants_blur < probabilities[0]:
        image = blur(image, sigma, published=published_blur)
    if wants_jpeg < probabilities[1]:
        image = jpeg(image, quality, codec)
    return image
