"""One pass, many statistics: exact merging, shards, resuming."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import forensift.data.batching as decoding
from forensift.data import Batch, get_preset
from forensift.errors import UserError
from forensift.records import ImageEntry, ImageSet, Skipped
from forensift.sweep import ExactSum, Partials, sweep

from .planted import planted_images

PRESET = get_preset("wang-nocrop")
shares = hnp.arrays(np.float64, st.tuples(st.integers(1, 12), st.just(3)),
                    elements=st.floats(0, 1))  # fmt: skip


def total(*parts: np.ndarray) -> ExactSum:
    one = ExactSum((3,))
    for part in parts:
        one.add(part)
    return one


@given(shares, shares, shares)
@settings(deadline=None)
def test_exact_sums_merge_in_any_order_and_grouping(a, b, c) -> None:
    left, right, other = total(a), total(b), total(a, b, c)
    left.merge(right)
    left.merge(total(c))  # (a + b) + c
    inner = total(c)
    inner.merge(total(b))
    inner.merge(total(a))  # c + b + a
    for one in (left, inner):
        np.testing.assert_array_equal(one.words, other.words)
        assert one.count == other.count == len(a) + len(b) + len(c)
    neutral = other.empty_like()
    neutral.merge(other)
    np.testing.assert_array_equal(neutral.words, other.words)


@given(shares)
@settings(deadline=None)
def test_exact_sums_are_right(a) -> None:
    truth = [float(sum((Fraction(v) for v in column), Fraction())) for column in a.T.tolist()]
    np.testing.assert_allclose(total(a).value(), truth, rtol=1e-15, atol=1e-27)


def test_exact_sums_refuse_what_they_cannot_hold() -> None:
    one = ExactSum((2,))
    for bad in ([[0.5, 1.5]], [[np.nan, 0.0]], [[-0.1, 0.0]], [[0.0, np.inf]]):
        with pytest.raises(ValueError, match="between 0 and 1"):
            one.add(np.array(bad))
    with pytest.raises(ValueError, match="shape"):
        one.add(np.zeros((1, 3)))
    assert one.count == 0


class Brightness:
    """Sum of the images' mean values and the ids in the order seen, to test the sweep with."""

    def __init__(self) -> None:
        self.sum = ExactSum(())
        self.indices = np.zeros(0, dtype=np.int64)

    def empty(self) -> Brightness:
        return Brightness()

    def update(self, observation: np.ndarray) -> None:
        self.sum.add(observation)

    def merge(self, other: Brightness) -> None:
        self.sum.merge(other.sum)

    def state(self) -> dict[str, np.ndarray]:
        return {"words": self.sum.words, "count": np.array(self.sum.count)}

    def from_state(self, state: Mapping[str, np.ndarray]) -> Brightness:
        found = Brightness()
        found.sum.words, found.sum.count = state["words"], int(state["count"])
        return found

    def result(self) -> float:
        return float(self.sum.value())


def brightness(batch: Batch, images: ImageSet) -> np.ndarray:
    assert len(batch.indices) == len(batch.pixels)
    return batch.pixels.double().mean(dim=(1, 2, 3)).numpy() / 255


def test_results_do_not_depend_on_shards_or_batches(tmp_path: Path) -> None:
    images = planted_images(tmp_path, n=5)
    found = set()
    for batch_size, shard_size in ((1, 3), (4, 256), (16, 7), (3, 1)):
        one, other, done = Brightness(), Brightness(), []
        sweep(images, PRESET, brightness, [one, other], batch_size=batch_size,
              shard_size=shard_size, progress=done.append)  # fmt: skip
        assert one.sum.count == len(images) == sum(done)
        assert one.result() == other.result()
        found.add(one.sum.words.tobytes())
    assert len(found) == 1


def test_each_image_is_decoded_once_for_all_statistics(tmp_path, monkeypatch) -> None:
    images = planted_images(tmp_path, n=3)
    read: list[Path] = []
    original = decoding.read_image
    monkeypatch.setattr(decoding, "read_image", lambda path: read.append(path) or original(path))
    sweep(images, PRESET, brightness, [Brightness(), Brightness()], shard_size=4)
    assert sorted(read) == sorted(entry.path for entry in images)


def test_unreadable_images_are_reported_shard_by_shard(tmp_path: Path) -> None:
    images = planted_images(tmp_path, n=3)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    images = ImageSet(tmp_path, (ImageEntry(broken, 0, "one"), *images.entries))
    skipped: list[Skipped] = []
    one = Brightness()
    sweep(images, PRESET, brightness, [one], shard_size=2, skipped=skipped)
    assert [s.path for s in skipped] == [broken]
    assert one.sum.count == len(images) - 1


class Killed(Exception):
    pass


def run(images: ImageSet, partials: Partials, stop_after: int | None = None) -> tuple[Any, int]:
    seen = 0

    def observe(batch: Batch, shard: ImageSet) -> np.ndarray:
        nonlocal seen
        if stop_after is not None and seen >= stop_after:
            raise Killed
        seen += len(batch.indices)
        return brightness(batch, shard)

    one = Brightness()
    sweep(images, PRESET, observe, [one], shard_size=4, partials=partials)
    return one, seen


def test_a_killed_run_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    images = planted_images(tmp_path / "set", n=5)
    plan = {"set": images.hash()}
    whole, _ = run(images, Partials(tmp_path / "a", plan))
    with pytest.raises(Killed):
        run(images, Partials(tmp_path / "b", plan), stop_after=8)
    resumed, seen = run(images, Partials(tmp_path / "b", plan, resume=True))
    assert seen == len(images) - 8
    np.testing.assert_array_equal(whole.sum.words, resumed.sum.words)
    for shard in (tmp_path / "a").glob("shard-*.npz"):
        assert shard.read_bytes() == (tmp_path / "b" / shard.name).read_bytes()
    kept = Partials(tmp_path / "b", plan, resume=True)
    kept.clear()
    assert not (tmp_path / "b").exists()


def test_a_damaged_shard_is_computed_again(tmp_path: Path) -> None:
    images = planted_images(tmp_path / "set", n=5)
    whole, _ = run(images, Partials(tmp_path / "a", {}))
    shards = sorted((tmp_path / "a").glob("shard-*.npz"))
    content = bytearray(shards[0].read_bytes())
    content[len(content) // 3] ^= 0xFF
    shards[0].write_bytes(content)
    shards[1].write_bytes(shards[1].read_bytes()[:50])
    shards[2].write_bytes(b"")
    again, seen = run(images, Partials(tmp_path / "a", {}, resume=True))
    assert seen == 12
    np.testing.assert_array_equal(whole.sum.words, again.sum.words)


def test_shards_of_another_run_are_refused(tmp_path: Path) -> None:
    Partials(tmp_path / "p", {"seed": 0, "preset": "x"})
    with pytest.raises(UserError, match=r"another run.*seed"):
        Partials(tmp_path / "p", {"seed": 1, "preset": "x"}, resume=True)
    Partials(tmp_path / "p", {"seed": 1, "preset": "x"})  # without resume they are replaced
    Partials(tmp_path / "p", {"seed": 1, "preset": "x"}, resume=True)
