from __future__ import annotations

import hashlib
import math

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from forensift.errors import UserError
from forensift.evaluation import (
    bootstrap,
    change_interval,
    cluster_mean,
    clusters_of,
    draws_needed,
    holm,
    jackknife_interval,
    left_out,
    macro_interval,
    macro_mean,
    metric_interval,
    percentile_interval,
    sigmoid,
    weighted_average_precision,
    widened,
    wilson,
)
from forensift.rng import keyed, keyed_short


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # Newcombe 1998, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_against_published_values(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)
    mirrored = wilson(n - successes, n)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_wilson_refuses_what_is_no_share() -> None:
    for successes, n in ((0, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="is no share"):
            wilson(successes, n)


@pytest.mark.parametrize("decimals", [1, 8])
def test_weighted_average_precision_equals_scikit_learns(
    rng: np.random.Generator, decimals: int
) -> None:
    labels = np.append(rng.integers(0, 2, 40), [0, 1])
    scores = np.round(rng.random(42) + 0.3 * labels, decimals)
    weights = rng.integers(0, 4, (20, 42)).astype(float)
    found = weighted_average_precision(labels, scores, weights)
    theirs = [average_precision_score(labels, scores, sample_weight=row) for row in weights]
    np.testing.assert_allclose(found, theirs, atol=1e-12)
    repeated = [
        average_precision_score(np.repeat(labels, counts), np.repeat(scores, counts))
        for counts in weights.astype(int)
    ]
    np.testing.assert_allclose(found, repeated, atol=1e-12)


def test_weighted_average_precision_without_one_class_is_undefined() -> None:
    labels, scores = np.array([0, 1]), np.array([0.2, 0.8])
    found = weighted_average_precision(labels, scores, np.array([[1.0, 0], [0, 1], [1, 1]]))
    assert np.isnan(found[:2]).all()
    assert found[2] == 1
    assert percentile_interval(found) == (1, 1)
    assert all(math.isnan(end) for end in percentile_interval(found[:2]))


def test_the_bootstrap_is_keyed_and_stratified(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.repeat([0, 1], [30, 5])
    scores = sigmoid(rng.normal(size=35) + labels)
    first = bootstrap(labels, scores, resamples=50, key="a")
    again = bootstrap(labels, scores, resamples=50, key="a")
    other = bootstrap(labels, scores, resamples=50, key="b")
    monkeypatch.setattr("forensift.evaluation.resampling._CHUNK", 35 * 7)
    in_parts = bootstrap(labels, scores, resamples=50, key="a")
    for name, values in first.items():
        assert values.shape == (50,)
        assert not np.isnan(values).any()
        assert np.array_equal(values, again[name])
        np.testing.assert_allclose(values, in_parts[name], atol=1e-12)
    assert not np.array_equal(first["ap"], other["ap"])
    # Five fakes are drawn each time, so that shares of them are fifths.
    fifths = 5 * first["fake_accuracy"]
    np.testing.assert_allclose(fifths, np.rint(fifths), atol=1e-9)


def test_clusters_are_drawn_whole_and_alike_for_all_generators() -> None:
    labels = np.tile([0, 1], 6)
    clusters = np.repeat(["p", "q", "r"], 4)
    right_in_p = np.where(clusters == "p", labels, 1 - labels).astype(float)
    found = bootstrap(labels, right_in_p, resamples=200, key="a", clusters=clusters)
    thirds = 3 * found["accuracy"]
    np.testing.assert_allclose(thirds, np.rint(thirds), atol=1e-9)
    assert np.array_equal(found["real_accuracy"], found["fake_accuracy"])
    other = bootstrap(labels, right_in_p, resamples=200, key="b", clusters=clusters)
    assert np.array_equal(found["ap"], other["ap"])


def test_the_ap_interval_covers_the_true_value_about_as_often_as_it_says() -> None:
    """Two normal distributions one apart: AP of 400,000 images is the truth."""
    rng = np.random.default_rng(0)

    def images(n: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.repeat([0, 1], n)
        return labels, rng.normal(size=2 * n) + labels

    truth = average_precision_score(*images(200_000))
    covered = 0
    for trial in range(200):
        drawn = bootstrap(*images(60), resamples=200, seed=trial)
        low, high = percentile_interval(drawn["ap"])
        covered += low <= truth <= high
    # 95 % of 200 with a binomial spread of 1.5 %, and the percentile bootstrap's own shortfall.
    assert 0.89 <= covered / 200 <= 0.99


def _few_photographs(rng: np.random.Generator, number: int, apart: float) -> np.ndarray:
    """Return scores of reals, then of fakes, three crops of each photograph, alike in part."""
    own = rng.normal(size=(2, number))
    both = np.stack([own[0], apart + 0.5 * own[0] + 0.87 * own[1]])
    crops = np.sqrt(0.6) * both[..., None] + np.sqrt(0.4) * rng.normal(size=(2, number, 3))
    return crops.reshape(-1) + (np.arange(2).repeat(number * 3) * apart * (1 - np.sqrt(0.6)))


@pytest.mark.parametrize("apart", [0.7, 1.5, 2.5])
def test_a_jackknife_covers_ap_of_15_photographs_where_the_bootstrap_does_not(apart: float) -> None:
    rng, number, worlds = np.random.default_rng(4), 15, 600
    many = [_few_photographs(rng, 3000, apart) for _ in range(4)]
    truth = np.mean([average_precision_score(np.arange(2).repeat(9000), own) for own in many])
    labels = np.arange(2).repeat(3 * number)
    clusters = np.tile(np.arange(number).repeat(3), 2)
    weights = left_out(clusters)
    assert weights.shape == (number + 1, len(labels))
    covered, plain = [], []
    for at in range(worlds):
        scores = _few_photographs(rng, number, apart)
        low, high = jackknife_interval(weighted_average_precision(labels, scores, weights), "logit")
        covered.append(low <= truth <= high)
        if at < 250:
            drawn = bootstrap(labels, scores, clusters=clusters, resamples=200, seed=at)["ap"]
            low, high = percentile_interval(drawn)
            plain.append(low <= truth <= high)
    assert np.mean(covered) >= 0.93 - 2 * np.sqrt(0.07 * 0.93 / worlds)
    assert np.mean(plain) < 0.9 < np.mean(covered)


@pytest.mark.parametrize("number", [6, 15, 40])
def test_a_jackknife_covers_means_and_ratios(number: int) -> None:
    rng = np.random.default_rng(5)
    weights = left_out(np.arange(number).repeat(2))
    hits = {"mean": 0, "ratio": 0}
    for _ in range(1500):
        own = rng.normal(size=(2, number)).repeat(2, axis=1) + rng.normal(size=(2, 2 * number))
        up, down = (weights @ one / weights.sum(axis=1) for one in (own[0] + 2, own[1] + 6))
        for name, values, truth in (("mean", up, 2), ("ratio", up / down, 1 / 3)):
            low, high = jackknife_interval(values)
            hits[name] += low <= truth <= high
    assert all(0.935 <= one / 1500 <= 0.97 for one in hits.values())


def test_a_jackknife_of_a_mean_is_students_interval_of_the_photographs() -> None:
    values = np.array([1.0, 4.0, 2.0, 7.0])
    weights = left_out(np.arange(4))
    low, high = jackknife_interval(weights @ values / weights.sum(axis=1))
    half = 3.182446 * values.std(ddof=1) / 2
    assert (low, high) == pytest.approx((3.5 - half, 3.5 + half), abs=1e-5)
    assert all(math.isnan(end) for end in jackknife_interval(np.array([1.0, 1.0])))
    assert all(math.isnan(end) for end in jackknife_interval(np.array([1.0, np.nan, 1.0, 2.0])))
    assert jackknife_interval(np.full(5, 0.3), "fisher") == pytest.approx((0.3, 0.3))


def test_shares_of_all_and_none_have_a_width_with_clusters_too() -> None:
    """16 photographs that are all right exclude no more than Wilson's 16 of 16 does."""
    labels = np.repeat([0, 1], 48)
    clusters = np.tile(np.repeat([f"p{n}" for n in range(16)], 3), 2)
    drawn = bootstrap(labels, labels * 1.0, resamples=200, clusters=clusters)
    for name in ("accuracy", "real_accuracy", "fake_accuracy", "ap", "auc"):
        assert set(drawn[name]) == {1.0}
        low, high = metric_interval(name, 1.0, drawn[name], labels, clusters)
        assert (low, high) == (pytest.approx(wilson(16, 16)[0]), 1), name
    none = bootstrap(labels, 1.0 - labels, resamples=200, clusters=clusters)
    assert metric_interval("accuracy", 0.0, none["accuracy"], labels, clusters)[1] > 0.19
    assert metric_interval("auc", 0.0, none["auc"], labels, clusters)[1] > 0.19
    # One crop wrong is no reason to be surer than with none wrong.
    scores = np.append(labels[:-1] * 1.0, 0.4)
    less = bootstrap(labels, scores, resamples=200, clusters=clusters)["fake_accuracy"]
    low, high = metric_interval("fake_accuracy", 47 / 48, less, labels, clusters)
    assert low < wilson(16, 16)[0]
    assert high == 1
    change = np.zeros(200)
    assert change_interval("accuracy", 0.0, change, labels, clusters) == pytest.approx(
        (-wilson(0, 16)[1], wilson(0, 16)[1])
    )


def test_one_fake_says_next_to_nothing() -> None:
    labels = np.array([0, 0, 0, 1])
    drawn = bootstrap(labels, labels * 1.0, resamples=100)
    for name in ("fake_accuracy", "ap"):
        low, high = metric_interval(name, 1.0, drawn[name], labels)
        assert (low, high) == (pytest.approx(0.2065, abs=1e-4), 1)


def test_intervals_that_stay_inside_are_left_alone() -> None:
    assert widened(0.6, (0.4, 0.8), 15) == (0.4, 0.8)
    assert widened(0.1, (-0.2, 0.4), 15, least=-1.0) == (-0.2, 0.4)
    low, high = widened(0.0, (0.0, 0.0), 20, least=-1.0)
    assert (low, high) == pytest.approx((-wilson(0, 20)[1], wilson(0, 20)[1]))
    assert all(math.isnan(end) for end in widened(0.5, (math.nan, math.nan), 3))


@pytest.mark.parametrize("share", [0.5, 0.8, 0.95, 0.99])
@pytest.mark.parametrize("alike", [0.0, 1.0])
def test_the_interval_of_a_share_covers_with_clusters(share: float, alike: float) -> None:
    """15 photographs of 3 crops, independent or right and wrong together."""
    rng = np.random.default_rng(round(100 * share) + round(alike))
    clusters = np.repeat(np.arange(15), 3)
    covered, repeats = 0, 150
    for trial in range(repeats):
        together, alone = rng.random(15)[clusters], rng.random(45)
        right = (together if alike else alone) < share
        _, low, high = cluster_mean(right, clusters, resamples=200, seed=trial)
        covered += low <= share <= high
    # A percentile bootstrap of 15 clusters is a little narrow; the binomial spread is 1.8 %.
    assert covered / repeats >= 0.87


def test_the_macro_mean_is_given_of_two_or_more() -> None:
    rows = [{"n_real": 2, "n_fake": 3, "ap": 0.5}, {"n_real": 1, "n_fake": 1, "ap": 1.0}]
    assert macro_mean(rows[:1], ["ap"]) == {}
    mean = macro_mean(rows, ["ap"])
    assert mean == {"generator": "macro mean", "n_real": 3, "n_fake": 4, "ap": 0.75}
    draws = [np.linspace(0.4, 0.6, 101), np.ones(101)]
    low, high = macro_interval(draws, [percentile_interval(draws[0]), (0.8, 1.0)])
    assert low == pytest.approx((0.405 + 0.8) / 2)
    assert high == pytest.approx((0.595 + 1.0) / 2)


def test_photographs_are_drawn_where_names_say_so() -> None:
    names = ["a-1.png", "a-2.png", "b-1.png", "c-1.png"]
    crops = pd.DataFrame({"path": names, "class": list("xxyz")})
    names, over = clusters_of(crops, "photograph")
    assert names is not None
    assert (names.tolist(), over) == (["a", "a", "b", "c"], "photographs")
    assert clusters_of(crops.assign(path=list("abcd")), "photograph") == (None, "images")
    assert clusters_of(crops, "none") == (None, "images")
    assert clusters_of(crops, "class")[1] == "classes"
    with pytest.raises(UserError, match="choose photograph, class, none"):
        clusters_of(crops, "frame")


def test_holm_and_the_draws_it_takes() -> None:
    found = holm([0.01, 0.04, np.nan, 0.03])
    np.testing.assert_allclose(found, [0.03, 0.06, np.nan, 0.06])
    assert holm([0.6, 0.9]).tolist() == [1, 1]
    assert (draws_needed(), draws_needed(3), draws_needed(9)) == (19, 59, 179)
    rng = np.random.default_rng(0)
    false = [(holm(rng.random(5)) <= 0.05).any() for _ in range(2000)]
    assert np.mean(false) == pytest.approx(0.05, abs=0.015)


def test_draws_are_keyed_by_words_alone() -> None:
    by_hand = hashlib.sha256(b"3\tname").digest()
    expected = np.random.default_rng(int.from_bytes(by_hand, "big")).random(4)
    np.testing.assert_array_equal(keyed(3, "name").random(4), expected)
    short = np.random.default_rng(int.from_bytes(by_hand[:16], "big")).random(4)
    np.testing.assert_array_equal(keyed_short("3", "name").random(4), short)
    assert not np.array_equal(keyed(3, "names").random(4), expected)
