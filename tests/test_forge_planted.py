"""Planted traces: what is added, where, and that nothing else differs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from forensift.data import photographs, scan
from forensift.errors import UserError
from forensift.forge import Trace, forge_planted, plant
from forensift.forge.planted import LUMA, has_room, luma

TRACES = {
    "luma": Trace("luma", 2, 8),
    "chroma": Trace("chroma", 4, 12),
    "chroma-box": Trace("chroma", 2, 8, 0.5),
}
images = hnp.arrays(np.uint8, (12, 12, 3))


@given(images, st.integers(1, 60), st.sampled_from([2, 4, 6]))
@settings(deadline=None)
def test_chroma_leaves_the_luma_that_pillow_sees_to_the_bit(image, strength, period) -> None:
    trace = Trace("chroma", period, strength)
    planted, carried = plant(image, trace, (0, 0, 12, 12))
    before, after = (np.asarray(Image.fromarray(one).convert("L")) for one in (image, planted))
    np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(before, luma(image))
    changed = (planted != image).any(axis=2)
    np.testing.assert_array_equal(changed, has_room(image, trace))
    assert carried == changed.mean()


@given(images, st.integers(1, 60))
@settings(deadline=None)
def test_luma_adds_the_same_to_all_channels_in_a_checkerboard(image, strength) -> None:
    planted, _ = plant(image, Trace("luma", 4, strength), (0, 0, 12, 12))
    rows, columns = np.mgrid[0:12, 0:12] // 2
    board = np.where((rows + columns) % 2, strength, -strength)
    room = ((image >= strength) & (image <= 255 - strength)).all(axis=2)
    expected = image.astype(int) + np.where(room, board, 0)[..., None]
    np.testing.assert_array_equal(planted, expected)  # so nothing was clipped either


def test_the_chroma_step_has_the_strength_on_red_and_next_to_no_luma() -> None:
    for strength in range(1, 61):
        step = Trace("chroma", 2, strength).step
        assert step[0] == strength
        assert np.sign(step[1]) == -1
        assert abs(step @ LUMA) / 65536 < 0.06


def test_a_box_holds_all_of_the_trace() -> None:
    image = np.full((20, 20, 3), 120, np.uint8)
    rng = np.random.default_rng(0)
    cases = {
        (0.25, 0.5, 0.75, 1.0): (5, 10, 15, 20),
        (3, 4, 9, 11): (3, 4, 9, 11),
        None: (0, 0, 20, 20),
    }
    for given_box, box in cases.items():
        trace = Trace("luma", 2, 5, given_box)
        assert trace.box_in(20, rng) == box
        planted, carried = plant(image, trace, box)
        changed = (planted != image).any(axis=2)
        assert changed.sum() == (box[2] - box[0]) * (box[3] - box[1])
        assert changed[box[1] : box[3], box[0] : box[2]].all()
        assert carried == 1
    boxes = {Trace(box=0.5).box_in(20, rng) for _ in range(50)}
    assert len(boxes) > 20
    assert {(right - left, bottom - top) for left, top, right, bottom in boxes} == {(10, 10)}


def test_pairs_differ_by_the_trace_alone(tmp_path: Path) -> None:
    truth = forge_planted(photographs("test")[:3], TRACES, tmp_path, pairs=7, side=32, seed=3)
    assert truth.equals(pd.read_csv(tmp_path / "truth.csv"))
    found = scan(tmp_path)
    assert found.generators == tuple(sorted(TRACES))
    assert len(found) == 2 * 7 * len(TRACES)
    for row in truth.to_dict("records"):
        fake = np.asarray(Image.open(tmp_path / row["path"]))
        real_path = tmp_path / row["path"].replace("1_fake", "0_real")
        real = np.asarray(Image.open(real_path))
        trace = TRACES[row["generator"]]
        assert (row["mode"], row["period"], row["strength"]) == (
            trace.mode, trace.period, trace.strength,
        )  # fmt: skip
        box = tuple(row[key] for key in ("left", "top", "right", "bottom"))
        expected, carried = plant(real, trace, box)
        np.testing.assert_array_equal(fake, expected)
        assert row["carried"] == pytest.approx(carried)
        assert row["area"] == (box[2] - box[0]) * (box[3] - box[1]) / 32**2
        # All traces sit on the same crops.
        other = tmp_path / "luma" / "0_real" / real_path.name
        assert other.read_bytes() == real_path.read_bytes()
    assert truth["carried"].median() > 0.99


def test_equal_seeds_give_equal_bytes(tmp_path: Path) -> None:
    photos = photographs("test")[:2]
    for name, seed, pairs in (("a", 1, 4), ("b", 1, 6), ("c", 2, 4)):
        forge_planted(photos, TRACES, tmp_path / name, pairs=pairs, side=24, seed=seed)
    for path in (tmp_path / "a").rglob("*.png"):
        relative = path.relative_to(tmp_path / "a")
        assert path.read_bytes() == (tmp_path / "b" / relative).read_bytes()
        assert path.read_bytes() != (tmp_path / "c" / relative).read_bytes()


def test_images_of_another_run_are_not_mixed_in(tmp_path: Path) -> None:
    photos = photographs("test")[:2]
    forge_planted(photos, TRACES, tmp_path, pairs=4, side=24)
    first = (tmp_path / "truth.csv").read_bytes()
    forge_planted(photos, TRACES, tmp_path, pairs=4, side=24)
    assert (tmp_path / "truth.csv").read_bytes() == first
    with pytest.raises(UserError, match="another run"):
        forge_planted(photos, TRACES, tmp_path, pairs=2, side=24)
    with pytest.raises(UserError, match="another run"):
        forge_planted(photos, {"luma": TRACES["luma"]}, tmp_path, pairs=4, side=24)


def test_bad_traces_are_refused(tmp_path: Path) -> None:
    for wrong in ({"mode": "hue"}, {"period": 3}, {"period": 0}, {"strength": 0}):
        with pytest.raises(UserError):
            Trace(**wrong)
    rng = np.random.default_rng(0)
    for box in (1.5, (0, 0, 40, 4), (5, 5, 5, 9)):
        with pytest.raises(UserError, match="box"):
            Trace(box=box).box_in(20, rng)
    with pytest.raises(UserError, match="photographs"):
        forge_planted([], TRACES, tmp_path)
    with pytest.raises(UserError, match="too small"):
        forge_planted(photographs("test")[:1], TRACES, tmp_path, pairs=1, side=5000)
