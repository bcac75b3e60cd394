"""JPEG, blur and scaling of an image: one function each, and beside it what published code does.

The plain names are Pillow's and SciPy's, from RGB image to RGB image. The variants of OpenCV and of
SciPy in place give other bits; they take and return uint8 (H, W, 3) RGB, as the codes do that they
are like.
"""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter1d


def encode_jpeg(image: Image.Image, **how: Any) -> bytes:
    """Return an RGB image as a JPEG file of Pillow's; how: quality or qtables, subsampling."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **how)
    return buffer.getvalue()


def jpeg(image: Image.Image, quality: int = 75, **how: Any) -> Image.Image:
    """Return an RGB image sent through Pillow's JPEG, 4:2:0; how: see :func:`encode_jpeg`."""
    if "qtables" not in how:
        how["quality"] = quality
    coded = encode_jpeg(image, **{"subsampling": "4:2:0", **how})
    with Image.open(io.BytesIO(coded), formats=["JPEG"]) as opened:
        return opened.convert("RGB")


def jpeg_opencv(pixels: np.ndarray, quality: int, *, exchanged: bool = False) -> np.ndarray:
    """Send uint8 (H, W, 3) RGB through OpenCV's JPEG.

    exchanged: as if it were BGR, so that the chroma planes are of R and B exchanged.
    """
    turned = pixels if exchanged else pixels[:, :, ::-1]
    _, code = cv2.imencode(".jpg", turned, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(code, cv2.IMREAD_COLOR)
    if decoded is None:
        raise ValueError("OpenCV cannot decode what it encoded")
    return decoded if exchanged else np.ascontiguousarray(decoded[:, :, ::-1])


def blur(image: Image.Image, sigma: float, precision: Any = np.float64) -> Image.Image:
    """Return an RGB image under a Gaussian of ``sigma`` pixels, cut off at 4 σ, rounded once.

    It reflects at the border; precision: of the numbers between the two passes.
    """
    if sigma <= 0:
        return image.copy()
    planes: Any = np.asarray(image).transpose(2, 0, 1).astype(precision)
    for axis in (1, 2):  # each channel by itself, in one piece of memory: twice as quick
        planes = gaussian_filter1d(planes, sigma, axis=axis, truncate=4.0)
    return Image.fromarray(np.rint(planes).astype(np.uint8).transpose(1, 2, 0).copy())


def blur_in_place(pixels: np.ndarray, sigma: float) -> np.ndarray:
    """Blur uint8 (H, W, 3) as SciPy does in place: 8 bits after each of the two passes.

    They are cut off, not rounded: on average the image gets one grey level too dark.
    """
    if sigma <= 0:
        return pixels.copy()
    for axis in (0, 1):
        pixels = gaussian_filter1d(pixels.astype(float), sigma, axis=axis).astype(np.uint8)
    return pixels


def blur_opencv(pixels: np.ndarray, kernel: int, sigma: float) -> np.ndarray:
    """Blur uint8 (H, W, 3) with a Gaussian of ``sigma`` pixels cut off by the kernel's size."""
    return cv2.GaussianBlur(pixels, (kernel, kernel), sigma)


def resize(image: Image.Image, factor: float) -> Image.Image:
    """Return an image whose sides are ``factor`` times as long, bilinear and antialiased."""
    width, height = (max(1, round(side * factor)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BILINEAR)


def resize_opencv(
    pixels: np.ndarray, method: str, *, size: tuple[int, int] | None = None, factor: float = 0.0
) -> np.ndarray:
    """Resize uint8 (H, W, 3) to (width, height), or by a factor, which OpenCV then keeps exactly.

    method: nearest, linear, cubic, area or lanczos4.
    """
    how = getattr(cv2, f"INTER_{method.upper()}")
    return cv2.resize(pixels, size, fx=factor, fy=factor, interpolation=how)


def turn_opencv(pixels: np.ndarray, degrees: float) -> np.ndarray:
    """Turn uint8 (H, W, 3) counter-clockwise about the centre, on the same canvas, else black."""
    height, width = pixels.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    return cv2.warpAffine(pixels, turn, (width, height))
