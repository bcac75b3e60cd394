"""Spatial maxima in two passes, and the tests on them as tests: level, power, errors, coverage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

import forensift.data.batching as batching
from forensift import UserError, median_test
from forensift.data.colour import recolour
from forensift.detectors import load_detector
from forensift.figures import plot_densities, plot_density_legend
from forensift.files import home
from forensift.fmap_ranking import load_ranking
from forensift.fmap_ranking.omega import ranking_table
from forensift.histograms import (
    CRITERIA,
    colour_tests,
    densities,
    first_instances,
    maxima,
    percentages,
)
from forensift.histograms.clustered import flipped_p
from forensift.histograms.colour_tests import mood, q_values, wilcoxon
from forensift.histograms.density import density
from forensift.records import FAKE, FeatureMap, ImageEntry, ImageSet, Ranking

from .planted import fingerprint, planted_detector, planted_images
from .two_traces import CHROMA_MAP, DEAD_MAP, LUMA_MAP, two_trace_detector, two_trace_images


def maps(k: int) -> list[FeatureMap]:
    return [FeatureMap("conv", channel, k) for channel in range(k)]


def ranking_of(feature_maps: tuple[FeatureMap, ...]) -> Ranking:
    omega = np.linspace(0.5, 0, len(feature_maps))
    return Ranking(ranking_table(feature_maps, omega).reset_index(drop=True), FAKE)


def pairs(
    rng: np.random.Generator, n: int, k: int, correlation: float = 0.0, shift: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return two samples (n, k) of normal values, the first higher by ``shift``."""
    first = rng.normal(size=(n, k))
    other = correlation * first + np.sqrt(1 - correlation**2) * rng.normal(size=(n, k))
    return first + shift, other


# ---- the pass ----


def test_maxima_are_those_of_the_plain_networks_convolutions(tmp_path: Path) -> None:
    images = planted_images(tmp_path, n=3)
    detector = planted_detector()
    chosen = [detector.feature_maps[i] for i in (9, 0, 3, 15, 1)]  # of both layers, mixed
    before = fingerprint(detector.network)
    found = maxima(detector, images, chosen, ("rgb", "hue-90"), batch_size=4)
    assert fingerprint(detector.network) == before
    assert found.maxima.shape == (12, 2, 5)
    assert found.maxima.dtype == np.float32
    first = batching.read_image(images.entries[7].path)
    pixels = torch.from_numpy(np.array(first).transpose(2, 0, 1))[None]
    for place, mode in enumerate(found.modes):
        network = detector.network
        x = detector.preset.normalise(recolour(pixels, mode))
        with torch.no_grad():
            one = network.conv1(x)
            two = network.conv2(network.relu1(network.bn1(one)))
        layers = {"conv1": one, "conv2": two}
        expected = [float(layers[m.layer][0, m.channel].max()) for m in chosen]
        np.testing.assert_allclose(found.maxima[7, place], expected, atol=1e-5)
    table = found.table()
    row = table[
        (table["path"] == images.image_id(images.entries[7])) & (table["mode"] == "hue-90")
    ].set_index("feature_map")
    assert float(row.loc[str(chosen[2]), "maximum"]) == found.maxima[7, 1, 2]
    assert len(table) == 12 * 2 * 5


@pytest.mark.parametrize("k", [1, 16])
def test_two_passes_whatever_k_is_and_one_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, k: int
) -> None:
    images = planted_images(tmp_path, n=4)
    detector = planted_detector()
    counts = {"images": 0, "calls": 0, "decoded": 0}

    def passed(module: torch.nn.Module, args: tuple[torch.Tensor]) -> None:
        counts["images"] += len(args[0])
        counts["calls"] += 1

    detector.network.register_forward_pre_hook(passed)
    read = batching.read_image

    def decoded(path: Path) -> object:
        counts["decoded"] += 1
        return read(path)

    monkeypatch.setattr(batching, "read_image", decoded)
    told: list[tuple[str, int, int]] = []
    result = median_test(
        detector, images, ranking_of(detector.feature_maps), k, batch_size=8,
        progress=lambda *one: told.append(one),
    )  # fmt: skip
    assert counts == {"images": 2 * 8, "calls": 2, "decoded": 8}  # 4 fakes of two generators
    assert told[-1][1:] == (8, 8)
    assert len(result.table) == 2 * k


def test_the_published_114_maps_take_two_passes_not_228(tmp_path: Path) -> None:
    detector = load_detector("resnet50")
    images = planted_images(tmp_path, ("one",), n=2, size=32)
    ranking = load_ranking(home() / "fmap_relevances/resnet50/progan_val_0.5/progan_val-fake.csv")
    calls: list[int] = []
    detector.network.register_forward_pre_hook(lambda module, args: calls.append(len(args[0])))
    result = median_test(detector, images, ranking, 114, batch_size=8)
    assert calls == [2, 2]
    assert len(result.table) == 114


def test_batches_do_not_matter(tmp_path: Path) -> None:
    images = planted_images(tmp_path, n=5)
    detector = planted_detector()
    one = maxima(detector, images, detector.feature_maps, batch_size=1)
    many = maxima(detector, images, detector.feature_maps, batch_size=7)
    assert [entry.path for entry in one.images] == [entry.path for entry in many.images]
    np.testing.assert_allclose(one.maxima, many.maxima, atol=1e-5)


def test_the_network_is_left_alone_after_an_error(tmp_path: Path) -> None:
    images = two_trace_images(tmp_path, n=2)
    detector = two_trace_detector()
    with torch.no_grad():
        detector.network.conv.weight[3] = float("inf")
    before = fingerprint(detector.network)
    with pytest.raises(UserError, match=r"conv\.#3\(T=4\) is not finite on .*000\.png in mode rgb"):
        maxima(detector, images, detector.feature_maps)
    assert fingerprint(detector.network) == before

    def broken(*args: object) -> None:
        raise RuntimeError("broken")

    handle = detector.network.fc.register_forward_pre_hook(broken)
    before = fingerprint(detector.network)
    with pytest.raises(UserError, match="two-traces: broken"):
        maxima(detector, images, detector.feature_maps)
    assert fingerprint(detector.network) == before
    handle.remove()


def test_first_instances_are_those_of_each_class_and_generator() -> None:
    entries = tuple(
        ImageEntry(Path(f"{g}/{c}/{i}.png"), label, g, c)
        for g in "ab" for c in ("cat", "dog") for label in (0, 1) for i in range(5)
    )  # fmt: skip
    kept = first_instances(ImageSet(Path(), entries), 2)
    assert len(kept) == 2 * 2 * 2 * 2
    assert {entry.path.stem for entry in kept} == {"0", "1"}
    with pytest.raises(UserError, match="1 or more"):
        first_instances(kept, 0)


# ---- planted truth ----


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    images = two_trace_images(tmp_path_factory.mktemp("traces"), ("both",), n=40)
    detector = two_trace_detector()
    result = median_test(detector, images, ranking_of(detector.feature_maps), 4)
    return result.table


def test_the_chroma_map_is_colour_conditional_and_the_luma_map_is_not(
    planted: pd.DataFrame,
) -> None:
    chroma, luma, dead = (planted.loc[row] for row in (CHROMA_MAP, LUMA_MAP, DEAD_MAP))
    assert all(chroma[name] for name in CRITERIA)
    assert chroma["q_value"] < 1e-6
    assert chroma["effect"] > 1
    assert chroma["rank_biserial"] == 1
    assert luma["p_value"] > 0.5
    assert luma["q_value"] > 0.5
    assert abs(luma["effect"]) < 0.1
    for name in ("colour_conditional", "colour_conditional_mood_q"):
        assert not luma[name]
    assert not luma["colour_conditional_paired_q_effect"]
    assert dead["status"] == "dead"
    numbers = ["p_value", "q_value", "paired_p_value", "paired_q_value", "sign_p_value", "effect"]
    assert dead[numbers].isna().all()
    assert not any(dead[name] for name in CRITERIA)


def test_options_of_the_stage(tmp_path: Path) -> None:
    images = two_trace_images(tmp_path, n=6)
    detector = two_trace_detector()
    ranking = ranking_of(detector.feature_maps)
    both = median_test(detector, images, ranking, 2)
    one = median_test(detector, images, ranking, 2, generator="in-luma")
    part = both.table[both.table["generator"] == "in-luma"].reset_index(drop=True)
    pd.testing.assert_frame_equal(part, one.table, rtol=1e-4)
    assert both.table["rank"].tolist() == [1, 2, 1, 2]
    few = median_test(detector, images, ranking, 2, num_instances=3, mode="swap-gbr")
    assert set(few.table["pairs"]) == {3}
    assert few.maxima.modes == ("rgb", "swap-gbr")
    with pytest.raises(UserError, match="no generator 'x'"):
        median_test(detector, images, ranking, 2, generator="x")
    with pytest.raises(UserError, match="k = 9"):
        median_test(detector, images, ranking, 9)
    with pytest.raises(UserError, match="no fakes"):
        median_test(detector, images.only(label=0), ranking, 2)
    with pytest.raises(UserError, match="one fake is no sample"):
        median_test(detector, images, ranking, 2, num_instances=1)
    with pytest.raises(UserError, match="another network"):
        median_test(planted_detector(), images, ranking, 2)
    with pytest.raises(UserError, match="ties"):
        median_test(detector, images, ranking, 2, ties="half")


# ---- the tests as tests ----


def test_p_values_are_scipys(rng: np.random.Generator) -> None:
    colour, grey = pairs(rng, 30, 6, 0.5, 0.4)
    grey[:4] = colour[:4]  # pairs without a difference
    for ties in ("below", "above", "ignore"):
        table = colour_tests(maps(6), colour, grey, ties=ties)
        for column, row in table.iterrows():
            a, b = colour[:, column], grey[:, column]
            assert row["p_value"] == stats.median_test(a, b, ties=ties).pvalue
            assert row["paired_p_value"] == stats.wilcoxon((a - b)[4:]).pvalue
            up = int((a > b).sum())
            assert row["sign_p_value"] == stats.binomtest(up, 26).pvalue
            assert row["effect"] == np.median(a - b) / stats.iqr(a)
            result = stats.wilcoxon((a - b)[4:], alternative="greater")  # R+
            assert row["rank_biserial"] == pytest.approx(2 * result.statistic / (26 * 27 / 2) - 1)
    for name in ("", "paired_", "sign_"):
        theirs = stats.false_discovery_control(table[f"{name}p_value"])
        np.testing.assert_allclose(table[f"{name}q_value"], theirs)


def test_the_paired_p_is_exact_in_small_samples() -> None:
    """Under the null all patterns of signs are equally likely: here all of them are tried."""
    size = np.arange(1.0, 11.0) ** 1.5
    signs = 1 - 2 * ((np.arange(1024)[:, None] >> np.arange(10)) & 1)
    p, counts = np.unique([wilcoxon(one * size)[0] for one in signs], return_counts=True)
    # The chance of a p as small as this or smaller is that p: as uniform as discrete can be.
    np.testing.assert_allclose(np.cumsum(counts) / 1024, p, rtol=1e-12)


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_the_paired_p_is_uniform_under_the_null(correlation: float) -> None:
    rng = np.random.default_rng(11)
    sets = 2000
    colour, grey = pairs(rng, 60, sets, correlation)
    p = np.array([wilcoxon(column)[0] for column in (colour - grey).T])
    step = 2 * stats.norm.pdf(0) / np.sqrt(60 * 61 * 121 / 24)  # between neighbouring p near 1
    # 1.95 / sqrt(sets) is what an exactly uniform p exceeds once in a thousand times.
    assert stats.kstest(p, "uniform").statistic < step + 1.95 / np.sqrt(sets)
    assert abs((p <= 0.05).mean() - 0.05) < 4 * np.sqrt(0.05 * 0.95 / sets)


def test_moods_level_is_what_it_must_be_on_independent_samples() -> None:
    """Mood's p is discrete: the exact size follows from the hypergeometric distribution."""
    n, sets = 50, 1500
    above = np.arange(n + 1)
    chance = stats.hypergeom(2 * n, n, n).pmf(above)
    p_of = np.array([stats.chi2_contingency([[a, n - a], [n - a, a]]).pvalue for a in above])
    size = chance[p_of <= 0.05].sum()
    assert 0.02 < size <= 0.05
    rng = np.random.default_rng(12)
    colour, grey = pairs(rng, n, sets)
    p = np.array([mood(a, b) for a, b in zip(colour.T, grey.T, strict=True)])
    assert abs((p <= 0.05).mean() - size) < 4 * np.sqrt(size / sets)
    # No level is exceeded, which is what uniform or conservative means.
    for level in (0.01, 0.1, 0.3, 0.5):
        assert (p <= level).mean() <= level + 4 * np.sqrt(level / sets)
    # On pairs that correlate it all but never rejects: conservative beyond use.
    colour, grey = pairs(rng, n, 300, 0.98)
    assert all(mood(a, b) > 0.05 for a, b in zip(colour.T, grey.T, strict=True))


def test_power_on_a_shifted_sample() -> None:
    rng = np.random.default_rng(13)
    table = colour_tests(maps(100), *pairs(rng, 100, 100, shift=0.8))
    assert (table["p_value"] <= 0.05).mean() > 0.9
    assert (table["paired_p_value"] <= 0.05).mean() > 0.98
    assert (table["sign_p_value"] <= 0.05).mean() > 0.9
    assert table["effect"].median() == pytest.approx(0.8 / 1.349, abs=0.1)
    assert (table["rank_biserial"] > 0).all()


@pytest.mark.parametrize(("correlation", "least"), [(0.9, 0.6), (0.98, 0.99)])
def test_pairing_finds_what_mood_misses(correlation: float, least: float) -> None:
    """The same 200 fakes, a shift of a tenth of their spread: field survey, finding 6."""
    rng = np.random.default_rng(14)
    table = colour_tests(maps(150), *pairs(rng, 200, 150, correlation, 0.1))
    assert (table["p_value"] <= 0.05).mean() < 0.03
    assert (table["sign_p_value"] <= 0.05).mean() > least - 0.1
    assert (table["paired_p_value"] <= 0.05).mean() > least


def test_the_false_discovery_rate_stays_at_its_level() -> None:
    rng = np.random.default_rng(15)
    repeats, k, real = 60, 60, 15
    raw, corrected, found = [], [], []
    for _ in range(repeats):
        colour, grey = pairs(rng, 60, k, 0.8)
        colour[:, :real] += 0.5
        p = np.array([wilcoxon(column)[0] for column in (colour - grey).T])
        for chosen, shares in ((p <= 0.05, raw), (q_values(p) <= 0.05, corrected)):
            shares.append(chosen[real:].sum() / max(1, chosen.sum()))
        found.append((q_values(p) <= 0.05)[:real].mean())
    nulls = (k - real) / k
    error = np.std(corrected) / np.sqrt(repeats)
    assert abs(np.mean(corrected) - 0.05 * nulls) < 3 * error
    assert np.mean(raw) > 2 * 0.05 * nulls  # what the published criterion lets through
    assert np.mean(found) > 0.95


def test_without_any_effect_corrected_maps_are_rare_and_raw_ones_are_not() -> None:
    rng = np.random.default_rng(16)
    any_q, raw = [], []
    for _ in range(20):
        table = colour_tests(maps(40), *pairs(rng, 40, 40, 0.5))
        any_q.append(table["colour_conditional_paired_q"].any())
        raw.append((table["paired_p_value"] <= 0.05).sum())
    assert np.mean(any_q) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 20)
    assert np.mean(raw) > 1  # 2 expected


@pytest.mark.parametrize("share", [0.05, 0.5, 0.85])
def test_the_intervals_of_percentages_cover(share: float) -> None:
    rng = np.random.default_rng(17)
    k, repeats = 114, 300
    status = np.array(["tested"] * k)
    covered = 0
    for _ in range(repeats):
        hit = rng.random(k) < share
        found = percentages(pd.DataFrame(dict.fromkeys(CRITERIA, hit) | {"status": status}))
        low, high = found.loc[0, ["low", "high"]]
        covered += low <= share <= high
    assert 0.91 <= covered / repeats <= 0.985


def test_percentages_count() -> None:
    table = pd.DataFrame({name: [True, False, False, False] for name in CRITERIA})
    table["colour_conditional"] = [True, True, True, False]
    table["status"] = ["tested", "tested", "tied", "dead"]
    found = percentages(table)
    assert found["criterion"].tolist() == list(CRITERIA.values())
    assert found["colour_conditional"].tolist() == [3, 1, 1, 1]
    assert found["share"].tolist() == [0.75, 0.25, 0.25, 0.25]
    assert set(found["dead"]) == {1}
    assert set(found["maps"]) == {4}


def test_ties_and_dead_maps_never_end_in_a_traceback() -> None:
    n = 20
    rng = np.random.default_rng(18)
    some = rng.normal(size=n)
    samples = {
        "dead": (np.zeros(n), np.zeros(n)),
        "rounding": (1 + 1e-8 * some, 1 + 1e-8 * some[::-1]),
        "same": (some, some),
        "two values": (np.full(n, 1.0), np.zeros(n)),
        "top tied": (np.where(np.arange(n) < 3, -1.0, 0.0), np.zeros(n)),
        "rounded": (np.round(some), np.round(some + 0.3)),
        "spread": (some, np.zeros(n)),
    }
    colour, grey = (np.stack(one, axis=1) for one in zip(*samples.values(), strict=True))
    table = colour_tests(maps(len(samples)), colour, grey)
    table.index = pd.Index(samples)
    expected = ["dead", "dead", "tested", "tested", "tied", "tested", "tested"]
    assert table["status"].tolist() == expected
    same = table.loc["same"]
    assert (same["p_value"], same["paired_p_value"], same["sign_p_value"]) == (1, 1, 1)
    assert (same["effect"], same["rank_biserial"]) == (0, 0)
    two = table.loc["two values"]
    assert two["effect"] == np.inf
    assert all(two[name] for name in CRITERIA)
    tied = table.loc["top tied"]
    assert np.isnan(tied["p_value"])
    assert np.isnan(tied["q_value"])
    assert tied["paired_p_value"] == 0.25  # three of three pairs fell: 2 / 2^3
    assert not tied["colour_conditional"]
    # Neither takes part in the correction of the others.
    live = table["p_value"].dropna()
    np.testing.assert_allclose(
        table.loc[live.index, "q_value"], stats.false_discovery_control(live)
    )
    all_dead = colour_tests(maps(3), np.ones((5, 3)), np.ones((5, 3)))
    assert (all_dead["status"] == "dead").all()
    assert all_dead["q_value"].isna().all()
    assert (percentages(all_dead)["share"] == 0).all()
    with pytest.raises(UserError, match="no sample"):
        colour_tests(maps(3), np.ones((1, 3)), np.ones((1, 3)))


@pytest.mark.parametrize(("n", "most"), [(2, 1.0), (3, 1.0), (10, 0.5)])
def test_small_samples_pass(n: int, most: float) -> None:
    rng = np.random.default_rng(19)
    table = colour_tests(maps(4), *pairs(rng, n, 4, 0.5, 2))
    assert table[["paired_p_value", "sign_p_value"]].notna().all(axis=None)
    assert table["paired_p_value"].min() <= most


# ---- densities and their drawing ----


def test_densities_are_seaborns(rng: np.random.Generator) -> None:
    seaborn = pytest.importorskip("seaborn")
    from matplotlib.figure import Figure

    sample = rng.gamma(2, size=40)
    axes = Figure().subplots()
    seaborn.kdeplot(x=sample, ax=axes)
    theirs = axes.lines[0].get_xydata()
    x, y = density(sample)
    np.testing.assert_allclose(x, theirs[:, 0], rtol=1e-6)
    np.testing.assert_allclose(y, theirs[:, 1], rtol=1e-6)
    assert np.trapezoid(y, x) == pytest.approx(1, abs=0.01)
    x, y = density(np.full(9, 3.5))
    assert x.tolist() == [3.5]
    assert np.isnan(y).all()


def test_pages_hold_every_map_and_the_legend_stands_apart(tmp_path: Path) -> None:
    images = two_trace_images(tmp_path, ("both",), n=5)
    detector = two_trace_detector()
    found = maxima(detector, images.only(label=1), detector.feature_maps)
    curves = densities(found)
    # Two curves of 200 points a map; a dead map, and a chroma map in grey, are one point a mode.
    assert len(curves) == 5 * 200 + 3
    result = median_test(detector, images, ranking_of(detector.feature_maps), 4)
    many = pd.concat([result.table.assign(feature_map=f) for f in result.table["feature_map"]] * 7)
    pages = plot_densities(curves, many, title="t")
    panels = [axes for page in pages for axes in page.axes if axes.get_visible()]
    assert len(pages) == 5
    assert len(panels) == len(many)
    assert any("dead" in axes.get_title() for axes in panels)
    assert all(axes.get_legend() is None for axes in panels)
    assert [len(page.legends) for page in pages] == [1] * 5
    assert not plot_densities(curves, many, legend=False)[0].legends
    assert [t.get_text() for t in plot_density_legend().legends[0].get_texts()] == ["RGB", "grey"]


# ---- crops of one photograph ----


def test_turning_clusters_of_one_is_the_usual_test(rng: np.random.Generator) -> None:
    for n in (5, 20, 49):
        differences = rng.normal(0.3, 1, n)
        alone = np.arange(n)
        expected = stats.wilcoxon(differences, method="exact").pvalue
        assert wilcoxon(differences, alone)[0] == pytest.approx(expected, abs=1e-9)
        up = int((differences > 0).sum())
        assert flipped_p(np.sign(differences), alone) == pytest.approx(
            stats.binomtest(up, n).pvalue, abs=1e-9
        )


def test_turning_clusters_by_brute_force(rng: np.random.Generator) -> None:
    clusters = np.repeat(np.arange(6), [1, 2, 3, 1, 4, 2])
    signed = stats.rankdata(rng.normal(size=13)) * rng.choice([-1, 1], 13)
    sums = np.bincount(clusters, weights=signed)
    turns = 1 - 2 * ((np.arange(64)[:, None] >> np.arange(6)) & 1)
    expected = (np.abs(turns @ sums) >= abs(sums.sum()) - 1e-9).mean()
    assert flipped_p(signed, clusters) == pytest.approx(expected)
    assert flipped_p(signed, np.zeros(13)) == 1  # one photograph proves nothing
    many = np.arange(200)
    found = flipped_p(np.ones(200) * np.where(many < 120, 1, -1), many)
    assert found == pytest.approx(2 * stats.norm.sf(40 / np.sqrt(200)))


def test_crops_of_one_photograph_are_no_independent_pairs() -> None:
    """15 photographs of 4 crops, no effect but each photograph's own: taken for 60, too many p."""
    rng = np.random.default_rng(21)
    photographs = np.repeat([f"p{n}" for n in range(15)], 4)
    sets = 400
    shared = rng.normal(size=(15, sets)).repeat(4, axis=0)
    grey = rng.normal(size=(60, sets))
    colour = grey + shared + 0.3 * rng.normal(size=(60, sets))
    known = colour_tests(maps(sets), colour, grey, clusters=photographs)
    blind = colour_tests(maps(sets), colour, grey)
    for name in ("paired_p_value", "sign_p_value"):
        assert (blind[name] <= 0.05).mean() > 0.2
        assert (known[name] <= 0.05).mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / sets)
    assert set(known["clusters"]) == {15}
    assert set(blind["clusters"]) == {60}
    assert known["p_value"].equals(blind["p_value"])  # published, as it is
    # Mood's: what a photograph shares stands in both of its samples or, here, in one.
    apart = rng.normal(size=(15, sets)).repeat(4, axis=0) + 0.3 * rng.normal(size=(60, sets))
    own = rng.normal(size=(15, sets)).repeat(4, axis=0) + 0.3 * rng.normal(size=(60, sets))
    mood_of = colour_tests(maps(sets), apart, own, clusters=photographs)
    assert (mood_of["p_value"] <= 0.05).mean() > 0.15
    assert (mood_of["clustered_p_value"] <= 0.05).mean() < 0.08
    # An effect that all photographs share is found all the same.
    shifted = colour_tests(maps(20), grey[:, :20] + 1.5, grey[:, :20], clusters=photographs)
    assert shifted["colour_conditional_paired_q"].all()
    assert shifted["colour_conditional_mood_q"].mean() > 0.9


def test_the_tests_take_photographs_by_default(tmp_path: Path) -> None:
    detector, images = two_trace_detector(), two_trace_images(tmp_path, n=8)
    crops = []
    for one in images:
        number = int(one.path.stem)
        path = one.path.rename(one.path.with_name(f"{'abcd'[number // 2]}-{number}.png"))
        crops.append(ImageEntry(path, one.label, one.generator))
    named = ImageSet(images.root, tuple(sorted(crops, key=lambda entry: entry.path)))
    ranking = ranking_of(detector.feature_maps)
    found = median_test(detector, named, ranking, 2)
    assert set(found.table["pairs"]) == {8}
    assert set(found.table["clusters"]) == {4}
    assert found.table["paired_p_value"].min() >= 2 / 2**4  # what four photographs can tell
    alone = median_test(detector, named, ranking, 2, cluster="none")
    assert set(alone.table["clusters"]) == {8}
    assert alone.table["p_value"].equals(found.table["p_value"])
    assert set(found.percentages["intervals_over"]) == {"maps"}
