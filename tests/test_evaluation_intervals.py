from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from forensift.evaluation import (
    bootstrap,
    percentile_interval,
    sigmoid,
    weighted_average_precision,
    wilson,
)


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
