"""``forensift explain``: files and folders in, raw relevance and overlays out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from forensift.cli.app import app
from forensift.data.loose import image_files, short_names
from forensift.errors import UserError
from forensift.explain import explain
from forensift.figures import overlay, plot_explanations, plot_overlay

from .conftest import write_image
from .planted import PLANTED, planted_detector, planted_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    planted_images(tmp_path / "set", n=1)
    return tmp_path


def run(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["explain", *map(str, words)])
    return result.exit_code, result.stdout, result.stderr


def test_a_folder_and_a_file(folder: Path) -> None:
    lone = write_image(folder / "lone.png", (20, 12))
    out = folder / "out"
    code, said, err = run(PLANTED, lone, folder / "set", "--out", out)
    assert (code, err) == (0, "")
    assert "planted decides: 3 fake, 2 real." in " ".join(said.split())
    table = pd.read_csv(out / "explained.csv")
    assert table["path"].tolist()[:2] == ["lone.png", "set/one/0_real/000.png"]
    assert table["file"].is_unique
    assert len(table) == 5
    expected = {one.key: one for one in explain(planted_detector(), [lone, folder / "set"])}
    for row in table.to_dict("records"):
        raw = np.load(out / row["file"])
        one = expected[row["path"]]
        assert raw.dtype == np.float32
        np.testing.assert_allclose(raw, one.relevance, rtol=1e-5, atol=1e-12)
        assert row["sum"] == pytest.approx(raw.astype(float).sum(), abs=1e-6)
        assert row["logit"] == pytest.approx(one.logit, abs=1e-5)
        with Image.open(out / row["file"].replace(".npy", ".png")) as drawn:
            assert drawn.size == (row["width"], row["height"]) == raw.shape[:0:-1]
            words = drawn.text["Description"]  # type: ignore[attr-defined]
            assert "99th percentile" in words
            assert "median filter 5 px" in words
        assert (out / row["file"].replace(".npy", ".pdf")).read_bytes().startswith(b"%PDF")
    facts = json.loads((out / "manifest.json").read_text())
    assert (facts["used"], facts["skipped"], facts["methods"]) == (5, 0, ["lrp"])
    assert pd.read_csv(out / "skipped.csv").empty


@pytest.mark.parametrize("method", ["gradcam", "guided-gradcam", "guided-backprop", "gradient"])
def test_methods(folder: Path, method: str) -> None:
    out = folder / method
    words = ["--method", method, "--scaling", "signed", "--out", out]
    code, _, err = run(PLANTED, folder / "set/one/1_fake", *words)
    assert (code, err) == (0, "")
    raw = np.load(out / "000.npy")
    assert raw.shape == ((16, 16) if method == "gradcam" else (3, 16, 16))
    with Image.open(out / "000.png") as drawn:
        assert "both signs" in drawn.text["Description"]  # type: ignore[attr-defined]


def test_unreadable_images_are_named_and_the_rest_explained(folder: Path) -> None:
    broken = folder / "set/one/1_fake/000.png"
    broken.write_bytes(b"")
    out = folder / "out"
    code, _, err = run(PLANTED, folder / "set/one", "--max-skipped", 0.1, "--out", out)
    assert code == 2
    assert "1 of 2 images cannot be used" in err
    code, said, err = run(PLANTED, folder / "set/one", "--out", out)
    assert code == 0
    assert err == f"skipped {broken}: empty file\n"
    assert "1 real" in said
    assert "1 image left out" in said
    assert pd.read_csv(out / "skipped.csv")["reason"].tolist() == ["empty file"]
    code, _, err = run(PLANTED, broken, "--out", out)
    assert code == 2
    assert "empty file" in err


def test_bad_input_is_exit_code_2_and_one_line(folder: Path) -> None:
    (folder / "nothing").mkdir()
    image = folder / "set/one/1_fake/000.png"
    cases = {
        "no such file": [PLANTED, folder / "none.png"],
        "no images": [PLANTED, folder / "nothing"],
        "no explanation method 'x'": [PLANTED, image, "--method", "x"],
        "scaling": [PLANTED, image, "--scaling", "log"],
        "no layer 'x'": [PLANTED, image, "--method", "gradcam", "--layer", "x"],
        "target 'cat'": [PLANTED, image, "--target", "cat"],
        "outputs are 0 … 0": [PLANTED, image, "--target", "3"],
    }
    for message, words in cases.items():
        code, _, err = run(*words, "--out", folder / "out")
        assert code == 2, message
        assert message in err
        assert err.count("\n") == 1


def test_names_never_collide(tmp_path: Path) -> None:
    files = ["a/x.png", "b/x.png", "b/x.jpg", "b/X.bmp", "c.d.png", ".hidden/y.png"]
    for name in files:
        write_image(tmp_path / name)
    found = image_files(tmp_path)
    assert len(found) == 5
    names = short_names(found)
    assert len({name.lower() for name in names}) == 5
    assert {"x", "c.d"} < set(names)
    again = image_files([tmp_path / "a/x.png", tmp_path / "a", tmp_path / "a/../a/x.png"])
    assert short_names(again) == ["x"]
    with pytest.raises(UserError, match="no images are given"):
        image_files([])


def test_overlay_lays_colour_on_a_grey_image() -> None:
    image = np.full((3, 2, 2), 200, dtype=np.uint8)
    heat = np.array([[0.0, 1.0], [0.5, 0.0]], dtype=np.float32)
    drawn = overlay(image, heat).astype(float)
    assert drawn[0, 0].tolist() == [130, 130, 130]  # 65 % of the image where nothing is
    top, middle = (np.array(one) for one in ((252, 255, 164), (251, 154, 6)))
    assert np.abs(drawn[0, 1] - (0.9 * top + 0.1 * 130)).max() <= 1
    opacity = 0.9 * 0.5**0.5
    assert np.abs(drawn[1, 0] - (opacity * middle + (1 - opacity) * 130)).max() <= 1
    red = np.zeros((3, 1, 1), np.uint8)
    red[0] = 200
    assert np.ptp(overlay(red, np.zeros((1, 1)))) == 0  # the image has no colour of its own
    steps = overlay(np.full((3, 1, 99), 128, np.uint8), np.linspace(0.05, 1, 99)[None])[0]
    assert (np.diff(steps.astype(float) @ (0.299, 0.587, 0.114)) > -1).all()  # more is brighter
    signed = overlay(image, heat - 1, signed=True)
    assert signed[0, 0, 2] > signed[0, 0, 0]
    assert signed[0, 1].tolist() == [130, 130, 130]


def test_panels(rng: np.random.Generator) -> None:
    images = [rng.integers(0, 256, (3, 12, 16), dtype=np.uint8) for _ in range(2)]
    heats = {f"ResNet-50\nLRP {n}": [rng.random((12, 16)) for _ in images] for n in range(8)}
    figure = plot_explanations(images, heats, rows=["a", "b"], scaling="as stated", title="t")
    assert len(figure.axes) == 2 * 9 + 1
    assert figure.get_figwidth() == pytest.approx(7)
    assert len(plot_overlay(images[0], heats["ResNet-50\nLRP 0"][0], caption="c").axes) == 2
