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

from forensift.data import Preset, RandomResizedCrop
from forensift.errors import UserError
from forensift.fmap_ranking import OmegaStatistic, Relevances, layer_sums, rank, relevance_shares
from forensift.lrp import LRP
from forensift.records import FAKE, REAL, FeatureMap, ImageEntry, ImageSet, Skipped

from .planted import fingerprint, planted_detector, planted_images

MAPS = tuple(FeatureMap(layer, c, 3) for layer in ("a", "b") for c in range(3))


def observed(n: int, seed: int = 0, label: int = FAKE) -> Relevances:
    rng = np.random.default_rng(seed)
    logits = rng.normal(3 if label == FAKE else -3, 2, n)
    ids = tuple(f"{seed}/{i}.png" for i in range(n))
    return Relevances(ids, np.full(n, label), logits, rng.random((n, 6)) ** 4 / 3)


def cut(one: Relevances, rows: np.ndarray) -> Relevances:
    ids = tuple(one.image_ids[i] for i in rows)
    return Relevances(ids, one.labels[rows], one.logits[rows], one.shares[rows])


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
    seen = observed(200, label=label)
    statistic = OmegaStatistic(MAPS, label)
    statistic.update(seen)
    p = 1 / (1 + np.exp(-seen.logits))
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
    kept = seen.shares[used]
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
    whole.update(seen)
    parts = np.split(np.arange(60), sorted(set(cuts)))
    random.shuffle(parts)
    merged = OmegaStatistic(MAPS)
    for part in parts:
        piece = OmegaStatistic(MAPS)
        piece.update(cut(seen, part))
        merged.merge(piece.from_state(piece.state()))
    for key, value in whole.state().items():
        np.testing.assert_array_equal(value, merged.state()[key])
    assert whole.result().table.equals(merged.result().table)


def test_one_image_has_an_omega_but_no_error() -> None:
    seen = observed(1)
    seen.logits[:] = 5
    statistic = OmegaStatistic(MAPS)
    statistic.update(seen)
    table = statistic.result().table
    np.testing.assert_allclose(np.sort(table["omega"]), np.sort(seen.shares[0]))
    assert table[["standard_error", "rank_low", "rank_high"]].isna().all(axis=None)


def test_the_ends_of_the_filter() -> None:
    ids = tuple("abcde")
    logits = np.array([np.log(9), np.log(9) - 1e-9, 0.0, -1.0, np.nan])
    shares = np.full((5, 6), 0.1)
    fakes = OmegaStatistic(MAPS, FAKE)
    fakes.update(Relevances(ids, np.ones(5, dtype=int), logits, shares))
    assert list(fakes.counts.values()) == [1, 2, 1, 1]  # 0 is decided as real
    reals = OmegaStatistic(MAPS, REAL)
    reals.update(Relevances(ids, np.zeros(5, dtype=int), -logits, shares))
    assert list(reals.counts.values()) == [1, 1, 2, 1]
    with pytest.raises(ValueError, match="label 1"):
        fakes.update(Relevances(ids, np.zeros(5, dtype=int), logits, shares))


def test_rank_intervals_are_narrow_where_images_agree() -> None:
    n = 200
    clear = np.tile([0.3, 0.2, 0.1, 0.05, 0.02, 0.0], (n, 1))
    ids = tuple(str(i) for i in range(n))
    agree = OmegaStatistic(MAPS)
    agree.update(Relevances(ids, np.ones(n, dtype=int), np.full(n, 9.0), clear))
    table = agree.result().table
    np.testing.assert_array_equal(table["rank_low"], np.arange(1, 7))
    np.testing.assert_array_equal(table["rank_high"], np.arange(1, 7))
    noise = np.random.default_rng(0).random((n, 6)) / 6
    differ = OmegaStatistic(MAPS)
    differ.update(Relevances(ids, np.ones(n, dtype=int), np.full(n, 9.0), noise))
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
        "unreadable": 0,
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
    for times in (8, 8, 40):  # the first fills caches
        many = ImageSet(images.root, images.entries * times)
        left = [len(many.only(label=FAKE))]

        def count(done: int, left: list[int] = left) -> None:
            left[0] -= done
            if not left[0]:
                gc.collect()
                tensors.append(sum(issubclass(type(o), torch.Tensor) for o in gc.get_objects()))

        tracemalloc.start()
        rank(detector, many, batch_size=16, progress=count)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # The shares of one image alone would be 128 · 8 bytes.
    assert (peaks[2] - peaks[1]) / (32 * 4) < 256
    assert tensors[2] <= tensors[1]


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
    with pytest.raises(UserError, match=r"4 wrong prediction.*--min-confidence"):
        rank(detector, images)


def test_unreadable_images_are_counted_and_limited(tmp_path: Path) -> None:
    detector, images = planted_detector(), planted_images(tmp_path)
    broken = tmp_path / "broken.png"
    broken.write_bytes(images.entries[0].path.read_bytes()[:60])
    images = ImageSet(tmp_path, (*images.entries, ImageEntry(broken, FAKE, "one")))
    skipped: list[Skipped] = []
    with pytest.raises(UserError, match="max-skipped"):
        rank(detector, images, skipped=skipped)
    assert [one.path for one in skipped] == [broken]
    assert rank(detector, images, max_skipped=0.5).counts["unreadable"] == 1


def test_partial_results_are_used_and_cleared(tmp_path: Path) -> None:
    detector, images = planted_detector(), planted_images(tmp_path / "set")
    partials = tmp_path / "partials"
    whole = rank(detector, images, partials=partials)
    assert not partials.exists()
    assert rank(detector, images, partials=partials, resume=True).table.equals(whole.table)


def _pixels(path: Path) -> torch.Tensor:
    from forensift.data import read_image

    return torch.from_numpy(np.array(read_image(path))).permute(2, 0, 1)
