from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from forensift.errors import UserError
from forensift.evaluation import (
    accuracies,
    average_precision,
    calibrated_threshold,
    equal_error_rate,
    roc_auc,
    sigmoid,
)


def drawn(rng: np.random.Generator, n: int, *, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    labels = np.append(rng.integers(0, 2, n - 2), [0, 1])
    scores = sigmoid(rng.normal(size=n) + labels)
    return labels, np.round(scores, 1) if ties else scores


def test_average_precision_and_auc_by_hand() -> None:
    labels = np.array([1, 0, 1, 0])
    scores = np.array([0.9, 0.8, 0.7, 0.1])
    assert average_precision(labels, scores) == pytest.approx((1 + 2 / 3) / 2)
    assert roc_auc(labels, scores) == pytest.approx(0.75)
    constant = np.full(4, 0.3)
    assert average_precision(labels, constant) == 0.5
    assert roc_auc(labels, constant) == 0.5
    assert equal_error_rate(labels, constant) == 0.5


def test_accuracies_are_strictly_greater() -> None:
    labels = np.array([0, 0, 0, 1, 1])
    scores = np.array([0.1, 0.5, 0.6, 0.5, 0.9])
    found = accuracies(labels, scores)
    assert found.real_accuracy == pytest.approx(2 / 3)
    assert found.fake_accuracy == 0.5
    assert found.accuracy == pytest.approx(3 / 5)
    assert accuracies(labels, scores, 0.0).real_accuracy == 0


def test_equal_error_rate_by_hand() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    assert equal_error_rate(labels, np.arange(8.0)) == 0
    assert equal_error_rate(labels, -np.arange(8.0)) == 1
    # One of four reals above one of four fakes.
    assert equal_error_rate(labels, np.array([0, 1, 2, 5, 4, 6, 7, 8.0])) == 0.25
    # Three tied with each other: the curve runs straight from (0, ½) to (½, 1).
    tied = np.array([0.5, 0.1, 0.5, 0.9])
    assert equal_error_rate(np.array([0, 0, 1, 1]), tied) == pytest.approx(0.25)


@pytest.mark.parametrize("ties", [False, True])
def test_equal_error_rate_is_where_both_errors_meet(rng: np.random.Generator, ties: bool) -> None:
    for _ in range(30):
        labels, scores = drawn(rng, 40, ties=ties)
        false_positives, hits, _ = roc_curve(labels, scores)
        rate = equal_error_rate(labels, scores)
        on_curve = np.interp(rate, false_positives, hits)
        low = np.interp(rate - 1e-9, false_positives, hits) - 1e-9
        assert low <= 1 - rate <= on_curve + 1e-9 or on_curve == pytest.approx(1 - rate)


@pytest.mark.parametrize("ties", [False, True])
def test_the_calibrated_threshold_is_the_best_of_all(rng: np.random.Generator, ties: bool) -> None:
    def mean(labels: np.ndarray, scores: np.ndarray, threshold: float) -> float:
        found = accuracies(labels, scores, threshold)
        return math.sqrt(found.fake_accuracy * found.real_accuracy)

    for _ in range(30):
        labels, scores = drawn(rng, 30, ties=ties)
        best = max(mean(labels, scores, at) for at in [-1.0, *scores])
        threshold = calibrated_threshold(labels, scores)
        assert mean(labels, scores, threshold) == pytest.approx(best, abs=1e-12)


def test_the_calibrated_threshold_lies_between_scores() -> None:
    labels = np.array([0, 0, 1, 1])
    assert calibrated_threshold(labels, np.array([0.1, 0.2, 0.6, 0.9])) == pytest.approx(0.4)
    neighbours = np.array([0.1, 0.5, np.nextafter(0.5, 1), 0.9])
    assert calibrated_threshold(labels, neighbours) == 0.5
    constant = calibrated_threshold(labels, np.full(4, 0.7))
    assert accuracies(labels, np.full(4, 0.7), constant).real_accuracy == 1


def test_the_sigmoid_does_not_saturate_where_float32_does() -> None:
    found = sigmoid(np.array([-800.0, -30.0, 0.0, 17.0, 18.0, 800.0], dtype=np.float32))
    assert found.dtype == np.float64
    assert found[[0, 2, 5]].tolist() == [0, 0.5, 1]
    assert found[3] < found[4] < 1
    assert found[1] == pytest.approx(math.exp(-30), rel=1e-12)


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 1], [0.1, math.nan], "1 of 2 scores are NaN"),
        ([0, 0], [0.1, 0.2], "no fake images among 2 scores"),
        ([1, 1], [0.1, 0.2], "no real images"),
        ([0, 2], [0.1, 0.2], "labels must be 0"),
        ([0, 1], [0.1], "do not fit"),
        ([], [], "no real images"),
    ],
)
def test_what_has_no_meaning_is_refused(
    labels: list[int], scores: list[float], message: str
) -> None:
    functions = (average_precision, roc_auc, equal_error_rate, accuracies, calibrated_threshold)
    for function in functions:
        with pytest.raises(UserError, match=message):
            function(np.array(labels), np.array(scores))
