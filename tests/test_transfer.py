"""The transfer matrix on a planted truth: one cue that two generators share, one of its own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.stats import kendalltau
from torch import nn
from typer.testing import CliRunner

import forensift.data.batching as decoding
from forensift.cli.app import app
from forensift.data import get_preset
from forensift.detectors.detector import Detector, WeightsOrigin
from forensift.detectors.units import find_feature_maps
from forensift.errors import UserError
from forensift.figures.transfer import plot_transfer
from forensift.fmap_ranking import OmegaStatistic, descending, rank
from forensift.records import FAKE, REAL, FeatureMap, ImageEntry, ImageSet
from forensift.sensitivity import dropout, transfer
from forensift.sensitivity.agreement import agreement_table, omega_of, transferability_table
from forensift.sensitivity.transfer import halves
from forensift.sensitivity.transfer_tables import COLUMNS

from .planted import batch_of, fingerprint

SIZE, WIDTH, PAIRS = 16, 8, 24
BOARD, STRIPES = "board", "stripes"  # what the fakes of a generator carry
CUES = {"a": BOARD, "b": BOARD, "c": STRIPES}


def two_cue_detector() -> Detector:
    """Return a detector whose maps 0 see a checkerboard, and maps 1 see stripes, exactly."""
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential()
    network.add_module("conv1", nn.Conv2d(3, WIDTH, 3, bias=False))
    network.add_module("relu1", nn.ReLU())
    network.add_module("conv2", nn.Conv2d(WIDTH, WIDTH, 1, bias=False))
    network.add_module("relu2", nn.ReLU())
    network.add_module("pool", nn.AdaptiveAvgPool2d(1))
    network.add_module("flatten", nn.Flatten())
    network.add_module("fc", nn.Linear(WIDTH, 1))
    edge, smooth = torch.tensor([-1.0, 2.0, -1.0]), torch.tensor([1.0, 2.0, 1.0])
    with torch.no_grad():
        # All other maps see smooth light alone: their filters cancel both cues.
        size = 0.02 * torch.randn(WIDTH, 3, 1, 1, generator=generator)
        network.conv1.weight.copy_(size * torch.outer(smooth, smooth) / 4)
        network.conv2.weight.copy_(0.02 * torch.randn(WIDTH, WIDTH, 1, 1, generator=generator))
        network.conv2.weight[:, :2] = 0.0
        network.conv2.weight[:2] = 0.0
        for cue, down in enumerate((edge, smooth)):
            # Second difference along a row; across it, a second difference or its opposite: the
            # first is blind to stripes, the second to a checkerboard.
            network.conv1.weight[cue] = torch.outer(down, edge) / 4
            network.conv2.weight[cue, cue] = 1.0
        network.fc.weight.copy_(0.02 * torch.randn(1, WIDTH, generator=generator))
        network.fc.weight[0, :2] = 9.0
        network.fc.bias.fill_(-6.0)
    return Detector(
        "two cues",
        network.eval(),
        get_preset("wang-nocrop"),
        find_feature_maps(network),
        WeightsOrigin("initialisation", "", "bare"),
    )


def two_cue_images(root: Path, cues: dict[str, str] = CUES, n: int = PAIRS) -> ImageSet:
    rows, columns = np.mgrid[0:SIZE, 0:SIZE]
    patterns = {BOARD: (rows + columns) % 2, STRIPES: columns % 2, "": 0 * rows}
    entries = []
    for generator, cue in cues.items():
        for number in range(n):
            rng = np.random.default_rng(number)
            corners = rng.integers(60, 200, (2, 2, 3), dtype=np.uint8)
            smooth = Image.fromarray(corners).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
            real = np.asarray(smooth, dtype=np.float64)
            added = rng.uniform(10, 14) * (2 * patterns[cue] - 1) if cue else 0 * rows
            for label, pixels in enumerate((real, real + added[..., None])):
                path = root / generator / ("0_real", "1_fake")[label] / f"{number:03d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.rint(pixels).astype(np.uint8)).save(path)
                entries.append(ImageEntry(path, label, generator))
    return ImageSet(root, tuple(sorted(entries, key=lambda entry: entry.path)))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return two_cue_detector(), two_cue_images(tmp_path_factory.mktemp("cues"))


@pytest.fixture(scope="module")
def result(world):
    return transfer(*world, 2, draws=2, resamples=50)


def test_maps_transfer_between_generators_that_share_a_cue_and_not_to_others(result) -> None:
    falls = result.matrix()
    assert falls.index.tolist() == falls.columns.tolist() == list(CUES)
    for first, one in CUES.items():
        for second, other in CUES.items():
            if one == other:
                assert falls.loc[first, second] > 20, (first, second)
            else:
                assert abs(falls.loc[first, second]) < 1, (first, second)
    table = result.table.set_index(["ranked_on", "dropped_on"])
    assert table.loc[("a", "b"), "effect"] == "evidence for fake was removed"
    assert table.loc[("a", "c"), "effect"] == "next to nothing changed"
    assert table.loc[("a", "b"), "fall_fake_accuracy_05_points"] == 100
    assert table.loc[("a", "b"), "fall_real_accuracy_05_points"] == 0
    assert table.loc[("a", "b"), "change_mean_logit_fake"] < -5
    assert (table["fall_ap_points_matched"].abs() < 5).all()
    assert (table["fall_ap_points_low"] <= table["fall_ap_points"]).all()
    assert (table["fall_ap_points"] <= table["fall_ap_points_high"]).all()


def test_the_rankings_agree_where_the_cue_is_shared(result) -> None:
    between = result.agreement[result.agreement["kind"] == "two generators"]
    between = between.set_index(["first", "second"])
    assert between.loc[("a", "b"), "jaccard"] == 1
    assert between.loc[("a", "b"), "shared"] == 2
    assert between.loc[("a", "c"), "jaccard"] == between.loc[("b", "c"), "jaccard"] == 0
    assert between.loc[("a", "b"), "kendall_tau"] > between.loc[("a", "c"), "kendall_tau"]
    for row in between.to_dict("records"):
        assert row["kendall_tau_low"] <= row["kendall_tau"] <= row["kendall_tau_high"]
        assert row["jaccard_low"] <= row["jaccard"] <= row["jaccard_high"]
    within = result.agreement[result.agreement["kind"] == "halves of one"]
    assert within["first"].tolist() == within["second"].tolist() == list(CUES)
    assert (within["jaccard"] == 1).all()


def test_no_map_is_transferable_to_all_three_and_two_are_to_a_pair(world, result) -> None:
    assert not result.transferability["transferable"].any()
    detector, images = world
    pair = ImageSet(images.root, tuple(e for e in images if e.generator != "c"))
    table = transfer(detector, pair, 2, draws=0, resamples=2).transferability
    assert set(table["feature_map"][:2]) == {"conv1.#0(T=8)", "conv2.#0(T=8)"}
    assert table["transferable"].sum() == 2
    assert (table["transferability"][:2] > 0.9).all()


def test_a_cell_is_what_rank_and_dropout_say_of_the_two_halves(world, result) -> None:
    detector, images = world
    to_rank, to_drop = halves(images)
    for first in ("a", "c"):
        ranking = rank(detector, to_rank.only(generator=first, label=FAKE))
        pd.testing.assert_frame_equal(ranking.table, result.rankings[first].table)
        single = dropout(detector, to_drop, ranking, 2, draws=2, ks=())
        cells = result.table.set_index(["ranked_on", "dropped_on"])
        for second in CUES:
            row = cells.loc[(first, second)]
            own = single.summary[single.summary["generator"] == second].set_index("mask")
            top, matched = own.loc["top-k"], own.loc["random-k-layer-matched"]
            assert row["fall_ap_points"] == pytest.approx(top["fall_ap_points"])
            assert row["fall_ap_points_matched"] == pytest.approx(matched["fall_ap_points"])
            assert row["effect"] == top["effect"]
            for key in ("change_mean_logit_real", "change_mean_logit_fake"):
                assert row[key] == pytest.approx(top[key], rel=1e-4, abs=1e-5)
                assert row[f"{key}_matched"] == pytest.approx(matched[key], rel=1e-4, abs=1e-5)
            fall = 100 * (own.loc["baseline", "fake_accuracy"] - top["fake_accuracy"])
            assert row["fall_fake_accuracy_points"] == pytest.approx(fall)
    assert tuple(result.table.columns) == COLUMNS


def test_halves_share_no_name_and_keep_pairs_together(world) -> None:
    _, images = world
    one, other = halves(images)
    names = [{entry.path.name for entry in side} for side in (one, other)]
    assert not names[0] & names[1]
    assert [len(own) for own in names] == [PAIRS // 2, PAIRS // 2]
    assert len(one) + len(other) == len(images)
    for side, own in zip((one, other), names, strict=True):
        for generator in CUES:
            for label in (REAL, FAKE):
                assert {e.path.name for e in side.only(label=label, generator=generator)} == own
    assert halves(images)[0] == one
    assert halves(images, seed=1)[0] != one
    alone = ImageSet(images.root, images.only(generator="a").entries[:1])
    with pytest.raises(UserError, match="too few images to halve"):
        halves(alone)


def test_each_image_is_decoded_once_and_the_network_is_left_alone(world, monkeypatch) -> None:
    detector, images = world
    read: list[Path] = []
    original = decoding.read_image
    monkeypatch.setattr(decoding, "read_image", lambda path: read.append(path) or original(path))
    before = fingerprint(detector.network)
    told: dict[str, tuple[int, int]] = {}
    transfer(
        detector, images, 2, draws=1, resamples=2,
        progress=lambda what, done, total: told.update({what: (done, total)}),
    )  # fmt: skip
    one, other = halves(images)
    # The generators share their reals, and two of them their fakes.
    counts = [len({entry.path.read_bytes() for entry in part})
              for part in (one.only(label=FAKE), other)]  # fmt: skip
    assert len(read) == len(set(read)) == sum(counts) < len(images)
    assert list(told.values()) == [(number, number) for number in counts]
    assert fingerprint(detector.network) == before

    def broken(what: str, done: int, total: int) -> None:
        if what == "dropping feature maps":
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        transfer(detector, images, 2, draws=1, resamples=2, progress=broken)
    assert fingerprint(detector.network) == before


def test_another_set_can_be_ranked_on(world, result, tmp_path: Path) -> None:
    detector, images = world
    only = {"a": BOARD, "new": STRIPES}
    others = two_cue_images(tmp_path, only, n=6)
    found = transfer(detector, images, 2, rank_images=others, draws=0, resamples=2)
    assert found.matrix().shape == (2, 3)
    assert found.matrix().loc["new", "c"] > 20
    assert abs(found.matrix().loc["new", "a"]) < 1
    assert found.table["n_fake"].eq(PAIRS).all()
    assert found.table["fall_ap_points_matched"].isna().all()
    assert found.facts["ranking_images"] == "another set"
    assert result.facts["ranking_images"] == "halves of the images"
    assert [note.split(":")[0] for note in found.notes] == ["a", "new"]
    assert "ω from 6 fakes" in found.notes[0]
    assert len(result.notes) == 3  # 12 fakes each


def test_a_generator_that_is_not_recognised_has_no_row(world, tmp_path: Path) -> None:
    detector, _ = world
    images = two_cue_images(tmp_path, {"a": BOARD, "plain": ""})
    found = transfer(detector, images, 2, draws=0, resamples=2)
    assert found.matrix().shape == (1, 2)
    assert any("plain: 12 wrong prediction; its row is missing" in note for note in found.notes)
    plain = ImageSet(images.root, images.only(generator="plain").entries)
    with pytest.raises(UserError, match="no generator could be ranked: plain"):
        transfer(detector, plain, 2)


def test_bad_input_is_one_clear_line(world) -> None:
    detector, images = world
    with pytest.raises(UserError, match="k = 17"):
        transfer(detector, images, 17)
    with pytest.raises(UserError, match="no real images"):
        transfer(detector, images.only(label=FAKE), 2)
    with pytest.raises(UserError, match="draws"):
        transfer(detector, images, 2, draws=-1)


# --- agreement ----------------------------------------------------------------------------------

MAPS = tuple(FeatureMap(layer, channel, 20) for layer in ("x", "y") for channel in range(20))


def statistic(shares: np.ndarray, name: str = "") -> OmegaStatistic:
    found = OmegaStatistic(MAPS)
    n = len(shares)
    batch = batch_of([f"{name}{number}.png" for number in range(n)])
    found.update(batch, {"logit": np.full(n, 9.0), "share": shares})
    return found


def sample(rng: np.random.Generator, truth: np.ndarray, n: int) -> np.ndarray:
    noisy = truth * rng.lognormal(0, 1.0, (n, len(truth)))
    return np.minimum(noisy, 1)


def test_agreement_and_transferability_follow_their_formulas(rng) -> None:
    shares = {name: rng.random((30, len(MAPS))) ** 3 for name in "abc"}
    shares["b"][:, 5:10] = 0
    shares["a"][:, 5] = shares["c"][:, 5] = 0
    found = {name: statistic(own, name) for name, own in shares.items()}
    omega = {name: own.mean(axis=0) for name, own in shares.items()}
    for name in found:
        np.testing.assert_allclose(omega_of(found[name]), omega[name], rtol=1e-12)
    table = agreement_table(found, 7, resamples=20)
    row = table.query("first == 'a' and second == 'b'").iloc[0]
    assert row["kendall_tau"] == pytest.approx(kendalltau(omega["a"], omega["b"]).statistic)
    live = np.arange(len(MAPS)) != 5
    expected = kendalltau(omega["a"][live], omega["b"][live]).statistic
    assert row["kendall_tau_live"] == pytest.approx(expected)
    tops = [set(descending(omega[name])[:7].tolist()) for name in "ab"]
    assert row["shared"] == len(tops[0] & tops[1])
    assert row["jaccard"] == pytest.approx(len(tops[0] & tops[1]) / len(tops[0] | tops[1]))

    each = transferability_table(found, 7).set_index("feature_map")
    assert each["omega_geometric_mean"].is_monotonic_decreasing
    stacked = np.stack([omega[name] for name in "abc"])
    for at, one in enumerate(MAPS):
        own = each.loc[str(one)]
        mean = stacked[:, at].prod() ** (1 / 3)
        assert own["omega_geometric_mean"] == pytest.approx(mean)
        if at != 5:
            assert own["transferability"] == pytest.approx(mean / stacked[:, at].max())
            assert own["largest_on"] == "abc"[stacked[:, at].argmax()]
        assert own["in_top_k"] == sum(at in descending(row)[:7] for row in stacked)
        assert own["omega_b"] == pytest.approx(omega["b"][at])
    assert np.isnan(each.loc[str(MAPS[5]), "transferability"])
    assert each.loc[str(MAPS[6]), "transferability"] == 0


def test_equal_rankings_agree_fully_and_one_image_has_no_interval(rng) -> None:
    shares = rng.random((40, len(MAPS)))
    table = agreement_table({"a": statistic(shares), "b": statistic(shares)}, 5, resamples=10)
    row = table[table["kind"] == "two generators"].iloc[0]
    assert row["kendall_tau"] == row["jaccard"] == 1
    lonely = {"a": statistic(shares), "b": statistic(shares[:1])}
    table = agreement_table(lonely, 5, resamples=10).set_index(["first", "second"])
    assert np.isnan(table.loc[("a", "b"), "kendall_tau_low"])
    assert np.isnan(table.loc[("b", "b"), "kendall_tau"])
    assert np.isfinite(table.loc[("a", "a"), "kendall_tau"])


def test_the_interval_covers_what_as_many_other_images_give() -> None:
    """Two generators of partly shared truth; the target is the mean τ of samples of this size."""
    rng = np.random.default_rng(0)
    one = rng.random(len(MAPS)) ** 2 / 20
    other = one * rng.lognormal(0, 0.5, len(MAPS))
    n = 100

    samples = [(sample(rng, one, n), sample(rng, other, n)) for _ in range(200)]
    means = [(a.mean(axis=0), b.mean(axis=0)) for a, b in samples]
    target = np.mean([kendalltau(a, b).statistic for a, b in means])
    covered, tried = 0, 60
    for number, (a, b) in enumerate(samples[:tried]):
        found = {"a": statistic(a, f"a{number}-"), "b": statistic(b, f"b{number}-")}
        row = agreement_table(found, 8, resamples=60).query("kind == 'two generators'").iloc[0]
        covered += row["kendall_tau_low"] <= target <= row["kendall_tau_high"]
    assert 0.85 <= covered / tried <= 1.0


# --- command and figure -------------------------------------------------------------------------


PLUGIN = """
from tests.test_transfer import two_cue_detector

def detector():
    return two_cue_detector().network
"""


def test_the_command_writes_its_tables(world, tmp_path: Path) -> None:
    _, images = world
    (tmp_path / "cues.py").write_text(PLUGIN)
    name, out = f"{tmp_path / 'cues.py'}:detector", tmp_path / "out"
    words = ["transfer", name, "--data", images.root, "--k", 2, "--draws", 1, "--out", out]
    words += ["--preset", "wang-nocrop", "--device", "cpu"]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert (done.exit_code, done.stderr) == (0, "")
    assert "(a: ω from 12 fakes" in " ".join(done.stdout.split())
    assert "0 maps are in the top 2 of all 3" in " ".join(done.stdout.split())
    assert {path.name for path in out.iterdir()} == {
        "transfer.csv", "agreement.csv", "transferability.csv", "skipped.csv", "manifest.json",
        "transfer.pdf", "transfer.png", "transfer.svg", "view.json",
    }  # fmt: skip
    assert len(pd.read_csv(out / "transfer.csv")) == 9
    facts = json.loads((out / "manifest.json").read_text())
    assert facts["used"]["a"]["used"] == 12
    assert facts["k"] == 2
    bad = CliRunner().invoke(app, [str(word) for word in [*words[:4], "--k", 99, "--out", out]])
    assert bad.exit_code == 2
    assert bad.stderr.startswith("error: k = 99")


def test_the_figure_shows_every_number_of_the_table(result) -> None:
    figure = plot_transfer(result.table, result.agreement, 2)
    panels = [axes for axes in figure.axes if axes.get_title()]
    assert len(panels) == 4
    assert [text.get_text() for text in panels[0].get_yticklabels()] == [
        "a (12)", "b (12)", "c (12)",
    ]  # fmt: skip
    assert len(panels[0].texts) == len(panels[2].texts) == 9
    without = replace(result, table=result.table.assign(fall_ap_points_matched=np.nan))
    fewer = plot_transfer(without.table, without.agreement, 2)
    assert len([axes for axes in fewer.axes if axes.get_title()]) == 3
