"""FF-RS: the streamed statistic against the formula, and the ranking of a planted truth."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import forensift.data.batching as decoding
from forensift.data import Batch, Preset, RandomResizedCrop
from forensift.errors import UserError
from forensift.fmap_ranking import OmegaStatistic, layer_sums, rank, rankings, relevance_shares
from forensift.lrp import LRP
from forensift.records import FAKE, REAL, FeatureMap, ImageEntry, ImageSet, Skipped
from forensift.sweep import Rows

from .planted import batch_of, fingerprint, planted_detector, planted_images

MAPS = tuple(FeatureMap(layer, c, 3) for layer in ("a", "b") for c in range(3))


def observed(n: int, seed: int = 0, label: int = FAKE) -> tuple[Batch, Rows]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(3 if label == FAKE else -3, 2, n)
    batch = batch_of([f"{seed}/{i}.png" for i in range(n)], label)
    return batch, {"logit": logits, "share": rng.random((n, 6)) ** 4 / 3}


def cut(batch: Batch, rows: Rows, chosen: np.ndarray) -> tuple[Batch, Rows]:
    return batch.take(chosen), {name: values[chosen] for name, values in rows.items()}


def test_shares_follow_the_formula_and_know_no_nan() -> None:
    relevance = torch.randn(3, 4, 5, 6, dtype=torch.float64)
    relevance[1] = 0
    shares = relevance_shares(relevance).numpy()
    for image in (0, 2):
        r = relevance[image].numpy()
        expected = np.maximum(r, 0).sum(axis=(1, 2)) / np.abs(r).sum()
        np.testing.assert_allclose(shares[image], expected, rtol=1e-12)
    assert (shares[1] == 0).all()
    assert (shares.sum(axis=1) <= 1 + 1e-12).all()


@pytest.mark.parametrize("label", [FAKE, REAL])
def test_the_statistic_equals_numpy_over_the_images_that_count(label: int) -> None:
    batch, rows = observed(200, label=label)
    statistic = OmegaStatistic(MAPS, label)
    statistic.update(batch, rows)
    p = 1 / (1 + np.exp(-rows["logit"]))
    used = p >= 0.9 if label == FAKE else p <= 0.1
    wrong = p <= 0.5 if label == FAKE else p > 0.5
    assert statistic.counts == {
        "used": used.sum(),
        "wrong prediction": wrong.sum(),
        "not confident": (~used & ~wrong).sum(),
        "logit not finite": 0,
    }
    assert 0 < wrong.sum() < used.sum()
    ranking = statistic.result()
    kept = rows["share"][used]
    order = np.argsort(-kept.mean(axis=0), kind="stable")
    table = ranking.table
    assert ranking.feature_maps() == [MAPS[i] for i in order]
    np.testing.assert_allclose(table["omega"], kept.mean(axis=0)[order], rtol=1e-14)
    error = kept.std(axis=0, ddof=1) / np.sqrt(len(kept))
    np.testing.assert_allclose(table["standard_error"], error[order], rtol=1e-10)
    np.testing.assert_allclose(table["omega_width"], 3 * table["omega"])
    assert (table["rank_low"] >= 1).all()
    assert (table["rank_high"] <= 6).all()
    assert (table["rank_low"] <= table["rank_high"]).all()


@given(st.integers(0, 2**31), st.lists(st.integers(1, 59), max_size=5), st.randoms())
@settings(deadline=None, max_examples=30)
def test_merging_is_exact_in_any_order(seed: int, cuts: list[int], random) -> None:
    seen = observed(60, seed)
    whole = OmegaStatistic(MAPS)
    whole.update(*seen)
    parts = np.split(np.arange(60), sorted(set(cuts)))
    random.shuffle(parts)
    merged = OmegaStatistic(MAPS)
    for part in parts:
        piece = OmegaStatistic(MAPS)
        piece.update(*cut(*seen, part))
        merged.merge(piece.from_state(piece.state()))
    for key, value in whole.state().items():
        np.testing.assert_array_equal(value, merged.state()[key])
    assert whole.result().table.equals(merged.result().table)


def test_one_image_has_an_omega_but_no_error() -> None:
    batch, rows = observed(1)
    statistic = OmegaStatistic(MAPS)
    statistic.update(batch, {**rows, "logit": np.array([5.0])})
    table = statistic.result().table
    np.testing.assert_allclose(np.sort(table["omega"]), np.sort(rows["share"][0]))
    assert table[["standard_error", "rank_low", "rank_high"]].isna().all(axis=None)


def test_the_ends_of_the_filter() -> None:
    ids = tuple("abcde")
    logits = np.array([np.log(9), np.log(9) - 1e-9, 0.0, -1.0, np.nan])
    shares = np.full((5, 6), 0.1)
    fakes = OmegaStatistic(MAPS, FAKE)
    fakes.update(batch_of(ids, FAKE), {"logit": logits, "share": shares})
    assert list(fakes.counts.values()) == [1, 2, 1, 1]  # 0 is decided as real
    reals = OmegaStatistic(MAPS, REAL)
    reals.update(batch_of(ids, REAL), {"logit": -logits, "share": shares})
    assert list(reals.counts.values()) == [1, 1, 2, 1]
    with pytest.raises(ValueError, match="label 1"):
        fakes.update(batch_of(ids, REAL), {"logit": logits, "share": shares})


def test_rank_intervals_are_narrow_where_images_agree() -> None:
    n = 200
    clear = np.tile([0.3, 0.2, 0.1, 0.05, 0.02, 0.0], (n, 1))
    ids = tuple(str(i) for i in range(n))
    agree = OmegaStatistic(MAPS)
    agree.update(batch_of(ids), {"logit": np.full(n, 9.0), "share": clear})
    table = agree.result().table
    np.testing.assert_array_equal(table["rank_low"], np.arange(1, 7))
    np.testing.assert_array_equal(table["rank_high"], np.arange(1, 7))
    noise = np.random.default_rng(0).random((n, 6)) / 6
    differ = OmegaStatistic(MAPS)
    differ.update(batch_of(ids), {"logit": np.full(n, 9.0), "share": noise})
    table = differ.result().table
    assert (table["rank_high"] - table["rank_low"]).mean() > 1.5


# --- the whole pass -----------------------------------------------------------------------------


def test_rank_finds_the_planted_maps_and_leaves_the_network_alone(tmp_path: Path) -> None:
    detector, images = planted_detector(), planted_images(tmp_path)
    before = fingerprint(detector.network)
    ranking = rank(detector, images)
    assert fingerprint(detector.network) == before
    assert {str(one) for one in ranking.feature_maps(slice(0, 2))} == {
        "conv1.#0(T=8)",
        "conv2.#0(T=8)",
    }
    assert ranking.counts == {
        "used": 12, "wrong prediction": 0, "not confident": 0, "logit not finite": 0,
        "unusable": 0,
    }  # fmt: skip
    assert (ranking.label, ranking.start) == (FAKE, "predicted")
    assert (layer_sums(ranking) <= 1 + 1e-12).all()


@pytest.mark.parametrize("label", [FAKE, REAL])
@pytest.mark.parametrize("start", ["predicted", "published"])
def test_streamed_omega_equals_stored_omega(tmp_path: Path, label: int, start: str) -> None:
    detector, images = planted_detector(), planted_images(tmp_path)
    sign = -1.0 if (label, start) == (REAL, "published") else 1.0
    chosen = images.only(label=label)
    pixels = torch.stack([_pixels(entry.path) for entry in chosen])
    found = LRP(detector.network)(detector.preset.normalise(pixels), pixels=False)
    expected = {}
    for layer, width in detector.layers.items():
        r = sign * found.feature_maps[layer].double().numpy()
        omega = (np.maximum(r, 0).sum((2, 3)) / np.abs(r).sum((1, 2, 3))[:, None]).mean(axis=0)
        expected |= {FeatureMap(layer, c, width): omega[c] for c in range(width)}
    for batch_size in (1, 5, 16):
        ranking = rank(detector, images, label=label, start=start, batch_size=batch_size)
        omega = ranking.table["omega"].to_numpy()
        stored = [expected[one] for one in ranking.feature_maps()]
        np.testing.assert_allclose(omega, stored, rtol=1e-5, atol=1e-9)
    assert ranking.start == start


def test_the_start_turns_reals_round_and_leaves_fakes(tmp_path: Path) -> None:
    detector, images = planted_detector(), planted_images(tmp_path)
    fakes = [rank(detector, images, start=s).table for s in ("predicted", "published")]
    assert fakes[0].equals(fakes[1])
    reals = [rank(detector, images, label=REAL, start=s) for s in ("predicted", "published")]
    # Positive and negative shares of a layer sum to 1.
    sums = layer_sums(reals[0]) + layer_sums(reals[1]).reindex(layer_sums(reals[0]).index)
    np.testing.assert_allclose(sums, 1, rtol=1e-6)


def test_a_random_preset_is_repeatable_and_keyed_by_the_seed(tmp_path: Path) -> None:
    detector, images = planted_detector(), planted_images(tmp_path, size=32)
    preset = Preset("crop", random_resized_crop=RandomResizedCrop(16, (0.2, 0.9), (0.8, 1.2)))
    shuffled = ImageSet(images.root, images.entries[::-1])
    one = rank(detector, images, label=REAL, preset=preset, batch_size=4).table
    two = rank(detector, shuffled, label=REAL, preset=preset, batch_size=5).table
    other = rank(detector, images, label=REAL, preset=preset, seed=1).table
    np.testing.assert_allclose(one["omega"], two["omega"], rtol=1e-5, atol=1e-9)
    assert not np.allclose(one["omega"], other["omega"], rtol=1e-3)


def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    detector = planted_detector(width=64)
    images = planted_images(tmp_path, ("one",), n=4)
    peaks, tensors = [], []
    for times in (40, 40, 120):  # the first fills caches; each takes several shards
        many = _many(tmp_path / str(len(peaks)), images, times)
        counted: list[int] = []

        def count(what: str, done: int, total: int, counted: list[int] = counted) -> None:
            if done == total and not counted:
                gc.collect()
                counted.append(sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects()))

        tracemalloc.start()
        rank(detector, many, batch_size=16, progress=count)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        tensors += counted
    # The shares of one image alone would be 128 · 8 bytes; its path takes some hundred.
    assert (peaks[2] - peaks[1]) / (80 * 4) < 512
    assert tensors[2] <= tensors[1]


def _many(root: Path, images: ImageSet, times: int) -> ImageSet:
    """Write so many fakes of different bytes: copies are seen once."""
    entries = []
    for number in range(times):
        for at, entry in enumerate(images.only(label=FAKE)):
            pixels = np.array(Image.open(entry.path))
            pixels[0, 0] = number
            path = root / f"{number}-{at}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(pixels).save(path)
            entries.append(ImageEntry(path, FAKE, "one"))
    return ImageSet(root, tuple(entries))


def test_bad_input_is_one_clear_line(tmp_path: Path) -> None:
    detector, images = planted_detector(), planted_images(tmp_path, n=2)
    with pytest.raises(UserError, match=r"no fake images"):
        rank(detector, images.only(label=REAL))
    with pytest.raises(UserError, match=r"no start"):
        rank(detector, images, start="minus")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="min confidence"):
        rank(detector, images, min_confidence=1.0)
    with torch.no_grad():
        detector.network.fc.bias.fill_(-1000.0)
    with pytest.raises(UserError, match=r"4 wrong prediction.*min_confidence"):
        rank(detector, images)


def test_unreadable_images_are_counted_and_limited(tmp_path: Path) -> None:
    detector, images = planted_detector(), planted_images(tmp_path)
    broken = tmp_path / "broken.png"
    broken.write_bytes(images.entries[0].path.read_bytes()[:60])
    images = ImageSet(tmp_path, (*images.entries, ImageEntry(broken, FAKE, "one")))
    skipped: list[Skipped] = []
    with pytest.raises(UserError, match="max_skipped"):
        rank(detector, images, skipped=skipped)
    assert [one.path for one in skipped] == [broken]
    assert rank(detector, images, max_skipped=0.5).counts["unusable"] == 1


def test_partial_results_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector, images = planted_detector(), planted_images(tmp_path / "set")
    partials = tmp_path / "partials"
    whole = rank(detector, images, partials=partials)
    read: list[Path] = []
    original = decoding.read_image
    monkeypatch.setattr(decoding, "read_image", lambda path: read.append(path) or original(path))
    assert rank(detector, images, partials=partials, resume=True).table.equals(whole.table)
    assert not read
    rank(detector, images, partials=partials, resume=True, min_confidence=0.8)  # another plan
    assert len(read) == 12


def test_fakes_and_reals_are_ranked_in_one_pass(tmp_path: Path) -> None:
    detector, images = planted_detector(), planted_images(tmp_path)
    both = rankings(detector, images, batch_size=6)
    assert not both.missing
    assert both.name == tmp_path.name
    for kind, label in (("fake", FAKE), ("real", REAL)):
        alone = rank(detector, images, label=label, batch_size=6)
        omega = dict(zip(alone.feature_maps(), alone.table["omega"], strict=True))
        found = both.of[kind]
        expected = [omega[one] for one in found.feature_maps()]
        np.testing.assert_allclose(found.table["omega"], expected, rtol=1e-5, atol=1e-9)
        assert found.label == label
    only = rankings(detector, images, labels=("real",))
    assert list(only.of) == ["real"]
    with torch.no_grad():
        detector.network.fc.bias.fill_(1000.0)
    found = rankings(detector, images)
    assert list(found.of) == ["fake"]
    assert "12 wrong prediction" in found.missing["real"]


def _pixels(path: Path) -> torch.Tensor:
    from forensift.data import read_image

    return torch.from_numpy(np.array(read_image(path))).permute(2, 0, 1)
