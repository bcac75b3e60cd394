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

from forensift.cli.app import app
from forensift.data.presets import centre_crop
from forensift.detectors import get_architecture, load_detector
from forensift.studies.suites import folder_summary, labelled_files

from .conftest import write_image


def run(*words: object) -> Result:
    result = CliRunner().invoke(app, ["score", *map(str, words)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def logit_of(detector, image: Image.Image) -> float:
    pixels = torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())[None]
    return detector.logits(pixels).item()


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
        printed = run("npr", path, *words).stdout
        assert printed == f"probability of being synthetic: {100 / (1 + np.exp(-logit)):.2f}%\n"
    assert not (tmp_path / "output").exists()


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
    assert f"height {height.mean():.2f} ± {height.std(ddof=0):.2f}, width" in result.stdout
    assert f"{pixels.mean():.2f} ± {pixels.std(ddof=0):.2f} megapixels" in result.stdout
    assert "4 real, 3 fake, 1 without a label" in result.stdout
    assert f"AP {ap:.2f}, accuracy {100 * right.mean():.2f}, on reals" in result.stdout
    skipped = pd.read_csv(out / "skipped.csv")
    assert skipped["path"].tolist() == [str(mixed / "1_fake" / "broken.png")]
    facts = json.loads((out / "manifest.json").read_text())
    assert (facts["used"], facts["skipped"], facts["detector"]) == (8, 1, "npr")


def test_size_only_needs_no_network(mixed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run("npr", mixed, "--size-only", "--weights", tmp_path / "none.pth", "--out", out)
    assert result.exit_code == 0
    assert "AP" not in result.stdout
    assert "4 real, 3 fake, 1 without a label" in result.stdout
    assert set(pd.read_csv(out / "sizes.csv")) == {"path", "label", "height", "width"}
    single = run("npr", mixed / "stray.jpg", "--size-only")
    assert single.stdout == "stray.jpg: 31 x 30 pixels\n" or single.stdout == "31 x 30 pixels\n"


def test_a_folder_of_one_label_has_its_accuracy_and_no_ap(mixed: Path) -> None:
    result = run("npr", mixed / "0_real")
    assert "4 real, 0 fake\n" in result.stdout
    assert "on reals" in result.stdout
    assert "AP" not in result.stdout
    assert "on fakes" not in result.stdout


def test_files_and_folders_together_and_labels_of_other_layouts(mixed: Path, tmp_path) -> None:
    for name in ("nature", "ai"):
        write_image(tmp_path / "genimage" / "val" / name / "a.png", (20, 20), len(name))
    images = labelled_files([tmp_path / "genimage", mixed / "stray.jpg"])
    assert [entry.label for entry in images] == [1, 0, -1]
    result = run("npr", tmp_path / "genimage", mixed / "stray.jpg")
    first, second, third, _ = result.stdout.splitlines()
    assert first.startswith("probability of being synthetic: ")
    assert second.startswith("height 20.00 ± 0.00, width 20.00 ± 0.00 pixels; 0.00 ± 0.00 mega")
    assert third == "1 real, 1 fake"


def test_a_detector_of_several_classes_prints_them_all(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = tmp_path / "dna.pth"
    torch.save(get_architecture("dna-det").build().state_dict(), weights)
    image = write_image(tmp_path / "a.png", (20, 20))
    words = ("dna-det", image, "--weights", weights, "--preset", "dna-det-64")
    lines = run(*words, "--out", tmp_path / "out").stdout.splitlines()
    detector = load_detector("dna-det", weights=weights)
    assert len(lines) == 1 + len(detector.classes)
    shares = {line.split(":")[0].strip(): float(line.split()[-1][:-1]) for line in lines[1:]}
    assert tuple(shares) == detector.classes
    assert sum(shares.values()) == pytest.approx(100, abs=0.05)
    real = shares[detector.classes[detector.real]]
    assert float(lines[0].split()[-1][:-1]) == pytest.approx(100 - real, abs=0.011)
    table = pd.read_csv(tmp_path / "out" / "scores.csv")
    assert [f"p_{name}" in table for name in detector.classes] == [True] * len(shares)


def test_what_cannot_be_read_at_all_is_one_line(mixed: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    cases = {
        "nothing could be read": [mixed / "1_fake" / "broken.png"],
        "no such file or folder": [tmp_path / "none.png"],
        "in this folder": [tmp_path / "empty"],
    }
    for message, words in cases.items():
        result = run("npr", *words)
        assert result.exit_code == 2
        assert message in result.stderr.splitlines()[-1]
    assert run("nothing", mixed).exit_code == 2


def test_a_file_whose_header_alone_is_whole_is_named_too(mixed: Path) -> None:
    whole = (mixed / "0_real" / "3.png").read_bytes()
    (mixed / "0_real" / "3.png").write_bytes(whole[: len(whole) // 2])
    result = run("npr", mixed)
    assert result.exit_code == 0
    assert "3.png: corrupt" in result.stderr
    assert "3 real, 3 fake, 1 without" in result.stdout


def test_folders_given_twice_or_with_dots_count_once(mixed: Path) -> None:
    shutil.rmtree(mixed / "1_fake")
    result = run("npr", mixed / ".." / mixed.name, mixed, "--size-only")
    assert "4 real, 0 fake, 1 without a label" in result.stdout


def test_the_summary_has_nothing_where_nothing_is_known() -> None:
    table = pd.DataFrame(
        {"label": pd.array([pd.NA], dtype="Int64"), "height": [10], "width": [20], "score": [0.9]}
    )
    found = folder_summary(table)
    assert found["called_fake"] == 1.0
    assert found["mpix_mean"] == pytest.approx(0.0002)
    assert all(np.isnan(found[key]) for key in ("ap", "accuracy", "real_accuracy"))
