"""DeepFeatureX's robustness sets (§6.4 of the facts): what each filter does, and the folders."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ...data import UnreadableImage, read_image
from ...data.degrade import blur_opencv, encode_jpeg, jpeg, resize_opencv
from ...errors import UserError
from ...files import write_bytes
from ...records import ImageSet, Skipped
from ...training.guidance import architecture_of, class_of

BLUR_SIGMA = 4.0  # whatever the kernel: the published code passes a border constant, 4, as σ
FULL = "4:4:4"  # JPEG without chroma subsampling

Filter = Callable[[Image.Image], Image.Image]


def _jpeg(quality: int) -> Filter:
    """Pillow's JPEG without chroma subsampling."""
    return lambda image: jpeg(image, quality, subsampling=FULL)


def _array(run: Callable[[np.ndarray], np.ndarray]) -> Filter:
    return lambda image: Image.fromarray(run(np.asarray(image)))


def _blur(kernel: int) -> Filter:
    """A Gaussian of σ = 4 cut off by the kernel; the published scripts call it noise."""
    return _array(lambda pixels: blur_opencv(pixels, kernel, BLUR_SIGMA))


def _scale(factor: float) -> Filter:
    return _array(lambda pixels: resize_opencv(pixels, "area", factor=factor))


def _rotate(degrees: float) -> Filter:
    """Counter-clockwise about the centre, on the same canvas, black where nothing is."""

    def run(image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
        return cv2.warpAffine(image, turn, (width, height))

    return _array(run)


FILTERS: dict[str, Filter] = {
    **{f"jpegQF{quality}": _jpeg(quality) for quality in (90, 80, 70, 60, 50)},
    **{f"GaussNoise-{kernel}": _blur(kernel) for kernel in (3, 7, 15)},
    **{f"scaling-{round(100 * factor)}": _scale(factor) for factor in (0.5, 2.0)},
    "mirror-B": _array(lambda image: np.ascontiguousarray(image[::-1, ::-1])),  # both axes
    **{f"rotation-{degrees}": _rotate(degrees) for degrees in (45, 135)},
}
WORDS = {
    **{f"jpegQF{quality}": f"JPEG {quality}" for quality in (90, 80, 70, 60, 50)},
    **{f"GaussNoise-{kernel}": f"blur {kernel} × {kernel}, σ 4" for kernel in (3, 7, 15)},
    "scaling-50": "half size",
    "scaling-200": "double size",
    "mirror-B": "mirrored, both axes",
    "rotation-45": "turned 45°",
    "rotation-135": "turned 135°",
}


def chosen_filters(tags: Sequence[str]) -> dict[str, Filter]:
    """Return the filters of these tags; () is all of them.

    Raises:
        UserError: an unknown tag.
    """
    strange = [tag for tag in tags if tag not in FILTERS]
    if strange:
        raise UserError(f"no filter {strange[0]!r}; there are {', '.join(FILTERS)}")
    return {tag: FILTERS[tag] for tag in tags or FILTERS}


def write_filtered(
    images: ImageSet,
    out: Path,
    tags: Sequence[str] = (),
    *,
    diffusion: Sequence[str],
    skipped: list[Skipped] | None = None,
    progress: Callable[[str, int, int], object] | None = None,
) -> list[Path]:
    """Write ``testing_dset-<tag>/<class>/<architecture>/<name>`` for each filter; return folders.

    JPEG is written as JPEG (the published script fails to, and hides it), the others as PNG.
    Images that are there already are kept; unreadable ones are appended to ``skipped``.
    """
    filters = chosen_filters(tags)
    for place, entry in enumerate(images, 1):
        image: Image.Image | None = None
        for tag, run in filters.items():
            quality = int(tag[6:]) if tag.startswith("jpegQF") else 0
            folder = out / f"testing_dset-{tag}" / class_of(entry, diffusion)
            path = folder / architecture_of(entry) / entry.path.name
            path = path.with_suffix(".jpg" if quality else ".png")
            if path.is_file():
                continue
            try:
                image = image or read_image(entry.path)
            except UnreadableImage as error:
                if skipped is not None:
                    skipped.append(Skipped(entry.path, error.reason))
                break
            if quality:
                write_bytes(path, encode_jpeg(image, quality=quality, subsampling=FULL))
                continue
            buffer = io.BytesIO()
            run(image).save(buffer, "PNG")
            write_bytes(path, buffer.getvalue())
        if progress is not None:
            progress("filtering", place, len(images))
    return [out / f"testing_dset-{tag}" for tag in filters]
