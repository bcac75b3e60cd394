"""Bias units: found where they are planted, and not where there is nothing; what they carry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import false_discovery_control, ttest_1samp
from torch import nn

import forensift
from forensift import UserError
from forensift.data import Batch, get_preset, scan
from forensift.data.conditions import CLEAN
from forensift.detectors import Detector, load_detector
from forensift.detectors.detector import WeightsOrigin
from forensift.detectors.units import find_feature_maps
from forensift.evaluation import benjamini_hochberg
from forensift.fmap_ranking import load_ranking
from forensift.forge import forge
from forensift.pruning import bias_units
from forensift.pruning.bias import MATCHED
from forensift.pruning.certificate import WHOLE
from forensift.pruning.doses import DoseLook, DoseStatistic, Ladder, groups_of, ladders
from forensift.records import REAL, FeatureMap, ImageEntry, ImageSet
from forensift.sweep import sweep

from .planted import fingerprint
from .test_cli import refused, run

BLOCKS = FeatureMap("conv2", 0, 5)  # answers to the edges of JPEG's blocks


def blockiness_detector(images: ImageSet) -> Detector:
    """Return a detector that calls an image fake whose steps are larger over block edges.

    Map 0 of conv2 is the mean step between columns 7 and 8 less that between 3 and 4; the others
    read brightness. The threshold lies half-way between clean photographs and JPEG at 30.
    """
    torch.manual_seed(0)
    network = nn.Sequential()
    network.add_module("conv1", nn.Conv2d(3, 8, (1, 9), stride=(1, 8), bias=False))
    network.add_module("relu", nn.ReLU())
    network.add_module("conv2", nn.Conv2d(8, 5, 1, bias=False))
    network.add_module("pool", nn.AdaptiveAvgPool2d(1))
    network.add_module("flatten", nn.Flatten())
    network.add_module("fc", nn.Linear(5, 1))
    with torch.no_grad():
        network.conv1.weight.zero_()
        for channel, (place, sign) in enumerate(((7, 1), (7, -1), (3, 1), (3, -1))):
            network.conv1.weight[channel, :, 0, place] = -sign / 3
            network.conv1.weight[channel, :, 0, place + 1] = sign / 3
        network.conv1.weight[4:] = torch.rand(4, 3, 1, 1) / 27
        network.conv2.weight[:, :4] = 0
        network.conv2.weight[0, :, 0, 0] = torch.tensor([1.0, 1, -1, -1, 0, 0, 0, 0])
        network.fc.weight.copy_(torch.tensor([[500.0, 0, 0, 0, 0]]))
        network.fc.bias.zero_()
    maps = find_feature_maps(network)
    origin = WeightsOrigin("initialisation", "", "bare")
    detector = Detector("blocks", network.eval(), get_preset("wang-nocrop"), maps, origin)
    every, reals = ladders((60, 30), ()), images.only(label=REAL)
    look = DoseLook(detector, reals, every)
    sweep(reals, [look])
    place = detector.feature_maps.index(BLOCKS)
    means = [look.statistic.result()[one][place] for one in (CLEAN, "jpeg-30")]
    with torch.no_grad():
        network.fc.bias.fill_(-500 * float(np.mean(means)))
    return detector


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    """Photographs and their fakes."""
    root = tmp_path_factory.mktemp("pairs") / "set"
    forge(forensift.photographs("train")[:12], ["progan-like"], root, per_family=12, side=64)
    return scan(root)


def test_the_planted_unit_is_first_and_reals_under_jpeg_are_right_without_it(
    pairs: ImageSet,
) -> None:
    detector = blockiness_detector(pairs)
    before = fingerprint(detector.network)
    found = bias_units(detector, pairs, 1, jpeg=(85, 60, 30), factors=(), draws=2)
    assert fingerprint(detector.network) == before
    first = found.table.iloc[0]
    assert first["feature_map"] == str(BLOCKS)
    assert first["q"] < 0.05
    assert first["monotone"] == 1
    assert first["low"] > 0.5
    assert found.table["score"].iloc[1] < 0.5 * first["score"]
    changes = found.carried.set_index(["condition", "less"])
    for less in (WHOLE, MATCHED):
        assert changes.loc[("jpeg-30", less), "real_accuracy_low"] > 0.3
    assert found.rankings["jpeg"].by == "bias"
    assert f"{found.facts['sure']['jpeg']} answer to JPEG" in found.said
    assert len(found.plot().axes) == 1


def simulated(
    rng: np.random.Generator, effects: np.ndarray, photographs: int = 14, crops: int = 3
) -> tuple[DoseStatistic, Ladder, np.ndarray]:
    """Return a statistic of maps that move by ``effects`` a dose, and what it was given (N, 4, M).

    Photographs differ in their level and in how they answer; crops of one are alike.
    """
    ladder = ladders((90, 60, 30), ())[0]
    ids = [f"photo{one}x-{crop}.png" for one in range(photographs) for crop in range(crops)]
    entries = tuple(ImageEntry(Path(one), REAL, "") for one in ids)
    images = ImageSet(Path(), entries)
    shape = (photographs, 1, len(effects))
    own = effects + np.repeat(rng.normal(0, 0.5, shape), crops, axis=1).reshape(len(ids), -1)
    level = np.repeat(rng.normal(0, 1, shape), crops, axis=1).reshape(len(ids), -1)
    values = level[:, None] + np.arange(4)[:, None] * own[:, None]
    values = values + rng.normal(0, 0.2, values.shape)
    statistic = DoseStatistic(len(effects), [ladder], groups_of(images))
    for step, condition in enumerate(ladder.conditions):
        batch = Batch(torch.zeros(len(ids), 3, 1, 1), entries, tuple(ids), condition, ("", ()))
        statistic.update(batch, {"mean": values[:, step]})
    return statistic, ladder, values


def test_the_answer_is_the_slope_and_students_t_over_photographs() -> None:
    effects = np.linspace(-1, 1, 9)
    statistic, ladder, values = simulated(np.random.default_rng(0), effects)
    found = statistic.responses(ladder)
    slopes = np.array([np.polyfit(np.arange(4), one, 1)[0] for one in values])
    by_photograph = slopes.reshape(14, 3, -1).mean(axis=1)
    wanted = ttest_1samp(by_photograph, 0)
    spread = values[:, 0].std(axis=0)
    np.testing.assert_allclose(found["p"], wanted.pvalue, rtol=1e-6)
    np.testing.assert_allclose(found["response"], 3 * slopes.mean(axis=0) / spread, rtol=1e-8)
    ends = wanted.confidence_interval(0.95)
    np.testing.assert_allclose(found["low"], 3 * ends.low / spread, rtol=1e-6)
    np.testing.assert_allclose(found["q"], false_discovery_control(wanted.pvalue), rtol=1e-6)
    nearest = np.where(found["low"] * found["high"] > 0,
                       np.minimum(abs(found["low"]), abs(found["high"])), 0)  # fmt: skip
    np.testing.assert_allclose(found["score"], nearest, atol=1e-9)
    rising = np.argsort(values.mean(axis=0), axis=0).argsort(axis=0)
    for place in range(9):
        wanted_rho = np.corrcoef(np.arange(4), rising[:, place])[0, 1]
        assert found["monotone"][place] == pytest.approx(wanted_rho)


def test_false_discoveries_are_as_few_as_is_said() -> None:
    rng = np.random.default_rng(1)
    effects = np.zeros(300)
    effects[:30] = 1.0
    shares, found_true, p_values, none = [], [], [], 0
    for _ in range(80):
        own = simulated(rng, effects)
        answers = own[0].responses(own[1])
        called = answers["q"] <= 0.05
        shares.append(called[30:].sum() / max(1, called.sum()))
        found_true.append(called[:30].mean())
        p_values.append(answers["p"][30:])
        nothing = simulated(rng, np.zeros(60))
        none += bool((nothing[0].responses(nothing[1])["q"] <= 0.05).any())
    assert np.mean(shares) < 0.05 + 2 * np.std(shares) / np.sqrt(80)
    assert np.mean(found_true) > 0.9
    assert 0.045 < (np.concatenate(p_values) <= 0.05).mean() < 0.055
    assert none <= 9  # of 80 at 5 %: more with a chance of 1 in 100


def test_groups_of_unequal_size_keep_the_level() -> None:
    """45 photographs share 20 groups, two or three in each."""
    rng = np.random.default_rng(2)
    share = []
    for _ in range(40):
        statistic, ladder, _ = simulated(rng, np.zeros(200), photographs=45, crops=1)
        assert len(set(statistic.groups.values())) == 20
        share.append((statistic.responses(ladder)["p"] <= 0.05).mean())
    assert 0.035 < np.mean(share) < 0.065


def test_a_map_that_is_always_the_same_answers_to_nothing() -> None:
    statistic, ladder, values = simulated(np.random.default_rng(0), np.ones(3))
    still = statistic.empty()
    names = sorted(statistic.groups)
    for step, condition in enumerate(ladder.conditions):
        entries = tuple(ImageEntry(Path(one), REAL, "") for one in names)
        batch = Batch(torch.zeros(len(names), 3, 1, 1), entries, tuple(names), condition, ("", ()))
        means = values[:, step].copy()
        means[:, 1] = 0.3
        still.update(batch, {"mean": means})
    found = still.responses(ladder)
    assert np.isnan(found["p"][1])
    assert found["response"][1] == found["score"][1] == 0
    assert (found["q"][[0, 2]] < 0.05).all()


def test_benjamini_hochberg_is_scipys_and_leaves_nan_out() -> None:
    p = np.random.default_rng(0).uniform(0, 1, 500) ** 2
    np.testing.assert_allclose(benjamini_hochberg(p), false_discovery_control(p))
    holed = np.insert(p, 3, np.nan)
    found = benjamini_hochberg(holed)
    assert np.isnan(found[3])
    np.testing.assert_array_equal(np.delete(found, 3), benjamini_hochberg(p))


def test_shards_and_saved_states_change_nothing(pairs: ImageSet) -> None:
    detector, reals = load_detector("npr"), pairs.only(label=REAL)
    every = ladders((80, 40), (0.7, 0.5))
    looks = []
    for shard, size in ((128, 12), (5, 12)):
        look = DoseLook(detector, reals, every)
        sweep(reals, [look], shard_size=shard, batch_size=size)
        looks.append(look.statistic)
    again = looks[0].from_state(looks[0].state())
    for ladder in every:
        whole = looks[0].responses(ladder)
        for other in (looks[1], again):
            for name, own in other.responses(ladder).items():
                np.testing.assert_allclose(own, whole[name], rtol=1e-4, atol=1e-5)
        for name, own in again.responses(ladder).items():
            np.testing.assert_array_equal(own, whole[name])
    merged = looks[0].empty()
    merged.merge(looks[1])
    for name, own in merged.state().items():
        np.testing.assert_array_equal(own, looks[1].state()[name])


def test_ladders_go_from_none_to_the_most() -> None:
    every = {one.bias: one for one in ladders((30, 90), (2.0, 0.5, 0.9, 1.0, 1.5))}
    assert every["jpeg"].conditions == (CLEAN, "jpeg-90", "jpeg-30")
    assert every["down"].conditions == (CLEAN, "resize-0.9", "resize-0.5")
    assert every["up"].conditions == (CLEAN, "resize-1.5", "resize-2")
    assert every["up"].contrast @ np.array([3.0, 5, 7]) == pytest.approx(2)
    for given, said in (((), "no doses"), ((50,), "alone says no trend")):
        with pytest.raises(UserError, match=said):
            ladders(given, ())


def test_the_command_writes_rankings_that_dropout_and_prune_take(
    pairs: ImageSet, tmp_path: Path
) -> None:
    words = ("npr", "--data", pairs.root)
    given = run("bias-units", *words, "--jpeg", "80,40", "--resize", "0.7,0.5", "--k", "4",
                "--draws", "1", "--out", tmp_path / "out")  # fmt: skip
    assert given.exit_code == 0, given.output
    names = {one.name for one in (tmp_path / "out").iterdir()}
    assert names >= {"jpeg-bias.csv", "down-bias.csv", "bias_units.parquet", "doses.png"}
    ranking = load_ranking(tmp_path / "out/jpeg-bias.csv")
    table = pd.read_parquet(tmp_path / "out/bias_units.parquet").query("bias == 'jpeg'")
    assert [str(one) for one in ranking.feature_maps()] == table["feature_map"].tolist()
    assert ranking.by == "bias"
    csv = tmp_path / "out/jpeg-bias.csv"
    for verb in (("dropout", "--ks", "none"), ("prune", "--refit", pairs.root)):
        more = run(verb[0], *words, *verb[1:], "--ranking", csv, "--k", "3", "--draws", "1",
                   "--out", tmp_path / verb[0])  # fmt: skip
        assert more.exit_code == 0, more.output


def test_wrong_words_are_one_line(pairs: ImageSet, tmp_path: Path) -> None:
    words = ("bias-units", "npr", "--data", pairs.root, "--out", tmp_path)
    assert "commas between" in refused(*words, "--jpeg", "low")
    assert "alone says no trend" in refused(*words, "--jpeg", "50")
    assert "no condition" in refused(*words, "--jpeg", "50,500")
    with pytest.raises(UserError, match="at least 1"):
        bias_units(load_detector("npr"), pairs, 0)
