"""``forensift patches`` and ``forensift embed`` on a planted detector, and their refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from forensift.cli.app import app

from .planted import PLANTED, planted_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    planted_images(tmp_path / "set")
    rows = [f"conv{1 + c % 2}.#{c // 2}(T=8),{1 / (2 + c)}" for c in range(16)]
    (tmp_path / "set-fake.csv").write_text("\n".join(["key,mean_relevance", *rows]) + "\n")
    return tmp_path


def run(folder: Path, verb: str, *words: object) -> tuple[int, str, str]:
    line = [verb, PLANTED, "--data", folder / "set", "--out", folder / "out", *words]
    result = CliRunner().invoke(app, [str(word) for word in line])
    return result.exit_code, result.stdout, result.stderr


def names(folder: Path) -> set[str]:
    return {path.name for path in (folder / "out").iterdir()}


def test_patches_of_each_generator(folder: Path) -> None:
    ranking = folder / "set-fake.csv"
    code, out, err = run(folder, "patches", "--ranking", ranking, "--k", 3, "--n", 2)
    assert (code, err) == (0, "")
    assert "one of the 3 maps of the highest ω" in out
    assert names(folder) == {
        "patches.csv", "patches", "skipped.csv", "manifest.json", "view.json",
        "collage-one.pdf", "collage-one.png", "collage-two.pdf", "collage-two.png",
    }  # fmt: skip
    table = pd.read_csv(folder / "out" / "patches.csv")
    assert table["generator"].tolist() == ["one"] * 6 + ["two"] * 6
    assert table["feature_map"].tolist()[:4] == ["conv1.#0(T=8)"] * 2 + ["conv2.#0(T=8)"] * 2
    assert table["place"].tolist() == [1, 2] * 6
    for row in table.to_dict("records"):
        image = np.asarray(Image.open(folder / "set" / row["path"]))
        patch = np.asarray(Image.open(folder / "out" / row["file"]))
        top, left = row["top"], row["left"]
        expected = image[top : top + row["height"], left : left + row["width"]]
        np.testing.assert_array_equal(patch, expected)
    facts = json.loads((folder / "out" / "manifest.json").read_text())
    assert (facts["used"], facts["skipped"], facts["seed"]) == (12, 0, 0)
    assert facts["collages"]["two"]["percentile"] == 75
    assert facts["collages"]["two"]["used"] == 6
    assert len(facts["image_set_sha256"]) == 64


def test_patches_of_one_generator_or_of_all_together(folder: Path) -> None:
    common = ["--ranking", folder / "set-fake.csv", "--k", 2, "--n", 1]
    code, _, _ = run(folder, "patches", *common, "--generator", "two")
    assert code == 0
    assert {"collage.pdf", "collage.png"} <= names(folder)
    one = pd.read_csv(folder / "out" / "patches.csv")
    assert set(one["generator"]) == {"two"}
    assert (one["height"] > 0).all()
    code, _, _ = run(folder, "patches", *common, "--generator", "two", "--published-box")
    assert code == 0
    smaller = pd.read_csv(folder / "out" / "patches.csv")
    for wide, narrow in zip(one.to_dict("records"), smaller.to_dict("records"), strict=True):
        if min(wide["height"], wide["width"]) > 1:
            assert narrow["height"] == wide["height"] - 1
            assert narrow["width"] == wide["width"] - 1
        else:
            assert narrow["note"] == "the published box holds no pixel"
    code, _, _ = run(folder, "patches", *common, "--pooled")
    assert code == 0
    both = pd.read_csv(folder / "out" / "patches.csv")
    assert len(both) == 2
    assert (both["maximum"] >= one["maximum"] - 1e-6).all()


def test_embed_writes_tables_and_figures(folder: Path) -> None:
    code, out, err = run(
        folder, "embed", "--ranking", folder / "set-fake.csv", "--k", 3, "--perplexity", 4
    )
    assert (code, err) == (0, "")
    assert "By omega-weighted features" in " ".join(out.split())
    assert names(folder) == {
        "embedding.csv", "quality.csv", "neighbours.csv", "skipped.csv", "manifest.json",
        "view.json", *(f"tsne-{a}.{b}" for a in ("penultimate", "omega-weighted")
                       for b in ("pdf", "png", "svg")),
    }  # fmt: skip
    table = pd.read_csv(folder / "out" / "embedding.csv", keep_default_na=False)
    assert table.columns.tolist() == ["path", "label", "generator", "class", "kind", "x", "y"]
    assert len(table) == 48
    facts = json.loads((folder / "out" / "manifest.json").read_text())
    assert facts["tsne"][0]["perplexity"] == 4
    assert 0 <= facts["tsne"][0]["trustworthiness"] <= 1
    assert facts["images_that_differ"] == 18
    assert (facts["used"], facts["skipped"]) == (24, 0)


def test_bad_input_is_exit_code_2_and_one_line(folder: Path) -> None:
    ranking = ["--ranking", folder / "set-fake.csv"]
    cases = {
        "no fakes of 'x'; generators: one, two": [
            "patches", *ranking, "--k", 1, "--generator", "x",
        ],
        "exclude each other": ["patches", *ranking, "--k", 1, "--pooled", "--generator", "one"],
        "k = 99": ["patches", *ranking, "--k", 99],
        "percentile 100": ["patches", *ranking, "--k", 1, "--percentile", 100],
        "belong together": ["embed", "--k", 3],
        "no settings 'x'": ["embed", "--settings", "x"],
        "no pooling 'x'": ["embed", "--pooling", "x"],
        "perplexity 15: 18 images": ["embed", "--settings", "dna-det"],
    }  # fmt: skip
    for message, words in cases.items():
        code, _, err = run(folder, *words)
        assert code == 2, message
        assert message in err
        assert err.count("\n") == 1


def test_unreadable_images_are_named_even_where_the_run_ends(folder: Path) -> None:
    path = next((folder / "set" / "one" / "1_fake").iterdir())
    path.write_bytes(b"")
    for words in (["patches", "--ranking", folder / "set-fake.csv", "--k", 1], ["embed"]):
        code, _, err = run(folder, *words)
        assert code == 2
        assert err.startswith("error: 1 of ")
        assert path.name in (folder / "out" / "skipped.csv").read_text()
        assert not (folder / "out" / "manifest.json").exists()
