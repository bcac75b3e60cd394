"""``forensift reproduce``: published cells, weights in every wrapper, a miniature ForenSynths."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score
from typer.testing import CliRunner

import forensift
from forensift.cli.app import app
from forensift.detectors import ARCHITECTURES, load_detector
from forensift.errors import UserError
from forensift.fmap_ranking import load_ranking
from forensift.forge import forge
from forensift.records import FeatureMap
from forensift.sensitivity import Mask
from forensift.sensitivity.masks import BASELINE, LOW, RANDOM, TOP
from forensift.studies import tff
from forensift.studies.tff.intervals import dropout_cells
from forensift.studies.tff.tables import (
    COLUMNS,
    CORRUPT,
    INSIDE,
    KEYS,
    NO_DATA,
    NO_WEIGHTS,
    NOTHING,
    OUTSIDE,
    compare,
    published_cells,
    published_ranking,
)

ARCH = "efficientnet-b0"
FAMILIES = {"progan": "progan-like", "stylegan2": "dcgan-like", "biggan": "pixelshuffle-like"}
TREE = {"progan": ("cat", "dog"), "stylegan2": ("car",), "biggan": ("",)}


def run(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["reproduce", *map(str, words)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A ForenSynths tree of three generators, a validation set, and weights as published."""
    root = tmp_path_factory.mktemp("world")
    photographs = forensift.photographs("test")
    forge(photographs, list(FAMILIES.values()), root / "forged", per_family=6, side=64)
    for generator, classes in TREE.items():
        for at, name in enumerate(classes):
            for kind in ("0_real", "1_fake"):
                folder = root / "data" / generator / name / kind
                folder.mkdir(parents=True)
                images = sorted((root / "forged" / FAMILIES[generator] / kind).iterdir())
                for path in images[at :: len(classes)]:
                    shutil.copy(path, folder)
    shutil.copytree(root / "data" / "progan", root / "progan_val")
    state = load_detector(ARCH).network.state_dict()
    for folder, wrapper in {
        "efb0/blur_jpg_prob0.5.pth": {"model": state, "optimizer": {"state": {}}, "total_steps": 7},
        "efb0/blur_jpg_prob0.1.pth": {"model": state},
        "efb0/blur_jpg_probcr0.5.pth": {f"module.{key}": value for key, value in state.items()},
    }.items():
        path = root / "weights" / folder
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(wrapper, path)
    return root


@pytest.fixture(scope="module")
def whole(world: Path) -> tuple[Path, str]:
    out = world / "whole"
    code, printed, err = run(
        "tff", "--data", world / "data", "--weights", world / "weights", "--arch", ARCH,
        "--draws", 2, "--out", out,
    )  # fmt: skip
    assert (code, err) == (0, "")
    return out, printed


def test_published_cells_are_all_there_and_the_corrupt_ones_known() -> None:
    cells = published_cells(tff.TABLES, ("resnet50", ARCH))
    counts = cells.groupby("table").size().to_dict()
    assert counts == {"cnndetection": 13 * 4, "colour-robust": 56, "dropout": 2 * 4 * 7 * 3}
    broken = cells[cells["corrupt"]]
    assert len(broken) == 4
    assert set(broken["arch"] + " " + broken["generator"]) == {f"{ARCH} StyleGAN2"}
    found = cells.set_index(list(KEYS))["published"]
    head = ("dropout", "resnet50", "baseline", "RGB", "BigGAN", "top-k")
    assert [found[(*head, q)] for q in ("ap", "real_accuracy", "fake_accuracy")] == [
        55.4, 86.4, 18.3,
    ]  # fmt: skip
    # The study's baseline is CNNDetection at native size.
    for name in ("ProGAN", "StyleGAN2", "GauGAN"):
        same = [
            found[(table, "resnet50", "baseline", "RGB", name, "baseline", "ap")]
            for table in ("dropout", "cnndetection", "colour-robust")
        ]
        assert len(set(same)) == 1


def test_every_studied_cell_stands_beside_ours(world: Path, whole: tuple[Path, str]) -> None:
    out, printed = whole
    cells = pd.read_csv(out / "reproduction.csv")
    assert tuple(cells.columns) == COLUMNS
    assert set(cells["arch"]) == {ARCH}
    there = cells["generator"].isin(["ProGAN", "StyleGAN2", "BigGAN"])
    assert (cells.loc[~there, "verdict"] == NO_DATA).all()
    assert cells.loc[there, "ours"].notna().all()
    judged = cells[cells["verdict"].isin([INSIDE, OUTSIDE])]
    assert len(judged) == 3 * 12 + 2 * 4
    assert np.allclose(judged["difference"], judged["ours"] - judged["published"])
    assert ((judged["low"] <= judged["ours"]) & (judged["ours"] <= judged["high"])).all()
    corrupt = cells[cells["verdict"] == CORRUPT]
    assert set(corrupt["generator"]) == {"StyleGAN2"}
    assert set(corrupt["table"]) == {"colour-robust"}
    assert len(corrupt) == 4
    assert corrupt["difference"].isna().all()
    assert corrupt["ours"].notna().all()
    assert (cells.loc[cells["table"] == "median-test", "verdict"] == NOTHING).all()
    assert "Not in the data: StyleGAN, CycleGAN, StarGAN, GauGAN" in " ".join(printed.split())
    text = (out / "reproduction.md").read_text()
    assert text.count("\n| ") >= len(cells)
    assert CORRUPT in text
    facts = json.loads((out / "manifest.json").read_text())
    assert facts["generators"] == {"ProGAN": 12, "StyleGAN2": 12, "BigGAN": 12}
    assert facts["weights"][f"{ARCH}, CR"]["wrapper"] == "bare, module."
    assert facts["weights"][f"{ARCH}, baseline"]["wrapper"] == "model"
    assert facts["missing_generators"][0] == "StyleGAN"


def test_the_numbers_are_those_of_the_single_stages(world: Path, whole: tuple[Path, str]) -> None:
    cells = pd.read_csv(whole[0] / "reproduction.csv").set_index(list(KEYS))["ours"]
    detector = load_detector(ARCH)
    images = forensift.scan(world / "data").only(generator="stylegan2")
    ranking = load_ranking(published_ranking(ARCH))
    alone = forensift.dropout(detector, images, ranking, 27, draws=2, ks=()).table
    for mask, ours in (("baseline", "baseline"), ("top-k", "top-k"), ("low-k", "low-k"),
                       ("random-k-ensemble", "random-k")):  # fmt: skip
        row = alone[alone["mask"] == mask].iloc[0]
        for quantity in ("ap", "real_accuracy", "fake_accuracy"):
            key = ("dropout", ARCH, "baseline", "RGB", "StyleGAN2", ours, quantity)
            assert cells[key] == pytest.approx(100 * row[quantity], abs=1e-6)
    written = pd.read_csv(whole[0] / ARCH / "dropout.csv")
    rows = written[written["generator"] == "ProGAN"]
    assert set(rows["threshold"]) == {0.5}
    # Grey, by hand: Pillow's luma, three times.
    labels, logits = [], []
    for entry in images:
        grey = Image.open(entry.path).convert("L").convert("RGB")
        pixels = torch.from_numpy(np.asarray(grey).transpose(2, 0, 1).copy())[None]
        logits.append(float(detector.logits(pixels)))
        labels.append(entry.label)
    key = ("colour-robust", ARCH, "CR", "grey", "StyleGAN2", "baseline", "ap")
    assert cells[key] == pytest.approx(100 * average_precision_score(labels, logits), abs=1e-6)


def test_an_own_ranking_stands_beside_the_published_one(world: Path) -> None:
    state = load_detector(ARCH).network.state_dict()
    state["_fc.bias"] += 50  # now every image is a confident fake, and no real is right
    torch.save(state, world / "sure.pth")
    out = world / "ranked"
    code, printed, err = run(
        "tff", "--data", world / "data", "--weights", world / "sure.pth", "--tables", "median-test",
        "--rank-data", world / "progan_val", "--rank-per-class", 1, "--arch", ARCH,
        "--generators", "biggan", "--limit", 4, "--out", out,
    )  # fmt: skip
    assert (code, err) == (0, "")
    cells = pd.read_csv(out / "reproduction.csv")
    omega = cells[cells["quantity"] == "omega"]
    published = load_ranking(published_ranking(ARCH))
    assert omega["mask"].tolist() == [str(one) for one in published.feature_maps(slice(0, 10))]
    assert np.allclose(omega["published"], 100 * published.table["omega"][:10])
    assert set(omega["n_fake"]) == {2}  # one of each class
    own = load_ranking(out / ARCH / "progan_val-fake.csv")
    ours = dict(zip(map(str, own.feature_maps()), own.table["omega"], strict=True))
    assert np.allclose(omega["ours"], [100 * ours[key] for key in omega["mask"]])
    assert "no ranking on reals" in " ".join(printed.split())
    tests = pd.read_csv(out / ARCH / "median_test.csv")
    assert tests["feature_map"].tolist() == [str(one) for one in own.feature_maps(slice(0, 27))]


def test_verdicts() -> None:
    def rows(*values: tuple[object, ...]) -> list[tuple[object, ...]]:
        head = ("dropout", "resnet50", "baseline", "RGB")
        return [(*head, *value) for value in values]

    cells = pd.DataFrame(
        rows(
            ("ProGAN", "top-k", "ap", 69.8, False),
            ("BigGAN", "top-k", "ap", 55.4, False),
            ("GauGAN", "top-k", "ap", 71.0, True),
            ("StarGAN", "top-k", "ap", 72.6, False),
            ("CycleGAN", "top-k", "ap", 61.2, False),
        ),
        columns=[*KEYS, "published", "corrupt"],
    )
    ours = pd.DataFrame(
        [
            {**dict(zip(KEYS, row[:7], strict=True)), "ours": row[7], "low": row[8], "high": row[9]}
            for row in rows(
                ("ProGAN", "top-k", "ap", 70.5, 69.849, 71.0),  # inside by its rounding alone
                ("BigGAN", "top-k", "ap", 57.0, 55.5, 58.0),
                ("GauGAN", "top-k", "ap", 71.0, 70.0, 72.0),
                ("BigGAN", "top-k", "own", 1.0, 0.0, 2.0),
            )
        ]
    ).reindex(columns=list(COLUMNS))
    given = [("resnet50", "baseline")]
    names = ["ProGAN", "BigGAN", "GauGAN", "CycleGAN"]
    table = compare(cells, ours, there=names, weights=given)
    assert table["verdict"].tolist()[:4] == [INSIDE, OUTSIDE, CORRUPT, NO_DATA]
    assert table["verdict"].tolist()[5] == NOTHING
    assert compare(cells, ours, there=names, weights=[])["verdict"].tolist()[4] == NO_WEIGHTS
    assert tff.tally(table).startswith("1 of 2 published cells lie inside")


def test_random_k_is_the_ensemble_and_its_interval_holds_other_draws(rng) -> None:
    labels = np.repeat([0, 1], 200)
    common = rng.normal(size=400) + labels
    head = {"generator": "one"}
    maps = (FeatureMap("conv1", 0, 8),)
    masks = [Mask(BASELINE, 0, 1), Mask(TOP, 0, 1, maps), Mask(LOW, 0, 1, maps)]

    def interval(spread: float, draws: int) -> tuple[float, float, float]:
        # Some draws damage the detector: each adds its own amount of noise.
        damage = spread * rng.random(draws)[:, None]
        drawn = common + damage * rng.normal(size=(draws, 400))
        logits = np.concatenate([np.tile(common, (3, 1)), drawn])
        named = [*masks, *(Mask(RANDOM, draw, 1, maps) for draw in range(draws))]
        found = dropout_cells(head, labels, logits, named, 0.5, 0)
        cell = next(c for c in found if c["mask"] == RANDOM and c["quantity"] == "ap")
        mean = (1 / (1 + np.exp(-drawn[:5]))).mean(axis=0)
        expected = 100 * average_precision_score(labels, mean)
        assert cell["ours"] == pytest.approx(expected)
        return cell["low"], cell["ours"], cell["high"]

    low, value, high = interval(0.0, 20)
    wide_low, _, wide_high = interval(20.0, 20)
    assert low <= value <= high
    assert wide_high - wide_low > 1.1 * (high - low)
    interval(1.0, 5)


def test_weights_are_told_by_keys_and_names(world: Path, tmp_path: Path) -> None:
    folder = world / "weights"
    found = tff.find_weights([str(folder)])
    assert {slot: path.name for slot, path in found.items()} == {
        (ARCH, "baseline"): "blur_jpg_prob0.5.pth", (ARCH, "CR"): "blur_jpg_probcr0.5.pth",
    }  # fmt: skip
    other = folder / "efb0" / "blur_jpg_prob0.1.pth"
    assert tff.find_weights([f"efb0:CR={other}"]) == {(ARCH, "CR"): other}
    for name in ("cr/blur.pth", "blur_jpg_prob0.5_colour.pth", "CR-efb0.pth", "gray.pth"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        shutil.copy(other, path)
        assert list(tff.find_weights([str(tmp_path)])) == [(ARCH, "CR")]
        path.unlink()
    for name in ("across.pth", "blur_jpg_prob0.5.pth"):
        shutil.copy(other, tmp_path / name)
        assert list(tff.find_weights([str(tmp_path / name)])) == [(ARCH, "baseline")]
    with pytest.raises(UserError, match=r"may both be efficientnet-b0, baseline; say --weights"):
        tff.find_weights([str(tmp_path)])
    named = f"{ARCH}={tmp_path / 'across.pth'}"
    assert len(tff.find_weights([named])) == 1


def test_bad_input_is_exit_code_2_and_one_line(world: Path, tmp_path: Path) -> None:
    npr = tmp_path / "npr.pth"
    torch.save(ARCHITECTURES["npr"].build().state_dict(), npr)
    efb0 = world / "weights" / "efb0" / "blur_jpg_prob0.5.pth"
    (tmp_path / "empty").mkdir()
    shutil.copytree(world / "data" / "biggan", tmp_path / "lame" / "biggan")
    shutil.rmtree(tmp_path / "lame" / "biggan" / "0_real")
    shutil.copytree(world / "data" / "biggan", tmp_path / "others" / "unheard-of")
    data, weights = ["--data", world / "data"], ["--weights", world / "weights"]
    more = ["--arch", ARCH, "--out", tmp_path / "out"]
    cases = {
        "no weights of": ["tff", *data, "--weights", tmp_path / "empty"],
        "neither resnet50 nor": ["tff", *data, "--weights", npr],
        "no such weights file": ["tff", *data, "--weights", tmp_path / "none.pth"],
        "there are baseline and CR": ["tff", *data, "--weights", f"efb0:x={npr}"],
        "not weights of resnet50": ["tff", *data, "--weights", f"resnet50={efb0}"],
        "no table 'x'": ["tff", *data, *weights, "--tables", "x"],
        "none of the tables": ["tff", *data, *weights, "--tables", "cnndetection"],
        "no published generator 'x'": ["tff", *data, *weights, "--generators", "x"],
        "none of the generators gaugan": ["tff", *data, *weights, "--generators", "GauGAN"],
        "it holds unheard-of": ["tff", "--data", tmp_path / "others", *weights],
        "has no real images": ["tff", "--data", tmp_path / "lame", *weights],
        "(--rank-data)": ["tff", *data, *weights, "--ranking", "own"],
        "no ranking 'x'": ["tff", *data, *weights, "--ranking", "x"],
    }
    for message, words in cases.items():
        code, _, err = run(*words, *more)
        assert code == 2, message
        assert message in err
        assert err.count("\n") == 1
    code, _, err = run("x", *data, *weights)
    assert (code, "No such command 'x'" in err) == (2, True)
    arch = ["--arch", "resnet50", "--out", tmp_path / "out"]
    code, _, err = run("tff", *data, *weights, *arch)
    assert (code, "no weights of resnet50 were given" in err) == (2, True)
