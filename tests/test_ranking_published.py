"""The published CSV format, over the published files and over bad ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from forensift.detectors import registry
from forensift.detectors.detector import WeightsOrigin
from forensift.errors import UserError
from forensift.files import home, sha256
from forensift.fmap_ranking import (
    fitting,
    layer_shares,
    layer_sums,
    load_ranking,
    overlap,
    save_ranking,
)
from forensift.records import FAKE, REAL, FeatureMap, Ranking

from .planted import planted_detector

FOLDER = home() / "fmap_relevances"
ARCHITECTURES = ("resnet50", "efficientnet-b0")
FILES = [
    FOLDER / name / "progan_val_0.5" / f"progan_val-{kind}.csv"
    for name in ARCHITECTURES
    for kind in ("fake", "real")
]


def published(name: str, kind: str) -> Ranking:
    return load_ranking(FOLDER / name / "progan_val_0.5" / f"progan_val-{kind}.csv")


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parts[-3]}-{path.stem[-4:]}")
def test_a_published_file_survives_reading_and_writing_to_the_byte(path, tmp_path) -> None:
    ranking = load_ranking(path)
    save_ranking(ranking, tmp_path / path.name)
    assert (tmp_path / path.name).read_bytes() == path.read_bytes()
    assert ranking.label == (FAKE if path.stem.endswith("fake") else REAL)
    assert ranking.start == "published"
    manifest = json.loads((path.parent / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["sha256"][path.name] == sha256(path)
    assert "MIT" in manifest["licence"]
    omega = ranking.table["omega"].to_numpy()
    assert (np.diff(omega) <= 0).all()
    sums = layer_sums(ranking)
    assert sums.max() <= 1
    assert sums.min() > 0


def test_there_are_95136_published_rows() -> None:
    assert sum(len(load_ranking(path)) for path in FILES) == 95_136
    assert (FOLDER / "LICENSE").read_text().startswith("MIT License")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_published_rankings_fit_their_detectors_and_no_other(name: str) -> None:
    architecture = registry.get_architecture(name)
    origin = WeightsOrigin("initialisation", "", "bare")
    detector = registry.describe(name, architecture.build(), origin)
    ranking = published(name, "fake")
    fitting(ranking, detector)
    assert set(ranking.feature_maps()) == set(detector.feature_maps)
    other = published(next(one for one in ARCHITECTURES if one != name), "fake")
    first = other.feature_maps(slice(0, 1))[0]
    with pytest.raises(UserError) as caught:
        fitting(other, detector)
    assert str(first) in str(caught.value)
    assert name in str(caught.value)


def test_what_the_published_rankings_say() -> None:
    resnet = published("resnet50", "fake")
    assert len(overlap(resnet, published("resnet50", "real"), 114)) == 3
    b0 = published("efficientnet-b0", "fake")
    assert len(overlap(b0, published("efficientnet-b0", "real"), 27)) == 1
    shares = layer_shares(resnet, 114)
    narrow = shares[shares["width"] == 64]
    assert narrow["share_of_top_k"].sum() == pytest.approx(0.57, abs=0.005)
    assert narrow["share_of_maps"].sum() == pytest.approx(0.017, abs=0.0005)
    assert shares["top_k"].sum() == 114
    assert (resnet.table["omega"] == 0).sum() == 705
    assert (resnet.table["omega"].iloc[-114:] == 0).all()  # the published low-k
    assert resnet.table["omega_width"].iloc[0] == 64 * resnet.table["omega"].iloc[0]
    with pytest.raises(UserError, match="26560"):
        overlap(resnet, resnet, 26_561)


BAD = {
    "no column": ("key,value\na.#0(T=2),1\n", "mean_relevance is missing"),
    "empty": ("", "column key is missing"),
    "no rows": ("key,mean_relevance\n", "no feature map"),
    "bad key": ("key,mean_relevance\na.#0(T=2),0.5\nconv1,0.1\n", "line 3.*'conv1'"),
    "outside": ("key,mean_relevance\na.#2(T=2),0.5\n", "line 2.*outside"),
    "twice": ("key,mean_relevance\na.#0(T=2),0.5\na.#0(T=2),0.5\n", "line 3.*twice"),
    "text": ("key,mean_relevance\na.#0(T=2),high\n", "line 2.*'high'"),
    "nan": ("key,mean_relevance\na.#0(T=2),nan\n", "line 2.*'nan'"),
    "short": ("key,mean_relevance\na.#0(T=2)\n", "line 2.*None"),
    "negative": ("key,mean_relevance\na.#0(T=2),-1\n", "line 2.*'-1'"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_by_name_and_line(case: str, tmp_path: Path) -> None:
    text, message = BAD[case]
    path = tmp_path / "x-fake.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        load_ranking(path)
    assert str(path) in str(caught.value)


def test_other_bad_files_and_a_name_that_says_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No such file"):
        load_ranking(tmp_path / "no-fake.csv")
    with pytest.raises(UserError, match="no ranking can be read"):
        load_ranking(tmp_path, label=FAKE)
    binary = tmp_path / "b-fake.csv"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(UserError, match="no ranking can be read"):
        load_ranking(binary)
    unnamed = tmp_path / "maps.csv"
    unnamed.write_text("key,mean_relevance\na.#0(T=2),0.5\n")
    assert load_ranking(unnamed).label == FAKE  # as published rankings mostly are
    assert load_ranking(unnamed, label=REAL).label == REAL


def test_ties_keep_the_file_order_and_rows_are_sorted(tmp_path: Path) -> None:
    path = tmp_path / "x-fake.csv"
    keys = ["b.#1(T=2),0.25", "a.#0(T=2),0.5", "b.#0(T=2),0.25", "a.#1(T=2),1e-05"]
    path.write_text("\n".join(["\ufeffkey,mean_relevance", *keys]), encoding="utf-8")
    ranking = load_ranking(path)
    assert [str(one) for one in ranking.feature_maps()] == [
        "a.#0(T=2)", "b.#1(T=2)", "b.#0(T=2)", "a.#1(T=2)"
    ]  # fmt: skip
    save_ranking(ranking, tmp_path / "y-fake.csv")
    assert (tmp_path / "y-fake.csv").read_text().endswith("\na.#1(T=2),1e-05\n")


def test_a_manifest_beside_says_how_the_ranking_was_started(tmp_path: Path) -> None:
    path = tmp_path / "x-real.csv"
    path.write_text("key,mean_relevance\na.#0(T=2),0.5\n")
    assert load_ranking(path).start == "published"
    facts = {"start": "predicted", "counts": {"real": {"used": 7}}}
    (tmp_path / "manifest.json").write_text(json.dumps(facts))
    ranking = load_ranking(path)
    assert (ranking.start, dict(ranking.counts)) == ("predicted", {"used": 7})


def test_a_width_that_differs_is_another_feature_map(tmp_path: Path) -> None:
    path = tmp_path / "x-fake.csv"
    path.write_text("key,mean_relevance\nconv1.#0(T=8),0.5\nconv1.#1(T=9),0.5\n")
    with pytest.raises(UserError, match=r"conv1\.#1\(T=9\)"):
        fitting(load_ranking(path), planted_detector(width=8))
    assert FeatureMap("conv1", 0, 8) in planted_detector(width=8).feature_maps
