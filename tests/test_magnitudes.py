"""A control matched by how strongly maps respond: strengths, neighbours, masks, dropout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from forensift.data import Batch, batches
from forensift.fmap_ranking import rank, top
from forensift.records import Skipped
from forensift.sensitivity import MAGNITUDE_MATCHED, dropout, magnitude_matched_random_k, magnitudes
from forensift.sensitivity.magnitudes import MagnitudeStatistic, nearest
from forensift.sweep import Rows

from .planted import batch_of, fingerprint, planted_detector, planted_images


def test_strengths_are_means_of_the_convolutions_outputs(tmp_path: Path) -> None:
    detector, images = planted_detector(), planted_images(tmp_path, n=3)
    before = fingerprint(detector.network)
    found = magnitudes(detector, images, batch_size=2)
    assert fingerprint(detector.network) == before
    skipped: list[Skipped] = []
    (batch,) = batches(images, detector.preset, 64, skipped=skipped)
    with torch.no_grad():
        one = detector.network.conv1(detector.preset.normalise(batch.pixels)).double()
        strength = one.abs().mean(dim=(2, 3))
        share = (strength / (1 + strength)).mean(0)
    np.testing.assert_allclose(found[:8], (share / (1 - share)).numpy(), rtol=1e-5)
    np.testing.assert_allclose(magnitudes(detector, images, batch_size=5), found, rtol=1e-5)


def seen(values: np.ndarray) -> tuple[Batch, Rows]:
    return batch_of([str(row) for row in range(len(values))]), {"strength": values}


def test_strengths_do_not_depend_on_shards_or_order(rng: np.random.Generator) -> None:
    values = rng.exponential(size=(30, 4)) * np.array([1e-3, 1, 10, 1e4])
    whole, parts = MagnitudeStatistic(4), MagnitudeStatistic(4)
    whole.update(*seen(values))
    for piece in np.split(rng.permutation(values), (3, 17)):
        part = parts.empty()
        part.update(*seen(piece))
        parts.merge(part.from_state(part.state()))
    np.testing.assert_array_equal(whole.result(), parts.result())
    share = (values / (1 + values)).mean(axis=0)
    np.testing.assert_allclose(whole.result(), share / (1 - share), rtol=1e-9)


def test_neighbours_are_the_nearest_in_strength() -> None:
    maps = planted_detector().feature_maps
    strengths = np.exp(np.arange(len(maps)))
    found = nearest(maps, strengths, 2)
    assert found[maps[5]] in ([maps[4], maps[6]], [maps[6], maps[4]])
    assert set(found[maps[0]]) == {maps[1], maps[2]}


def test_a_matched_draw_is_keyed_outside_the_top_and_without_repeats() -> None:
    maps = planted_detector().feature_maps
    first = maps[3:6]
    near = nearest(maps, np.linspace(1, 2, len(maps)), 8)
    masks = [magnitude_matched_random_k(near, first, draw, 0) for draw in range(20)]
    for mask in masks:
        assert len(set(mask.feature_maps)) == 3
        assert not set(mask.feature_maps) & set(first)
    assert len({mask.feature_maps for mask in masks}) > 5
    assert magnitude_matched_random_k(near, first, 7, 0) == masks[7]
    alone = {one: list(first) for one in first}
    stands = magnitude_matched_random_k(alone, first, 0, 0)
    assert stands.shared_with_top_k == 3
    assert set(stands.feature_maps) == set(first)


def test_the_control_stands_in_table_and_summary(tmp_path: Path) -> None:
    detector, images = planted_detector(), planted_images(tmp_path, n=6)
    ranking = rank(detector, images, min_confidence=0.5)
    found = dropout(detector, images, ranking, 2, draws=4, ks=(), magnitude_matched=True)
    own = found.table[found.table["mask"] == MAGNITUDE_MATCHED]
    assert len(own) == 4 * len(images.generators)
    summary = found.summary.set_index("mask").loc[MAGNITUDE_MATCHED]
    assert summary["p_fall_ap"].between(1 / 5, 1).all()
    dropped = found.dropped()
    drawn = set(dropped.loc[dropped["mask"] == MAGNITUDE_MATCHED, "feature_map"])
    assert not drawn & {str(one) for one in top(ranking, 2)}
    plain = dropout(detector, images, ranking, 2, draws=4, ks=())
    kept = found.table[found.table["mask"] != MAGNITUDE_MATCHED]
    assert kept["ap"].tolist() == pytest.approx(plain.table["ap"].tolist())
