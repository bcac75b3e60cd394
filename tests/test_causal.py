"""The causal study: what is chosen, and both experiments on a detector whose evidence is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from forensift import views
from forensift.ablation import load_means, means
from forensift.detectors import load_detector
from forensift.fmap_ranking import load_ranking, rank, shipped_ranking
from forensift.records import ImageSet
from forensift.studies.arms import CAUSAL, PUBLISHED, Arm, arms, experiment
from forensift.studies.causal import CANDIDATES, Causal, choose
from forensift.studies.causal.page import asked, rows, said

from .planted import planted_detector, planted_images


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> ImageSet:
    return planted_images(tmp_path_factory.mktemp("planted"), ("one", "two"), n=8)


@pytest.fixture(scope="module")
def choice(images):
    ones = images.only(generator="one")
    candidates = {"everywhere": (), "late": ("conv2",)}
    return choose(planted_detector(), ones, ones, candidates=candidates, ks=(1, 2), draws=4)


@pytest.fixture(scope="module")
def study(images, choice) -> Causal:
    detector = planted_detector()
    omega = rank(detector, images.only(generator="one"), min_confidence=0.5)
    reference = means(detector, images.only(generator="one"))
    both = [
        Arm(PUBLISHED, omega, 2, "zero"),
        Arm(CAUSAL, choice.ranking, 2, "mean-real", reference),
    ]
    found = {
        ("planted", arm.name): experiment(detector, images, arm, draws=3, ks=(1, 2)) for arm in both
    }
    return Causal(found, {}, {"seed": 0, "pairs": 8, "side": 16})


def test_every_candidate_value_and_k_is_tried_and_one_is_taken(choice) -> None:
    table = choice.table
    assert len(table) == 2 * 2 * 2
    assert table["taken"].sum() == 1
    np.testing.assert_allclose(table["margin"], table["gap_removed"] - table["matched_gap_removed"])
    taken = choice.taken
    assert taken["found"] <= 0.05
    assert taken["right"] >= 0.95
    good = table[
        (table["found"] <= 0.05) & (table["right"] >= 0.95) & (table["real_share"] < 1 / 3)
    ]
    assert taken["margin"] == good["margin"].max()
    assert choice.ranking.feature_maps()[0].channel == 0


def test_a_choice_is_saved_as_rankings_are_shipped(choice, tmp_path: Path) -> None:
    views.save(choice, tmp_path)
    again = load_ranking(tmp_path / "progan-like-pursuit.csv")
    assert again.feature_maps() == choice.ranking.feature_maps()
    kept = load_means(tmp_path / "progan-like-means.parquet", planted_detector())
    numbers = kept.numbers("conv", ("real",)), choice.means.numbers("conv", ("real",))
    np.testing.assert_allclose(*numbers, rtol=1e-6, atol=1e-7)
    assert pd.read_csv(tmp_path / "choice.csv")["taken"].sum() == 1


def test_the_causal_experiment_takes_the_planted_evidence_and_leaves_reals(study) -> None:
    top = study.row("planted", CAUSAL, "top-k")
    assert top["gap_removed"] > 0.95
    assert top["fake_accuracy_05"] == 0
    assert top["real_accuracy_05"] == 1
    assert study.row("planted", CAUSAL, "baseline")["fake_accuracy_05"] == 1
    table = asked(study).set_index("what")["met"]
    assert list(table.iloc[:3]) == ["yes"] * 3
    assert "planted: the published dropout removes" in said(study)
    people = rows(study)
    assert len(people) == 5
    assert (people["fakes found"] != "").all()


def test_the_page_and_the_figure_are_written(study, tmp_path: Path) -> None:
    views.save(study, tmp_path)
    page = (tmp_path / "causal.md").read_text()
    assert "## planted" in page
    assert "| two |" in page
    assert (tmp_path / "causal.png").stat().st_size > 5000
    assert set(pd.read_csv(tmp_path / "along_k.csv")["arm"]) == {PUBLISHED, CAUSAL}


@pytest.mark.parametrize("name", sorted(CANDIDATES))
def test_what_is_shipped_fits_the_shipped_weights(name: str) -> None:
    detector = load_detector(name)
    published, causal = arms(detector)
    assert published.value == "zero"
    assert causal.k <= len(causal.ranking)
    assert causal.ranking.by == "pursuit"
    assert set(causal.ranking.feature_maps()) <= set(detector.feature_maps)
    assert causal.reference is not None
    assert shipped_ranking(name, "pursuit").parent == shipped_ranking(name).parent
