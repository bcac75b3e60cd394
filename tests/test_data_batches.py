from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import forensift.data.batching as decoding
from forensift.data import (
    Preset,
    RandomResizedCrop,
    batches,
    check_skipped,
    get_preset,
    scan,
)
from forensift.data.conditions import parse_condition
from forensift.errors import UserError
from forensift.records import ImageEntry, ImageSet, Skipped

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
        assert batch.pixels.shape[0] == len(batch) <= batch_size
        assert batch.ids == tuple(images.image_id(entry) for entry in batch.entries)
        for pixels, key in zip(batch.pixels, batch.ids, strict=True):
            assert key not in found
            found[key] = pixels.numpy().tobytes()
    return found


def test_sizes_are_kept_apart_and_nothing_is_squashed(mixed: ImageSet) -> None:
    seen: list[ImageEntry] = []
    for batch in batches(mixed, NATIVE, 2, skipped=[]):
        assert batch.labels.tolist() == [entry.label for entry in batch.entries]
        for pixels, entry in zip(batch.pixels, batch.entries, strict=True):
            image = np.asarray(Image.open(entry.path))
            assert np.array_equal(pixels.permute(1, 2, 0).numpy(), image)
            seen.append(entry)
    assert sorted(seen, key=lambda entry: entry.path) == list(mixed.entries)


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
    ids = sorted(one for batch in found for one in batch.ids)
    assert ids == sorted(mixed.image_id(entry) for entry in mixed)


def test_unreadable_images_are_named_in_order(mixed: ImageSet) -> None:
    (mixed.entries[4].path).write_bytes(b"")
    (mixed.entries[1].path).write_bytes(b"no image")
    skipped: list[Skipped] = []
    found = [one for b in batches(mixed, NATIVE, 2, skipped=skipped) for one in b.entries]
    kept = [mixed.entries[i] for i in (0, 2, 3, 5, 6)]
    assert sorted(found, key=lambda entry: entry.path) == kept
    assert [one.path for one in skipped] == [mixed.entries[1].path, mixed.entries[4].path]
    assert skipped[1].reason == "empty file"


def test_too_many_unreadable_images_are_an_error() -> None:
    one = [Skipped(Path("a/b.png"), "empty file")]
    check_skipped([], 0)
    check_skipped(one, 100)
    with pytest.raises(UserError) as caught:
        check_skipped(one, 99)
    assert str(caught.value) == (
        "1 of 99 images cannot be used (1.0%, allowed 1.0%), first a/b.png: empty file; "
        "remove them or raise max_skipped"
    )
    check_skipped(one, 2, max_skipped=0.5)
    with pytest.raises(UserError, match="1 of 1 image cannot be used"):
        check_skipped(one, 1, max_skipped=1.0)


def test_an_iteration_may_be_left(image_folder: Callable[..., Path]) -> None:
    stream = batches(scan(image_folder(n=20)), NATIVE, 2, skipped=[])
    next(stream)
    stream.close()


def test_presets_of_one_geometry_share_pixels_and_conditions_do_not(
    mixed: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, opened = decoding.read_image, []
    monkeypatch.setattr(decoding, "read_image", lambda path: opened.append(path) or read(path))
    presets = [get_preset(name) for name in ("wang-nocrop", "npr-native", "wang-crop224")]
    shapes = {preset.shape_key() for preset in presets}
    conditions = [parse_condition(name) for name in ("clean", "jpeg-50")]
    found = list(batches(mixed, presets, 9, skipped=[], conditions=conditions))
    assert len(opened) == len(SIZES)
    assert len(shapes) < len(presets)
    counts = Counter((batch.shape, batch.condition) for batch in found for _ in batch.ids)
    assert counts == {(shape, one.name): len(SIZES) for shape in shapes for one in conditions}
    for batch in found:
        if batch.shape == NATIVE.shape_key():
            for pixels, entry in zip(batch.pixels, batch.entries, strict=True):
                image = parse_condition(batch.condition)(Image.open(entry.path))
                assert np.array_equal(pixels.permute(1, 2, 0).numpy(), np.asarray(image))


def test_a_batch_holds_no_more_than_it_is_told_may_go_together(mixed: ImageSet) -> None:
    def most(shape: object, pixels: np.ndarray) -> int:
        return 2 if pixels.shape[:2] == (16, 16) else 0  # none fits, so one at a time

    found = list(batches(mixed, NATIVE, 9, skipped=[], most=most))
    wide = [len(batch) for batch in found if batch.pixels.shape[2:] == (16, 16)]
    assert sorted(wide) == [1, 2]
    assert {len(batch) for batch in found if batch.pixels.shape[2:] != (16, 16)} == {1}


def test_a_part_of_a_batch_is_its_rows(mixed: ImageSet) -> None:
    whole = next(batches(mixed, get_preset("wang-crop224"), 9, skipped=[]))
    part = whole.take([5, 0])
    assert part.ids == (whole.ids[5], whole.ids[0])
    assert part.entries == (whole.entries[5], whole.entries[0])
    assert torch.equal(part.pixels, whole.pixels[[5, 0]])
    assert (part.condition, part.shape) == (whole.condition, whole.shape)


def test_a_batch_size_below_one(mixed: ImageSet) -> None:
    with pytest.raises(UserError, match="batch size 0"):
        next(batches(mixed, NATIVE, 0, skipped=[]))
