"""Operating points, curves and calibration, against scikit-learn and against what was planted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, precision_recall_curve, roc_curve

import forensift
from forensift import views
from forensift.detectors import load_detector
from forensift.evaluation import measured, needed_reals
from forensift.evaluation.operating import (
    BINS,
    GRID,
    calibration_errors,
    hits_at,
    precision_at,
    reliability,
    weighted_rates,
)
from forensift.views.evaluation import mistakes, operating_rows, short


def table(n: int = 40, generators: int = 1, seed: int = 0, shift: float = 1.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for generator in range(generators):
        for label in (0, 1):
            logits = np.round(rng.normal(shift * (2 * label - 1), 1.5, n), 1)  # with ties
            rows += [
                {
                    "path": f"g{generator}/{label}/{place:04d}.png",
                    "label": label,
                    "generator": f"g{generator}",
                    "class": "",
                    "logit": value,
                    "score": 1 / (1 + np.exp(-value)),
                }
                for place, value in enumerate(logits)
            ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("seed", range(5))
def test_rates_are_scikit_learns_and_weights_are_copies(seed: int) -> None:
    own = table(25, seed=seed)
    labels, scores = own["label"].to_numpy(), own["score"].to_numpy()
    ones = np.ones((1, len(labels)))
    alarms, hits, precision = (rates[0] for rates in weighted_rates(labels, scores, ones))
    theirs = roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose(alarms, theirs[0])
    np.testing.assert_allclose(hits, theirs[1])
    sharp, found, _ = precision_recall_curve(labels, scores)
    np.testing.assert_allclose(precision[1:], sharp[:-1][::-1])
    np.testing.assert_allclose(hits[1:], found[:-1][::-1])
    counts = np.random.default_rng(seed).integers(0, 4, len(labels))
    counts[0] = counts[-1] = 1
    twice = weighted_rates(labels, scores, counts[None].astype(float))
    copied = np.repeat(labels, counts), np.repeat(scores, counts)
    once = weighted_rates(*copied, np.ones((1, len(copied[0]))))
    for at in (0.0, 0.05, 0.3, 1.0):
        points = [hits_at(a, h, np.array([at]))[0, 0] for a, h, _ in (twice, once)]
        assert points[0] == pytest.approx(points[1])
        allowed = [h for a, h in zip(once[0][0], once[1][0], strict=True) if a <= at + 1e-12]
        assert points[1] == pytest.approx(max(allowed))
        sharp_at = [precision_at(h, p, np.array([at]))[0, 0] for _, h, p in (twice, once)]
        assert sharp_at[0] == pytest.approx(sharp_at[1])


def test_fakes_found_at_few_false_alarms_need_as_many_reals() -> None:
    assert [needed_reals(at) for at in (0, 0.01, 0.001)] == [1, 100, 1000]
    few, _ = measured(table(99))
    enough, _ = measured(table(100))
    assert np.isnan(few["tpr_at_fpr_0.01"][0])
    assert np.isnan(few["tpr_at_fpr_0.01_low"][0])
    assert 0 < enough["tpr_at_fpr_0.01"][0] < 1
    own = table(100)
    labels, scores = own["label"].to_numpy(), own["score"].to_numpy()
    false_alarms, hits, _ = roc_curve(labels, scores, drop_intermediate=False)
    assert enough["tpr_at_fpr_0.01"][0] == pytest.approx(hits[false_alarms <= 0.01].max())
    assert enough["tpr_at_fpr_0"][0] == pytest.approx(hits[false_alarms == 0].max())
    for row in (few.iloc[0], enough.iloc[0]):
        low, value, high = (row[f"tpr_at_fpr_0{end}"] for end in ("_low", "", "_high"))
        assert low <= value <= high
    shown = operating_rows(enough).iloc[0]
    assert shown["TPR at 0.1 % FPR"] == "needs 1,000 reals"
    assert shown["TPR at 1 % FPR"].startswith(f"{100 * enough['tpr_at_fpr_0.01'][0]:.1f} [")


def test_calibration_errors_are_scikit_learns_and_chance_is_what_calibrated_labels_give() -> None:
    rng = np.random.default_rng(3)
    scores = rng.random(400)
    labels = (rng.random(400) < scores).astype(int)
    found = calibration_errors(labels, scores, np.ones((1, 400)))
    assert found["brier"][0] == pytest.approx(brier_score_loss(labels, scores))
    share, mean = calibration_curve(labels, scores, n_bins=BINS)
    counts = np.histogram(scores, np.linspace(0, 1, BINS + 1))[0]
    counts = counts[counts > 0]
    assert found["ece"][0] == pytest.approx(np.abs(share - mean) @ counts / counts.sum())
    own = pd.DataFrame({"path": [f"{n}.png" for n in range(400)], "label": labels, "score": scores})
    own = own.assign(generator="g", logit=np.log(scores / (1 - scores)), **{"class": ""})
    row = measured(own)[0].iloc[0]
    assert row["ece_low"] < row["ece_by_chance"] < row["ece_high"]
    over = own.assign(score=np.where(scores > 0.5, 0.999, 0.001))  # far too sure
    sure = measured(over)[0].iloc[0]
    assert sure["ece_low"] > sure["ece_by_chance"]
    sure = reliability(over, "none")
    assert list(sure["n"]) == [int((scores <= 0.5).sum()), int((scores > 0.5).sum())]
    for row in sure.to_dict("records"):
        assert row["low"] < row["fakes"] < row["high"]
    assert sure["low"][0] > 0.001
    assert sure["high"][1] < 0.999


def test_bands_hold_the_curve_and_cover_the_truth() -> None:
    """Of binormal scores the true ROC curve lies in nine of ten bands at a point or more."""
    from scipy.stats import norm

    at = float(GRID[np.searchsorted(GRID, 0.2)])
    true = norm.sf(norm.isf(at), loc=2 / 1.5)  # two units of 1.5 apart
    inside = 0
    for seed in range(40):
        _, curves = measured(table(60, seed=seed), resamples=200)
        roc = curves[curves["curve"] == "roc"]
        assert (roc["low"] <= roc["y"]).all()
        assert (roc["y"] <= roc["high"]).all()
        assert roc["low"].is_monotonic_increasing
        assert roc["high"].is_monotonic_increasing
        row = roc[np.isclose(roc["x"], at)].iloc[0]
        inside += row["low"] <= true <= row["high"]
    assert inside >= 34


def test_mistakes_are_the_surest_and_shared_images_are_there_once() -> None:
    own = table(5, generators=2, shift=0.2)
    reals = own["label"] == 0
    shared = own[reals & (own["generator"] == "g0")]["logit"].to_numpy()
    own.loc[reals & (own["generator"] == "g1"), "logit"] = shared
    real, fake = mistakes(own)
    assert len(real) == (shared > 0).sum()
    assert (real["logit"] > 0).all()
    assert real["logit"].is_monotonic_decreasing
    assert (fake["logit"] <= 0).all()
    assert fake["logit"].is_monotonic_increasing
    assert short("/home/somebody/private/holiday.png") == "holiday"
    assert len(short("x" * 80 + ".png")) == 22


def test_a_photographs_set_is_drawn_and_its_mistakes_are_read_again(tmp_path: Path) -> None:
    families = ["progan-like", "stylegan2-like"]
    forensift.forge(
        forensift.photographs("test"), families, tmp_path / "set", per_family=6, side=48
    )
    images = forensift.scan(tmp_path / "set")
    found = forensift.evaluate(load_detector("resnet50"), images)
    assert {"scores", "curves", "calibration"} <= set(view := views.view_of(found).figures)
    assert set(views.view_of(found).captions) == set(view)
    axes = found.plot("calibration").axes[0]
    assert found.plot("calibration", ax=axes) is axes
    drawn = [one for one in found.plot("scores").axes if one.get_visible()]
    assert len(drawn) == 2
    heights = sum(np.sum(patch.get_data()[0]) for patch in drawn[0].patches)
    assert heights == 0  # as many reals up as fakes down
    wrong = mistakes(found.scores)
    if any(map(len, wrong)):
        figure = found.plot("mistakes")
        pictures = sum(len(axes.get_images()) for axes in figure.axes)
        assert pictures == sum(min(6, len(own)) for own in wrong)
        for entry in images:
            entry.path.unlink()
        gone = [text.get_text() for axes in found.plot("mistakes").axes for text in axes.texts]
        assert gone == ["file not there"] * pictures
