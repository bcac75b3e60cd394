"""The leader board of methods: planted truth is found, floors are floors, runs go on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from forensift.cli.app import app
from forensift.data import scan
from forensift.errors import UserError
from forensift.explain.perturbation import area
from forensift.studies.leaderboard import leaderboard
from forensift.studies.leaderboard.board import LEAST, summarise
from forensift.studies.leaderboard.trial import FLOORS, MEASURES, Trial

from .planted import PLANTED, fingerprint, planted_detector, planted_images

METHODS = "gradient,hirescam,occlusion"


@pytest.fixture
def world(tmp_path: Path) -> Path:
    planted_images(tmp_path / "world", n=8, size=32)
    return tmp_path / "world"


def test_planted_truth_is_found_and_noise_is_not(world: Path, few_passes: None) -> None:
    detector = planted_detector()
    detector.network[1].bias.data.zero_()
    before = fingerprint(detector.network)
    told: list[object] = []
    result = leaderboard(
        {"planted": detector}, scan(world), methods=METHODS, n=7, cell=4,
        progress=lambda *one: told.append(one),
    )  # fmt: skip
    assert fingerprint(detector.network) == before
    assert told
    names = METHODS.split(",")
    board = result.board.set_index("method")
    assert board.index.tolist() == [*names, *FLOORS]
    assert len(result.trials) == 7 * len(board)
    assert set(MEASURES) <= set(result.trials)
    np.testing.assert_allclose(board["area"], 0.25)
    assert board.loc["hirescam", "share"] > 0.6  # the trace is in the box, and nowhere else
    assert board.loc["hirescam", "share_low"] > board.loc["random map", "share_high"]
    assert board.loc["hirescam", "share_beats"]
    assert board.loc["random map", "share"] == pytest.approx(0.25, abs=0.03)
    assert board.loc["gradient", "gradients"] == 1
    assert board["spearman"].isna().tolist() == [False] * 3 + [True] * 2
    assert "hirescam" in result.said
    few = summarise(result.trials[result.trials["path"].isin(result.trials["path"].unique()[:3])])
    assert LEAST > 3
    assert not few["share_beats"].fillna(False).astype(bool).any()
    assert len(result.plot().axes) == 7


def test_a_trial_by_hand() -> None:
    detector = planted_detector()
    rng = np.random.default_rng(0)
    real = np.full((3, 16, 16), 120, np.uint8)
    fake = real.copy()
    fake[:, :8, :8] = np.where(np.indices((8, 8)).sum(0) % 2, 132, 108)
    against = rng.integers(0, 256, fake.shape, dtype=np.uint8)
    trial = Trial(detector, "one", fake, real, against, 8, 0)
    values = np.zeros((16, 16))
    values[:8, :8] = 1  # one of four cells holds it all
    found = trial.of(values)
    p = [float(detector.logits(torch.from_numpy(one[None])).sigmoid()[0]) for one in (fake, real)]
    fractions = np.linspace(0, 1, 6)
    gone = np.array([p[0], *[p[1]] * 5])
    gone[1] = p[1] if round(0.2 * 4) >= 1 else p[0]
    assert found["deletion"] == pytest.approx(area(fractions, gone))
    back = np.array([p[1], *[p[0]] * 5])
    assert found["insertion"] == pytest.approx(area(fractions, back))


def test_the_command_goes_on_and_writes_the_page(world: Path, few_passes: None) -> None:
    out = world.parent / "out"
    words = ["faithfulness", PLANTED, "--board", "--data", str(world), "--out", str(out)]
    words += ["--method", "gradient,gradcam", "--n", "2", "--cell", "4"]
    result = CliRunner().invoke(app, words)
    assert (result.exit_code, result.stderr) == (0, "")
    assert {path.name for path in out.iterdir()} == {
        "board.csv", "trials.csv", "methods.md", "skipped.csv", "manifest.json",
        "leaderboard.png", "leaderboard.pdf", "leaderboard.svg", "view.json",
    }  # fmt: skip
    page = (out / "methods.md").read_text()
    assert page.startswith("# Which explanation method to trust")
    assert "| gradcam |" in page
    first = pd.read_csv(out / "board.csv").drop(columns="gradients")
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 0
    pd.testing.assert_frame_equal(
        pd.read_csv(out / "board.csv").drop(columns="gradients"), first, atol=1e-6
    )


def test_fakes_without_their_photographs_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for kind in ("0_real", "1_fake"):
            path = tmp_path / "one" / kind / f"{name}-{kind}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 32), (9, 9, 9)).save(path)
    with pytest.raises(UserError, match="no fake has its photograph beside it"):
        leaderboard({"planted": planted_detector()}, scan(tmp_path))
