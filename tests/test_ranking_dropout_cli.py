"""``forensift rank`` and then ``forensift dropout`` on what it wrote, and their refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from forensift.cli.app import app
from forensift.fmap_ranking import load_ranking

from .planted import PLANTED, planted_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    planted_images(tmp_path / "set")
    return tmp_path


def run(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.stdout, result.stderr


def test_rank_then_dropout(folder: Path) -> None:
    ranked, dropped = folder / "ranked", folder / "dropped"
    code, out, err = run("rank", PLANTED, "--data", folder / "set", "--out", ranked)
    assert (code, err) == (0, "")
    assert "conv1.#0(T=8)" in out
    assert "12 fakes used, none left out" in out
    assert _tables(ranked) == {
        "set-fake.csv", "set-real.csv", "ranking.csv", "ranking.parquet", "skipped.csv",
        "manifest.json",
    }  # fmt: skip
    manifest = json.loads((ranked / "manifest.json").read_text())
    assert manifest["counts"]["fake"]["used"] == 12
    assert manifest["start"] == "predicted"
    assert (
        load_ranking(ranked / "set-real.csv").counts["used"] == manifest["counts"]["real"]["used"]
    )
    table = pd.read_parquet(ranked / "ranking.parquet")
    assert set(table["label"]) == {"fake", "real"}
    assert len(table) == 32
    assert table[table["label"] == "fake"]["standard_error"].notna().all()

    code, out, err = run(
        "dropout", PLANTED, "--data", folder / "set", "--ranking", ranked / "set-fake.csv",
        "--k", 2, "--draws", 3, "--training-family", "one", "--out", dropped,
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "evidence for fake was removed" in " ".join(out.split())
    assert _tables(dropped) == {
        "dropout.csv", "dropout_summary.csv", "ap_curve.csv", "dropped.csv", "skipped.csv",
        "manifest.json", "scores.parquet",
    }  # fmt: skip
    written = pd.read_csv(dropped / "dropout.csv")
    assert written.columns[:10].tolist() == [
        "generator", "mask", "draw", "k", "ap", "real_accuracy", "fake_accuracy", "threshold",
        "mean_logit_real", "mean_logit_fake",
    ]  # fmt: skip
    facts = json.loads((dropped / "manifest.json").read_text())
    assert facts["k"] == 2
    assert facts["used"] == 24
    assert facts["said"] in " ".join(out.split())


def test_a_ranking_of_one_kind(folder: Path) -> None:
    out = folder / "ranked"
    code, _, _ = run(
        "rank", PLANTED, "--data", folder / "set", "--label", "fake", "--name", "mine",
        "--start", "published", "--out", out,
    )  # fmt: skip
    assert code == 0
    assert (out / "mine-fake.csv").is_file()
    assert not (out / "mine-real.csv").exists()


def test_unreadable_images_are_named_even_where_the_run_ends(folder: Path) -> None:
    path = next((folder / "set" / "one" / "1_fake").iterdir())
    path.write_bytes(b"")
    for verb in (["rank"], ["dropout"]):
        out = folder / verb[0]
        more = [] if verb == ["rank"] else ["--ranking", _csv(folder), "--k", 1, "--draws", 1]
        code, _, err = run(*verb, PLANTED, "--data", folder / "set", *more, "--out", out)
        assert code == 2
        assert err.startswith("error: 1 of ")
        assert err.count("\n") == 1
        assert path.name in (out / "skipped.csv").read_text()
        assert not (out / "manifest.json").exists()


def test_bad_input_is_exit_code_2_and_one_line(folder: Path) -> None:
    data = [PLANTED, "--data", folder / "set", "--out", folder / "out"]
    cases = {
        "k = 99": ["dropout", *data, "--ranking", _csv(folder), "--k", 99],
        "conv9": ["dropout", *data, "--ranking", _csv(folder, "conv9"), "--k", 1],
        "No such file": ["dropout", *data, "--ranking", folder / "none.csv", "--k", 1],
        "--ks 1,b": ["dropout", *data, "--ranking", _csv(folder), "--k", 1, "--ks", "1,b"],
        "--label x": ["rank", *data, "--label", "x"],
        "no start": ["rank", *data, "--start", "x"],
        "min confidence": ["rank", *data, "--min-confidence", 2],
    }
    for message, words in cases.items():
        code, _, err = run(*words)
        assert code == 2, message
        assert message in err
        assert err.count("\n") == 1


def _tables(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix not in (".png", ".pdf", ".svg")}


def _csv(folder: Path, layer: str = "conv1") -> Path:
    path = folder / f"{layer}-fake.csv"
    rows = [f"{layer}.#{c}(T=8),{1 / (1 + c)}" for c in range(8)]
    path.write_text("\n".join(["key,mean_relevance", *rows]) + "\n")
    return path
