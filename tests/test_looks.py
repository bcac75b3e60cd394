"""Several verbs from one pass: each says what it says alone, and the network runs no more often."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from forensift import UserError, colour, embed, evaluate, median_test, patches
from forensift.detectors import Detector, load_detector
from forensift.embedding import embedding_of, feature_look
from forensift.evaluation import ScoreLook, evaluation_of
from forensift.fmap_ranking import top
from forensift.fmap_ranking.omega import ranking_table
from forensift.histograms import MaximaLook, median_of
from forensift.patches import PeakLook, collages, patches_of
from forensift.records import FAKE, ImageSet, Ranking
from forensift.sensitivity import colour_of
from forensift.sweep import sweep

from .planted import fingerprint, planted_images

K = 4
HOW = {"batch_size": 8, "seed": 3}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return planted_images(tmp_path_factory.mktemp("set"), n=5, size=32)


@pytest.fixture(scope="module")
def detector() -> Detector:
    return load_detector("npr")


@pytest.fixture(scope="module")
def ranking(detector: Detector) -> Ranking:
    omega = np.linspace(0.5, 0.01, len(detector.feature_maps))
    return Ranking(ranking_table(detector.feature_maps, omega).reset_index(drop=True), FAKE)


def same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(one, other, rtol=1e-4, atol=1e-5)


def test_one_pass_feeds_five_verbs(images: ImageSet, detector: Detector, ranking: Ranking) -> None:
    before = fingerprint(detector.network)
    chosen, modes = top(ranking, K), ("rgb", "grey", "hue-90")
    scores = ScoreLook(detector, colours=modes)
    maxima = MaximaLook(detector, chosen, images=images.only(label=FAKE))
    peaks = PeakLook(detector, chosen, 2, "two")
    features = feature_look(detector, images, ranking, K)
    seen: Counter[int] = Counter()
    hook = detector.network.register_forward_pre_hook(
        lambda module, args: seen.update(images=len(args[0]))
    )
    done = sweep(images, [scores, maxima, peaks, features], **HOW)
    hook.remove()
    # Both generators have the same five reals: 15 of the 20 images differ.
    assert seen["images"] == done.networks == 15 * len(modes)
    assert done.decoded == 15
    assert fingerprint(detector.network) == before

    same(evaluation_of(scores, done, seed=3).table, evaluate(detector, images, **HOW).table)
    of = colour_of(scores, done, seed=3)
    alone = colour(detector, images, modes, **HOW)
    same(of.table, alone.table)
    same(of.box, alone.box)
    tested, alone = median_of(maxima, done), median_test(detector, images, ranking, K, **HOW)
    np.testing.assert_allclose(tested.maxima.maxima, alone.maxima.maxima, rtol=1e-4, atol=1e-5)
    assert tested.maxima.images.entries == alone.maxima.images.entries
    same(tested.percentages, alone.percentages)
    cut = patches_of(peaks, done, ranking, **HOW)
    alone = patches(detector, images, ranking, K, 2, generator="two", **HOW)
    same(cut.table, alone.table)
    assert cut.facts == alone.facts
    spread, alone = (
        embedding_of(features, done, ranking, seed=3),
        embed(detector, images, ranking=ranking, k=K, **HOW),
    )
    same(spread.neighbours, alone.neighbours)
    for kind, values in alone.features.items():
        np.testing.assert_allclose(spread.features[kind], values, rtol=1e-3, atol=1e-4)


def test_collages_of_several_generators_are_those_of_each(
    images: ImageSet, detector: Detector, ranking: Ranking
) -> None:
    told: list[tuple[str, int, int]] = []
    both = collages(detector, images, ranking, 2, 2, progress=lambda *one: told.append(one), **HOW)
    assert {one for one in told if one[0] != "cutting patches"} == {
        ("finding images", n, 10) for n in (0, 8, 10)
    }
    assert list(both.of) == ["one", "two"]
    for name, found in both.of.items():
        same(found.table, patches(detector, images, ranking, 2, 2, generator=name, **HOW).table)
    assert set(both.tables["patches"]["generator"]) == {"one", "two"}
    twice = collages(detector, images, ranking, 1, 1, generators=["two", "two"], **HOW)
    assert list(twice.of) == ["two"]
    with pytest.raises(UserError, match="no fakes of 'x'; generators: one, two"):
        collages(detector, images, ranking, 1, 1, generators=["one", "x"], **HOW)


def test_what_is_said_follows_from_the_tables(
    images: ImageSet, detector: Detector, ranking: Ranking, tmp_path: Path
) -> None:
    found = colour(detector, images, ("grey", "hue-90"), **HOW)
    row = found.table.set_index(["generator", "mode"]).loc[("macro mean", "grey")]
    assert f"to {100 * row['ap']:.1f}, a change of {100 * row['change_ap'] + 0:+.1f}" in found.said
    assert set(found._view().figures) == {"boxes_grey", "boxes_hue-90", "colour_modes"}
    assert found._repr_html_().count("<table") == 1
    plain = colour(detector, images, ("rgb",), **HOW)
    assert "no other mode" in plain.said
    single = colour(detector, images.only(generator="one"), ("grey",), **HOW)
    assert "on average" not in single.said
    tested = median_test(detector, images, ranking, K, level=0.2, **HOW)
    assert "p ≤ 0.2" in tested.said
    assert "10 fakes" in tested.said
    assert "each generator by itself" in tested.said
    only = median_test(detector, images, ranking, K, generator="one", **HOW)
    assert "by itself" not in only.said
    assert "5 fakes" in only.said
    title = tested.plot("histograms_one").get_suptitle()
    assert title == "npr, 5 fakes of one: 4 of the top 4 feature maps"
    for result in (found, tested):
        written = {path.name for path in result.save(tmp_path / type(result).__name__).iterdir()}
        assert {f"{name}.csv" for name in result.tables} <= written


def test_figures_of_one_panel_take_axes(images: ImageSet, detector: Detector) -> None:
    found = embed(detector, images, **HOW)
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert found.plot("tsne-penultimate", ax=right) is figure
    assert right.get_legend() is not None
    assert "perplexity" in right.get_xlabel()
    assert not left.collections
    with pytest.raises(UserError, match="colour_modes: takes no ax: it has several panels"):
        colour(detector, images, ("grey",), **HOW).plot("colour_modes", ax=left)


def test_few_fakes_are_drawn_as_points(images: ImageSet, detector: Detector) -> None:
    found = colour(detector, images, ("grey",), least_probability=0.0, **HOW)
    axes = found.plot("boxes_grey").axes[0]
    assert axes.get_title() == "one\n(5 of 5 fakes)"
    assert not axes.patches  # no box of five values
    drawn = np.sort(np.concatenate([line.get_ydata() for line in axes.lines[:3:2]]))
    scores = found.scores[(found.scores["generator"] == "one") & (found.scores["label"] == FAKE)]
    np.testing.assert_allclose(drawn, np.sort(100 * scores["score"]))
    none = colour(detector, images, ("grey",), least_probability=1.0, **HOW)
    assert none.box["n"].sum() == 0
    said = none.plot("boxes_grey").get_supxlabel().replace("\n", " ")
    assert "none of p ≥ 1 in RGB: one, two" in said
