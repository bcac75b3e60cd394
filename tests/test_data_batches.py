from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from forensift.data import (
    Preset,
    RandomResizedCrop,
    batches,
    check_skipped,
    get_preset,
    scan,
)
from forensift.errors import UserError
from forensift.records import ImageSet, Skipped

from .conftest import write_image

SIZES = [(16, 16), (20, 16), (16, 16), (16, 20), (20, 16), (16, 16), (31, 17)]
NATIVE = get_preset("wang-nocrop")
RANDOM = Preset("random", random_resized_crop=RandomResizedCrop(12, (0.3, 1.0), (0.8, 1.2)))


@pytest.fixture
def mixed(tmp_path: Path) -> ImageSet:
    for number, size in enumerate(SIZES):
        kind = ("0_real", "1_fake")[number % 2]
        write_image(tmp_path / "g" / kind / f"{number}.png", size, number)
    return scan(tmp_path)


def all_pixels(
    images: ImageSet, preset: Preset, batch_size: int, seed: int = 0
) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for batch in batches(images, preset, batch_size, seed=seed, skipped=[]):
        assert batch.pixels.shape[0] == len(batch.indices) <= batch_size
        for pixels, index in zip(batch.pixels, batch.indices, strict=True):
            key = images.image_id(images.entries[index])
            assert key not in found
            found[key] = pixels.numpy().tobytes()
    return found


def test_sizes_are_kept_apart_and_nothing_is_squashed(mixed: ImageSet) -> None:
    seen: list[int] = []
    for batch in batches(mixed, NATIVE, 2, skipped=[]):
        for pixels, index in zip(batch.pixels, batch.indices, strict=True):
            image = np.asarray(Image.open(mixed.entries[index].path))
            assert np.array_equal(pixels.permute(1, 2, 0).numpy(), image)
            seen.append(int(index))
    assert sorted(seen) == list(range(len(SIZES)))


@pytest.mark.parametrize("preset", [NATIVE, RANDOM], ids=lambda preset: preset.name)
def test_pixels_do_not_depend_on_batch_size_or_order(mixed: ImageSet, preset: Preset) -> None:
    once = all_pixels(mixed, preset, 1)
    assert all_pixels(mixed, preset, 3) == once
    backwards = ImageSet(mixed.root, mixed.entries[::-1])
    assert all_pixels(backwards, preset, 2) == once
    assert (all_pixels(mixed, preset, 2, seed=1) == once) == (preset is NATIVE)


def test_each_image_is_decoded_once(mixed: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    from forensift.data import decode

    opened: list[Path] = []
    read = decode.read_image

    def counting(path: Path) -> Image.Image:
        opened.append(path)
        return read(path)

    monkeypatch.setattr("forensift.data.batching.read_image", counting)
    all_pixels(mixed, NATIVE, 2)
    assert sorted(opened) == [entry.path for entry in mixed]


def test_a_transform_sees_image_and_id_before_the_geometry(mixed: ImageSet) -> None:
    keys: list[str] = []

    def blacken(image: Image.Image, key: str) -> Image.Image:
        keys.append(key)
        return Image.new("RGB", image.size)

    found = list(batches(mixed, get_preset("wang-crop224"), 9, skipped=[], transform=blacken))
    assert sorted(keys) == [mixed.image_id(entry) for entry in mixed]
    assert [tuple(batch.pixels.shape) for batch in found] == [(7, 3, 224, 224)]
    assert int(found[0].pixels.max()) == 0


def test_memory_stays_bounded_where_every_size_differs(
    mixed: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forensift.data.batching.WAITING_BYTES", 2000)
    found = list(batches(mixed, NATIVE, 100, skipped=[]))
    assert len(found) > 4  # four sizes would make four batches
    assert sorted(i for batch in found for i in batch.indices) == list(range(len(SIZES)))


def test_unreadable_images_are_named_in_order(mixed: ImageSet) -> None:
    (mixed.entries[4].path).write_bytes(b"")
    (mixed.entries[1].path).write_bytes(b"no image")
    skipped: list[Skipped] = []
    found = [i for b in batches(mixed, NATIVE, 2, skipped=skipped)
             for i in b.indices]  # fmt: skip
    assert sorted(found) == [0, 2, 3, 5, 6]
    assert [one.path for one in skipped] == [mixed.entries[1].path, mixed.entries[4].path]
    assert skipped[1].reason == "empty file"


def test_too_many_unreadable_images_are_an_error() -> None:
    one = [Skipped(Path("a/b.png"), "empty file")]
    check_skipped([], 0)
    check_skipped(one, 100)
    with pytest.raises(UserError) as caught:
        check_skipped(one, 99)
    assert str(caught.value) == (
        "1 of 99 images cannot be read (1.0%, allowed 1.0%), first a/b.png: empty file; "
        "remove them or allow more with --max-skipped"
    )
    check_skipped(one, 2, max_skipped=0.5)
    with pytest.raises(UserError, match="1 of 1 images cannot be read"):
        check_skipped(one, 1, max_skipped=1.0)


def test_an_iteration_may_be_left(image_folder: Callable[..., Path]) -> None:
    stream = batches(scan(image_folder(n=20)), NATIVE, 2, skipped=[])
    next(stream)
    stream.close()


def test_a_batch_size_below_one(mixed: ImageSet) -> None:
    with pytest.raises(UserError, match="batch size 0"):
        next(batches(mixed, NATIVE, 0, skipped=[]))
