"""Draws that stop when the answer is clear: p-values that mean what they say, by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from forensift.errors import UserError
from forensift.evaluation import answered, holm, permutation_p, sequential_p
from forensift.fmap_ranking import rank
from forensift.records import FAKE, Ranking
from forensift.sensitivity import LAYER_MATCHED, RANDOM, dropout, sentence

from .planted import planted_detector, planted_images

MOST = 199


def drawn_until_clear(observed: float, draws: np.ndarray, at_once: int = 20) -> np.ndarray:
    """Return the draws that are made: so many at once, until the answer is clear."""
    for end in range(at_once, len(draws) + at_once, at_once):
        if answered(observed, draws[:end], len(draws)):
            break
    return draws[:end]


def test_the_p_value_is_that_of_besag_and_clifford() -> None:
    draws = np.array([0.0, 5.0, 0.0, 5.0] * 10)
    assert sequential_p(1.0, draws, MOST) == 10 / 20  # the tenth at the 20th draw
    assert sequential_p(1.0, np.append(draws, 9 * [0.0]), MOST) == 10 / 20
    assert sequential_p(9.0, draws, 40) == permutation_p(9.0, draws) == 1 / 41
    # Neither ten nor the most draws: no more than is certain.
    assert sequential_p(9.0, draws, MOST) == 10 / 41
    assert sequential_p(9.0, draws[:3], MOST) == 1
    assert not answered(9.0, draws, MOST)
    assert answered(1.0, draws, MOST)


def test_stopping_earlier_never_makes_it_smaller() -> None:
    rng = np.random.default_rng(0)
    for observed in rng.normal(1, 1, 60):
        draws = rng.normal(size=MOST)
        last = sequential_p(observed, draws, MOST)
        for end in range(1, MOST + 1, 7):
            assert sequential_p(observed, draws[:end], MOST) >= last - 1e-12


@pytest.mark.parametrize("ties", [False, True])
def test_under_the_null_it_is_no_smaller_than_uniform(ties: bool) -> None:
    rng = np.random.default_rng(1)
    p, made = [], []
    for _ in range(4000):
        numbers = rng.normal(size=MOST + 1)
        numbers = np.round(numbers) if ties else numbers
        draws = drawn_until_clear(numbers[0], numbers[1:])
        p.append(sequential_p(numbers[0], draws, MOST))
        made.append(len(draws))
    for level in (0.005, 0.01, 0.05, 0.1, 0.25, 0.5):
        slack = 3 * np.sqrt(level * (1 - level) / len(p))
        assert np.mean(np.array(p) <= level) <= level + slack
        if not ties:  # and hardly larger
            assert np.mean(np.array(p) <= level) >= 0.8 * level - slack
    assert np.mean(made) < 60  # little is spent where there is nothing


def test_holm_over_all_of_a_sentence_makes_few_false_calls() -> None:
    """Three numbers that go together, against two controls: six tests, all of nothing."""
    rng = np.random.default_rng(2)
    mixing = np.array([[1, 0, 0], [0.7, 0.7, 0], [0.7, 0, 0.7]])
    false = 0
    for _ in range(1500):
        observed, p = mixing @ rng.normal(size=3), []
        for _ in range(2):
            draws = rng.normal(size=(MOST, 3)) @ mixing.T
            stops = [len(drawn_until_clear(observed[at], draws[:, at])) for at in range(3)]
            made = draws[: max(stops)]  # one draw serves all three
            p += [sequential_p(observed[at], made[:, at], MOST) for at in range(3)]
        false += bool((holm(p) <= 0.05).any())
    assert false / 1500 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1500)


def test_what_is_there_is_found_and_small_p_can_be_said() -> None:
    rng = np.random.default_rng(3)
    draws = rng.normal(size=(50, MOST))
    p = [sequential_p(5.0, drawn_until_clear(5.0, own), MOST) for own in draws]
    assert set(p) == {1 / 200}
    assert holm(p[:6]).max() <= 0.05


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    detector = planted_detector()
    images = planted_images(tmp_path_factory.mktemp("planted"))
    return detector, images, rank(detector, images)


def test_dropout_draws_until_the_answer_is_clear(world) -> None:
    detector, images, ranking = world
    found = dropout(detector, images, ranking, 2, draws="auto", max_draws=119, ks=())
    fixed = dropout(detector, images, ranking, 2, draws=20, ks=())
    names = [mask.name for mask in found.masks]  # no random maps do what the planted ones do
    assert (names.count(RANDOM), names.count(LAYER_MATCHED)) == (119, 119)
    first = [mask for mask in found.masks if mask.name == RANDOM][:20]
    assert first == [mask for mask in fixed.masks if mask.name == RANDOM]
    for at, mask in enumerate(fixed.masks):
        np.testing.assert_allclose(found.logits[found.masks.index(mask)], fixed.logits[at])
    assert found.summary.query("mask == @RANDOM")["p_fall_ap"].tolist() == [1 / 120] * 3
    assert sentence(found).count("The top maps stand out from these in the fall of AP") == 2
    upside = ranking.table.iloc[::-1].reset_index(drop=True)
    poor = Ranking(upside.assign(omega=np.linspace(1, 0.1, len(upside))), FAKE)
    none = dropout(detector, images, poor, 2, draws="auto", ks=())
    assert sum(mask.name == RANDOM for mask in none.masks) < 60
    assert "do not stand out in the fall of AP" in sentence(none)


def test_draws_are_a_number_or_auto(world) -> None:
    with pytest.raises(UserError, match="at least 1 \\(or auto\\)"):
        dropout(*world, 2, draws=0)
