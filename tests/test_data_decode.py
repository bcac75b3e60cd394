"""Every kind of file that users have: converted where that means something, else named."""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from forensift.data import UnreadableImage, image_size, read_image

from .conftest import write_image


def reason(path: Path) -> str:
    with pytest.raises(UnreadableImage) as caught:
        read_image(path)
    assert "\n" not in caught.value.reason
    assert len(caught.value.reason) < 150
    return caught.value.reason


def pixels(path: Path) -> np.ndarray:
    image = read_image(path)
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize("suffix", ["png", "webp", "bmp", "tiff", "ppm"])
def test_lossless_formats_come_back_equal(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    options: dict[str, Any] = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(noise).save(tmp_path / f"a.{suffix}", **options)
    assert np.array_equal(pixels(tmp_path / f"a.{suffix}"), noise)


def test_the_content_counts_not_the_extension(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", (7, 5)).rename(tmp_path / "a.jpg")
    assert pixels(tmp_path / "a.jpg").shape == (5, 7, 3)
    assert image_size(tmp_path / "a.jpg") == ("PNG", 7, 5)


def test_cmyk_and_greyscale_and_bits(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg", quality=100)
    assert np.abs(pixels(tmp_path / "cmyk.jpg").astype(int) - [255, 0, 0]).max() <= 3
    Image.new("L", (4, 4), 77).save(tmp_path / "grey.png")
    assert (pixels(tmp_path / "grey.png") == 77).all()
    Image.new("1", (4, 4), 1).save(tmp_path / "bit.png")
    assert (pixels(tmp_path / "bit.png") == 255).all()


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (pixels(tmp_path / "clear.png") == 255).all()
    Image.new("RGBA", (4, 4), (10, 20, 30, 255)).save(tmp_path / "solid.png")
    assert (pixels(tmp_path / "solid.png") == [10, 20, 30]).all()
    Image.new("LA", (4, 4), (0, 128)).save(tmp_path / "half.png")
    assert (pixels(tmp_path / "half.png") == 127).all()
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 200, 100, 50])
    palette.putpixel((0, 0), 0)
    palette.save(tmp_path / "palette.png", transparency=0)
    found = pixels(tmp_path / "palette.png")
    assert found[0, 0].tolist() == [255, 255, 255]
    assert found[1, 1].tolist() == [200, 100, 50]
    Image.new("RGB", (4, 4), (9, 9, 9)).save(tmp_path / "key.png", transparency=(9, 9, 9))
    assert (pixels(tmp_path / "key.png") == 255).all()


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_are_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 256, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"deep.{suffix}")
    assert pixels(tmp_path / f"deep.{suffix}")[0, :, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize(
    ("kind", "suffix"), [("int32", "tif"), ("uint16", "tif"), ("uint16", "png")]
)
def test_deep_files_that_hold_8_bits_are_not_scaled_to_black(
    tmp_path: Path, kind: str, suffix: str
) -> None:
    values = np.array([[0, 1, 100, 255]])
    Image.fromarray(values.astype(kind)).save(tmp_path / f"deep.{suffix}")
    assert pixels(tmp_path / f"deep.{suffix}")[0, :, 0].tolist() == [0, 1, 100, 255]
    wide = np.array([[0, 256, 32768, 65535]])
    Image.fromarray(wide.astype(kind)).save(tmp_path / f"wide.{suffix}")
    assert pixels(tmp_path / f"wide.{suffix}")[0, :, 0].tolist() == [0, 1, 128, 255]


def test_values_without_a_meaning_in_8_bits_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((3, 3), 0.5, np.float32)).save(tmp_path / "float.tif")
    assert "floating-point" in reason(tmp_path / "float.tif")
    Image.fromarray(np.full((3, 3), 70000, np.int32)).save(tmp_path / "long.tif")
    assert "32-bit" in reason(tmp_path / "long.tif")


def test_orientation_is_left_as_stored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").size == (8, 4)


def test_an_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    for suffix in ("png", "webp", "tif"):
        options: dict[str, Any] = {"lossless": True} if suffix == "webp" else {}
        path = tmp_path / f"moving.{suffix}"
        frames[0].save(path, save_all=True, append_images=frames[1:], **options)
        assert (pixels(path) == [255, 0, 0]).all()


def test_broken_files_have_a_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    assert reason(tmp_path / "empty.png") == "empty file"
    (tmp_path / "x.png").mkdir()
    assert reason(tmp_path / "x.png") == "a directory, not a file"
    assert reason(tmp_path / "absent.png") == "no such file"
    (tmp_path / "text.jpg").write_text("<html>not found</html>")
    assert "none of the formats" in reason(tmp_path / "text.jpg")
    for suffix in ("png", "jpg", "webp", "bmp", "tif", "ppm"):
        whole = write_image(tmp_path / f"whole.{suffix}", (64, 64)).read_bytes()
        cut = tmp_path / f"cut.{suffix}"
        cut.write_bytes(whole[: len(whole) // 2])
        assert reason(cut)
    flipped = bytearray(write_image(tmp_path / "good.png", (64, 64)).read_bytes())
    flipped[len(flipped) // 2] ^= 0xFF
    (tmp_path / "flipped.png").write_bytes(flipped)
    assert "corrupt" in reason(tmp_path / "flipped.png")


def test_formats_that_are_no_photographs_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    assert "none of the formats" in reason(tmp_path / "a.png")


def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_image(tmp_path / "a.png")
    if os.geteuid() == 0:  # root reads anything, so the refusal has to be played
        opened: Callable[..., object] = Path.open

        def refuse(self: Path, *args: object, **options: object) -> object:
            if self == path:
                raise PermissionError(13, "Permission denied")
            return opened(self, *args, **options)

        monkeypatch.setattr(Path, "open", refuse)
    else:
        path.chmod(0)
    assert reason(path) == "no permission to read it"


def test_a_decompression_bomb_is_refused_at_once(tmp_path: Path) -> None:
    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    for side in (10_000, 50_000):  # above Pillow's warning and above its error
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
        body = chunk(b"IDAT", zlib.compress(bytes(10_000)))
        path = tmp_path / f"bomb{side}.png"
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b""))
        start = time.perf_counter()
        assert "decompression bombs" in reason(path)
        assert time.perf_counter() - start < 1
        with pytest.raises(UnreadableImage):
            image_size(path)


def test_pillows_safety_settings_are_left_alone() -> None:
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    assert Image.MAX_IMAGE_PIXELS == 89478485
