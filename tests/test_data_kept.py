"""Images that several stages ask for are decoded once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from forensift.data import batches, get_preset, keep_pixels, scan
from forensift.records import Skipped


def pixels(folder: Path, preset: str, seed: int = 0) -> list[np.ndarray]:
    skipped: list[Skipped] = []
    found = batches(scan(folder), get_preset(preset), 4, seed=seed, skipped=skipped)
    return [batch.pixels.numpy() for batch in found]


@pytest.mark.parametrize("preset", ["wang-nocrop", "tff-ffrs-16"])
def test_a_second_pass_decodes_nothing_and_sees_the_same(
    image_folder: Callable[..., Path], preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = image_folder()
    plain = pixels(folder, preset)
    opened: list[object] = []
    original = Image.open
    monkeypatch.setattr(Image, "open", lambda *a, **k: (opened.append(a), original(*a, **k))[1])
    with keep_pixels() as kept:
        first, second = pixels(folder, preset), pixels(folder, preset)
    assert len(opened) == kept.decoded == len(scan(folder)) == 12
    assert kept.given == 24
    for one, again, alone in zip(first, second, plain, strict=True):
        np.testing.assert_array_equal(one, alone)
        np.testing.assert_array_equal(again, alone)


def test_another_geometry_or_seed_is_another_image(image_folder: Callable[..., Path]) -> None:
    folder = image_folder(size=(200, 200))
    with keep_pixels() as kept:
        pixels(folder, "wang-nocrop")
        pixels(folder, "npr-native")  # the same geometry under another name
        assert kept.decoded == 12
        one = pixels(folder, "tff-ffrs-16", seed=0)
        other = pixels(folder, "tff-ffrs-16", seed=1)
        assert kept.decoded == 36
    assert any((a != b).any() for a, b in zip(one, other, strict=True))


def test_an_unreadable_image_is_skipped_by_every_stage(image_folder: Callable[..., Path]) -> None:
    folder = image_folder()
    broken = folder / "one" / "0_real" / "0.png"
    broken.write_bytes(b"not an image")
    skipped: list[list[Skipped]] = [[], []]
    with keep_pixels() as kept:
        for one in skipped:
            list(batches(scan(folder), get_preset("wang-nocrop"), 4, skipped=one))
    assert skipped[0] == skipped[1]
    assert [one.path for one in skipped[0]] == [broken]
    assert kept.decoded == 12


def test_a_block_inside_another_shares_its_pixels(image_folder: Callable[..., Path]) -> None:
    folder = image_folder()
    with keep_pixels() as outer, keep_pixels() as inner:
        assert inner is outer
        pixels(folder, "wang-nocrop")
    assert outer.decoded == 12
