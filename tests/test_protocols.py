"""Published evaluations: Wang et al.'s recipe to the letter, their 13 sets, NPR's suites."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.metrics import average_precision_score
from torchvision import transforms
from torchvision.models import resnet50
from typer.testing import CliRunner

import forensift
from forensift.cli.app import app
from forensift.data import get_preset, read_image, scan
from forensift.detectors import get_architecture, load_detector
from forensift.errors import UserError
from forensift.forge import forge
from forensift.records import ImageEntry
from forensift.studies.published import (
    INSIDE,
    NO_DATA,
    OTHER_WEIGHTS,
    OUTSIDE,
    published_table,
)
from forensift.studies.suites import (
    NPR_SUITES,
    WANG,
    find_suites,
    published_scores,
    wang_weights,
    weights_by_suite,
)
from forensift.studies.suites.measure import verdict
from forensift.studies.suites.npr_tables import published_cells
from forensift.training import RECIPES, get_recipe
from forensift.training.augment import blur, blur_and_jpeg, jpeg
from forensift.training.batches import TrainingBatches, augmented, loaded, validation_crop
from forensift.training.initialise import initialise
from forensift.training.one_logit import decayed
from forensift.training.plateau import Plateau

from .conftest import write_image

SUITES = {suite.name: suite for suite in NPR_SUITES}
KINDS = ("0_real", "1_fake")


def run(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["reproduce", *map(str, words)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


# --- Wang et al.'s recipe, §2.2 ---------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.05, 0.13, 0.7, 1.5, 2.2, 2.9999])
@pytest.mark.parametrize("shape", [(48, 48), (33, 57), (5, 41)])
def test_published_blur_is_scipys_in_place_on_a_uint8_buffer(shape, sigma) -> None:
    image = np.random.default_rng(7).integers(0, 256, (*shape, 3), dtype=np.uint8)
    theirs = image.copy()
    for channel in range(3):
        gaussian_filter(theirs[..., channel], output=theirs[..., channel], sigma=sigma)
    assert np.array_equal(blur(image, sigma, published=True), theirs)


def test_validation_keeps_the_probabilities_with_sigma_and_quality_in_the_middle() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    both = jpeg(blur(image, 1.5, published=True), 65, "pil")
    rng = np.random.default_rng(1)

    def validated(image: np.ndarray, probability: float, **how: bool) -> np.ndarray:
        return blur_and_jpeg(image, (probability, probability), rng, validation=True, **how)

    assert np.array_equal(validated(image, 1.0, published_blur=True), both)
    same = [np.array_equal(validated(image, 0.5), image) for _ in range(400)]
    assert abs(np.mean(same) - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 400)


@pytest.mark.parametrize("size", [(300, 401), (299, 64), (33, 97), (256, 300)])
def test_load_size_and_centre_crop_are_torchvisions(size, tmp_path) -> None:
    entry = ImageEntry(write_image(tmp_path / "a.png", size), 0, "g")
    sampling = RECIPES["blur-jpg-0.5"]
    with Image.open(entry.path) as image:
        resized = transforms.Resize(256)(image.convert("RGB"))
    assert np.array_equal(loaded(entry, sampling), np.asarray(resized))
    cropped = np.asarray(transforms.CenterCrop(224)(resized))
    assert np.array_equal(validation_crop(entry, sampling, clean=True), cropped)
    squash = RECIPES["npr"]
    with Image.open(entry.path) as image:
        assert np.array_equal(
            loaded(entry, squash), np.asarray(transforms.Resize((256, 256))(image))
        )


def test_the_plateau_rule_trains_at_three_rates_and_floats_decide_the_last() -> None:
    watch, rates = Plateau(1e-4), []
    while not watch.ended:
        rates.append(watch.learning_rate)
        watch.update(0.5)
    assert list(dict.fromkeys(rates)) == [1e-4, 1e-5, 1e-5 / 10]
    assert rates[-1] == 1.0000000000000002e-06 > 1e-6
    assert [rates.count(rate) for rate in dict.fromkeys(rates)] == [6, 6, 6]
    late = Plateau(1e-5, margin=0.002)
    for accuracy in (0.5, 0.5015):  # enough for the first stopper, not for a later one
        late.update(accuracy)
    assert (late.best, late.waited) == (0.5, 1)


def test_class_bal_draws_both_labels_alike_and_an_epoch_stays_as_long(tmp_path) -> None:
    for label, n in ((0, 36), (1, 4)):
        for number in range(n):
            write_image(tmp_path / "g" / KINDS[label] / f"{number}.png", (12, 12), number)
    images = scan(tmp_path)
    plain = {"batch_size": 4, "load_size": 0, "crop_size": 12}
    shares = {}
    for balanced in (False, True):
        data = TrainingBatches(images, get_recipe("npr", "npr", **plain, balanced=balanced))
        assert data.steps_an_epoch == 10
        steps = range(10) if not balanced else range(60)
        shares[balanced] = torch.cat([data[step][1] for step in steps]).mean().item()
    assert shares[False] == pytest.approx(0.1)
    assert abs(shares[True] - 0.5) < 4 * np.sqrt(0.25 / 240)


def test_a_new_head_on_imagenet_weights_has_the_published_spread(tmp_path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "resnet50-19c8e357.pth"
    torch.save(resnet50(weights=None).state_dict(), path)
    head = initialise(get_architecture("resnet50"), str(path), 0).fc
    assert head.weight.std().item() == pytest.approx(0.02, rel=0.06)
    assert head.bias.abs().item() <= 1 / np.sqrt(2048)


# --- NPR's recipes, §3.2 ----------------------------------------------------------------------


def test_nprs_rate_falls_by_a_tenth_after_epochs_10_20_30_40() -> None:
    rates = [decayed(RECIPES["npr"], epoch) for epoch in range(50)]
    expected = [2e-4] * 11 + [1.8e-4] * 10 + [1.62e-4] * 10 + [1.458e-4] * 10 + [1.3122e-4] * 9
    assert rates == pytest.approx(expected, rel=1e-12)


def test_nprs_genimage_recipe_tiles_from_the_top_left(tmp_path) -> None:
    recipe = RECIPES["npr-genimage"]
    assert (recipe.seed, recipe.epochs, recipe.batch_size, recipe.side) == (70, 1, 32, 224)
    assert (recipe.learning_rate, recipe.tile, recipe.load_size, recipe.blur) == (2e-4, True, 0, 0)
    sampling = replace(recipe, crop_size=32)
    entry = ImageEntry(write_image(tmp_path / "a.png", (20, 13)), 0, "g")
    with Image.open(entry.path) as image:
        whole = np.tile(np.asarray(image), (3, 2, 1))  # 39 × 40: ⌈32 / 13⌉ and ⌈32 / 20⌉
    assert np.array_equal(loaded(entry, sampling), whole)
    assert np.array_equal(validation_crop(entry, sampling, clean=True), whole[4:36, 4:36])
    assert augmented(entry, sampling, np.random.default_rng(0)).shape == (32, 32, 3)
    large = ImageEntry(write_image(tmp_path / "b.png", (40, 33)), 0, "g")
    assert loaded(large, sampling).shape == (33, 40, 3)


# --- where suites lie -------------------------------------------------------------------------


def leaf(root: Path, *folders: str, kinds: tuple[str, str] = KINDS) -> None:
    for at, folder in enumerate(folders):
        for label, kind in enumerate(kinds):
            write_image(root / folder / kind / "a.png", (8, 8), 10 * at + label)


def test_suites_are_found_by_name_at_any_depth(tmp_path: Path) -> None:
    leaf(tmp_path, "Generalization_Test/ForenSynths_test/progan/cat",
         "ForenSynths_train_val/test/progan", "ForenSynths_train_val/test/biggan",
         "ForenSynths_train_val/train/car", "Generalization_Test/GANGen-Detection/AttGAN",
         "Generalization_Test/Diffusion1kStep/guided-diffusion",
         "AIGCDetect_testset/whichfaceisreal", "AIGCDetect_testset/stable_diffusion_v_1_4",
         "AIGCDetect_testset/unheard-of")  # fmt: skip
    found = {one.suite.name: one for one in find_suites(tmp_path, NPR_SUITES)}
    assert {name: list(one.sets) for name, one in found.items()} == {
        "forensynths": ["ProGAN"],
        "gangen": ["AttGAN"],
        "diffusion1kstep": ["guided-diffusion"],
        "aigcdetectbenchmark": ["WFIR", "SDv1.4"],
    }
    assert found["forensynths"].root.name == "ForenSynths_test"  # a name beats a content
    assert "passed over: unheard-of" in " ".join(found["aigcdetectbenchmark"].notes)
    assert "not in the data: ProGAN" in " ".join(found["aigcdetectbenchmark"].notes)
    settled = find_suites(
        tmp_path, NPR_SUITES, {"forensynths": tmp_path / "ForenSynths_train_val" / "test"}
    )
    assert list(settled[0].sets) == ["ProGAN", "BigGAN"]


def test_suites_are_found_by_content_and_doubt_is_refused(tmp_path: Path) -> None:
    leaf(tmp_path / "one", "progan", "biggan", "ADM", "Glide", "Wukong")
    assert [one.suite.name for one in find_suites(tmp_path / "one", NPR_SUITES)] == [
        "aigcdetectbenchmark"
    ]
    leaf(tmp_path / "single", "progan")
    assert find_suites(tmp_path / "single", NPR_SUITES)[0].suite.name == "forensynths"
    for name in ("a", "b"):
        leaf(tmp_path / "two" / name, "progan", "stargan")
    with pytest.raises(UserError, match="say --suite forensynths=DIR"):
        find_suites(tmp_path / "two", NPR_SUITES)
    leaf(tmp_path / "none", "unheard-of")
    for folder, message in ((tmp_path / "none", "no test set of"), (tmp_path / "x", "no such")):
        with pytest.raises(UserError, match=message):
            find_suites(folder, NPR_SUITES)
    with pytest.raises(UserError, match="there are forensynths, gangen"):
        find_suites(tmp_path / "two", NPR_SUITES, {"imagenet": tmp_path})


def test_genimage_is_tested_on_val_with_ai_as_fake(tmp_path: Path) -> None:
    pair = ("nature", "ai")
    leaf(tmp_path / "GenImage", "ADM/imagenet_ai_0508_adm/train", "ADM/imagenet_ai_0508_adm/val",
         "stable_diffusion_v_1_5/val", kinds=pair)  # fmt: skip
    leaf(tmp_path / "GenImage", "wukong/imagenet_ai_0424_wukong/train", kinds=pair)
    (found,) = find_suites(tmp_path, NPR_SUITES)
    assert list(found.sets) == ["ADM", "sdv5", "wukong"]
    for entry in found.sets["ADM"]:
        assert "train" not in entry.path.parts
        assert entry.label == (entry.path.parent.name == "ai")
    assert len(found.sets["wukong"]) == 2  # where there is nothing but train


def test_a_class_called_train_is_no_split(tmp_path: Path) -> None:
    leaf(tmp_path, "progan/train", "progan/car")
    assert len(find_suites(tmp_path, (WANG,))[0].sets["ProGAN"]) == 4


def test_a_set_without_one_class_is_left_out_and_said(tmp_path: Path) -> None:
    leaf(tmp_path, "progan", "san")
    shutil.rmtree(tmp_path / "san" / "0_real")
    (found,) = find_suites(tmp_path, (WANG,))
    assert list(found.sets) == ["ProGAN"]
    assert "SAN is left out" in found.notes[0]
    assert "has no real images" in found.notes[0]


# --- published tables -------------------------------------------------------------------------


def test_published_tables_agree_with_their_printed_averages() -> None:
    table = published_table("npr_aigcdetectbenchmark.csv")
    assert table.shape == (16, 12)
    assert tuple(table["generator"]) == SUITES["aigcdetectbenchmark"].names
    printed = [70.78, 64.03, 68.38, 68.67, 83.84, 75.34, 68.68, 71.53, 78.43, 89.31, 91.74]
    assert table.mean(numeric_only=True).tolist() == pytest.approx(printed, abs=0.0051)
    cells = published_cells("aigcdetectbenchmark")
    assert (cells["StarGAN"][0], cells["GauGAN"][0]) == (99.6, 85.4)  # a copy has them shifted
    genimage = published_table("npr_genimage.csv")
    assert tuple(genimage["generator"]) == SUITES["genimage"].names
    means = genimage[["accuracy", "ap"]].mean().tolist()
    assert means == pytest.approx([90.1, 96.9], abs=0.06)
    methods = published_table("npr_forensynths.csv")
    assert len(methods) == 12 * 8
    assert tuple(methods["generator"][:8]) == SUITES["forensynths"].names
    npr = methods[methods["method"] == "NPR"][["accuracy", "ap"]].mean().tolist()
    assert npr == pytest.approx([92.5, 96.1], abs=0.06)
    for variant in ("0.5", "0.1"):
        file = forensift.files.home() / "published" / f"cnndetection_blur_jpg_{variant}.csv"
        assert tuple(pd.read_csv(file)["generator"]) == WANG.names


def test_presets_are_the_suites_resize_rules() -> None:
    for name, suite in SUITES.items():
        preset = get_preset(suite.preset)
        squashed = name not in ("gangen", "genimage", "aigcdetectbenchmark")
        assert (preset.squash == (256, 256)) == squashed
        assert preset.tile == (name == "genimage")
        assert preset.crop == (224 if name == "genimage" else None)


def test_published_scores_saturate_as_float32_does() -> None:
    scores = published_scores(np.array([-200.0, 0.0, 1e-9, 18.0, 19.0]))
    assert scores.tolist() == [0.0, 0.5, 0.5, 1.0, 1.0]


def test_verdicts_allow_for_the_last_digit() -> None:
    row = {"accuracy": 90.0, "accuracy_low": 88.0, "accuracy_high": 92.0}
    row |= {"ap": 95.0, "ap_low": 94.0, "ap_high": 96.0}
    for accuracy, ap, said in ((92.04, 95.0, INSIDE), (92.1, 95.0, OUTSIDE), (90, 99, OUTSIDE),
                               (90.0, np.nan, INSIDE), (np.nan, np.nan, "")):  # fmt: skip
        assert verdict(row, {"accuracy": accuracy, "ap": ap}) == said


# --- whole commands on a small world ----------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Suites as published, of forged images, some with odd sides; weights as published."""
    root = tmp_path_factory.mktemp("world")
    families = ("progan-like", "dcgan-like", "pixelshuffle-like")
    forge(forensift.photographs("test"), families, root / "forged", per_family=4, side=64)
    trees = {
        "ForenSynths_test": {"progan/cat": 0, "progan/dog": 1, "stylegan2/car": 1, "san": 2},
        "GANGen-Detection": {"AttGAN": 0},
        "AIGCDetectBenchmark": {"progan/cat": 0, "DALLE2": 2},
        "GenImage": {"ADM/imagenet_ai_0508_adm/val": 1},
    }
    for suite, generators in trees.items():
        for folder, family in generators.items():
            for label, kind in enumerate(KINDS):
                name = ("nature", "ai")[label] if suite == "GenImage" else kind
                target = root / "data" / suite / folder / name
                target.mkdir(parents=True)
                for path in sorted((root / "forged" / families[family] / kind).iterdir()):
                    with Image.open(path) as image:
                        odd = image.crop((0, 0, 63, 61)) if folder == "DALLE2" else image
                        odd.save(target / path.name)
    state = load_detector("npr").network.state_dict()
    dead = {"fc.weight": torch.zeros(1, 2048), "fc.bias": torch.zeros(1)}
    module = {f"module.{key}": value for key, value in (state | dead).items()}
    torch.save(
        {"model": module, "optimizer": {"state": {}}, "total_steps": 99022}, root / "NPR.pth"
    )
    torch.save(state, root / "model_epoch_last_3090.pth")
    resnet = load_detector("resnet50").network.state_dict()
    torch.save({"model": resnet, "optimizer": {}, "total_steps": 7}, root / "blur_jpg_prob0.5.pth")
    return root


@pytest.fixture(scope="module")
def npr_run(world: Path) -> tuple[Path, str]:
    code, printed, err = run("npr", "--data", world / "data", "--weights", world / "NPR.pth",
                             "--weights", f"genimage={world / 'model_epoch_last_3090.pth'}",
                             "--out", world / "npr")  # fmt: skip
    assert (code, err) == (0, "")
    return world / "npr", printed


def test_npr_gives_every_suite_by_its_own_rule(world: Path, npr_run: tuple[Path, str]) -> None:
    out, printed = npr_run
    table = pd.read_csv(out / "npr.csv")
    rows = dict(zip(table["suite"] + " " + table["generator"], table.index, strict=True))
    assert list(rows) == [
        "ForenSynths ProGAN", "ForenSynths StyleGAN2", "ForenSynths Mean",
        "GANGen-Detection AttGAN", "GANGen-Detection Mean", "GenImage ADM", "GenImage Mean",
        "AIGCDetectBenchmark ProGAN", "AIGCDetectBenchmark DALLE2", "AIGCDetectBenchmark Mean",
    ]  # fmt: skip
    detector = load_detector("npr", weights=world / "NPR.pth")
    for suite, generator, folder in (
        ("forensynths", "StyleGAN2", "ForenSynths_test/stylegan2"),
        ("aigcdetectbenchmark", "DALLE2", "AIGCDetectBenchmark/DALLE2"),
        ("genimage", "ADM", "GenImage/ADM"),
    ):
        labels, scores = [], []
        preset = get_preset(SUITES[suite].preset)
        for entry in scan(world / "data" / folder):
            pixels = np.array(preset.geometry(read_image(entry.path))).transpose(2, 0, 1).copy()
            logit = detector.with_preset(preset).logits(torch.from_numpy(pixels)[None])
            scores.append(torch.sigmoid(logit).item())
            labels.append(entry.label)
        row = table.loc[rows[f"{SUITES[suite].title} {generator}"]]
        right = np.mean((np.array(scores) > 0.5) == np.array(labels))
        assert row["accuracy"] == pytest.approx(100 * right)
        assert row["ap"] == pytest.approx(100 * average_precision_score(labels, scores), abs=1e-6)
        assert row["preset"] == SUITES[suite].preset
    own = table[(table["suite"] == "ForenSynths") & (table["generator"] != "Mean")]
    mean = table.loc[rows["ForenSynths Mean"]]
    assert mean["accuracy"] == pytest.approx(own["accuracy"].mean())
    assert mean["published_ap"] == pytest.approx((100.0 + 100.0) / 2)
    assert mean["accuracy_low"] <= mean["accuracy"] <= mean["accuracy_high"]
    assert set(own["verdict"]) <= {INSIDE, OUTSIDE}
    assert "no part of it, passed over: san" in " ".join(printed.split())
    facts = json.loads((out / "manifest.json").read_text())
    assert facts["weights"]["forensynths"]["wrapper"] == "model, module."
    assert facts["weights"]["genimage"]["wrapper"] == "bare"
    assert facts["used"] == len(pd.read_parquet(out / "scores.parquet")) == 56


def test_our_column_stands_in_the_published_tables(npr_run: tuple[Path, str]) -> None:
    out, printed = npr_run
    table = pd.read_csv(out / "npr.csv").set_index(["suite", "generator"])
    wide = pd.read_csv(out / "aigcdetectbenchmark.csv").set_index("generator")
    assert wide.shape == (17, 12)
    for name in ("ProGAN", "DALLE2"):
        assert wide.loc[name, "ours"] == table.loc[("AIGCDetectBenchmark", name), "accuracy"]
    assert wide["ours"].notna().sum() == 3
    assert wide.loc["Mean", "FreDect"] == pytest.approx((99.36 + 34.70) / 2)
    methods = pd.read_csv(out / "forensynths.csv").set_index("method")
    assert methods.index[-1] == "ours"
    assert methods.loc["ours", "ProGAN_ap"] == table.loc[("ForenSynths", "ProGAN"), "ap"]
    assert np.isnan(methods.loc["ours", "Deepfake_ap"])
    assert methods.loc["LGrad", "Mean_accuracy"] == pytest.approx((99.9 + 96.0) / 2)
    genimage = pd.read_csv(out / "genimage.csv").set_index("generator")
    assert genimage.loc["ADM", ["NPR_accuracy", "NPR_ap"]].tolist() == [87.8, 96.0]
    assert genimage["ours_ap"].notna().sum() == 2
    text = (out / "npr.md").read_text()
    assert "AIGCDetectBenchmark, 2 of 16 generators, all methods" in text
    assert "| DALLE2 | " in text
    assert "RPTCon" in printed


def test_shipped_weights_get_no_verdict_and_only_some_suites_may_be_there(world: Path) -> None:
    out = world / "shipped"
    code, _, err = run("npr", "--data", world / "data" / "ForenSynths_test", "--limit", 2,
                       "--out", out)  # fmt: skip
    assert (code, err) == (0, "")
    table = pd.read_csv(out / "npr.csv", keep_default_na=False)
    assert set(table["verdict"]) == {OTHER_WEIGHTS, ""}
    assert table["n_real"].tolist() == [4, 2, 6]
    assert not (out / "aigcdetectbenchmark.csv").exists()
    assert "for orientation alone" in (out / "npr.md").read_text()


def test_wang_pools_classes_and_says_which_sets_are_missing(world: Path) -> None:
    out = world / "wang"
    code, printed, err = run("wang", "--data", world / "data", "--weights",
                             world / "blur_jpg_prob0.5.pth", "--out", out)  # fmt: skip
    assert (code, err) == (0, "")
    table = pd.read_csv(out / "wang.csv")
    assert len(table) == 2 * 13
    assert table["generator"].tolist() == [*WANG.names, *WANG.names]
    there = table["generator"].isin(["ProGAN", "StyleGAN2", "SAN"])
    assert (table.loc[~there, "verdict"] == NO_DATA).all()
    assert set(table.loc[there, "verdict"]) <= {INSIDE, OUTSIDE}
    assert set(table["training"]) == {"Blur+JPEG(0.5)"}
    cell = table[(table["generator"] == "SAN") & (table["input"] == "crop 224")].iloc[0]
    published = ("accuracy_0.5", "ap_0.5", "accuracy_0.1", "ap_0.1")
    assert [cell[f"published_{key}"] for key in published] == [50.0, 63.9, 50.5, 70.5]
    detector = load_detector("resnet50")
    for seen, preset in (("crop 224", "wang-crop224"), ("no crop", "wang-nocrop")):
        images = scan(world / "data" / "ForenSynths_test" / "progan")
        scores = forensift.score(detector.with_preset(get_preset(preset)), images)
        single = torch.sigmoid(torch.tensor(scores["logit"].to_numpy(), dtype=torch.float32))
        ap = average_precision_score(scores["label"], single.numpy())
        row = table[(table["generator"] == "ProGAN") & (table["input"] == seen)].iloc[0]
        assert row["ap"] == pytest.approx(100 * ap, abs=1e-9)
        assert row["n_real"] == row["n_fake"] == 8  # both classes together
    assert "not in the data: StyleGAN, BigGAN" in " ".join(printed.split())


def test_wangs_results_file_has_the_published_layout(world: Path) -> None:
    out = world / "no-crop"
    weights = f"0.1={world / 'blur_jpg_prob0.5.pth'}"
    code, _, _ = run("wang", "--data", world / "data", "--weights", weights, "--no-crop",
                     "--out", out)  # fmt: skip
    assert code == 0
    table = pd.read_csv(out / "wang.csv")
    assert set(table["input"]) == {"no crop"}
    assert set(table["training"]) == {"Blur+JPEG(0.1)"}
    assert [path.name for path in (out / "published-layout").iterdir()] == ["nocrop"]
    file = out / "published-layout" / "nocrop" / "blur_jpg_prob0.5.csv"
    with file.open(newline="") as opened:
        lines = list(csv.reader(opened))
    assert lines[:2] == [
        ["blur_jpg_prob0.5 model testing on..."], ["testset", "accuracy", "avg precision"]
    ]  # fmt: skip
    assert [line[0] for line in lines[2:]] == ["progan", "san", "stylegan2"]
    found = table.set_index("folder")
    for folder, accuracy, ap in lines[2:]:
        assert float(accuracy) == pytest.approx(found.loc[folder, "accuracy"] / 100)
        assert float(ap) == pytest.approx(found.loc[folder, "ap"] / 100)


def test_bad_input_is_exit_code_2_and_one_line(world: Path, tmp_path: Path) -> None:
    data = ["--data", world / "data", "--out", tmp_path / "out"]
    resnet = world / "blur_jpg_prob0.5.pth"
    twin = tmp_path / resnet.name
    shutil.copy(resnet, twin)
    cases = {
        "weights of": ["npr", *data, "--weights", resnet],
        "no such weights file": ["npr", *data, "--weights", tmp_path / "none.pth"],
        "a second file": ["npr", *data, "--weights", world / "NPR.pth", "--weights", resnet],
        "say NAME=DIR": ["npr", *data, "--suite", "genimage"],
        "--suite imagenet": ["npr", *data, "--suite", f"imagenet={tmp_path}"],
        "weights of npr": ["wang", *data, "--weights", world / "NPR.pth"],
        "rename one": ["wang", *data, "--weights", resnet, "--weights", twin],
        "no test set of": ["wang", "--data", world / "forged", "--out", tmp_path / "out"],
    }
    for message, words in cases.items():
        code, _, err = run(*words)
        assert code == 2, message
        assert message in err
        assert err.count("\n") == 1
    code, _, err = run("tff", *data)
    assert (code, "Missing option '--weights'" in err) == (2, True)
    assert wang_weights(["a/blur_jpg_prob0.1.pth", "0.5=b.pth", "prob0.55.pth"]) == [
        ("0.1", Path("a/blur_jpg_prob0.1.pth")), ("0.5", Path("b.pth")), ("", Path("prob0.55.pth"))
    ]  # fmt: skip
    assert weights_by_suite(["x=y.pth", "GenImage=z.pth"]) == {
        "": Path("x=y.pth"), "genimage": Path("z.pth")
    }  # fmt: skip
