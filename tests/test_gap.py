"""How much of what tells fakes from reals went: against formulas, one photograph after another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from forensift.evaluation import MACRO
from forensift.records import FAKE, REAL, ImageEntry, ImageSet
from forensift.sensitivity import UNSEEN
from forensift.sensitivity.gap import (
    area_table,
    gap_table,
    ground,
    measures_of,
    spoofing_table,
    sums_of,
)
from forensift.sensitivity.masks import BASELINE, RANDOM, TOP, Mask

PHOTOGRAPHS, CROPS = 7, 3
MASKS = [Mask(BASELINE, 0, 0), Mask(TOP, 0, 4), Mask(RANDOM, 0, 4), Mask(RANDOM, 1, 4)]


@pytest.fixture(scope="module")
def scene():
    """Two generators of one set of photographs, three crops each, and logits under four masks."""
    rng = np.random.default_rng(0)
    entries = [
        ImageEntry(Path(f"/set/{generator}/{label}/photo{one}-{crop}.png"), label, generator)
        for generator in ("one", "two")
        for label in (REAL, FAKE)
        for one in range(PHOTOGRAPHS)
        for crop in range(CROPS)
    ]
    images = ImageSet(Path("/set"), tuple(entries))
    labels = np.array([entry.label for entry in entries])
    logits = rng.normal(4 * labels - 2, 1.5, (4, len(entries)))
    logits[1] -= 3 * labels  # fakes fall
    logits[0, 3] = np.nan  # could not be used
    own = {images.image_id(entry): float(at) for at, entry in enumerate(entries) if entry.label}
    return images, labels, logits, own


def of(scene, **how: object):
    images, _, logits, own = scene
    return ground(images, logits[0], own, "photograph", how.get("training_family"))  # type: ignore[arg-type]


def test_the_measures_are_their_formulas(scene) -> None:
    images, labels, logits, _ = scene
    on = of(scene)
    names = np.array([entry.generator for entry in images])
    table = gap_table(on, MASKS, logits).set_index(["generator", "mask"])
    used = ~np.isnan(logits[0])
    for generator in ("one", "two"):
        f, r = (used & (names == generator) & (labels == kind) for kind in (FAKE, REAL))
        row = table.loc[(generator, TOP)]
        gap = logits[1, f].mean() - logits[1, r].mean()
        before = logits[0, f].mean() - logits[0, r].mean()
        moved = [(logits[1, own] - logits[0, own]).mean() for own in (r, f)]
        assert row["gap_removed"] == pytest.approx(1 - gap / before)
        assert row["change_real_of_fake"] == pytest.approx(moved[0] / moved[1])
        assert row["fake_accuracy_05"] == (logits[1, f] > 0).mean()
        assert row["real_accuracy_05"] == pytest.approx((logits[1, r] <= 0).mean())
        both = f | r
        p = 1 / (1 + np.exp(-logits[1, both]))
        assert row["ap"] == pytest.approx(average_precision_score(labels[both], p))
        expected = np.corrcoef(logits[1, r], logits[0, r])[0, 1]
        assert row["real_correlation"] == pytest.approx(expected)
        assert row["residual"] == pytest.approx(np.abs(logits[1, f] - np.flatnonzero(f)).mean())
        before_it = np.abs(logits[0, f] - np.flatnonzero(f)).mean()
        assert row["residual_before"] == pytest.approx(before_it)
        assert (row["units"], row["intervals_over"]) == (PHOTOGRAPHS, "photographs")
    base = table.xs(BASELINE, level="mask")
    assert (base["gap_removed"] == 0).all()
    assert base["real_correlation"].to_numpy() == pytest.approx(1)


def test_a_macro_mean_is_that_of_the_mean_logits(scene) -> None:
    _, _, logits, _ = scene
    on = of(scene, training_family="one")
    table = gap_table(on, MASKS, logits).set_index(["generator", "mask"])
    sums = sums_of(on, logits)
    before, moved = (
        sum((one[f"fake_{end}"] - one[f"real_{end}"])[1, 0] for one in (sums["one"], sums["two"]))
        for end in ("before", "moved")
    )
    assert table.loc[(MACRO, TOP), "gap_removed"] == pytest.approx(-moved / before)
    own = table.loc[("two", TOP)].drop(["k", "draws", "intervals_over"]).astype(float)
    unseen = table.loc[(UNSEEN, TOP)].drop(["k", "draws", "intervals_over"]).astype(float)
    np.testing.assert_allclose(unseen, own)
    for column in ("ap", "fake_accuracy_05", "residual"):
        mean = table[column].unstack("generator")[["one", "two"]].mean(axis=1)
        assert table.loc[(MACRO, TOP), column] == pytest.approx(mean[TOP])


def test_a_photograph_left_out_is_a_set_without_it(scene) -> None:
    images, _, logits, own = scene
    on = of(scene)
    whole = sums_of(on, logits)
    order = sorted({f"photo{one}" for one in range(PHOTOGRAPHS)})
    for place, name in enumerate(order):
        kept = [at for at, entry in enumerate(images) if entry.path.stem.rpartition("-")[0] != name]
        rest = ImageSet(images.root, tuple(images.entries[at] for at in kept))
        less = ground(rest, logits[0, kept], own, "photograph")
        for generator, sums in sums_of(less, logits[:, kept]).items():
            for key, values in measures_of(sums).items():
                expected = measures_of(whole[generator])[key][:, 1 + place]
                np.testing.assert_allclose(values[:, 0], expected, rtol=1e-9, err_msg=key)


def test_draws_are_averaged_before_the_interval(scene) -> None:
    _, _, logits, _ = scene
    table = gap_table(of(scene), MASKS, logits)
    row = table.query("generator == 'one' and mask == @RANDOM").iloc[0]
    alone = [gap_table(of(scene), [MASKS[at]], logits[[at]]) for at in (2, 3)]
    expected = np.mean([one.query("generator == 'one'")["gap_removed"].iloc[0] for one in alone])
    assert row["gap_removed"] == pytest.approx(expected)
    assert row["draws"] == 2
    assert row["gap_removed_low"] < row["gap_removed"] < row["gap_removed_high"]


def test_the_area_is_the_mean_height_along_log_k(scene) -> None:
    _, _, logits, _ = scene
    masks = [Mask(TOP, 0, k) for k in (1, 2, 8)]
    on = of(scene)
    curve = gap_table(on, masks, logits[1:]).query("generator == 'one'")["gap_removed"].to_numpy()
    area = area_table(on, masks, logits[1:]).query("generator == 'one'").iloc[0]
    parts = (curve[0] + curve[1]) / 2 * 1 + (curve[1] + curve[2]) / 2 * 2  # one and two doublings
    assert area["area"] == pytest.approx(parts / 3)
    assert area["area_low"] < area["area"] < area["area_high"]
    flat = area_table(on, masks, logits[[1, 1, 1]]).query("generator == 'one'").iloc[0]
    assert flat["area"] == pytest.approx(curve[0])
    assert area_table(on, masks[:1], logits[1:2]).empty


def test_the_spoofing_share_is_what_learnt_constants_spare(scene) -> None:
    images, labels, _, own = scene
    rng = np.random.default_rng(1)
    plain = rng.normal(6 * labels - 3, 0.3)
    fell = plain - 4 * labels + rng.normal(0, 0.05, len(labels))  # zero: fakes fall by 4
    spared = plain - 1 * labels + rng.normal(0, 0.05, len(labels))  # learnt: by 1
    on = ground(images, plain, own, "photograph")
    masks = MASKS[:2]
    table = spoofing_table(on, (masks, np.stack([plain, fell])), (masks, np.stack([plain, spared])))
    assert set(table["mask"]) == {TOP}
    row = table[table["generator"] == "one"].iloc[0]
    assert row["spoofing_gap"] == pytest.approx(0.75, abs=0.02)
    assert row["spoofing_gap_low"] < 0.75 < row["spoofing_gap_high"]
    # AP fell under neither: there is no share of nothing.
    assert row["fall_ap_zero"] == 0
    assert np.isnan(row["spoofing_ap"])


def test_what_has_no_meaning_has_no_number(scene) -> None:
    images, labels, logits, _ = scene
    one_word = np.where(labels == REAL, -2.0, logits[0])
    on = ground(images, logits[0], {}, "photograph")
    row = gap_table(on, MASKS[1:2], one_word[None]).iloc[0]
    assert np.isnan(
        row[["residual", "real_correlation", "real_correlation_low"]].astype(float)
    ).all()
    alone = ImageSet(images.root, tuple(e for e in images if "photo0" in e.path.name))
    at = [place for place, e in enumerate(images) if "photo0" in e.path.name]
    few = gap_table(ground(alone, logits[0, at], {}, "photograph"), MASKS[1:2], logits[1:2, at])
    assert np.isfinite(few["gap_removed"]).all()


def test_more_photographs_make_shorter_intervals() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for number in (8, 32, 400):
        entries = tuple(
            ImageEntry(Path(f"/s/g/{label}/p{one}-{crop}.png"), label, "g")
            for label in (REAL, FAKE) for one in range(number) for crop in (0, 1)
        )  # fmt: skip
        images = ImageSet(Path("/s"), entries)
        labels = np.array([entry.label for entry in entries])
        plain = rng.normal(6 * labels, 1)
        on = ground(images, plain, {}, "photograph")
        assert len(on.weights) == 1 + min(number, 100)
        row = gap_table(on, MASKS[1:2], (plain - 3 * labels + rng.normal(size=len(plain)))[None])
        widths.append(float((row["gap_removed_high"] - row["gap_removed_low"]).iloc[0]))
    assert widths[0] > widths[1] > widths[2]
