"""Feature-map dropout on a planted truth, its tables, and the words it is summed up in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score

import forensift.data.batching as decoding
from forensift.errors import UserError
from forensift.evaluation import MACRO, permutation_p
from forensift.fmap_ranking import rank
from forensift.records import FAKE, REAL, ImageEntry, ImageSet, Ranking
from forensift.sensitivity import (
    BASELINE,
    ENSEMBLE,
    LAYER_MATCHED,
    LOW,
    LOWEST_NON_ZERO,
    RANDOM,
    TOP,
    UNSEEN,
    default_grid,
    dropout,
    effect,
    sentence,
)
from forensift.sensitivity.masks import Mask
from forensift.sensitivity.tables import COLUMNS, generator_rows, summarise

from .planted import fingerprint, planted_detector, planted_images


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    detector = planted_detector()
    images = planted_images(tmp_path_factory.mktemp("planted"))
    return detector, images, rank(detector, images)


@pytest.fixture(scope="module")
def result(world):
    detector, images, ranking = world
    return dropout(detector, images, ranking, 2, training_family="one", ks=[1, 2, 4])


def test_the_planted_maps_are_the_evidence_and_random_ones_are_not(result) -> None:
    summary = result.summary.set_index(["generator", "mask"])
    for where in ("one", "two", MACRO, UNSEEN):
        own = summary.loc[where]
        assert own.loc[BASELINE, "ap"] == 1
        assert own.loc[TOP, "fall_ap_points"] > 25
        assert own.loc[TOP, "effect"] == "evidence for fake was removed"
        for control in (RANDOM, LAYER_MATCHED):
            assert own.loc[control, "fall_ap_points"] < 1
            assert own.loc[control, "effect"] == "next to nothing changed"
            assert own.loc[control, "draws"] == 20
            for name in ("p_fall_ap", "p_fake_evidence", "p_separation"):
                assert own.loc[control, name] == pytest.approx(1 / 21)
        assert own.loc[TOP, "change_mean_logit_fake"] < -5
        assert abs(own.loc[TOP, "change_mean_logit_real"]) < 3
    table = result.table
    top = table[table["mask"] == TOP]
    assert (top["real_accuracy"] == 1).all()
    assert (top["fake_accuracy"] == 0).all()


def test_the_table_has_the_columns_and_rows_of_the_design(result) -> None:
    table = result.table
    assert tuple(table.columns) == (*COLUMNS, "value")
    assert COLUMNS[:4] == ("generator", "mask", "draw", "k")
    draws = table.groupby(["generator", "mask"]).size()
    for (_, mask), number in draws.items():
        assert number == (20 if mask in (RANDOM, LAYER_MATCHED) else 1)
    once = {BASELINE, TOP, LOW, LOWEST_NON_ZERO, ENSEMBLE}
    assert set(table["mask"]) == once | {RANDOM, LAYER_MATCHED}
    base = table[table["mask"] == BASELINE]
    assert (base["k"] == 0).all()
    assert (base[["change_ap", "change_mean_logit_real"]] == 0).all(axis=None)
    training = table[table["generator"] == "one"]
    assert (training["threshold"] == 0.5).all()
    assert training["threshold_rule"].str.contains("training").all()
    assert table["ap"].between(0, 1).all()
    assert table.loc[table["generator"] == "two", "threshold_rule"].str.contains("these").all()


def test_a_row_is_the_metric_of_the_logits(result) -> None:
    labels = np.array([entry.label for entry in result.images])
    two = np.array([entry.generator == "two" for entry in result.images])
    for at, mask in enumerate(result.masks):
        rows = result.table[
            (result.table["mask"] == mask.name) & (result.table["draw"] == mask.draw)
        ]
        row = rows[rows["generator"] == "two"]
        own = result.logits[at, two]
        p = 1 / (1 + np.exp(-own))
        assert row["ap"].item() == pytest.approx(average_precision_score(labels[two], p))
        assert row["mean_logit_fake"].item() == pytest.approx(own[labels[two] == 1].mean())
        assert row["mean_logit_real"].item() == pytest.approx(own[labels[two] == 0].mean())
        assert row["real_accuracy_05"].item() == (p[labels[two] == 0] <= 0.5).mean()


def test_the_ensemble_is_the_published_figure() -> None:
    """One AP of the scores averaged over the first five draws, not a mean of five APs."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 30)
    masks = [Mask(BASELINE, 0, 0), *(Mask(RANDOM, draw, 3) for draw in range(7))]
    logits = rng.normal(labels, 2, (8, 60))
    table = generator_rows("g", labels, logits, masks, 0.5, "0.5").set_index(["mask", "draw"])
    scores = (1 / (1 + np.exp(-logits[1:6]))).mean(axis=0)
    expected = average_precision_score(labels, scores)
    assert table.loc[(ENSEMBLE, 0), "ap"] == pytest.approx(expected, abs=1e-12)
    assert table.loc[(ENSEMBLE, 0), "k"] == 3
    assert expected != pytest.approx(table.loc[RANDOM, "ap"].iloc[:5].mean(), abs=1e-3)


def test_summary_is_the_spread_over_draws(result) -> None:
    drawn = result.table.query("generator == 'two' and mask == @RANDOM")
    row = result.summary.query("generator == 'two' and mask == @RANDOM").iloc[0]
    for name in ("ap", "real_accuracy", "change_mean_logit_fake"):
        assert row[name] == pytest.approx(drawn[name].mean())
        assert row[f"{name}_sd"] == pytest.approx(drawn[name].std(ddof=1))
        assert (row[f"{name}_min"], row[f"{name}_max"]) == (drawn[name].min(), drawn[name].max())
    macro = result.summary.query("generator == @MACRO and mask == @RANDOM").iloc[0]
    per_draw = result.table[result.table["mask"] == RANDOM].groupby("draw")["ap"].mean()
    assert macro["ap_sd"] == pytest.approx(per_draw.std(ddof=1))
    assert np.isnan(result.summary.query("mask == @TOP")["p_fall_ap"]).all()


def test_the_curve_holds_every_k_and_the_baseline(result) -> None:
    own = result.curve[result.curve["generator"] == "two"]
    assert own[own["mask"] == BASELINE]["k"].tolist() == [0]
    for mask, draws in ((TOP, 1), (RANDOM, 5), (LAYER_MATCHED, 5)):
        rows = own[own["mask"] == mask]
        assert rows["k"].tolist() == [1, 2, 4]
        assert (rows["draws"] == draws).all()
        assert (rows["ap_low"] <= rows["ap"]).all()
        assert (rows["ap"] <= rows["ap_high"]).all()
    at_two = own.query("mask == @RANDOM and k == 2").iloc[0]
    first = result.table.query("generator == 'two' and mask == @RANDOM and draw < 5")
    assert at_two["ap"] == pytest.approx(first["ap"].mean())
    assert at_two["mean_logit_fake"] == pytest.approx(first["mean_logit_fake"].mean())


def test_the_grid_leaves_room_for_random_maps() -> None:
    assert default_grid(114, 26_560, 26_560) == [14, 28, 57, 114, 228, 456]
    assert default_grid(6, 16, 16) == [1, 2, 3, 6]
    assert default_grid(12, 16, 16) == [2, 3, 6]


def test_what_was_dropped_is_told(result) -> None:
    dropped = result.dropped()
    sizes = dropped.groupby(["mask", "draw"]).size()
    assert sizes[TOP, 0] == sizes[LOW, 0] == 2
    assert (sizes[RANDOM] == 2).all()
    top = dropped[dropped["mask"] == TOP]
    assert set(top["feature_map"]) == {"conv1.#0(T=8)", "conv2.#0(T=8)"}
    assert (top["omega"] > 0.5).all()
    random = dropped[dropped["mask"] == RANDOM]
    assert not set(random["feature_map"]) & set(top["feature_map"])
    scores = result.scores()
    assert len(scores) == len(result.masks) * len(result.images)


def test_every_number_is_repeatable_and_free_of_the_batch_size(world, result) -> None:
    detector, images, ranking = world
    again = dropout(detector, images, ranking, 2, training_family="one", ks=[1, 2, 4])
    pd.testing.assert_frame_equal(again.table, result.table, check_exact=True)
    pd.testing.assert_frame_equal(again.curve, result.curve, check_exact=True)
    small = dropout(detector, images, ranking, 2, training_family="one", ks=(), batch_size=3)
    np.testing.assert_allclose(small.logits, result.logits, rtol=1e-5, atol=1e-6)
    assert small.curve.empty
    fewer = dropout(detector, images, ranking, 2, draws=3, ks=())
    assert [m for m in result.masks if m.name == RANDOM][:3] == [
        m for m in fewer.masks if m.name == RANDOM
    ]
    other = dropout(detector, images, ranking, 2, draws=3, ks=(), seed=1)
    assert other.masks[1] == fewer.masks[1]
    assert other.masks[2:5] != fewer.masks[2:5]


def test_images_are_decoded_once_and_shared_reals_scored_once(world, monkeypatch) -> None:
    detector, images, ranking = world
    read: list[Path] = []
    original = decoding.read_image
    monkeypatch.setattr(decoding, "read_image", lambda path: read.append(path) or original(path))
    scored: list[int] = []
    handle = detector.network.register_forward_pre_hook(
        lambda module, args: scored.append(len(args[0]))
    )
    before = fingerprint(detector.network)
    told: list[tuple[str, int, int]] = []
    found = dropout(
        detector, images, ranking, 2, draws=2, ks=(), batch_size=4,
        progress=lambda *one: told.append(one),
    )  # fmt: skip
    assert fingerprint(detector.network) == before
    handle.remove()
    # The two generators share their 6 reals: 18 different images of 24.
    assert len(read) == len(set(read)) == 18
    different = len({frozenset(mask.feature_maps) for mask in found.masks})
    assert sum(scored) == 18 * different
    assert told[-1][1:] == (18, 18)
    whole = dropout(detector, images, ranking, 2, draws=2, ks=())
    np.testing.assert_allclose(found.logits, whole.logits, rtol=1e-5, atol=1e-6)


def test_images_of_mixed_sizes_keep_their_order(tmp_path: Path, world) -> None:
    detector, _, ranking = world
    images = planted_images(tmp_path, ("one",), n=3)
    for at, entry in enumerate(images):
        if at % 2:
            image = Image.open(entry.path)
            image.crop((0, 0, 14, 12)).save(entry.path)
    found = dropout(detector, images, ranking, 2, draws=1, ks=())
    for at, entry in enumerate(images):
        alone = dropout(detector, _pair(images, entry), ranking, 2, draws=1, ks=(), batch_size=1)
        where = [e.path for e in alone.images].index(entry.path)
        np.testing.assert_allclose(alone.logits[:, where], found.logits[:, at], rtol=1e-4)


def _pair(images: ImageSet, entry: ImageEntry) -> ImageSet:
    other = next(one for one in images if one.label != entry.label)
    return ImageSet(images.root, (entry, other))


def test_unreadable_images_are_left_out(tmp_path: Path, world) -> None:
    detector, _, ranking = world
    images = planted_images(tmp_path)
    whole = dropout(detector, images, ranking, 2, draws=2, ks=())
    entry = images.entries[0]
    entry.path.write_bytes(entry.path.read_bytes()[:50])
    with pytest.raises(UserError, match="max_skipped"):
        dropout(detector, images, ranking, 2, draws=2, ks=())
    found = dropout(detector, images, ranking, 2, draws=2, ks=(), max_skipped=0.2)
    assert [one.path for one in found.skipped] == [entry.path]
    assert np.isnan(found.logits[:, 0]).all()
    np.testing.assert_allclose(found.logits[:, 1:], whole.logits[:, 1:], rtol=1e-5, atol=1e-6)
    rest = ImageSet(images.root, images.entries[1:])
    without = dropout(detector, rest, ranking, 2, draws=2, ks=())
    pd.testing.assert_frame_equal(found.table, without.table)


def test_held_out_images_calibrate_a_threshold(tmp_path: Path, world) -> None:
    detector, images, ranking = world
    other = planted_images(tmp_path, ("three",))
    found = dropout(detector, images, ranking, 2, draws=1, ks=(), held_out=other)
    assert len(set(found.table["held_out_threshold"])) == 1
    base = found.table[found.table["mask"] == BASELINE]
    assert (base[["real_accuracy_held_out", "fake_accuracy_held_out"]] == 1).all(axis=None)
    plain = dropout(detector, images, ranking, 2, draws=1, ks=())
    assert plain.table["real_accuracy_held_out"].isna().all()


def test_bad_input_is_one_clear_line(world) -> None:
    detector, images, ranking = world
    with pytest.raises(UserError, match=r"k = 17.*16 feature maps"):
        dropout(detector, images, ranking, 17)
    with pytest.raises(UserError, match="too few for the random control"):
        dropout(detector, images, ranking, 9)
    with pytest.raises(UserError, match="no fake images"):
        dropout(detector, images.only(label=REAL), ranking, 2)
    with pytest.raises(UserError, match="draws"):
        dropout(detector, images, ranking, 2, draws=0)
    with pytest.raises(UserError, match="'progan' is none of the generators one, two"):
        dropout(detector, images, ranking, 2, training_family="progan")
    wrong = replace(ranking, table=ranking.table.assign(layer="conv7"))
    with pytest.raises(UserError, match=r"no feature map conv7\.#0"):
        dropout(detector, images, wrong, 2)


# --- words and p-values -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("real", "fake", "word"),
    [
        (0.0, -8.0, "evidence for fake was removed"),
        (-2.0, -8.0, "evidence for fake was removed"),
        (-6.0, -8.0, "both fell"),
        (6.0, 0.5, "reals came to look fake"),
        (6.0, 5.0, "both rose"),
        (4.0, -4.0, "moved onto each other"),
        (0.1, -0.1, "next to nothing"),
        (0.0, 5.0, "fakes came to look more fake"),
        (-5.0, 0.0, "reals came to look more real"),
    ],
)
def test_the_effect_follows_from_the_signs(real: float, fake: float, word: str) -> None:
    assert word in effect(10.0, real, fake)
    assert word in effect(1.0, real / 10, fake / 10)  # the scale of the logits plays no part


def test_a_detector_that_separates_nothing_shows_nothing() -> None:
    assert effect(-1.0, 0.0, -5.0).startswith("undecided")
    assert effect(float("nan"), 0.0, -5.0).startswith("undecided")


def test_the_p_value_is_that_of_a_permutation_test() -> None:
    assert permutation_p(3.0, np.array([1.0, 2.0, 2.5])) == 0.25
    assert permutation_p(2.0, np.array([1.0, 2.0, 2.5])) == 0.75  # ties count against
    assert permutation_p(0.0, np.array([1.0])) == 1.0
    assert np.isnan(permutation_p(0.0, np.array([])))
    # One more draw like the others: p ≤ 0.05 in 5 % of the cases, never more.
    rng = np.random.default_rng(0)
    p = np.array([permutation_p(x[0], x[1:]) for x in rng.normal(size=(4000, 20))])
    assert (p <= 0.05).mean() == pytest.approx(0.05, abs=0.011)
    assert (p <= 0.5).mean() == pytest.approx(0.5, abs=0.03)


def test_the_sentence_says_what_the_numbers_say(result) -> None:
    said = sentence(result)
    assert "On unseen generators, dropping the top 2 of 16 feature maps takes AP from 100.0" in said
    assert said.count("evidence for fake was removed") == 1
    assert said.count("next to nothing changed") == 2
    gap = result.gap.query("generator == @UNSEEN and mask == @TOP").iloc[0]
    low, high = 100 * gap["gap_removed_low"], 100 * gap["gap_removed_high"]
    share = f"removes {100 * gap['gap_removed']:.0f} % [{low:.0f}, {high:.0f}] of the gap"
    assert share in said
    least = 100 * gap["fake_accuracy_05_high"]
    assert f"0 % [0, {least:.0f}] of fakes are found (100 % before)" in said
    # 20 draws allow p = 0.048 at best, and six numbers are tested at once.
    assert said.count("p = 0.048") == 6
    assert "stand out from these" not in said
    assert said.count("20 draws cannot tell whether they stand out in") == 2
    assert said.count("that takes 119, corrected for 6 numbers") == 2
    assert "top maps themselves" not in said
    single = result.summary["generator"] == "two"
    said = sentence(replace(result, summary=result.summary[single]))
    assert said.startswith("On two, ")


def test_the_sentence_turns_with_the_signs(result) -> None:
    """The opposite finding: layer-matched maps make reals look fake, and lower AP as much."""
    table = result.table.copy()
    matched = table["mask"] == LAYER_MATCHED
    table.loc[matched, "change_mean_logit_real"] = 20.0
    table.loc[matched, "change_mean_logit_fake"] = 1.0
    table.loc[matched, "change_ap"] = -0.9
    summary = summarise(table, "one").assign(value="zero")
    said = sentence(replace(result, table=table, summary=summary))
    assert "reals came to look fake: the network was damaged, no evidence removed" in said
    assert "do not stand out" not in said.split("of the same layers")[0]
    assert "do not stand out in the fall of AP (p = 1)" in said.split("of the same layers")[1]


@pytest.mark.parametrize(
    ("draws", "p", "expected"),
    [
        (
            2,
            (1 / 3,) * 3,
            "2 draws cannot tell whether they stand out in the fall of AP",
        ),
        (58, (1 / 59,) * 3, "58 draws cannot tell"),
        (59, (1 / 60,) * 3, "stand out from these in the fall of AP (p = 0.017), the fall of"),
        (
            59,
            (1 / 60, 0.03, 0.5),
            "in the fall of AP (p = 0.017), but not in the fall of",
        ),
        (99, (0.01, 0.02, 0.5), "in the fall of AP (p = 0.01) and the fall of the fakes' logit"),
        (5, (1.0, 0.5, 0.5), "do not stand out in the fall of AP (p = 1)"),
    ],
)
def test_no_verdict_that_the_draws_cannot_give(
    result, draws: int, p: tuple[float, ...], expected: str
) -> None:
    summary = result.summary.copy()
    control = summary["mask"] == LAYER_MATCHED
    summary.loc[control, "draws"] = draws
    summary.loc[control, ["p_fall_ap", "p_fake_evidence", "p_separation"]] = p
    assert expected in sentence(replace(result, summary=summary[summary["mask"] != RANDOM]))


def test_a_ranking_of_other_order_is_judged_by_its_own_top(world) -> None:
    """Dropping maps without evidence must not be reported as removal."""
    detector, images, ranking = world
    upside = ranking.table.iloc[::-1].reset_index(drop=True)
    poor = Ranking(upside.assign(omega=np.linspace(1, 0.1, len(upside))), FAKE)
    found = dropout(detector, images, poor, 2, draws=5, ks=())
    row = found.summary.query("generator == @MACRO and mask == @TOP").iloc[0]
    assert row["effect"] == "next to nothing changed"
    assert "do not stand out in the fall of AP" in sentence(found)
