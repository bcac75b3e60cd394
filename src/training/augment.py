"""The augmentations of Wang et al. 2020 (§ training): Gaussian blur and JPEG, by both codecs."""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, gaussian_filter1d

BLUR_SIGMA = (0.0, 3.0)
JPEG_QUALITY = (30, 100)
CODECS = ("cv2", "pil")


def blur(image: np.ndarray, sigma: float, *, published: bool = False) -> np.ndarray:
    """Blur uint8 (H, W, 3) channel by channel, reflecting at the border, cut off at 4 σ.

    published: truncate to 8 bits after each of the two passes, as the published code does (on
    average one grey level too dark); otherwise round once, at the end.
    """
    if sigma <= 0:
        return image.copy()
    if published:
        rows = gaussian_filter1d(image.astype(float), sigma, axis=0).astype(np.uint8)
        return gaussian_filter1d(rows.astype(float), sigma, axis=1).astype(np.uint8)
    smooth = gaussian_filter(image.astype(np.float32), (sigma, sigma, 0))
    return np.clip(np.rint(smooth), 0, 255).astype(np.uint8)


def jpeg(image: np.ndarray, quality: int, codec: str) -> np.ndarray:
    """Send uint8 (H, W, 3) RGB through JPEG with the codec's own chroma subsampling."""
    if codec == "cv2":
        _, code = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        decoded = cv2.imdecode(code, cv2.IMREAD_COLOR)
        if decoded is None:
            raise ValueError("OpenCV cannot decode what it encoded")
        return np.ascontiguousarray(decoded[:, :, ::-1])
    if codec != "pil":
        raise ValueError(f"no codec {codec!r}; there are {CODECS}")
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as opened:
        return np.asarray(opened).copy()


def blur_and_jpeg(
    image: np.ndarray,
    blur_probability: float,
    jpeg_probability: float,
    rng: np.random.Generator,
    *,
    published_blur: bool = False,
) -> np.ndarray:
    """Blur and compress uint8 (H, W, 3), independently of each other (§2.2 of the recipe).

    σ is uniform in [0, 3), the quality uniform over the integers 30 … 100, the codec a fair coin.
    The same number of draws is made whatever happens, so that later draws stay aligned.
    """
    wants_blur, wants_jpeg, codec = rng.random(3)
    sigma = rng.uniform(*BLUR_SIGMA)
    quality = int(rng.integers(JPEG_QUALITY[0], JPEG_QUALITY[1] + 1))
    if wants_blur < blur_probability:
        image = blur(image, sigma, published=published_blur)
    if wants_jpeg < jpeg_probability:
        image = jpeg(image, quality, CODECS[int(codec < 0.5)])
    return image


def validation_blur_and_jpeg(
    image: np.ndarray,
    blur_probability: float,
    jpeg_probability: float,
    rng: np.random.Generator,
    *,
    published_blur: bool = False,
) -> np.ndarray:
    """The same events at validation: σ = 1.5 and Pillow at quality 65, the middle of the ranges."""
    wants_blur, wants_jpeg = rng.random(2)
    if wants_blur < blur_probability:
        image = blur(image, sum(BLUR_SIGMA) / 2, published=published_blur)
    if wants_jpeg < jpeg_probability:
        image = jpeg(image, sum(JPEG_QUALITY) // 2, "pil")
    return image
