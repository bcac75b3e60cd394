"""Read an image file as RGB at its native size, or say in a few words why it cannot be read.

What is done with pixels that are not 8-bit RGB:

- CMYK, YCbCr, Lab, HSV, palette, greyscale and 1-bit images are converted by Pillow;
- transparency is laid over white, so that hidden colours under it play no part;
- 16-bit values are scaled to 8 bits (grey: v · 255 / 65535 rounded; colour: Pillow's own
  high byte), never clipped; grey of 16 or 32 bits in which nothing is above 255 is taken for 8-bit
  values in a deeper file, and left as it is;
- of an animation the first frame is read;
- the EXIF orientation is left as stored, as the published evaluations do: a turned photograph is
  judged, and shown, as its file holds it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..archives import opened
from ..errors import UserError

# Formats that a file's content is recognised by, whatever its name.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "PPM", "GIF", "AVIF", "JPEG2000")
# Suffixes of these, and of formats that are tried where the suffix says so: they have no mark of
# their own, or are no photographs' format.
EXTENSIONS = (
    ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".jfif", ".jpe", ".gif",
    ".avif", ".avifs", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".pgm", ".pbm", ".pnm",
    ".pfm", ".apng", ".mpo", ".dib", ".tga", ".icb", ".vda", ".vst", ".pcx", ".dcx", ".sgi",
    ".rgb", ".rgba", ".bw", ".ras", ".psd", ".qoi", ".dds", ".ico", ".icns", ".cur", ".xbm",
    ".xpm", ".pcd", ".im", ".msp", ".fli", ".flc", ".blp", ".ftc", ".ftu", ".pxr", ".gbr",
)  # fmt: skip

TOO_MANY_PIXELS = "more pixels than Pillow's limit against decompression bombs"

_OF_FILE = "forensift_of_file"
_TRANSPARENT_MODES = ("LA", "PA", "RGBA", "La", "RGBa")


class UnreadableImage(Exception):
    """An image that is skipped; ``reason`` is short and names no path."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def read_image(path: Path) -> Image.Image:
    """Return the image at ``path`` as a Pillow image, mode RGB, at its native size.

    Raises:
        UnreadableImage: not a file, no permission, empty, not one of the formats, corrupt,
            truncated, of a pixel type without a meaning in 8 bits, or with more pixels than
            Pillow's limit against decompression bombs.
    """
    path = Path(path)
    if path.is_dir():
        raise UnreadableImage("a directory, not a file")
    try:
        with opened(path) as content:
            if not content.read(1):
                raise UnreadableImage("empty file")
            content.seek(0)
            with Image.open(content, formats=image_formats(path)) as image:
                refuse_bomb(image)
                image.load()
                found = _rgb(image)
                setattr(found, _OF_FILE, True)  # Pillow hands it on to nothing made of the image
                return found
    except UnreadableImage:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnreadableImage(TOO_MANY_PIXELS) from None
    except UnidentifiedImageError:
        raise UnreadableImage(f"none of the formats {', '.join(FORMATS)}") from None
    except PermissionError:
        raise UnreadableImage("no permission to read it") from None
    except FileNotFoundError:
        raise UnreadableImage("no such file") from None
    except MemoryError:
        raise UnreadableImage("too large for the memory") from None
    except UserError as error:  # of the container that it lies in
        raise UnreadableImage(str(error)) from None
    # Pillow's decoders raise many kinds of error on bytes that were tampered with.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableImage(f"corrupt: {reason[:120]}") from None


def is_of_file(image: Image.Image) -> bool:
    """Whether an image is as :func:`read_image` gave it, nothing done to it."""
    return bool(getattr(image, _OF_FILE, False))


def image_size(path: Path) -> tuple[str, int, int]:
    """Return format, width and height from the header alone.

    Raises:
        UnreadableImage: as :func:`read_image`, for what the header shows.
    """
    path = Path(path)
    if path.is_dir():
        raise UnreadableImage("a directory, not a file")
    try:
        with (
            opened(path) as content,
            Image.open(content, formats=image_formats(path)) as image,
        ):
            refuse_bomb(image)
            return str(image.format), image.width, image.height
    except UnreadableImage:
        raise
    except Exception as error:
        raise UnreadableImage(type(error).__name__) from None


def image_formats(path: Path) -> tuple[str, ...]:
    """Return Pillow's formats that a file may be in: the usual ones, and what its suffix says."""
    suffix = Path(path).suffix.lower()
    if suffix not in EXTENSIONS[8:]:
        return FORMATS
    Image.init()
    own = Image.EXTENSION.get(suffix, FORMATS[0])
    return FORMATS if own in FORMATS else (*FORMATS, own)


def refuse_bomb(image: Image.Image) -> None:
    # Pillow only warns up to twice its limit; changing warning filters is not safe in threads.
    if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
        raise UnreadableImage(TOO_MANY_PIXELS)


def _rgb(image: Image.Image) -> Image.Image:
    """Return a loaded image of any mode as 8-bit RGB."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image.copy()
    if image.mode.startswith("I;16"):
        return _grey_from_16_bits(np.asarray(image))
    if image.mode == "I":  # what Pillow makes of some 16-bit files
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise UnreadableImage("32-bit integer pixels")
        return _grey_from_16_bits(values)
    if image.mode == "F":
        raise UnreadableImage("floating-point pixels")
    if image.mode in _TRANSPARENT_MODES or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _grey_from_16_bits(values: np.ndarray) -> Image.Image:
    if values.max() <= 255:
        return Image.fromarray(values.astype(np.uint8)).convert("RGB")
    scaled = np.rint(values.astype(np.float64) * (255 / 65535)).astype(np.uint8)
    return Image.fromarray(scaled).convert("RGB")
