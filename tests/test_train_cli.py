"""``forensift train`` for every detector: its command, its files, its refusals."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from forensift.cli.app import app
from forensift.cli.train import SPELLED
from forensift.data import scan
from forensift.detectors import header, load_detector
from forensift.training import TRAININGS

FAMILIES = ("progan-like", "ddpm-like")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six photographs in two classes, each real and by two families, 40 pixels a side."""
    root = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(0)
    for number in range(6):
        real = rng.integers(20, 230, (40, 40, 3))
        for family, change in zip(FAMILIES, (15, -15), strict=True):
            folder = root / family / ("horse" if number % 2 else "car")
            for kind, pixels in (("0_real", real), ("1_fake", real + change)):
                (folder / kind).mkdir(parents=True, exist_ok=True)
                image = Image.fromarray(pixels.astype(np.uint8))
                image.save(folder / kind / f"photo{number}-000.png")
    return root


def train(detector: str, data: Path, out: Path, *options: str) -> Result:
    command = ["train", detector, "--data", str(data), "--out", str(out), "--device", "cpu"]
    return CliRunner().invoke(app, [*command, "--workers", "0", *options])


def files(out: Path, detector: str) -> tuple[dict[str, str], dict[str, object]]:
    facts = header(out / f"{detector}.safetensors")
    assert facts["command"]
    assert "validation" in facts["result"]
    return facts, json.loads((out / "manifest.json").read_text())


def test_lgrad_of_two_stages_on_two_classes(world: Path, tmp_path: Path) -> None:
    options = ["--recipe", "lgrad", "--validation", str(world), "--stages", "2", "--pairs"]
    options += ["--load-size", "0", "--crop-size", "32", "--batch-size", "4", "--max-steps", "2"]
    options += ["--epoch-steps", "1", "--bits", "8", "--preset", "lgrad-gradients"]
    result = train("lgrad", world, tmp_path, *options, "--classes", "horse")
    assert result.exit_code == 0, result.output
    facts, manifest = files(tmp_path, "lgrad")
    assert manifest["images"] == [12, 12]  # three photographs, two families, real and fake
    detector = load_detector("lgrad", weights=tmp_path / "lgrad.safetensors")
    assert detector.preset.name == facts["preset"] == "lgrad-gradients"
    assert not any(one.startswith("layer3") for one in detector.layers)
    refused = train("lgrad", world, tmp_path / "no", *options, "--classes", "cat")
    assert refused.exit_code == 2
    assert "no class cat" in refused.output


def test_dna_det_and_its_plain_baseline(world: Path, tmp_path: Path) -> None:
    options = ["--recipe", "dna-det-celeba", "--validation", str(world), "--max-steps", "2"]
    options += ["--epoch-steps", "1", "--batch-size", "2", "--preset", "dna-det-64"]
    options += ["--width", "4", "--crops", "2"]
    for folder, more in (("dna", []), ("plain", ["--no-contrastive"])):
        result = train("dna-det", world, tmp_path / folder, *options, *more)
        assert result.exit_code == 0, result.output
        facts, manifest = files(tmp_path / folder, "dna-det")
        assert json.loads(facts["classes"]) == ["real", "ddpm-like", "progan-like"]
        assert manifest["settings"]["contrastive"] is (folder == "dna")  # type: ignore[index]
        columns = pd.read_csv(tmp_path / folder / "history.csv").columns
        assert {"accuracy", "macro_f1"} <= set(columns)
    detector = load_detector("dna-det", weights=tmp_path / "dna" / "dna-det.safetensors")
    assert (len(detector.classes), detector.real) == (3, 0)
    own = ["--classes", "real,ddpm-like"]
    assert not train("dna-det", world, tmp_path / "two", *options, *own).exit_code
    assert json.loads(header(tmp_path / "two" / "dna-det.safetensors")["classes"]) == [
        "real",
        "ddpm-like",
    ]


def test_deepfeaturex_in_four_trainings(world: Path, tmp_path: Path) -> None:
    options = ["--recipe", "deepfeaturex", "--preset", "deepfeaturex-native", "--max-steps", "1"]
    options += ["--crop-size", "32", "--batch-size", "4", "--epoch-steps", "1", "--bits", "5"]
    options += ["--backbone", "shufflenet_v2_x0_5", "--share", "1", "--head-steps", "1"]
    options += ["--by", "image"]
    many = tmp_path / "many"  # enough images that no stage of the guidance is empty
    for entry in scan(world):
        for copy in range(6):
            name = f"{entry.path.stem}-{copy:03d}.png"
            path = many / entry.generator / entry.path.parent.name / name
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.asarray(Image.open(entry.path)) // 2 + copy
            Image.fromarray(pixels).save(path)
    result = train("deepfeaturex", many, tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    facts, _ = files(tmp_path / "out", "deepfeaturex")
    assert facts["backbone"] == "shufflenet_v2_x0_5"
    assert {"bm-dm", "bm-gan", "bm-real", "complete", "guidance.csv"} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }
    detector = load_detector("deepfeaturex", weights=tmp_path / "out" / "deepfeaturex.safetensors")
    assert (detector.classes, detector.real) == (("dm_generated", "gan_generated", "real"), 2)


def test_a_recipe_of_another_detector_is_refused(world: Path, tmp_path: Path) -> None:
    result = train("dna-det", world, tmp_path, "--recipe", "npr", "--validation", str(world))
    assert result.exit_code == 2
    assert "dna-det-celeba" in result.output


@pytest.mark.parametrize(
    ("detector", "options", "said"),
    [
        ("dna-det", ["--precision", "bf16"], "No such option: --precision"),
        ("dna-det", ["--freeze", "nonsense"], "No such option: --freeze"),
        ("dna-det", ["--generator", "ddpm-like"], "No such option: --generator"),
        ("npr", ["--stages", "2"], "No such option: --stages"),
        ("npr", ["--guidance", "x.csv"], "No such option: --guidance"),
        ("deepfeaturex", ["--validation", "."], "No such option: --validation"),
        ("deepfeaturex", ["--load-size", "8"], "No such option: --load-size"),
        ("npr", ["--recipe", "npr", "--precision", "half"], "choose float32, bf16"),
        ("npr", ["--recipe", "npr", "--class-bal", "--pairs"], "balanced already"),
        ("npr", [], "--recipe is missing: choose blur-jpg-0.5"),
        ("resnet", [], "No such command 'resnet'"),
    ],
)
def test_an_option_that_does_not_apply_is_refused(
    world: Path, tmp_path: Path, detector: str, options: list[str], said: str
) -> None:
    result = train(detector, world, tmp_path, *options)
    assert result.exit_code == 2
    assert said in " ".join(result.output.replace("│", " ").split())
    assert not (tmp_path / "checkpoint.pth").exists()


@pytest.mark.parametrize(
    ("family", "options", "said"),
    [
        ("ddpm-like", ["--loss", "hinge"], "No such option: --loss"),
        ("ldm-like", ["--encoder-only"], "No such option: --encoder-only"),
        ("dcgan-like", ["--regime", "quick"], "--regime is of a --variant"),
        ("dcgan-like", ["--encoder-only"], "give a start"),
        ("identity", [], "No such command"),
    ],
)
def test_a_family_has_the_options_of_its_own_training(
    tmp_path: Path, family: str, options: list[str], said: str
) -> None:
    result = CliRunner().invoke(app, ["forge-train", family, "--out", str(tmp_path), *options])
    assert result.exit_code == 2
    assert said in " ".join(result.output.replace("│", " ").split())


@pytest.mark.parametrize("name", TRAININGS)
def test_the_options_of_a_detector_are_its_settings(name: str) -> None:
    told = CliRunner().invoke(app, ["train", name, "--help"], env={"COLUMNS": "200"}).output
    for one in dataclasses.fields(TRAININGS[name].settings):
        flag = SPELLED.get(one.name, f"--{one.name.replace('_', '-')}")
        assert f" {flag} " in told, flag
