"""Faithfulness: curves, randomised networks, agreement; each on cases with a known answer."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import nn
from typer.testing import CliRunner

from forensift import faithfulness
from forensift.cli.app import app
from forensift.errors import UserError
from forensift.explain.faithfulness import summarise
from forensift.explain.perturbation import area, cell_sums, curves, falling, filled, taken
from forensift.explain.sanity import (
    randomised,
    rank_correlation,
    structural_similarity,
    top_overlap,
)
from forensift.figures import plot_faithfulness

from .planted import PLANTED, fingerprint, planted_detector, planted_images


def test_cells(rng: np.random.Generator) -> None:
    relevance = rng.normal(size=(10, 13))
    sums = cell_sums(relevance, 4)
    assert sums.shape == (12,)
    assert sums.sum() == pytest.approx(relevance.sum())
    assert sums[1] == pytest.approx(relevance[:4, 4:8].sum())
    assert sums[-1] == pytest.approx(relevance[8:, 12:].sum())
    order = falling(sums, rng)
    assert (np.diff(sums[order]) <= 0).all()
    assert sorted(falling(np.zeros(12), rng)) == list(range(12))
    assert not taken(order, 0, (10, 13), 4).any()
    assert taken(order, 1, (10, 13), 4).all()
    first = taken(order, 1 / 12, (10, 13), 4)
    assert relevance[first].sum() == pytest.approx(sums.max())


def test_fills(rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (3, 20, 24), dtype=np.uint8)
    mean = filled(image, "mean")
    assert np.ptp(mean, axis=(1, 2)).tolist() == [0, 0, 0]
    assert filled(image).std() < 0.2 * image.std()
    with pytest.raises(UserError, match="fill"):
        filled(image, "black")


def test_curves_of_a_score_that_counts_what_is_left(rng: np.random.Generator) -> None:
    image = np.zeros((3, 8, 8), dtype=np.uint8)
    image[:, :4, :4] = 100  # all evidence is in one of four cells
    fill = np.zeros_like(image)

    def score(many: np.ndarray) -> np.ndarray:
        return many.mean(axis=(1, 2, 3)) / 25

    fractions = np.linspace(0, 1, 5)
    best = falling(cell_sums(image[0].astype(float), 4), rng)
    right = curves(image, best, score, fractions, cell=4, fill=fill)
    assert right["deletion"].tolist() == [1, 0, 0, 0, 0]
    assert right["insertion"].tolist() == [0, 1, 1, 1, 1]
    assert area(fractions, right["insertion"]) == 1 - area(fractions, right["deletion"]) == 0.875
    wrong = curves(image, best[::-1], score, fractions, cell=4, fill=fill)
    assert wrong["deletion"].tolist() == [1, 1, 1, 1, 0]
    known = curves(image, best, score, fractions, cell=4, fill=fill, ends=(1.0, 0.0))
    assert all(np.array_equal(known[kind], right[kind]) for kind in known)


def test_similarities(rng: np.random.Generator) -> None:
    one, other = rng.random((40, 40)), rng.random((40, 40))
    for measure in (rank_correlation, top_overlap, structural_similarity):
        assert measure(one, one) == pytest.approx(1)
        assert measure(one, other) == pytest.approx(measure(other, one))
        assert abs(measure(one, other)) < 0.3
        assert math.isnan(measure(one, -other))
    assert rank_correlation(one, one**3) == pytest.approx(1)
    assert rank_correlation(one, 1 - one) == pytest.approx(-1)
    chance = [top_overlap(one, rng.random((40, 40))) for _ in range(40)]
    assert np.mean(chance) == pytest.approx(0.05 / 1.95, abs=0.01)


def test_randomised_copies() -> None:
    network = planted_detector().network
    batch = torch.randn(6, 3, 16, 16)
    before = fingerprint(network)
    twin, layers = randomised(network, 0, batch)
    assert layers == 1
    same = [torch.equal(a, b) for a, b in zip(network.parameters(), twin.parameters(), strict=True)]
    assert [name for (name, _), kept in zip(network.named_parameters(), same, strict=True)
            if not kept] == ["fc.weight"]  # one bias has no spread to draw from  # fmt: skip
    twin, layers = randomised(network, 1, batch, seed=1)
    assert layers == 3
    old, new = network.conv1.weight.detach(), twin.conv1.weight.detach()
    assert not torch.equal(old, new)
    assert float(new.std()) == pytest.approx(float(old.std()), rel=0.3)
    assert not twin.training
    assert not twin.bn1.training
    assert twin.bn1.momentum == network.bn1.momentum
    mapped = twin.bn1(twin.conv1(batch)).sub(twin.bn1.bias[:, None, None])
    assert float(mapped.mean((0, 2, 3)).abs().max()) < 1e-5  # statistics fit the new weights
    again, _ = randomised(network, 1, batch, seed=1)
    assert torch.equal(again.conv1.weight, new)
    assert fingerprint(network) == before


def test_a_planted_detector(tmp_path: Path) -> None:
    """The checkerboard fills the image, so all orders are alike; put it in one corner instead."""
    images = planted_images(tmp_path, n=4, size=32)
    for entry in images.only(label=1):
        with (
            Image.open(entry.path) as fake,
            Image.open(str(entry.path).replace("1_fake", "0_real")) as real,
        ):
            mixed = real.copy()
            mixed.paste(fake.crop((0, 0, 16, 16)), (0, 0))
        mixed.save(entry.path)
    detector = planted_detector()
    detector.network.fc.bias.data += 4.5  # a quarter of the trace is enough
    before = fingerprint(detector.network)
    told: list[tuple[str, float, float]] = []
    found = faithfulness(
        detector,
        images,
        methods=("lrp", "gradient"),
        n=5,
        steps=8,
        draws=2,
        progress=lambda *one: told.append(one),
    )
    assert fingerprint(detector.network) == before
    assert found.counts == {"used": 5, "decided wrong": 0, "unusable": 0}
    assert told[-1][1] == told[-1][2] == 5
    summary = found.summary.set_index(["method", "kind"])
    for kind in ("deletion", "insertion"):
        assert summary.loc[("lrp", kind), "gain_low"] > 0, kind
        assert summary.loc[("random", kind), "gain"] == 0
    assert summary.loc[("lrp", "deletion"), "auc"] < summary.loc[("random", "deletion"), "auc"]
    whole = found.curves[(found.curves["kind"] == "deletion") & (found.curves["fraction"] == 0)]
    assert whole.groupby("image")["probability"].nunique().eq(1).all()
    assert set(found.curves["method"]) == {"lrp", "gradient", "random"}
    assert len(found.agreement) == 5
    assert len(found.randomisation) == 5 * 2 * 3
    assert found.randomisation.groupby("share")["layers"].first().tolist() == [1, 2, 3]
    again = faithfulness(detector, images, methods=("lrp", "gradient"), n=5, steps=8, draws=2)
    pd.testing.assert_frame_equal(again.curves, found.curves)
    figure = plot_faithfulness(found.curves, found.randomisation, found.agreement, title="t")
    assert len(figure.axes) == 4


def test_reals_are_explained_as_reals(tmp_path: Path) -> None:
    images = planted_images(tmp_path, n=3)
    found = faithfulness(
        planted_detector(), images, methods=["lrp"], n=2, label=0, cell=4, shares=()
    )
    start = found.curves[(found.curves["fraction"] == 0) & (found.curves["kind"] == "deletion")]
    assert (start["probability"] > 0.5).all()
    assert found.randomisation.empty
    assert found.agreement.empty
    plot_faithfulness(found.curves, found.randomisation, found.agreement)


def test_refusals(tmp_path: Path) -> None:
    images = planted_images(tmp_path, n=1)
    detector = planted_detector()
    for message, options in {
        "no explanation method 'x'": {"methods": ["x"]},
        "n = 0": {"n": 0},
        "steps = 1": {"steps": 1},
        "needs a method": {"methods": []},
        "fill": {"fill": "x"},
    }.items():
        with pytest.raises(UserError, match=message):
            faithfulness(detector, images, **options)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no images of label"):
        faithfulness(detector, images.only(label=0))
    nn.init.constant_(detector.network.fc.bias, -1e6)
    with pytest.raises(UserError, match="none of 2 images right"):
        faithfulness(detector, images)


def test_command_line(tmp_path: Path) -> None:
    planted_images(tmp_path / "set", n=2)
    out = tmp_path / "out"
    words = ["faithfulness", PLANTED, "--data", str(tmp_path / "set"), "--out", str(out)]
    result = CliRunner().invoke(app, [*words, "--n", "2", "--cell", "4"])
    assert (result.exit_code, result.stderr) == (0, "")
    assert "guided-gradcam" in result.stdout
    assert {path.name for path in out.iterdir()} == {
        "faithfulness.csv", "curves.csv", "randomisation.csv", "agreement.csv", "skipped.csv",
        "manifest.json", "view.json", "faithfulness.pdf", "faithfulness.png", "faithfulness.svg",
    }  # fmt: skip
    assert json.loads((out / "manifest.json").read_text())["used"] == 2
    result = CliRunner().invoke(app, [*words, "--label", "x"])
    assert result.exit_code == 2


def test_the_interval_of_a_gain_stays_in_its_range() -> None:
    """Student's t of two images reaches to -6 and 6 where a gain lies within -1 and 1."""
    rows = []
    for image, high in (("a", 1.0), ("b", 0.2)):
        for method, value in (("lrp", high), ("random", 0.1)):
            for kind in ("deletion", "insertion"):
                for fraction in (0.0, 0.5, 1.0):
                    row = {"image": image, "method": method, "draw": 0, "kind": kind}
                    rows.append(row | {"fraction": fraction, "probability": value})
    found = summarise(pd.DataFrame(rows)).set_index(["method", "kind"])
    assert (found["gain_low"] >= -1).all()
    assert (found["gain_high"] <= 1).all()
    assert found.loc[("lrp", "insertion"), "gain_low"] == -1
    assert found.loc[("lrp", "insertion"), "p"] == pytest.approx(
        stats.ttest_1samp([0.9, 0.1], 0).pvalue
    )
    assert set(found["intervals_over"]) == {"images (Student)"}
