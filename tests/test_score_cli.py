"""``forensift score``: the single-image and the folder command of the published demo."""

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
from typer.testing import CliRunner, Result

import forensift
from forensift.cli.app import app
from forensift.data.conditions import parse_conditions
from forensift.data.presets import centre_crop
from forensift.detectors import get_architecture, load_detector, save_weights
from forensift.evaluation import folder_summary, labelled_files, score_loose
from forensift.evaluation.loose import AGAIN
from forensift.files import home

from .conftest import write_image


def run(*words: object) -> Result:
    result = CliRunner(env={"COLUMNS": "160"}).invoke(app, ["score", *map(str, words)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def logit_of(detector, image: Image.Image) -> float:
    pixels = torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())[None]
    return detector.logits(pixels).item()


def table_of(printed: str) -> dict[str, str]:
    """Return the rows of printed tables: first cell → the last one."""
    rows = [line.strip("│ ").split("│") for line in printed.splitlines() if line.startswith("│")]
    return {row[0].strip(): row[-1].strip() for row in rows}


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Images of several sizes and formats in labelled folders, one without, one broken."""
    sizes = [(20, 24), (20, 24), (33, 17), (40, 40)]
    for label, kind in enumerate(("0_real", "1_fake")):
        for number, size in enumerate(sizes[: 4 - label]):
            write_image(tmp_path / "g" / kind / f"{number}.png", size, 10 * label + number)
    write_image(tmp_path / "g" / "stray.jpg", (30, 31), 99)
    (tmp_path / "g" / "1_fake" / "broken.png").write_bytes(b"no image")
    return tmp_path / "g"


def test_one_image_is_a_probability_in_percent_with_two_decimals(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png", (40, 31))
    detector = load_detector("npr")
    with Image.open(path) as image:
        whole, cut = logit_of(detector, image), logit_of(detector, centre_crop(image, 16))
    for words, logit in (([], whole), (["--crop", 16], cut)):
        printed = run("npr", path, *words, "--out", tmp_path / "out").stdout
        percent = f"{100 / (1 + np.exp(-logit)):.2f}"
        assert f"probability of being synthetic {percent} %" in " ".join(printed.split())
        assert table_of(printed) == {"a.png": percent}


def test_what_the_weights_were_trained_on_is_said_where_their_header_says_it(tmp_path) -> None:
    image, own = write_image(tmp_path / "a.png", (40, 31)), tmp_path / "own.safetensors"
    network = load_detector("npr").network
    command = "forensift train npr --data sets/adm --out runs/npr"
    for facts, said in (({"command": command}, "sets/adm."), ({}, "unknown (nothing in")):
        save_weights(own, network.state_dict(), facts)
        printed = " ".join(run(f"npr={own}", image, "--out", tmp_path / "out").stdout.split())
        assert "enlarged, blurred or filtered" in printed
        assert f"trained on, and all they know: {said}" in printed
    shipped = json.loads(run("dna-det", image, "--json", "--out", tmp_path / "out").stdout)
    assert "re-syntheses by small networks" in shipped["said"]
    assert all(
        name in shipped["facts"]["trained_on"][0] for name in load_detector("dna-det").classes[1:]
    )


def test_a_call_that_changes_is_none(tmp_path: Path) -> None:
    """A photograph that is enlarged twice looks synthetic until it is a little smaller."""
    paths = []
    for name in ("flower", "china", "astronaut", "coffee"):
        with Image.open(home() / "photos" / f"{name}.jpg") as photo:
            part = photo.convert("RGB").crop((0, 0, 128, 128))
        part.save(tmp_path / f"{name}.jpg", quality=83)
        part.resize((256, 256), Image.Resampling.BICUBIC).save(tmp_path / f"{name}-x2.png")
        paths += [tmp_path / f"{name}.jpg", tmp_path / f"{name}-x2.png"]
    detector = load_detector("lgrad")
    files = labelled_files(paths)
    table = score_loose(detector, files, again=AGAIN).table.set_index("path")
    for path in paths:
        row = table.loc[path.name]
        with Image.open(path) as image:
            every = [one(image.convert("RGB")) for one in parse_conditions(("clean", *AGAIN))]
        calls = {logit_of(detector.with_preset(detector.preset), one) > 0 for one in every}
        expected = "cannot say" if len(calls) > 1 else ("fake" if calls == {True} else "real")
        assert row["verdict"] == expected
        assert row["score_low"] <= row["score"] <= row["score_high"]
        assert (row["format"] == "JPEG") == (path.suffix == ".jpg")
        assert pd.isna(row["quality"]) if path.suffix == ".png" else row["quality"] == 83
    assert "cannot say" in set(table["verdict"])
    plain = score_loose(detector, files).table
    assert "score_low" not in plain
    assert np.array_equal(plain["score"], table["score"].loc[plain["path"]])


def test_several_detectors_say_how_many_agree(tmp_path: Path) -> None:
    image, out = write_image(tmp_path / "a.png", (40, 31)), tmp_path / "out"
    printed = run("npr,vit", image, "--out", out).stdout
    assert "Of 2 detectors" in printed
    table = pd.read_csv(out / "scores.csv")
    assert table["detector"].tolist() == ["npr", "vit"]
    counts = pd.read_csv(out / "agreement.csv").iloc[0]
    for verdict in ("fake", "real", "cannot say"):
        assert counts[verdict] == (table["verdict"] == verdict).sum()
    alone = pd.read_csv(out / "scores.csv").set_index("detector")
    run("npr", image, "--out", out)
    assert pd.read_csv(out / "scores.csv")["score"][0] == alone["score"]["npr"]
    assert "NAME=FILE" in run("npr,vit", image, "--weights", "x.pth", "--out", out).stderr


def test_folders_of_mixed_sizes_give_the_published_statistics(mixed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run("npr", mixed, "--out", out, "--batch-size", 3)
    assert result.exit_code == 0
    assert "skipped" in result.stderr
    assert str(mixed / "1_fake" / "broken.png") in result.stderr
    table = pd.read_csv(out / "scores.csv")
    assert table["label"].tolist()[:7] == [0, 0, 0, 0, 1, 1, 1]
    assert np.isnan(table["label"].iloc[7])
    detector = load_detector("npr")
    for row in table.to_dict("records"):
        with Image.open(mixed / row["path"]) as image:
            assert row["logit"] == pytest.approx(logit_of(detector, image), abs=1e-4)
            assert (row["height"], row["width"]) == image.size[::-1]
    known = table[table["label"].notna()]
    ap = 100 * average_precision_score(known["label"].astype(int), known["score"])
    right = (known["score"] > 0.5) == (known["label"] == 1)
    height, pixels = table["height"], table["height"] * table["width"] / 1e6
    printed = table_of(result.stdout)
    assert printed["height"] == f"{height.mean():.2f} ± {height.std(ddof=0):.2f}"
    assert printed["megapixels"] == f"{pixels.mean():.2f} ± {pixels.std(ddof=0):.2f}"
    assert printed["real + fake + unknown"] == "4 + 3 + 1"
    assert printed["AP (%)"] == f"{ap:.2f}"
    assert printed["accuracy (%)"] == f"{100 * right.mean():.2f}"
    assert "reals right (%)" in printed
    skipped = pd.read_csv(out / "skipped.csv")
    assert skipped["path"].tolist() == [str(mixed / "1_fake" / "broken.png")]
    facts = json.loads((out / "manifest.json").read_text())
    assert (facts["used"], facts["skipped"], facts["detector"]) == (8, 1, "npr")


def test_size_only_needs_no_network(mixed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run("npr", mixed, "--size-only", "--weights", tmp_path / "none.pth", "--out", out)
    assert result.exit_code == 0
    printed = table_of(result.stdout)
    assert not any("AP" in name for name in printed)
    assert printed["real + fake + unknown"] == "4 + 3 + 1"
    assert set(pd.read_csv(out / "sizes.csv")) == {"path", "label", "height", "width"}
    single = run("npr", mixed / "stray.jpg", "--size-only", "--out", out)
    assert table_of(single.stdout) == {"stray.jpg": "30 × 31"}


def test_a_folder_of_one_label_has_its_accuracy_and_no_ap(mixed: Path, tmp_path: Path) -> None:
    printed = table_of(run("npr", mixed / "0_real", "--out", tmp_path / "out").stdout)
    assert printed["real + fake + unknown"] == "4 + 0 + 0"
    assert "reals right (%)" in printed
    assert not {"AP (%)", "fakes right (%)"} & set(printed)


def test_files_and_folders_together_and_labels_of_other_layouts(mixed: Path, tmp_path) -> None:
    for name in ("nature", "ai"):
        write_image(tmp_path / "genimage" / "val" / name / "a.png", (20, 20), len(name))
    images = labelled_files([tmp_path / "genimage", mixed / "stray.jpg"])
    assert [entry.label for entry in images] == [1, 0, -1]
    out = tmp_path / "out"
    printed = table_of(run("npr", tmp_path / "genimage", mixed / "stray.jpg", "--out", out).stdout)
    assert printed["real + fake + unknown"] == "1 + 1 + 1"
    assert sum(name.endswith((".png", ".jpg")) for name in printed) == 3


def test_a_detector_of_several_classes_prints_them_all(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = tmp_path / "dna.pth"
    torch.save(get_architecture("dna-det").build().state_dict(), weights)
    image = write_image(tmp_path / "a.png", (20, 20))
    words = ("dna-det", image, "--weights", weights, "--preset", "dna-det-64")
    printed = run(*words, "--out", tmp_path / "out").stdout
    detector = load_detector("dna-det", weights=weights)
    row = next(line for line in printed.splitlines() if "a.png" in line).strip("│ ").split("│")
    shares = dict(zip(detector.classes, map(float, row[-len(detector.classes) :]), strict=True))
    assert sum(shares.values()) == pytest.approx(100, abs=0.05)
    real = shares[detector.classes[detector.real]]
    assert float(row[-len(shares) - 1]) == pytest.approx(100 - real, abs=0.011)
    table = pd.read_csv(tmp_path / "out" / "scores.csv")
    assert [f"p_{name}" in table for name in detector.classes] == [True] * len(shares)


def test_what_cannot_be_read_at_all_is_one_line(mixed: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    cases = {
        "1 of 1 image cannot be used": [mixed / "1_fake" / "broken.png"],
        "no such file or folder": [tmp_path / "none.png"],
        "in this folder": [tmp_path / "empty"],
    }
    for message, words in cases.items():
        result = run("npr", *words, "--out", tmp_path / "out")
        assert result.exit_code == 2
        assert message in result.stderr.splitlines()[-1]
    assert run("nothing", mixed, "--out", tmp_path / "out").exit_code == 2


def test_a_file_whose_header_alone_is_whole_is_named_too(mixed: Path, tmp_path: Path) -> None:
    whole = (mixed / "0_real" / "3.png").read_bytes()
    (mixed / "0_real" / "3.png").write_bytes(whole[: len(whole) // 2])
    result = run("npr", mixed, "--out", tmp_path / "out")
    assert result.exit_code == 0
    assert "3.png: corrupt" in result.stderr
    assert table_of(result.stdout)["real + fake + unknown"] == "3 + 3 + 1"


def test_folders_given_twice_or_with_dots_count_once(mixed: Path, tmp_path: Path) -> None:
    shutil.rmtree(mixed / "1_fake")
    result = run("npr", mixed / ".." / mixed.name, mixed, "--size-only", "--out", tmp_path / "out")
    assert table_of(result.stdout)["real + fake + unknown"] == "4 + 0 + 1"


def test_the_summary_has_nothing_where_nothing_is_known() -> None:
    table = pd.DataFrame(
        {"label": pd.array([pd.NA], dtype="Int64"), "height": [10], "width": [20], "score": [0.9]}
    )
    found = folder_summary(table)
    assert found["called_fake"] == 1.0
    assert found["mpix_mean"] == pytest.approx(0.0002)
    assert all(np.isnan(found[key]) for key in ("ap", "accuracy", "real_accuracy"))


def test_files_are_scored_from_python_too(mixed: Path) -> None:
    detector = load_detector("npr")
    files = [mixed / "0_real" / "0.png", mixed / "1_fake" / "1.png"]
    table = forensift.score(detector, files)
    assert table["path"].tolist() == ["0_real/0.png", "1_fake/1.png"]
    for path, logit in zip(files, table["logit"], strict=True):
        with Image.open(path) as image:
            assert logit == pytest.approx(logit_of(detector, image), abs=1e-4)
        assert forensift.score(detector, str(path))["logit"].item() == pytest.approx(
            logit, abs=1e-4
        )
        for given in (path, detector.batch(path)):
            assert detector(given).tolist() == pytest.approx([logit], abs=1e-4)
