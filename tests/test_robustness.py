"""Robustness: exact conditions, one decode for all detectors, resumption, paired intervals."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.metrics import roc_auc_score
from torch import nn
from typer.testing import CliRunner

from forensift.cli.app import app
from forensift.data import Preset, batching, get_preset, scan
from forensift.data.colour import recolour
from forensift.data.conditions import parse_condition
from forensift.data.photos import photograph_names
from forensift.detectors import get_architecture
from forensift.errors import UserError
from forensift.evaluation import (
    CONDITIONS,
    MACRO,
    ROBUSTNESS,
    ScoreLook,
    bootstrap,
    metrics,
    parse_conditions,
    robustness,
    robustness_table,
    score,
    weighted_roc_auc,
)
from forensift.figures import plot_robustness
from forensift.records import ImageSet
from forensift.sweep import sweep
from forensift.views import view_of
from forensift.views.pages import markdown_of

from .conftest import write_image
from .planted import fingerprint, planted_detector, planted_images

MakeFolder = Callable[..., Path]


@pytest.fixture(scope="module")
def image() -> Image.Image:
    rng = np.random.default_rng(5)
    small = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    return small.resize((45, 35), Image.Resampling.BICUBIC)


@pytest.fixture
def planted(tmp_path: Path) -> ImageSet:
    planted_images(tmp_path / "set", n=6)
    return scan(tmp_path / "set")


@pytest.mark.parametrize("name", CONDITIONS)
def test_conditions_are_deterministic_and_leave_the_image_alone(
    image: Image.Image, name: str
) -> None:
    before = image.tobytes()
    once, again = (parse_condition(name)(image) for _ in range(2))
    assert once.mode == "RGB"
    assert once.tobytes() == again.tobytes()
    assert image.tobytes() == before
    assert (once.tobytes() == before) == (name == "clean")


def test_conditions_are_what_they_say(image: Image.Image) -> None:
    pixels = np.asarray(image)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=75)  # Pillow's default is 4:2:0
    np.testing.assert_array_equal(parse_condition("jpeg-75")(image), np.asarray(Image.open(buffer)))
    smooth = np.rint(gaussian_filter(pixels.astype(np.float64), (2, 2, 0))).astype(np.uint8)
    np.testing.assert_array_equal(parse_condition("blur-2")(image), smooth)
    assert parse_condition("resize-0.5")(image).size == (22, 18)  # 22.5 and 17.5 to even
    assert parse_condition("resize-2")(image).size == (90, 70)
    tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]
    grey = recolour(tensor, "grey")[0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(parse_condition("grey")(image), grey)


def test_conditions_are_parsed_once_each_with_clean_first() -> None:
    names = [one.name for one in parse_conditions(["jpeg-50", "resize-0.50", "jpeg-50", "blur-1"])]
    assert names == ["clean", "jpeg-50", "resize-0.5", "blur-1"]


@pytest.mark.parametrize("name", ["", "jpeg", "jpeg-0", "jpeg-101", "jpeg-7.5", "blur-0", "fog-1"])
def test_other_conditions_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"no condition .*jpeg-QUALITY"):
        parse_condition(name)


def test_clean_rows_are_those_of_evaluate(planted: ImageSet) -> None:
    detector = planted_detector()
    before = fingerprint(detector.network)
    found = robustness(detector, planted, ["jpeg-50", "grey"], resamples=200)
    assert fingerprint(detector.network) == before
    scores = score(detector, planted, batch_size=16)
    clean = found.scores[found.scores["condition"] == "clean"].reset_index(drop=True)
    pd.testing.assert_frame_equal(clean[scores.columns], scores, check_dtype=False)
    expected = metrics(scores, resamples=200)
    table = found.table[found.table["condition"] == "clean"].reset_index(drop=True)
    shared = [column for column in expected if column in table]
    pd.testing.assert_frame_equal(table[shared], expected[shared])
    assert (table[["ap_fall", "ap_fall_low", "ap_fall_high"]] == 0).all().all()
    assert list(found.table.columns) == list(ROBUSTNESS)
    assert len(found.table) == 3 * 3  # generators and their mean × conditions


def test_each_image_is_decoded_and_changed_once_for_all_detectors(
    planted: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path] = []
    read = batching.read_image

    def counted(path: Path) -> Image.Image:
        reads.append(path)
        return read(path)

    monkeypatch.setattr(batching, "read_image", counted)
    one = planted_detector()
    cropped = planted_detector(seed=1).with_preset(get_preset("wang-crop224"))
    told: list[tuple[str, int, int]] = []
    detectors = {"one": one, "two": planted_detector(seed=2), "cropped": cropped}
    found = robustness(
        detectors,
        planted,
        ["jpeg-50", "blur-1"],
        resamples=50,
        batch_size=4,
        progress=lambda *one: told.append(one),
    )
    # Two generators share their six reals byte for byte.
    assert found.facts["decoded"] == len(reads) == 18
    assert found.facts["network_passes"] == 3 * 3 * 18
    assert told[-1] == ("robustness", 18, 18)
    reals = found.scores[found.scores["label"] == 0].copy()
    reals["name"] = [Path(path).name for path in reals["path"]]
    assert (reals.groupby(["detector", "condition", "name"])["logit"].std() == 0).all()
    blurred = found.scores[found.scores["condition"] == "blur-1"]
    blur = parse_condition("blur-1")
    for name, detector in detectors.items():
        alone = score(detector, planted, transform=lambda image, key: blur(image))
        own = blurred[blurred["detector"] == name]
        np.testing.assert_allclose(own["logit"], alone["logit"], atol=1e-5)


def test_what_a_look_has_seen_is_not_computed_again(planted: ImageSet) -> None:
    cropping = planted_detector().with_preset(Preset("crops", crop=32))
    resizing = cropping.with_preset(Preset("resizes", resize=40, crop=32))
    detectors, conditions = {"crops": cropping, "resizes": resizing}, ("clean", "blur-1", "grey")
    looks = {name: ScoreLook(one, colours=("rgb", "grey")) for name, one in detectors.items()}
    sweep(planted, list(looks.values()))
    whole = robustness(detectors, planted, conditions)
    less = robustness(detectors, planted, conditions, seen=looks)
    pd.testing.assert_frame_equal(whole.scores, less.scores, check_exact=True)
    pd.testing.assert_frame_equal(whole.table, less.table, check_exact=True)
    # Grey before a resize is not grey after it.
    assert 6 * less.facts["network_passes"] == 3 * whole.facts["network_passes"] > 0


def test_mixed_sizes_random_presets_and_unreadable_images(image_folder: MakeFolder) -> None:
    folder = image_folder(n=4, size=(24, 24))
    write_image(folder / "one" / "0_real" / "1.png", (30, 22))
    (folder / "two" / "1_fake" / "0.png").write_bytes(b"nothing")
    images = scan(folder)
    detectors = {
        "native": planted_detector(),
        "random": planted_detector().with_preset(get_preset("tff-ffrs-16")),
    }
    skipped: list = []
    found = robustness(
        detectors, images, ["resize-0.5"], max_skipped=0.2, skipped=skipped, resamples=50
    )
    assert [one.path.name for one in skipped] == ["0.png"]
    assert "none of the formats" in skipped[0].reason
    assert len(found.scores) == 2 * 2 * 15
    own = found.scores[(found.scores["detector"] == "random")]
    plain = score(detectors["random"], images, max_skipped=0.2)
    clean = own[own["condition"] == "clean"]["logit"]
    np.testing.assert_allclose(clean, plain["logit"], atol=1e-5)
    with pytest.raises(UserError, match="cannot be used"):
        robustness(detectors, images, [], resamples=50)


def test_a_network_that_cannot_take_a_size_is_named(planted: ImageSet) -> None:
    detector = planted_detector()
    network = nn.Sequential(nn.Conv2d(3, 1, 12), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    small = replace(detector, name="narrow", network=network)
    with pytest.raises(UserError, match=r"narrow cannot take 8 × 8 pixels"):
        robustness(small, planted, ["resize-0.5"], resamples=50)
    with pytest.raises(UserError, match="two detectors have one name"):
        robustness([detector, detector], planted)


def test_paired_intervals_of_a_fall_are_narrower_than_unpaired_ones() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 60)
    clean = rng.normal(labels * 1.5, 1)
    worse = clean - 0.1 * labels + 0.1 * rng.normal(size=120)
    clusters = np.tile([f"p{n // 3}" for n in range(60)], 2)
    drawn = bootstrap(labels, np.stack([clean, worse]), clusters=clusters, resamples=400)
    paired = np.std(drawn["ap"][0] - drawn["ap"][1])
    assert paired < 0.3 * np.std(drawn["ap"][0] - np.roll(drawn["ap"][1], 1))


def test_the_weighted_auc_is_that_of_repeated_images() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 40)
    scores = rng.integers(0, 9, 40) / 8
    weights = rng.integers(0, 4, (5, 40)).astype(float)
    found = weighted_roc_auc(labels, scores, weights)
    for row, value in zip(weights.astype(int), found, strict=True):
        repeated = np.repeat(labels, row), np.repeat(scores, row)
        assert value == pytest.approx(roc_auc_score(*repeated), abs=1e-12)
    assert np.isnan(weighted_roc_auc(labels, scores, np.where(labels == 1, 1.0, 0.0)[None])).all()


def test_photographs_are_names_without_a_crop_number() -> None:
    paths = ["g/0_real/cat-001.png", "g/1_fake/cat-002.png", "g/1_fake/dog-7.jpg", "h/x.png"]
    assert photograph_names(paths).tolist() == ["cat", "cat", "dog", "x"]
    assert photograph_names(["a/fake-1.png", "a/real-2.png"]).tolist() == ["fake-1", "real-2"]


def test_scores_of_other_images_are_refused(planted: ImageSet) -> None:
    scores = robustness(planted_detector(), planted, ["grey"], resamples=50).scores
    with pytest.raises(UserError, match="does not score the same images"):
        robustness_table(scores.drop(index=scores.index[-1]), resamples=50)


def test_figure_and_markdown_hold_every_cell(planted: ImageSet) -> None:
    detectors = {"first": planted_detector(), "second": planted_detector(seed=1)}
    found = robustness(detectors, planted, ["jpeg-50", "blur-2", "grey"], resamples=50)
    table = found.table
    figure = plot_robustness(table, title="planted")
    drawn = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in drawn] == ["clean", "JPEG 50", "blur σ 2", "grey"]
    texts = [text.get_text() for axes in drawn for text in axes.texts]
    assert len(texts) == len(table) == 2 * 3 * 4
    expected = {f"{100 * value:.0f}" for value in table["ap"]}
    assert set(texts) == expected
    text = markdown_of(view_of(found))
    macro = table[(table["generator"] == MACRO) & (table["condition"] == "blur-2")]
    for row in macro.to_dict("records"):
        assert f"| {row['detector']} |" in text
        assert f"{100 * row['ap']:.1f}" in text
    assert "*first: AP*" in text
    assert text.count("| first |") == 3  # AP, accuracy, fall


def test_the_command_writes_its_files(planted: ImageSet, tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights, out = tmp_path / "mine.pth", tmp_path / "out"
    torch.save(get_architecture("npr").build().state_dict(), weights)
    words = ["robustness", f"npr={weights}", "--data", str(planted.root), "--out", str(out)]
    options = ["--conditions", "jpeg-75", "--equalise-jpeg", "both:90", "--device", "cpu"]
    result = CliRunner().invoke(app, [*words, *options])
    assert result.exit_code == 0, result.output
    assert "npr=mine" in result.output
    table = pd.read_csv(out / "robustness.csv")
    assert set(table["condition"]) == {"clean", "jpeg-75"}
    assert len(pd.read_parquet(out / "scores.parquet")) == 2 * len(planted)
    for name in ("robustness.png", "robustness.pdf", "skipped.csv"):
        assert (out / name).is_file()
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["equalise_jpeg"]["mode"] == "both"
    assert manifest["equalise_jpeg"]["quality"] == 90
    assert manifest["detectors"]["npr=mine"]["weights"]["file"].endswith("mine.pth")
    assert not (out / "partials").exists()
    for wrong in ("", "npr,npr", "nobody"):
        refused = CliRunner().invoke(app, ["robustness", wrong, *words[2:]])
        assert refused.exit_code == 2
        assert refused.stderr.startswith("error: ")
