"""Spectra against NumPy's, whatever the shards, and a planted period found where it lies."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.ndimage import median_filter

import forensift
from forensift import views
from forensift.errors import UserError
from forensift.evaluation import SpectraLook, spectra
from forensift.evaluation.spectra import FLOOR, LUMA, candidates, heights_at, rings
from forensift.figures.spectra import _whole
from forensift.forge import Trace, plant
from forensift.sweep import sweep
from forensift.views.spectra import named

SIDE = 64


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crops of photographs: 'traced' fakes have a checkerboard of period 4, 'plain' nothing."""
    root = tmp_path_factory.mktemp("planted")
    paths = forensift.photographs("test")
    for generator, trace in (("traced", Trace(period=4, strength=3)), ("plain", None)):
        for kind in ("0_real", "1_fake"):
            (root / generator / kind).mkdir(parents=True)
        for path in paths:
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB").crop((0, 0, SIDE, SIDE)))
            fake = pixels if trace is None else plant(pixels, trace, (0, 0, SIDE, SIDE))[0]
            for kind, own in (("0_real", pixels), ("1_fake", fake)):
                Image.fromarray(own).save(root / generator / kind / f"{path.stem}-000.png")
    return root


def test_the_mean_is_numpys(planted: Path) -> None:
    images = forensift.scan(planted).only(generator="traced")
    found = spectra(images)
    assert found.facts["size"] == SIDE
    window = np.hanning(SIDE + 1)[:-1]
    window = window[:, None] * window
    expected = []
    for entry in images.only(label=1):
        luma = np.asarray(Image.open(entry.path)) / 255.0 @ LUMA
        parts = (luma - luma.mean(), luma - median_filter(luma, 3, mode="reflect"))
        power = [np.abs(np.fft.fft2(one * window)) ** 2 / (window**2).sum() for one in parts]
        expected.append(np.log10(np.array(power) + FLOOR))
    mean = np.mean(expected, axis=0)
    np.testing.assert_allclose(found.mean["traced", 1], mean[..., : SIDE // 2 + 1], atol=1e-9)
    for kind in range(2):
        whole = np.fft.fftshift(mean[kind])
        np.testing.assert_allclose(_whole(found.mean["traced", 1][kind]), whole, atol=1e-9)
    own = found.radial[(found.radial["label"] == "fake") & (found.radial["kind"] == "image")]
    ring = rings(SIDE) == 5
    half = np.array(expected)[:, 0, :, : SIDE // 2 + 1]
    assert own["power"].iloc[4] == pytest.approx(half[:, ring].mean())
    assert own["frequency"].iloc[4] == pytest.approx(5 / SIDE)


def test_white_noise_has_its_variance_at_every_frequency() -> None:
    look = SpectraLook(SIDE)
    rng = np.random.default_rng(0)
    power = np.mean(
        [10 ** look._power(rng.normal(0, 0.1, (SIDE, SIDE)))[0] for _ in range(50)], axis=0
    )
    assert power[1:, 1:-1].mean() == pytest.approx(0.01, rel=0.02)


def test_a_planted_period_is_found_where_it_lies_and_only_there(planted: Path) -> None:
    found = spectra(forensift.scan(planted))
    peaks = found.peaks.set_index("generator")
    assert not peaks.loc["plain", "found"].any()
    assert (peaks.loc["plain", "difference"] == 0).all()
    traced = peaks.loc["traced"]
    best = traced.sort_values("difference").iloc[-1]
    assert (abs(best["down"]), best["across"], best["period"]) == (0.25, 0.25, 4)
    assert best["found"]
    assert best["low"] > 0.3
    # A checkerboard has no power elsewhere; the median and clipping bend it a little.
    elsewhere = traced[~traced["period"].isin([2.0, 4.0])]
    assert elsewhere["difference"].max() < 0.2 * best["difference"]
    assert "traced (4 px across and 4 px" in found.said
    assert "None is seen in plain" in found.said


def test_shards_and_interruption_change_nothing(planted: Path, tmp_path: Path) -> None:
    images = forensift.scan(planted)
    states = []
    for shard in (5, 128):
        look = SpectraLook(SIDE)
        sweep(images, [look], what="spectra", shard_size=shard, batch_size=3)
        states.append(look.statistic.state())
    assert list(states[0]) == list(states[1])
    for name, array in states[0].items():
        np.testing.assert_array_equal(array, states[1][name])
    again = SpectraLook(SIDE).statistic.from_state(states[0])
    for key, mean in again.result().items():
        np.testing.assert_array_equal(mean, look.statistic.result()[key])
    np.testing.assert_array_equal(again.state()["height"], states[1]["height"])


def test_heights_stand_above_their_surroundings_also_at_the_edge() -> None:
    flat = np.zeros((SIDE, SIDE // 2 + 1))
    assert (heights_at(flat, SIDE) == 0).all()
    for place, (down, across) in enumerate(candidates()):
        one = flat.copy()
        one[round(down * SIDE) % SIDE, round(across * SIDE)] = 2.0
        heights = heights_at(one, SIDE)
        assert heights[place] == 2.0
        assert (np.delete(heights, place) == 0).all()


def test_frequencies_have_their_period_and_way() -> None:
    assert named(0.25, 0.0) == "4 px down"
    assert named(-0.25, 0.5) == "2 px across and 4 px up"
    assert len(set(candidates())) == len(candidates())


def test_the_result_is_saved_drawn_and_refuses_what_it_cannot(
    planted: Path, tmp_path: Path
) -> None:
    images = forensift.scan(planted)
    found = spectra(images)
    out = found.save(tmp_path / "out")
    view = views.view_of(found)
    assert set(view.captions) == set(view.figures)
    assert len(pd.read_csv(out / "peaks.csv")) == 2 * len(candidates())
    with np.load(out / "spectra.npz") as arrays:
        assert set(arrays) == {f"{g}/{k}" for g in ("plain", "traced") for k in ("real", "fake")}
    with pytest.raises(UserError, match="size 30"):
        spectra(images, size=30)
    with pytest.raises(UserError, match="size 33"):
        spectra(images, size=33)
    smaller = tmp_path / "set"
    shutil.copytree(planted, smaller)
    first = forensift.scan(smaller).entries[0].path
    Image.open(first).crop((0, 0, 40, 40)).save(first)
    some = spectra(forensift.scan(smaller), size=SIDE)
    assert [(one.path, one.reason) for one in some.skipped] == [(first, "smaller than 64 pixels")]
    assert spectra(forensift.scan(smaller)).facts["size"] == 40
