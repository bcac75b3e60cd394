"""``forensift colour`` and ``forensift median-test``: what they write, and their refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from forensift.cli.app import app

from .two_traces import two_trace_images

TRACES = f"{Path(__file__).parent / 'two_traces.py'}:two_trace_detector"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    two_trace_images(tmp_path / "set", n=12)
    rows = [f"conv.#{channel}(T=4),{0.4 - channel / 10}" for channel in range(4)]
    csv = tmp_path / "planted-fake.csv"
    csv.write_text("\n".join(["key,mean_relevance", *rows]) + "\n")
    return tmp_path


def run(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.stdout, result.stderr


def test_colour(folder: Path) -> None:
    out = folder / "out"
    code, said, err = run(
        "colour", TRACES, "--data", folder / "set", "--modes", "grey,chroma-only",
        "--cluster", "photograph", "--out", out,
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "in-chroma" in said
    assert "Without colour AP goes from 100.0 to" in said
    assert {path.name for path in out.iterdir()} == {
        "colour.csv", "scores.csv", "boxes.csv", "skipped.csv", "manifest.json", "view.json",
        *(f"{a}.{b}" for a in ("boxes_grey", "boxes_chroma-only", "colour_modes")
          for b in ("pdf", "png", "svg")),
    }  # fmt: skip
    table = pd.read_csv(out / "colour.csv")
    assert table["mode"].tolist() == ["rgb", "grey", "chroma-only"] * 3
    assert table["generator"].unique().tolist() == ["in-chroma", "in-luma", "macro mean"]
    scores = pd.read_csv(out / "scores.csv")
    assert scores.columns.tolist() == [
        "path", "label", "generator", "class", "mode", "logit", "score",
    ]  # fmt: skip
    assert len(scores) == 48 * 3
    facts = json.loads((out / "manifest.json").read_text())
    assert facts["modes"] == ["rgb", "grey", "chroma-only"]
    assert facts["intervals"]["cluster"] == "photograph"
    assert (facts["used"], facts["skipped"], facts["seed"]) == (48, 0, 0)
    assert facts["said"] in " ".join(said.split())


def test_median_test(folder: Path) -> None:
    out = folder / "out"
    code, said, err = run(
        "median-test", TRACES, "--data", folder / "set", "--ranking",
        folder / "planted-fake.csv", "--k", 3, "--out", out,
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "24 fakes were looked at" in " ".join(said.split())
    assert {path.name for path in out.iterdir()} == {
        "median_test.csv", "percentages.csv", "maxima.parquet", "densities.parquet",
        "skipped.csv", "manifest.json", "view.json",
        *(f"{a}.{b}" for a in ("histograms_in-chroma", "histograms_in-luma", "legend")
          for b in ("pdf", "png", "svg")),
    }  # fmt: skip
    table = pd.read_csv(out / "median_test.csv")
    assert table.columns[:6].tolist() == [
        "feature_map", "p_value", "q_value", "paired_p_value", "effect", "colour_conditional",
    ]  # fmt: skip
    assert table["feature_map"].tolist() == [f"conv.#{i}(T=4)" for i in range(3)] * 2
    of = table.set_index(["generator", "feature_map"])["colour_conditional"]
    assert of["in-chroma", "conv.#0(T=4)"]
    assert not of["in-chroma", "conv.#1(T=4)"]
    assert table["status"].tolist() == ["tested", "tested", "dead"] * 2
    shares = pd.read_csv(out / "percentages.csv").groupby("generator")["maps"].first()
    assert shares.tolist() == [3, 3]
    samples = pd.read_parquet(out / "maxima.parquet")
    assert len(samples) == 24 * 2 * 3
    assert samples["maximum"].dtype == np.float32
    assert len(pd.read_parquet(out / "densities.parquet")) > 0
    facts = json.loads((out / "manifest.json").read_text())
    assert (facts["k"], facts["ties"], facts["used"]) == (3, "below", 24)
    again = folder / "again"
    run(
        "median-test", TRACES, "--data", folder / "set", "--generator", "in-luma", "--ranking",
        folder / "planted-fake.csv", "--k", 3, "--num-instances", 5, "--out", again,
    )  # fmt: skip
    part = pd.read_csv(again / "median_test.csv")
    assert set(part["generator"]) == {"in-luma"}
    assert set(part["pairs"]) == {5}


def test_bad_input_is_exit_code_2_and_one_line(folder: Path) -> None:
    data = [TRACES, "--data", folder / "set", "--out", folder / "out"]
    tested = ["median-test", *data, "--ranking", folder / "planted-fake.csv", "--k"]
    cases = {
        "no colour mode 'sepia'": ["colour", *data, "--modes", "grey,sepia"],
        "cluster 'x'": ["colour", *data, "--cluster", "x"],
        "--generator x": ["colour", *data, "--generator", "x"],
        "no colour mode 'x'": [*tested, 2, "--mode", "x"],
        "no generator 'x'": [*tested, 2, "--generator", "x"],
        "ties 'x'": [*tested, 2, "--ties", "x"],
        "k = 9": [*tested, 9],
        "cluster 'y'": [*tested, 2, "--cluster", "y"],
    }
    for message, words in cases.items():
        code, _, err = run(*words)
        assert code == 2, message
        assert message in err
        assert err.count("\n") == 1


def test_unreadable_images_are_named_even_where_the_run_ends(folder: Path) -> None:
    path = next((folder / "set" / "in-luma" / "1_fake").iterdir())
    path.write_bytes(b"")
    for verb, more in (
        ("colour", []),
        ("median-test", ["--ranking", folder / "planted-fake.csv", "--k", 2]),
    ):
        out = folder / verb
        code, _, err = run(verb, TRACES, "--data", folder / "set", *more, "--out", out)
        assert code == 2
        assert err.startswith("error: 1 of ")
        assert path.name in (out / "skipped.csv").read_text()
        assert not (out / "manifest.json").exists()
        code, _, _ = run(
            verb, TRACES, "--data", folder / "set", *more, "--out", out, "--max-skipped", 0.1
        )
        assert code == 0
