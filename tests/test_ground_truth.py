"""Ground truth, small form of `forensift planted`: the workbench finds what was planted.

This is the test of the whole instrument: forge, training, LRP, ω, dropout and the median test, on
detectors whose evidence is known because it was put there.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from forensift.cli.app import app
from forensift.data import scan
from forensift.evaluation import cluster_mean
from forensift.explain.localisation import in_box
from forensift.forge import Trace
from forensift.studies.planted import default_traces, planted, write_page
from forensift.studies.planted.localisation import localisation_table, method_maps
from forensift.studies.planted.parts import choice_of_k, load_pixels
from forensift.studies.planted.verdicts import verdicts
from forensift.training.small import small_network, train_small

from .planted import fingerprint, planted_detector, planted_images

BOXES = ("luma-box", "chroma-box")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    traces = {name: default_traces()[name] for name in BOXES}
    out = tmp_path_factory.mktemp("planted")
    try:
        return planted(
            out, traces, pairs=200, held_out=45, side=48, steps=120, draws=19, say=lambda text: None
        )
    finally:
        torch.set_num_threads(threads)


def test_all_that_was_planted_is_found(study) -> None:
    missed = study.verdicts[~study.verdicts["found"]]
    assert missed.empty, missed.to_string()
    assert set(study.verdicts["trace"]) == set(BOXES)


def test_relevance_lies_in_the_box_and_that_of_the_controls_does_not(study) -> None:
    table = study.localisation.set_index(["trace", "method"])
    for trace in BOXES:
        lrp, random = table.loc[trace, "lrp"], table.loc[trace, "random"]
        assert lrp["area"] == pytest.approx(0.25)
        assert lrp["share_low"] > 0.75  # three times the area
        assert lrp["share_low"] > lrp["other_share_high"]
        assert lrp["hit"] > 0.95
        assert lrp["hit_low"] > 0.75  # 15 photographs of 15 hit: Wilson's 0.796
        assert table.loc[trace, "gradient"]["share_high"] < lrp["share_low"]
        assert random["share"] == pytest.approx(0.25, abs=0.01)
        assert random["hit_low"] < 0.25 < random["hit_high"] + 0.1


def test_the_chroma_trace_alone_makes_maps_colour_conditional(study) -> None:
    flagged = study.colour.groupby(["trace", "images"])["colour_conditional_mood_q"].sum()
    assert flagged["chroma-box", "fakes"] >= 6
    assert flagged["chroma-box", "twins"] == 0
    assert flagged["luma-box", "fakes"] == flagged["luma-box", "twins"] == 0
    # The paired test is sharper: it too must see effects of another size on the chroma trace.
    effect = study.colour[study.colour["images"] == "fakes"].groupby("trace")["effect"]
    assert effect.median()["chroma-box"] > 10 * effect.median().abs()["luma-box"]


def test_dropping_the_top_maps_removes_the_detection_and_others_do_not(study) -> None:
    table = study.dropout.set_index(["trace", "aim", "mask"])
    for trace in BOXES:
        base, top = table.loc[trace, "decision", "baseline"], table.loc[trace, "decision", "top-k"]
        matched = table.loc[trace, "decision", "random-k-layer-matched"]
        assert base["fake_accuracy"] > 0.95
        assert top["fake_accuracy"] <= 0.1
        assert top["real_accuracy"] >= base["real_accuracy"] - 0.05
        assert top["effect"] == "evidence for fake was removed"
        assert matched["fake_accuracy"] > top["fake_accuracy"] + 0.3
        assert table.loc[trace, "order", "top-k"]["ap"] <= 0.6


def test_a_wrong_truth_is_not_found(study) -> None:
    """The rules are no formality: each fails where its answer is not there to be found."""
    tables = {
        "dropout": study.dropout, "colour": study.colour, "localisation": study.localisation,
    }  # fmt: skip
    own = {key: t[t["trace"] == "luma-box"].copy() for key, t in tables.items()}
    found = {row.question: row.found for row in verdicts("x", Trace("chroma", box=0.5), own)}
    coloured = next(question for question in found if "colour-conditional" in question)
    assert not found[coloured]
    lrp = own["localisation"]["method"] == "lrp"
    for key in ("share", "hit"):
        for end in ("", "_low", "_high"):
            own["localisation"].loc[lrp, key + end] = own["localisation"][f"other_{key}{end}"]
    masks = {"top-k": "random-k-layer-matched", "random-k-layer-matched": "top-k"}
    own["dropout"]["mask"] = own["dropout"]["mask"].replace(masks)
    own["dropout"]["p_fake_evidence"] = 1.0
    judged = verdicts("x", Trace("luma", box=0.5), own)
    failed = [row.question for row in judged if not row.found]
    assert sum("relevance" in question for question in failed) == 2
    assert sum("accuracy on fakes" in question for question in failed) == 1
    assert sum(question.startswith("p:") for question in failed) == 2
    own["dropout"][["draws", "p_fake_evidence"]] = 5, 1 / 6  # none of five draws, which is no proof
    few = [
        row for row in verdicts("x", Trace("luma", box=0.5), own) if row.question.startswith("p:")
    ]
    assert not any(row.found for row in few)
    assert {row.rule for row in few} == {"at most 0.05 (5 draws cannot: 19)"}


def test_the_study_is_on_disk_with_its_page(study, tmp_path: Path) -> None:
    folder = study.save(tmp_path / "study")
    names = {path.name for path in folder.iterdir() if path.is_file()}
    tables = {"ground_truth", "localisation", "colour", "dropout", "along_k", "history"}
    assert names >= {f"{name}.csv" for name in tables} | {"manifest.json", "examples.npz"}
    assert names >= {f"{name}.png" for name in ("examples", "found", "along_k")}
    written = pd.read_csv(folder / "ground_truth.csv")
    assert written["found"].tolist() == study.verdicts["found"].tolist()
    page = tmp_path / "page" / "truth.md"
    write_page(study, page)
    text = page.read_text()
    assert f"{study.facts['found']} of {study.facts['asked']} rules are met" in text
    for name in ("examples", "found", "along-k"):
        assert f"(truth-{name}.png)" in text
        assert (page.parent / f"truth-{name}.png").is_file()


# --- its parts ----------------------------------------------------------------------------------


def test_in_box_follows_the_formula(rng) -> None:
    maps = rng.normal(size=(5, 8, 8))
    boxes = np.array([[0, 0, 4, 4], [2, 1, 8, 5], [4, 4, 8, 8], [0, 3, 8, 5], [1, 1, 2, 2]])
    table = in_box(maps, boxes)
    for at, (left, top, right, bottom) in enumerate(boxes):
        positive = np.maximum(maps[at], 0)
        inside = positive[top:bottom, left:right].sum()
        assert table["share"][at] == pytest.approx(inside / positive.sum())
        assert table["area"][at] == (right - left) * (bottom - top) / 64
        row, column = np.unravel_index(maps[at].argmax(), (8, 8))
        assert table["hit"][at] == (top <= row < bottom and left <= column < right)
    swapped = in_box(maps, np.roll(boxes, 1, axis=0))
    np.testing.assert_allclose(table["other_share"], swapped["share"])
    np.testing.assert_array_equal(table["other_hit"], swapped["hit"])
    nothing = in_box(-np.ones((2, 4, 4)), np.array([[0, 0, 2, 2]] * 2))
    assert nothing["share"].isna().all()
    both = localisation_table({"lrp": table}, np.array(list("aabbc")))
    assert both["share"].item() == pytest.approx(table["share"].mean())


def test_the_interval_covers_the_mean_over_photographs(rng) -> None:
    covered = 0
    for _ in range(200):
        photographs = rng.normal(0.5, 0.2, 15)
        values = np.repeat(photographs, 8) + rng.normal(0, 0.05, 120)
        _, low, high = cluster_mean(
            values, np.repeat(np.arange(15), 8), least=-1.0, most=2.0, resamples=1000
        )
        covered += low <= 0.5 <= high
    assert 0.86 <= covered / 200 <= 0.99  # 15 clusters: a percentile bootstrap is a little narrow


def test_k_is_the_smallest_that_removes_the_decision_and_the_order() -> None:
    table = pd.DataFrame(
        {
            "k": range(6),
            "ap": [1, 1, 1, 0.9, 0.5, 0.4],
            "real_accuracy": [1, 1, 0.9, 1, 1, 1],
            "fake_accuracy": [1, 0.5, 0.0, 0.04, 0, 0],
        }
    )
    assert choice_of_k(table) == {"decision": 3, "order": 4}  # k = 2 costs the reals too much
    assert choice_of_k(table.assign(fake_accuracy=0.5, ap=[1, 1, 1, 0.8, 0.9, 1])) == {
        "decision": 1, "order": 3,
    }  # fmt: skip


def test_maps_leave_the_network_as_it_was_and_is_keyed_by_image(tmp_path: Path) -> None:
    detector, found = planted_detector(), planted_images(tmp_path)
    before = fingerprint(detector.network)
    ids = [found.image_id(entry) for entry in found]
    pixels = load_pixels(found, detector)
    maps = method_maps(detector, pixels, ids)
    assert fingerprint(detector.network) == before
    assert {name: values.shape for name, values in maps.items()} == dict.fromkeys(
        ("lrp", "gradient", "random"), (len(found), 16, 16)
    )
    alone = method_maps(detector, pixels[3:4], ids[3:4])
    np.testing.assert_array_equal(alone["random"][0], maps["random"][3])
    np.testing.assert_allclose(alone["lrp"][0], maps["lrp"][3], rtol=1e-3, atol=1e-7)


def test_training_is_repeatable_and_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    found = planted_images(tmp_path, ("one",), n=40)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, history = train_small(found, side=16, steps=4, seed=1)
    assert torch.rand(1) == expected
    second, _ = train_small(scan(tmp_path), side=16, steps=4, seed=1)
    for one, other in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(one, other)
    assert not first.network.training
    assert len(first.feature_maps) == 112
    assert history["step"].tolist() == [4]
    other_seed = small_network(2).get_submodule("conv1").weight
    assert not torch.equal(small_network(1).get_submodule("conv1").weight, other_seed)


def test_an_unknown_trace_is_one_clear_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["planted", "--traces", "hue", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: --traces hue: choose all or some of luma-whole")


def test_the_verb_runs_for_real(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app,
        ["planted", "--traces", "luma-whole", "--pairs", "64", "--held-out", "15", "--size", "32",
         "--steps", "60", "--draws", "2", "--page", str(tmp_path / "page.md"),
         "--out", str(tmp_path / "out")],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found = pd.read_csv(tmp_path / "out" / "ground_truth.csv")
    assert f"{found['found'].sum()} of {len(found)} rules are met" in result.stdout
    assert "planting a trace in 64 crops" in result.stderr
    assert (tmp_path / "page.md").read_text().startswith("# Ground truth")
