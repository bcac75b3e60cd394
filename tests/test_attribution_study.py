"""The source attribution study: its world, tables and figures, and the study of fingerprints."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from forensift.cli.app import app
from forensift.detectors import describe, load_detector, save_weights
from forensift.detectors.detector import WeightsOrigin
from forensift.detectors.dna_det import build
from forensift.errors import UserError
from forensift.evaluation import wilson
from forensift.figures import class_overlay, heat_colours
from forensift.forge import get_family, save_generator
from forensift.forge.forge import png
from forensift.records import FAKE, REAL
from forensift.studies.dna_det import (
    ALL_CROSS,
    CROSS,
    FAMILIES,
    FingerprintSettings,
    Sizes,
    class_maps,
    forge_world,
    generators_of,
    planned,
    study_fingerprints,
    study_sets,
    tabulate,
    write_page,
)
from forensift.studies.dna_det.cams import unit
from forensift.studies.dna_det.study import TEST
from forensift.training.variants import variant_settings

CLASSES = ("real", *FAMILIES)
SIZES = Sizes(train=2, validation=1, test=3, side=32, steps=1)


def untrained(folder: Path, *, without: str = "") -> None:
    """Write a network for everything the world trains, with the facts that a training leaves."""
    for family, variant in planned():
        name = f"{family}--{variant.name}"
        if name == without:
            continue
        settings = variant_settings(family, variant)
        torch.manual_seed(settings.seed)
        facts = {"seed": str(settings.seed), "steps": "1", "loss": settings.loss}
        facts |= {"seconds": "1", "psnr": "30.0"}
        save_generator(folder / f"{name}.safetensors", get_family(family).generator(), facts)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world")
    untrained(out / "networks", without="dcgan-like--finetune")
    forge_world(out, SIZES)
    return out


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two DNA-Det networks of a sixteenth of the width, with the classes in their headers."""
    folder = tmp_path_factory.mktemp("weights")
    paths = [folder / "first.safetensors", folder / "second.safetensors"]
    for seed, path in enumerate(paths):
        torch.manual_seed(seed)
        facts = {"classes": json.dumps(CLASSES), "preset": "dna-det-32"}
        save_weights(path, build(CLASSES, width=4).state_dict(), facts)
    return paths


def test_the_world_is_made_once_and_only_what_is_missing(world: Path) -> None:
    files = {path: path.stat().st_mtime_ns for path in world.rglob("*") if path.suffix == ".png"}
    table = pd.read_csv(world / "networks.csv")
    assert len(table) == len(FAMILIES) + len(planned()) == 4 + 16 + 3
    trained = table[table["generator"] == "dcgan-like--finetune"].iloc[0]
    assert (trained["setting"], trained["photos"], trained["seed"]) == (
        "cross_finetune", "validation", 13,
    )  # fmt: skip
    shipped = table.set_index("generator").loc["dcgan-like", "psnr"]
    assert shipped > 30
    assert abs(trained["psnr"] - shipped) < 5  # one step away from it
    again = forge_world(world, SIZES)
    assert again["psnr"].tolist() == table["psnr"].tolist()
    for path, time in files.items():
        assert path.stat().st_mtime_ns == time


def test_a_network_of_other_settings_is_refused(tmp_path: Path) -> None:
    untrained(tmp_path / "networks")
    with pytest.raises(UserError, match="other settings"):
        forge_world(tmp_path, replace(SIZES, train=1, test=1, steps=2))
    facts = {"seed": "2", "steps": "1", "loss": "least-squares", "batch_size": "4"}
    network = get_family("progan-like").generator()
    save_generator(tmp_path / "networks" / "progan-like--seed-2.safetensors", network, facts)
    with pytest.raises(UserError, match="other settings"):
        forge_world(tmp_path, replace(SIZES, train=1, test=1), regime="matched")


def test_sets_share_their_crops_and_no_photograph_is_in_two_splits(world: Path) -> None:
    sets = study_sets(world)
    crops = {name: {entry.path.name for entry in images} for name, images in sets.items()}
    assert all(crops[name] == crops[TEST] for name in CROSS)
    closed = sets[TEST]
    assert len(closed.only(label=REAL)) == 3  # shared by four families, counted once
    assert len(closed.only(label=FAKE)) == 12
    for name in CROSS:
        assert not len(sets[name].only(label=REAL))
        assert sets[name].generators == tuple(sorted(generators_of(name)))
    photographs = [
        {path.stem.rsplit("-", 1)[0] for path in (world / "closed" / part).rglob("*.png")}
        for part in ("train", "validation", "test")
    ]
    assert not set.intersection(*photographs)
    with pytest.raises(UserError, match="attribute forge"):
        study_sets(world / "closed")


def predicted(rights: dict[str, float]) -> pd.DataFrame:
    """Return predictions on ten crops of five photographs, right for so many of each set."""
    rows = []
    for name, share in rights.items():
        for family in FAMILIES:
            for crop in range(10):
                stem = f"photo{crop // 2}-{crop % 2:03d}.png"
                wrong = "real" if name == TEST else FAMILIES[FAMILIES.index(family) - 1]
                rows.append(
                    {
                        "set": name, "path": f"{name}/{family}/1_fake/{stem}", "label": FAKE,
                        "generator": family, "truth": family,
                        "predicted": family if crop < 10 * share else wrong,
                        "photograph": f"photo{crop // 2}", "crop": stem,
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


def test_the_tables_of_known_predictions() -> None:
    sets = (TEST, *CROSS)
    good = predicted(dict.fromkeys(sets, 1.0))
    half = predicted({TEST: 1.0, **dict.fromkeys(CROSS, 0.5)})
    found = tabulate(
        {"good": good, "half": half}, {"good": CLASSES, "half": CLASSES}, resamples=1000
    )
    whole = found.metrics[(found.metrics["metric"] == "accuracy") & (found.metrics["class"] == "")]
    whole = whole[whole["generator"] == ""].set_index(["detector", "set"])
    assert whole.loc[("good", ALL_CROSS), "value"] == 1
    assert whole.loc[("half", ALL_CROSS), "n"] == 160
    row = whole.loc[("half", "cross_seed")]
    assert row["value"] == 0.5
    assert row["low"] < 0.5 < row["high"]
    differences = found.differences.set_index("set")
    # No crop of five photographs differs, which leaves room for others that do.
    most = wilson(0, 5)[1]
    equal = differences.loc[TEST, ["difference", "low", "high"]].tolist()
    assert equal == [0, pytest.approx(-most), pytest.approx(most)]
    row = differences.loc[ALL_CROSS]
    assert row["difference"] == 0.5
    # Three photographs of five are half wrong or worse: drawn together, they make a wide interval.
    assert 0.1 <= row["low"] < 0.5 < row["high"] <= 0.9
    drops = found.drops.set_index(["detector", "set"])
    assert drops.loc[("half", "cross_loss"), ["closed", "crossed", "drop"]].tolist() == [
        1,
        0.5,
        0.5,
    ]
    assert drops.loc[("good", ALL_CROSS), "drop"] == 0
    confusion = found.confusion[found.confusion["detector"] == "half"]
    assert confusion[confusion["set"] == "cross_seed"]["n"].sum() == 40


def test_an_unreadable_image_counts_once_however_many_passes_meet_it(
    world: Path, weights: list[Path], tmp_path: Path
) -> None:
    broken = sorted((world / "cross_seed").glob("dcgan-like*/1_fake/*.png"))[0]
    whole = broken.read_bytes()
    arguments = ["attribute", "evaluate", "--data", str(world), "--resamples", "20"]
    for path in weights:  # two detectors, each with its t-SNE and its maps
        arguments += ["--detector", f"dna-det={path}"]
    try:
        broken.write_bytes(b"no image")
        lenient = [*arguments, "--max-skipped", "0.1", "--out", str(tmp_path / "a")]
        strict = [*arguments, "--max-skipped", "0.05", "--out", str(tmp_path / "b")]
        done, refused = (CliRunner().invoke(app, words) for words in (lenient, strict))
    finally:
        broken.write_bytes(whole)
    assert done.exit_code == 0, done.output
    assert "1 image left out (skipped.csv); " in done.stdout
    assert json.loads((tmp_path / "a" / "manifest.json").read_text())["skipped"] == 1
    for folder in "ab":
        assert pd.read_csv(tmp_path / folder / "skipped.csv")["path"].tolist() == [str(broken)]
    # 1 of the 12 fakes of its set, for the second detector as for the first.
    predictions = pd.read_csv(tmp_path / "a" / "predictions.csv")
    assert (predictions["set"] == "cross_seed").sum() == 2 * 11
    assert refused.exit_code == 2
    assert "1 of 12 images cannot be used" in refused.stderr


def test_the_verb_compares_two_detectors(world: Path, weights: list[Path], tmp_path: Path) -> None:
    # A relative folder too: the images' ids are below it.
    arguments = ["attribute", "evaluate", "--data", os.path.relpath(world)]
    arguments += ["--detector", f"DNA Det:=dna-det={weights[0]}"]
    arguments += ["--detector", f"second:=dna-det={weights[1]}"]
    arguments += ["--resamples", "50", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    predictions = pd.read_csv(tmp_path / "predictions.csv")
    assert predictions["path"].str.match(r"(closed/test|cross_\w+)/").all()
    assert len(predictions) == 2 * (15 + 4 * 12)
    metrics = pd.read_csv(tmp_path / "attribution.csv", keep_default_na=False)
    whole = metrics[(metrics["metric"] == "accuracy") & (metrics["generator"] == "")]
    own = predictions[(predictions["detector"] == "DNA Det") & (predictions["set"] == TEST)]
    right = (own["truth"] == own["predicted"]).mean()
    row = whole[(whole["detector"] == "DNA Det") & (whole["set"] == TEST)].iloc[0]
    assert (row["n"], float(row["value"])) == (15, pytest.approx(right))
    lines = (tmp_path / "dna-det" / TEST / "pred" / "result.txt").read_text().splitlines()
    truth = (tmp_path / "dna-det" / TEST / "annotations.txt").read_text().splitlines()
    assert lines == [
        f"{path}\t{CLASSES.index(name)}"
        for path, name in zip(own["path"], own["predicted"], strict=True)
    ]
    assert [line.split("\t")[1] for line in truth] == [str(CLASSES.index(n)) for n in own["truth"]]
    embedding = pd.read_csv(tmp_path / "embedding.csv")
    assert set(embedding["set"]) == {TEST, *CROSS}
    assert set(embedding["truth"]) == set(CLASSES)
    assert (pd.read_csv(tmp_path / "quality.csv")["perplexity"] == 15).all()
    for name in ("accuracy", "confusion-dna-det", "tsne-second"):
        assert width(tmp_path / f"{name}.png") > 100
    assert list(tmp_path.glob("gradcam-dna-det-*.png"))
    assert list((tmp_path / "dna-det" / "cross_seed" / "gradcam").glob("*_cam_dcgan-like_*.png"))


def test_grad_cam_is_of_the_probability(world: Path, weights: list[Path]) -> None:
    detector = load_detector("dna-det", weights=weights[0])
    sets = {"cross_seed": study_sets(world)["cross_seed"]}
    found = class_maps(detector, sets)
    assert len(found) == len(FAMILIES)
    one = found[0]
    batch = detector.preset.normalise(torch.from_numpy(one.pixels[None]))
    kept: list[torch.Tensor] = []
    layer = detector.network.get_submodule("main.3.main.2")
    hook = layer.register_forward_hook(lambda module, args, out: kept.append(out))
    probability = detector.network(batch).softmax(1)[0]
    hook.remove()
    best = int(probability.argmax())
    assert one.predicted == CLASSES[best]
    assert one.probability == pytest.approx(float(probability[best].detach()), rel=1e-5)
    (gradient,) = torch.autograd.grad(probability[best], kept[0])
    cam = (gradient.mean((2, 3), keepdim=True) * kept[0]).sum(1).detach()
    cam = nn.functional.interpolate(cam[:, None], one.heat.shape, mode="bilinear")[0, 0].numpy()
    assert np.allclose(one.heat, unit(cam), atol=1e-4)


def test_maps_are_scaled_as_published_and_hot_is_red() -> None:
    assert unit(np.array([[-1.0, 2.0], [4.0, 3.0]])).tolist() == [[0, 0.5], [1, 0.75]]
    assert not unit(np.full((2, 2), -1.0)).any()
    hot, cold = heat_colours(np.array([[1.0, 0.0]], dtype=np.float32))[0].astype(int)
    assert hot[0] > hot[2]
    assert cold[2] > cold[0]
    grey = np.full((3, 1, 2), 128, dtype=np.uint8)
    overlay = class_overlay(grey, np.array([[1.0, 0.0]], dtype=np.float32))
    assert overlay.max() == 255
    assert overlay[0, 0, 0] > overlay[0, 0, 2]


def test_a_detector_with_other_classes_or_without_is_refused(world: Path) -> None:
    network = build(("real", "ProGAN"), width=4)
    origin = WeightsOrigin("initialisation", "", "bare")
    options = {"classes": ("real", "ProGAN")}
    other = describe("dna-det", network, origin, "dna-det-32", options)
    from forensift.studies.dna_det import predictions

    with pytest.raises(UserError, match="no class of dna-det"):
        predictions({"other": other}, study_sets(world))
    with pytest.raises(UserError, match="no classes"):
        class_maps(replace(other, classes=()), study_sets(world))


def width(picture: Path) -> int:
    with Image.open(picture) as opened:
        return opened.width


def write_fakes(folder: Path, generator: str, images: np.ndarray) -> None:
    for number, image in enumerate(images):
        path = folder / generator / "1_fake" / f"photo{number}-{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(image))


def test_fingerprints_bound_to_a_place_are_told_from_those_that_are_everywhere(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    stripes = 14 * (np.arange(48) % 4 < 2)  # one period of the up-sampling
    for task, parts in (("closed", ("train", "test")), ("weights", ("train", "test"))):
        for part in parts:
            reals = rng.integers(60, 180, (12, 6, 6, 3)).repeat(8, axis=1).repeat(8, axis=2)
            for generator, pattern in (("down", stripes[:, None]), ("along", stripes[None, :])):
                trace = np.broadcast_to(pattern[:, :, None], (48, 48, 3)).copy()
                if task == "weights":  # a trace in the middle alone
                    trace[:16], trace[32:], trace[:, :16], trace[:, 32:] = 0, 0, 0, 0
                write_fakes(tmp_path / task / part, generator, (reals + trace).astype(np.uint8))
    settings = FingerprintSettings(patch=16, stride=16, steps=80, batch=8)
    found = study_fingerprints(tmp_path, settings)
    again = study_fingerprints(tmp_path, settings)
    assert found.positions.equals(again.positions)
    summary = found.summary.set_index("task")
    assert (summary["trained"] >= 0.9).all()
    assert summary.loc["architecture", "elsewhere"] >= 0.9
    assert summary.loc["weights", "elsewhere"] <= 0.7
    assert summary.loc["weights", "fall_low"] > 0.1
    grid = found.positions[found.positions["kind"] == "grid"]
    assert sorted(set(grid["top"])) == [0, 16, 32]
    assert len(grid[grid["trained"]]) == 2
    assert (grid["n"] == 24).all()
    with pytest.raises(UserError, match="multiple of 4"):
        study_fingerprints(tmp_path, replace(settings, stride=6))
    with pytest.raises(UserError, match="no other place"):
        study_fingerprints(tmp_path, replace(settings, stride=48))
    with pytest.raises(UserError, match="must fit"):
        study_fingerprints(tmp_path, replace(settings, place=(40, 0)))


def test_the_verb_of_fingerprints_and_the_page(
    world: Path, weights: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="nothing to report"):
        write_page(world, tmp_path / "page.md")
    run = CliRunner()
    arguments = ["attribute", "fingerprints", "--data", str(world), "--patch", "16"]
    done = run.invoke(app, [*arguments, "--stride", "8", "--steps", "2"])
    assert done.exit_code == 0, done.output
    assert width(world / "fingerprints" / "fingerprints.png") > 100
    arguments = ["attribute", "evaluate", "--data", str(world), "--per-group", "0"]
    done = run.invoke(app, [*arguments, "--crops", "0", "--detector", f"dna-det={weights[0]}"])
    assert done.exit_code == 0, done.output
    path = tmp_path / "page.md"
    done = run.invoke(app, ["attribute", "page", "--data", str(world), "--out", str(path)])
    assert done.exit_code == 0, done.output
    page = path.read_text()
    metrics = pd.read_csv(world / "study" / "attribution.csv", keep_default_na=False)
    row = metrics[(metrics["metric"] == "accuracy") & (metrics["set"] == ALL_CROSS)].iloc[0]
    assert f"| {100 * float(row['value']):.1f} [" in page
    assert "progan-like--seed-5" in page
    assert "place of training" in page
