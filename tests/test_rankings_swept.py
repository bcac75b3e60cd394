"""Rankings beside ω over image sets: regions, no pairs, batches, parts, errors, agreement."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import spearmanr
from typer.testing import CliRunner

from forensift.ablation import ablation, first_order
from forensift.cli.app import app
from forensift.data import photographs, scan
from forensift.detectors import Detector
from forensift.errors import UserError
from forensift.fmap_ranking import load_ranking, rank, rankings
from forensift.fmap_ranking.agreement import alike_table
from forensift.fmap_ranking.buckets import buckets_by_photograph
from forensift.fmap_ranking.omega import ranking_table
from forensift.fmap_ranking.path import path_effects
from forensift.fmap_ranking.scores import ScoreStatistic
from forensift.forge import Trace, forge_planted
from forensift.records import FAKE, REAL, FeatureMap, ImageEntry, ImageSet, Ranking
from forensift.sweep import SignedSum, sweep

from .planted import PLANTED, batch_of, planted_detector, planted_images
from .test_rankings_by import PATHS, maps_of, pixels


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Detector, ImageSet]:
    return planted_detector(), planted_images(tmp_path_factory.mktemp("pairs"))


def in_order(ranking: Ranking, detector: Detector) -> list[float]:
    found = dict(zip(ranking.feature_maps(), ranking.scores, strict=True))
    return [found[one] for one in detector.feature_maps]


def test_rad_is_the_mean_inside_less_outside_of_planted_boxes(tmp_path: Path) -> None:
    detector = planted_detector()
    traces = {"luma": Trace("luma", 2, 20, 0.5)}
    forge_planted(photographs("test"), traces, tmp_path, pairs=6, side=32)
    images = scan(tmp_path)
    ranking = rank(detector, images, by="rad", batch_size=4)
    assert ranking.facts["regions"] == "masks"
    truth = pd.read_csv(tmp_path / "truth.csv")
    differences = []
    for row in truth.to_dict("records"):
        inside = np.zeros((32, 32), dtype=bool)
        inside[row["top"] : row["bottom"], row["left"] : row["right"]] = True
        whole = torch.cat(maps_of(detector, tmp_path / row["path"]), 1)[0].double().numpy()
        differences.append(whole[:, inside].mean(axis=1) - whole[:, ~inside].mean(axis=1))
    wanted = np.mean(differences, axis=0)
    np.testing.assert_allclose(in_order(ranking, detector), wanted, rtol=1e-5, atol=1e-6)
    folder = tmp_path / "masks"  # the same as pictures
    folder.mkdir()
    for row in truth.to_dict("records"):
        inside = np.zeros((32, 32), dtype=np.uint8)
        inside[row["top"] : row["bottom"], row["left"] : row["right"]] = 255
        Image.fromarray(inside).save(folder / Path(row["path"]).name)
    again = rank(detector, images, by="rad", masks=folder, batch_size=4)
    assert again.table["score"].equals(ranking.table["score"])
    with pytest.raises(UserError, match="no masks are there"):
        rank(detector, images, by="rad", masks=tmp_path / "none.csv")


def test_rad_without_masks_puts_a_rectangle_of_the_fake_into_its_photograph(world) -> None:
    detector, images = world
    ranking = rank(detector, images, by="rad")
    assert str(ranking.feature_maps()[0]) == "conv2.#0(T=8)"
    assert ranking.facts["regions"].startswith("rectangles")
    again = rank(detector, images[::-1], by="rad", batch_size=5)
    np.testing.assert_allclose(again.scores, ranking.scores, rtol=1e-5, atol=1e-6)


def test_without_pairs_means_and_grey_stand_in_and_it_is_said(tmp_path: Path) -> None:
    detector, images = planted_detector(), planted_images(tmp_path, ("one",))
    for entry in images.only(label=FAKE):
        entry.path.rename(entry.path.with_name(f"fake{entry.path.name}"))
    images = scan(tmp_path)
    found = rankings(detector, images, by=("contrast", *PATHS, "single"))
    assert "no fake has its photograph" in found.said
    assert found.of["contrast"].counts["reals"] == 6
    fakes, reals = images.only(label=FAKE), images.only(label=REAL)
    grey = detector.normalised(torch.full((6, 3, 16, 16), 128, dtype=torch.uint8))
    along = path_effects(detector, grey, detector.batch(fakes), PATHS, 16)
    for name in ("eap-ig", "conductance"):
        wanted = along[name].mean(axis=0)
        own = in_order(found.of[name], detector)
        np.testing.assert_allclose(own, wanted, rtol=1e-4, atol=1e-6)
    stand_in = ablation(detector, reals, "mean-real")
    _, change = first_order(detector, pixels(fakes), stand_in.constants)
    own = in_order(found.of["gradient-activation"], detector)
    np.testing.assert_allclose(own, -change.mean(dim=0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("by", ["omega-width", "contrast", *PATHS, "rad", "single"])
def test_batches_shards_and_parts_change_nothing(
    by: str, world, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector, images = world
    whole = rank(detector, images, by=by, maps=4, batch_size=24)
    alone = rank(detector, images, by=by, maps=4, batch_size=1)
    own = [in_order(one, detector) for one in (whole, alone)]
    np.testing.assert_allclose(own[0], own[1], rtol=1e-4, atol=1e-6)
    assert sweep.__kwdefaults__ is not None
    monkeypatch.setitem(sweep.__kwdefaults__, "shard_size", 5)
    folder = tmp_path / "parts"
    parts = rank(detector, images, by=by, maps=4, batch_size=1, partials=folder)
    assert parts.table.equals(alone.table)
    kept = {one: one.stat().st_mtime_ns for one in folder.glob("*/shard-*.npz")}
    assert kept
    resumed = rank(detector, images, by=by, maps=4, batch_size=1, partials=folder, resume=True)
    assert resumed.table.equals(parts.table)
    assert kept == {one: one.stat().st_mtime_ns for one in folder.glob("*/shard-*.npz")}


@given(st.integers(0, 2**31), st.lists(st.integers(1, 39), max_size=4), st.randoms())
@settings(deadline=None, max_examples=20)
def test_scores_merge_exactly_in_any_order(seed: int, cuts: list[int], random) -> None:
    rng = np.random.default_rng(seed)
    maps = [FeatureMap("a", at, 3) for at in range(3)]
    ids = [f"{at}.png" for at in range(40)]
    groups = {one: at % 7 for at, one in enumerate(ids)}
    batch = batch_of(ids, [at % 2 for at in range(40)])
    rows = {"x": rng.normal(0, 1e3, (40, 3)), "y": rng.normal(0, 1e-9, (40, 3))}
    rows["x"][3, 1] = np.nan
    statistic = ScoreStatistic(maps, ("x", "y"), groups, {ids[5]: 3})
    whole = statistic.empty()
    whole.update(batch, rows)
    pieces = np.split(np.arange(40), sorted(set(cuts)))
    random.shuffle(pieces)
    merged = statistic.empty()
    for own in pieces:
        part = statistic.empty()
        part.update(batch.take(list(own)), {name: one[own] for name, one in rows.items()})
        merged.merge(part.from_state(part.state()))
    for key, value in whole.state().items():
        np.testing.assert_array_equal(value, merged.state()[key])
    times = np.where(np.arange(40) == 5, 3.0, 1.0) * (np.arange(40) != 3)
    fakes, reals = (np.where(batch.labels == label, times, 0) for label in (FAKE, REAL))
    wanted = fakes @ rows["y"] / fakes.sum() - reals @ rows["y"] / reals.sum()
    # Means of 1e-9 may cancel to nearly nothing: a millionth of them is what the rest is known to.
    np.testing.assert_allclose(merged.scored("y").value, wanted, rtol=1e-6, atol=1e-15)


def test_standard_errors_are_the_spread_over_photographs() -> None:
    """Crops of one photograph agree: errors are those of so many photographs, by simulation."""
    rng = np.random.default_rng(0)
    maps, errors, means = [FeatureMap("a", 0, 1)], [], []
    ids = [f"p{photograph}-{crop}.png" for photograph in range(100) for crop in range(4)]
    entries = tuple(ImageEntry(Path(one), FAKE, "") for one in ids)
    groups = buckets_by_photograph(ImageSet(Path(), entries))
    batch = batch_of(ids)
    for _ in range(300):
        own = np.repeat(rng.normal(0, 1, 100), 4)[:, None] + rng.normal(0, 0.1, (400, 1))
        statistic = ScoreStatistic(maps, ("x",), groups)
        statistic.update(batch, {"x": own})
        scored = statistic.scored("x")
        errors.append(scored.error()[0])
        means.append(scored.value[0])
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(means), rel=0.15)
    covered = np.abs(means) < 2.09 * np.array(errors)  # t of 19 degrees of freedom
    assert 0.9 < covered.mean() < 0.99


def test_rankings_that_are_one_agree_and_those_that_are_not_do_not() -> None:
    rng = np.random.default_rng(1)
    maps = [FeatureMap("a", at, 50) for at in range(50)]
    ids = [f"{at}.png" for at in range(100)]
    groups = {one: at % 20 for at, one in enumerate(ids)}
    own = np.linspace(0, 1, 50) + rng.normal(0, 0.5, (100, 50))
    rows = {"one": own, "same": 2 * own, "other": rng.normal(0, 1, (100, 50)), "turned": -own}
    statistic = ScoreStatistic(maps, list(rows), groups)
    statistic.update(batch_of(ids), rows)
    scored = statistic.result()
    of = {name: one.ranking(maps, "contrast", {}, {}) for name, one in scored.items()}
    table = alike_table(of, scored, maps, 5).set_index(["first", "second"])
    assert table.loc[("one", "same"), ["spearman", "overlap", "shared"]].tolist() == [1, 1, 5]
    assert table.loc[("one", "turned"), "spearman"] == pytest.approx(-1)
    assert table.loc[("one", "turned"), "overlap"] == 0
    wanted = spearmanr(scored["one"].value, scored["other"].value).statistic
    assert table.loc[("one", "other"), "spearman"] == pytest.approx(wanted)
    low, high = table.loc[("one", "other"), ["spearman_low", "spearman_high"]]
    assert low < wanted < high
    assert 0.9 < table.loc[("one", "one"), "spearman"] < 1  # noise is all that tells halves apart
    assert abs(table.loc[("other", "other"), "spearman"]) < 0.3
    assert (table["overlap_by_chance"] == 0.1).all()


def test_a_ranking_of_few_maps_is_compared_on_these_alone() -> None:
    maps = [FeatureMap("a", at, 30) for at in range(30)]
    whole = ranking_of(maps, np.arange(30.0)[::-1])
    few = ranking_of([maps[at] for at in (4, 0, 9, 20)], np.array([4.0, 3.0, 2.0, 1.0]))
    table = alike_table({"whole": whole, "few": few}, {}, maps, 10)
    row = table[table["kind"] == "two rankings"].iloc[0]
    assert (row["k"], row["maps"], row["shared"]) == (4, 4, 1)  # of the first 4: map 0
    assert row["overlap"] == 0.25
    assert row["overlap_by_chance"] == pytest.approx(4 / 30)
    assert row["spearman"] == pytest.approx(spearmanr([1, 0, 2, 3], range(4)).statistic)
    assert np.isnan(row["spearman_low"])


def ranking_of(maps: list[FeatureMap], scores: np.ndarray) -> Ranking:
    table = ranking_table(maps, scores, "pursuit").reset_index(drop=True)
    return Ranking(table, FAKE, by="pursuit")


def test_signed_sums_lose_no_digits_below_zero() -> None:
    total = SignedSum((2,), 2.0**10)
    total.add(np.array([[3.0, -1e-15], [-3.0, -1e-15], [1e-15, -512.0], [0.0, 512.0]]))
    np.testing.assert_allclose(total.value(), [1e-15, -2e-15], rtol=1e-9)
    assert total.count == 4
    again = total.from_state(total.state(), 4)
    np.testing.assert_array_equal(again.value(), total.value())
    with pytest.raises(ValueError, match="within"):
        total.add(np.array([[0.0, 2000.0]]))


def test_the_command_writes_every_ranking_and_how_alike_they_are(world, tmp_path: Path) -> None:
    _, images = world
    words = ["rank", PLANTED, "--data", images.root, "--by", "omega,omega-width,contrast,single"]
    words += ["--maps", 3, "--k", 2, "--preset", "wang-nocrop", "--device", "cpu", "--name", "set"]
    done = CliRunner().invoke(app, [str(one) for one in [*words, "--out", tmp_path]])
    assert done.exit_code == 0, done.stderr
    assert "Most alike are" in " ".join(done.stdout.split())
    for name in ("omega-width", "contrast", "single"):
        stored = load_ranking(tmp_path / f"set-{name}.csv")
        assert (stored.by, stored.label, len(stored)) == (name, FAKE, 16)
    assert load_ranking(tmp_path / "set-fake.csv").by == "omega"
    table = pd.read_csv(tmp_path / "alike.csv")
    assert len(table) == 10
    assert (tmp_path / "alike.png").stat().st_size > 10_000
    whole = pd.read_parquet(tmp_path / "ranking.parquet")
    assert set(whole["by"]) == {"omega", "omega-width", "contrast", "single"}
    assert whole.loc[whole["by"] == "contrast", "standard_error"].notna().all()
    words[words.index("--by") + 1] = "omega,fame"
    bad = CliRunner().invoke(app, [str(one) for one in [*words, "--out", tmp_path]])
    assert bad.exit_code == 2
    assert "choose of omega, omega-width" in bad.stderr


def test_a_table_of_pairs_says_whose_photograph_it_is(world, tmp_path: Path) -> None:
    """Photographs outside the set, half of the fakes with one: as where names pair them."""
    detector, images = world
    root = tmp_path / "fakes"
    rows = []
    for at, entry in enumerate(images.only(label=FAKE, generator="one")):
        fake = root / "one" / "1_fake" / f"f{at}.png"
        fake.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(entry.path, fake)
        if at % 2:
            photograph = Path(str(entry.path).replace("1_fake", "0_real"))
            rows.append((f"one/1_fake/f{at}.png", str(photograph)))
    entries = (ImageEntry(one, FAKE, "one") for one in sorted(root.rglob("*.png")))
    alone = ImageSet(root, tuple(entries))
    table = pd.DataFrame(rows, columns=["fake", "photograph"])
    odd = (one for one in images if one.generator == "one" and int(one.path.stem) % 2)
    beside = ImageSet(images.root, tuple(odd), images.layout)
    for by in ("contrast", *PATHS):
        listed = rank(detector, alone, by=by, pairs=table)
        named = rank(detector, beside, by=by)
        assert listed.counts["used"] == named.counts["used"] == 3
        own = [in_order(one, detector) for one in (listed, named)]
        np.testing.assert_allclose(own[0], own[1], rtol=1e-4, atol=1e-6)
        assert listed.facts["fakes_without_photograph"] == 3


def test_bad_input_is_one_line(world) -> None:
    detector, images = world
    fakes = images.only(label=FAKE)
    with pytest.raises(UserError, match="by 'fame': choose of omega"):
        rank(detector, images, by="fame")
    with pytest.raises(UserError, match="no real images to compare"):
        rank(detector, fakes, by="contrast")
    with pytest.raises(UserError, match="no fake images"):
        rank(detector, images.only(label=REAL), by="contrast")
    with pytest.raises(UserError, match="steps 0"):
        rank(detector, images, by="eap-ig", steps=0)
    with pytest.raises(UserError, match="has no layer nowhere"):
        rank(detector, images, by="single", layers=["nowhere"])
