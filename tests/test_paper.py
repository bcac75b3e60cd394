"""The scripts in ``paper/``: each runs, tiny, on the embedded default and as on ForenSynths."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from forensift.cli.paper import Paper
from forensift.detectors import load_detector
from forensift.fmap_ranking import load_ranking, top
from forensift.studies.tff import published_ranking

SCRIPTS = Path(__file__).resolve().parents[1] / "paper"
TINY = [
    "--families", "progan-like,dcgan-like", "--pairs", "6", "--size", "64",
    "--arch", "efficientnet-b0", "--min-confidence", "0.5",
]  # fmt: skip
MORE = {
    "fig1_collage": ["--maps", "2", "--n", "2"],
    "table_dropout": ["--draws", "1"],
    "fig6_median_test": ["--k", "3"],
    "fig_explanation": ["--images", "2", "--classifiers", "none"],
    "fig_causal": ["--draws", "1"],
}
WRITES = {
    "fig1_collage": {"efficientnet-b0-dcgan-like/collage", "efficientnet-b0-progan-like/collage"},
    "fig_omega": {"efficientnet-b0/omega"},
    "table_dropout": {"efficientnet-b0/dropout"},
    "fig4_whiskers": {"efficientnet-b0/boxes_grey", "efficientnet-b0/colour_modes"},
    "fig6_median_test": {
        f"efficientnet-b0/{name}"
        for name in ("histograms_dcgan-like", "histograms_progan-like", "legend")
    },
    "table_colour_robust": {"colour_robust/colour_robust"},
    "fig_explanation": {"efficientnet-b0/explanations"},
    "fig_causal": {"causal/causal"},
}


def run(name: str, monkeypatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", [f"paper/{name}.py", *map(str, words)])
    try:
        runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")
    except SystemExit as stopped:
        if stopped.code:
            raise


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("paper")


def test_every_script_is_tested() -> None:
    assert {path.stem for path in SCRIPTS.glob("*.py")} == set(WRITES)


@pytest.mark.parametrize("name", WRITES)
def test_a_script_writes_figure_and_numbers(name: str, folder: Path, monkeypatch) -> None:
    out = folder / name
    run(name, monkeypatch, *TINY, "--world", folder / "world", "--out", out, *MORE.get(name, ()))
    for figure in WRITES[name]:
        assert (out / f"{figure}.pdf").read_bytes()[:4] == b"%PDF"
        assert (out / f"{figure}.png").stat().st_size > 1000
        facts = json.loads((out / figure).with_name("manifest.json").read_text())
        assert facts["said"]
        assert Path(facts["data"]).parent == folder / "world"
    assert not (out / "partials").exists()
    tables = list(out.rglob("*.csv"))
    assert all(len(pd.read_csv(path)) for path in tables if path.name != "skipped.csv")


def test_on_other_data_and_weights_the_published_ranking_is_used(folder, monkeypatch) -> None:
    """The path of ForenSynths: a folder, weights as published, no ranking asked for."""
    weights = folder / "weights" / "efb0"
    weights.mkdir(parents=True)
    state = load_detector("efficientnet-b0").network.state_dict()
    torch.save({"model": state, "total_steps": 1}, weights / "blur_jpg_prob0.5.pth")
    torch.save({"model": state}, weights / "blur_jpg_probcr0.5.pth")
    images = Paper(
        families="progan-like,dcgan-like", pairs=6, size=64, world=folder / "world"
    ).images
    data = [
        "--data", images.root, "--weights", folder / "weights", "--out", folder / "other",
        "--limit", 2, "--world", folder / "world", "--generators", "dcgan-like",
    ]  # fmt: skip
    # Without --arch: the architecture that has weights is taken.
    run("table_dropout", monkeypatch, *data, "--draws", 1)
    out = folder / "other" / "efficientnet-b0"
    assert len(pd.read_parquet(out / "scores.parquet")["path"].unique()) == 4
    dropped = pd.read_csv(out / "dropped.csv")
    published = load_ranking(published_ranking("efficientnet-b0"))
    first = set(map(str, top(published, 27)))
    assert set(dropped[dropped["mask"] == "top-k"]["feature_map"]) == first
    run("table_colour_robust", monkeypatch, *data)
    table = pd.read_csv(folder / "other" / "colour_robust" / "colour_robust.csv")
    assert list(dict.fromkeys(table["training"])) == ["baseline", "colour-robust"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--arch", "npr"], "--arch npr"),
        (["--weights", "none.pth"], "no such weights file"),
        (["--generators", "x"], "no generator 'x'"),
        (["--data", "nowhere"], "no such folder"),
        (["--ranking", "none.csv"], "no ranking can be read"),
    ],
)
def test_what_the_user_can_mend_is_one_line(words, message, folder, monkeypatch, capsys) -> None:
    options = [*TINY, "--world", folder / "world", "--out", folder]
    with pytest.raises(SystemExit) as stopped:
        run("fig_omega", monkeypatch, *options, *words)
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
