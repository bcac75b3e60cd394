"""DNA-Det's 170 pre-training classes, each against what its name says."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from forensift.data.degrade import jpeg_opencv
from forensift.records import ImageEntry, ImageSet
from forensift.training.dna_det_data import TransformedBatches, held_out_transformed, transformed
from forensift.training.transformations import (
    SIDE,
    TRANSFORMATIONS,
    blur_sigma,
)

# fmt: off
SIZES = (19, 25, 32, 38, 44, 51, 57, 64, 70, 76, 83, 89, 96, 102, 108, 115)
SECOND = (
    39, 99, 36, 93, 60, 75, 81, 39, 63, 69, 60, 87, 90, 48, 81, 75, 72, 78, 54, 33, 81, 30, 36, 99,
)
# fmt: on
BLOCKS = {"jpeg": 48, "blur": 14, "median": 14, "resize": 80, "noise": 14}


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """Smooth colours with fine noise: every transformation changes it."""
    rng = np.random.default_rng(0)
    corners = rng.integers(60, 200, (9, 9, 3)).astype(np.uint8)
    smooth = np.asarray(Image.fromarray(corners).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    return np.clip(smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)


def expected(index: int, image: np.ndarray) -> np.ndarray:
    """Return what class ``index`` does, by the table of the published configuration."""
    bgr = np.ascontiguousarray(image)  # RGB taken for BGR, as the published code does

    def jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
        code = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        return cv2.imdecode(code, cv2.IMREAD_COLOR)

    if index < 24:
        return jpeg(bgr, 30 + 3 * index)
    if index < 48:
        return jpeg(jpeg(bgr, 30 + 3 * (index - 24)), SECOND[index - 24])
    if index < 62:
        kernel = 3 + 2 * (index - 48)
        sigma = 0.3 * ((kernel - 1) * 0.5 - 1) + 0.8
        taps = cv2.getGaussianKernel(kernel, sigma)
        return cv2.sepFilter2D(image, -1, taps, taps)
    if index < 76:
        return cv2.medianBlur(image, 3 + 2 * (index - 62))
    if index < 156:
        code, place = divmod(index - 76, 16)
        small = cv2.resize(image, (SIZES[place], SIZES[place]), interpolation=code)
        return cv2.resize(small, (SIDE, SIDE), interpolation=code)
    variance = 10 + 3 * (index - 156)
    noise = np.random.default_rng(7).normal(0, np.sqrt(variance), image.shape)
    return np.floor(np.clip(image + noise, 0, 255)).astype(np.uint8)


@pytest.mark.parametrize("index", range(170), ids=[str(one) for one in TRANSFORMATIONS])
def test_class_does_what_the_table_says(image, index):
    done = TRANSFORMATIONS[index](image, np.random.default_rng(7))
    assert done.dtype == np.uint8
    assert done.shape == image.shape
    assert not np.array_equal(done, image)
    apart = np.abs(done.astype(int) - expected(index, image))
    # OpenCV's Gaussian works in fixed point: a level off where a value lies between two.
    assert apart.max() <= (1 if 48 <= index < 62 else 0)


def test_classes_are_170_and_differ(image):
    kinds = [one.kind for one in TRANSFORMATIONS]
    assert {kind: kinds.count(kind) for kind in BLOCKS} == BLOCKS
    assert len({str(one) for one in TRANSFORMATIONS}) == len(kinds) == 170
    rng = np.random.default_rng(7)
    done = [one(image, rng).tobytes() for one in TRANSFORMATIONS]
    again = {str(TRANSFORMATIONS[at]) for at in range(170) if done[at] in done[:at]}
    # A second JPEG of the same quality may change nothing: classes that cannot be told apart.
    assert again <= {"jpeg-36-36", "jpeg-60-60", "jpeg-75-75", "jpeg-99-99"}


def test_names_say_the_parameters():
    names = [str(TRANSFORMATIONS[index]) for index in (0, 26, 61, 62, 79, 155, 169)]
    assert names == [
        "jpeg-30", "jpeg-36-36", "blur-29", "median-3", "resize-nearest-0.3",
        "resize-lanczos4-0.9", "noise-49",
    ]  # fmt: skip


def test_both_passes_of_four_double_jpegs_are_equal():
    equal = [one.values[0] for one in TRANSFORMATIONS[24:48] if len(set(one.values)) == 1]
    assert equal == [36, 60, 75, 99]


def test_jpeg_takes_red_for_blue():
    red = np.zeros((16, 16, 3), dtype=np.uint8)
    red[..., 0] = np.tile(np.repeat([0, 200], 2), 4)  # detail in red alone
    swapped = jpeg_opencv(red, 60, exchanged=True)
    proper = cv2.imdecode(cv2.imencode(".jpg", red[..., ::-1], [1, 60])[1], cv2.IMREAD_COLOR)
    assert not np.array_equal(swapped, proper[..., ::-1])
    as_blue = cv2.imdecode(cv2.imencode(".jpg", red, [1, 60])[1], cv2.IMREAD_COLOR)
    assert np.array_equal(swapped, as_blue)


def test_noise_is_clipped_and_truncated():
    grey = np.full((SIDE, SIDE, 3), 128, dtype=np.uint8)
    noisy = TRANSFORMATIONS[169](grey, np.random.default_rng(0)).astype(float)
    assert noisy.mean() == pytest.approx(127.5, abs=0.1)  # truncation costs half a level
    assert noisy.var() == pytest.approx(49 + 1 / 12, rel=0.03)
    white = TRANSFORMATIONS[169](np.full_like(grey, 255), np.random.default_rng(0))
    assert white.min() > 200  # nothing wraps round
    channels = noisy.reshape(-1, 3)
    assert np.abs(np.corrcoef(channels.T) - np.eye(3)).max() < 0.05  # each channel its own


def test_blur_sigma():
    assert [blur_sigma(kernel) for kernel in (3, 29)] == pytest.approx([0.8, 4.7])


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> ImageSet:
    root = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(1)
    entries = []
    for number in range(6):
        path = root / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (140, 150, 3), dtype=np.uint8)).save(path)
        entries.append(ImageEntry(path, 0, "photographs"))
    return ImageSet(root, tuple(entries))


def test_the_class_is_drawn_at_every_access_and_keyed_by_the_step(photographs):
    from forensift.data import get_preset

    def batches(seed: int) -> TransformedBatches:
        return TransformedBatches(
            photographs.entries, get_preset("dna-det-64"), crops=2, side=32, batch_size=3, seed=seed
        )

    first, again, other = batches(0), batches(0), batches(1)
    crops, labels = first[5]
    assert crops.shape == (2, 3, 3, 32, 32)
    assert np.array_equal(again[5][0], crops)  # whatever was loaded before
    assert np.array_equal(again[5][1], labels)
    assert not np.array_equal(other[5][0], crops)
    drawn = np.concatenate([first[step][1] for step in range(20)])
    assert len(set(drawn.tolist())) > 40  # 60 accesses to 6 images


def test_validation_has_every_class_and_is_the_same_in_every_epoch(photographs):
    held_out = held_out_transformed(photographs, seed=0)
    assert [label for _, label in held_out] == [label for label in range(170) for _ in range(2)]
    for load, _ in held_out[::60]:
        image = load()
        assert image.size == (SIDE, SIDE)
        assert np.array_equal(image, load())


def test_small_photographs_are_refused(tmp_path):
    from forensift.errors import UserError

    Image.new("RGB", (100, 200)).save(tmp_path / "small.png")
    with pytest.raises(UserError, match="100 × 200"):
        transformed(ImageEntry(tmp_path / "small.png", 0, "x"), 0, np.random.default_rng(0))
