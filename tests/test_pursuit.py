"""Ranking by pursuit: the greedy choice against brute force, and a unit that is known to decide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from forensift.ablation import means, put
from forensift.errors import UserError
from forensift.fmap_ranking import load_ranking, save_ranking
from forensift.fmap_ranking.pursuit import _picked, _World, pursuit
from forensift.records import FAKE, REAL, ImageSet

from .planted import fingerprint, planted_detector, planted_images


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> ImageSet:
    return planted_images(tmp_path_factory.mktemp("planted"), ("one",), n=8)


def drawn(rng: np.random.Generator, pairs: int, maps: int) -> tuple[_World, np.ndarray, np.ndarray]:
    """Return a world of pairs without files, distances from the goal, and changes by each map."""
    fake = np.arange(2 * pairs) < pairs
    world = _World(ImageSet(Path(), ()), fake, np.arange(pairs), np.tile(np.arange(pairs), 2))
    away = np.where(fake, rng.normal(6, 1, 2 * pairs), 0.0)
    return world, away, rng.normal(-0.2, 1, (2 * pairs, maps))


@pytest.mark.parametrize("beta", [0.0, 1.0, 3.0])
def test_picks_are_those_of_brute_force(beta: float) -> None:
    world, away, changes = drawn(np.random.default_rng(3), 7, 30)

    def objective(chosen: list[int]) -> float:
        now = away + changes[:, chosen].sum(axis=1)
        return float((now[:7] ** 2).mean() + beta * (now[7:] ** 2).mean())

    chosen: list[int] = []
    start = objective([])
    found = _picked(world, away, changes, 12, beta, start, 0)
    for place, row, predicted in found:
        gains = {
            one: objective(chosen) - objective([*chosen, one])
            for one in range(30)
            if one not in chosen
        }
        best = max(gains, key=gains.__getitem__)
        assert place == best
        assert row["score"] == pytest.approx(gains[best] / start, rel=1e-9)
        chosen.append(best)
        assert predicted == pytest.approx(objective(chosen), rel=1e-9)
        assert row["rank_low"] <= len(chosen) <= row["rank_high"]
    assert len(found) > 3


def test_the_standard_error_is_that_of_a_sum_over_photographs() -> None:
    world, away, changes = drawn(np.random.default_rng(0), 9, 5)
    ((place, row, _),) = _picked(world, away, changes, 1, 1.0, 2.0, 0)
    moved = (away + changes[:, place]) ** 2 - away**2
    own = -(moved[:9] + moved[9:]) / 9  # fall of J by photograph
    assert row["score"] == pytest.approx(own.sum() / 2)
    assert row["standard_error"] == pytest.approx(own.std(ddof=1) * 3 / 2)


def test_a_map_that_repeats_another_is_not_picked_twice() -> None:
    world, away, changes = drawn(np.random.default_rng(1), 6, 4)
    changes[:] = 0
    changes[:6, 0] = changes[:6, 1] = -5.5  # the same evidence, nearly all of it
    changes[:6, 2] = -0.5
    places = [place for place, _, _ in _picked(world, away, changes, 3, 1.0, 1.0, 0)]
    assert places[:2] == [0, 2] or places == [0]
    assert 1 not in places[:2]


def test_the_planted_unit_is_first_in_nearly_all_seeds(images) -> None:
    first = []
    for seed in range(40):
        detector = planted_detector(seed=seed)
        top = pursuit(detector, images, maps=1).ranking.feature_maps()[0]
        first.append(top.channel == 0)
    assert np.mean(first) >= 0.95


def test_what_it_predicts_is_near_what_happens_and_reals_stay(images) -> None:
    detector = planted_detector()
    found = pursuit(detector, images, maps=3)
    path = found.path
    assert path["maps"].iloc[0] == 0
    assert path["found"].iloc[0] == 1
    assert path["found"].iloc[-1] == 0
    assert path["right"].iloc[-1] == 1
    assert abs(path["move_real"].iloc[-1]) < 0.2 * path["gap"].iloc[0]
    assert path["objective"].iloc[-1] < 0.1 * path["objective"].iloc[0]
    chosen = found.ranking.feature_maps()
    constants = means(detector, images.only(label=REAL))
    constants_of = constants.by_layer(constants.numbers("conv", ("real",)))
    fakes = images.only(label=FAKE)
    with put(detector.network, chosen, constants_of), torch.no_grad():
        fakes_now = detector.network(detector.batch(fakes)).mean()
        reals_now = detector.network(detector.batch(images.only(label=REAL))).mean()
    assert float(fakes_now - reals_now) == pytest.approx(path["gap"].iloc[-1], abs=1e-5)


def test_batches_and_the_order_of_images_change_nothing(images) -> None:
    detector = planted_detector(seed=2)
    one = pursuit(detector, images, maps=4)
    turned = ImageSet(images.root, tuple(reversed(images.entries)), images.layout)
    other = pursuit(detector, turned, maps=4, batch_size=3)
    assert one.ranking.feature_maps() == other.ranking.feature_maps()
    np.testing.assert_allclose(one.ranking.scores, other.ranking.scores, rtol=1e-4)


def test_the_network_is_as_it_was(images) -> None:
    detector = planted_detector()
    before = fingerprint(detector.network)
    pursuit(detector, images, maps=2)
    assert fingerprint(detector.network) == before


def test_layers_and_files(images, tmp_path: Path) -> None:
    detector = planted_detector()
    ranking = pursuit(detector, images, maps=3, layers=("conv2",)).ranking
    assert {one.layer for one in ranking.feature_maps()} == {"conv2"}
    save_ranking(ranking, tmp_path / "planted-pursuit.csv")
    again = load_ranking(tmp_path / "planted-pursuit.csv")
    assert again.by == "pursuit"
    assert again.feature_maps() == ranking.feature_maps()
    with pytest.raises(UserError, match="no layer convolution"):
        pursuit(detector, images, layers=("convolution*",))


def test_without_pairs_fakes_are_drawn_to_the_mean_of_the_reals(images) -> None:
    found = pursuit(planted_detector(), images, maps=1, pairs={})
    assert found.ranking.facts["paired"] is False
    assert found.ranking.feature_maps()[0].channel == 0
    with pytest.raises(UserError, match="fakes and reals"):
        pursuit(planted_detector(), images.only(label=FAKE), maps=1)
