"""Explanations: whose target is whose, what is kept, what is refused, and how a picture reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from forensift import explain, faithfulness
from forensift.cli.app import app
from forensift.data import get_preset
from forensift.data.loose import image_files
from forensift.detectors.detector import Detector, WeightsOrigin
from forensift.errors import UserError
from forensift.explain import METHODS, Explanation, GradCAM, GuidedBackprop
from forensift.figures import plot_explanations, plot_overlay
from forensift.views.explanation import Writer

from .conftest import write_image
from .planted import planted_detector, planted_images

OWN = """
import torch
from torch import nn


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches, self.norm, self.fc = nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(8), nn.Linear(8, 1)
        self.mlp = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8))

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        return self.fc((tokens + self.mlp(self.norm(tokens))).mean(1))


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(8, 1)

    def forward(self, x):
        both = [torch.relu(self.conv(one)).mean((2, 3)) for one in (x, x.flip(3))]
        return self.fc(torch.cat(both, 1))


class Wide(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 96, 3, padding=1), nn.Linear(96, 1)

    def forward(self, x):
        return self.fc(torch.relu(self.conv(x)).mean((2, 3)))


def seeded(kind):
    torch.manual_seed(0)
    return kind().eval()


def tokens():
    return seeded(Tokens)


def twice():
    return seeded(Twice)


def wide():
    return seeded(Wide)


tokens.preset = twice.preset = wide.preset = "wang-nocrop"
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return path


def run(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["explain", *map(str, words)])
    return result.exit_code, result.stdout, result.stderr


def four_classes() -> Detector:
    torch.manual_seed(1)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(6, 4),
    ).eval()  # fmt: skip
    origin = WeightsOrigin("initialisation", "", "bare")
    classes = ("cat", "dog", "fox", "owl")
    return Detector("four", network, get_preset("wang-nocrop"), (), origin, classes=classes)


@pytest.mark.parametrize("method", ["gradient", "lrp"])
def test_one_class_an_image_goes_with_its_image(tmp_path: Path, method: str) -> None:
    detector = four_classes()
    sizes = [(16, 12), (20, 20), (16, 12), (20, 20), (16, 12), (20, 20), (16, 12)]
    for place, size in enumerate(sizes):
        write_image(tmp_path / f"{place}.png", size, seed=place % 5)  # two are copies of others
    images = image_files(tmp_path)
    wanted = [3, 0, 2, 1, 1, 3, 0]
    found = explain(detector, images, method, target=wanted, batch_size=2)
    assert [one.target for one in found] == wanted
    assert [one.target_name for one in found] == [detector.classes[one] for one in wanted]
    for entry, target, one in zip(images, wanted, found, strict=True):
        (alone,) = explain(detector, entry.path, method, target=target)
        assert one.logit == pytest.approx(alone.logit, abs=1e-6)
        np.testing.assert_allclose(one.relevance, alone.relevance, atol=1e-7)
    with pytest.raises(UserError, match="3 targets for 7 images"):
        explain(detector, images, method, target=[0, 1, 2])


def test_raw_pixels_take_a_class_an_image(rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (5, 3, 12, 12), dtype=np.uint8)
    wanted = [2, 0, 1, 3, 2]
    found = explain(four_classes(), pixels, "gradient", target=wanted, batch_size=2)
    assert [one.target for one in found] == wanted
    assert [one.path for one in found] == [None] * 5
    np.testing.assert_array_equal(np.stack([one.pixels for one in found]), pixels)


@pytest.mark.usefixtures("few_passes")
@pytest.mark.parametrize("method", list(METHODS))
def test_by_default_the_decision_is_explained(tmp_path: Path, method: str) -> None:
    images = planted_images(tmp_path, n=2)
    detector = planted_detector()
    plain = explain(detector, images, method)
    sides = {side: explain(detector, images, method, target=side) for side in ("fake", "real")}
    assert {one.decision for one in plain} == {"real", "fake"}
    for place, one in enumerate(plain):
        assert one.target_name == one.decision
        np.testing.assert_array_equal(one.relevance, sides[one.decision][place].relevance)
        assert one.sign == (1 if one.logit > 0 else -1)
        assert one.probability == pytest.approx(1 / (1 + np.exp(-abs(one.logit))))
        assert one.probability >= 0.5


class Saving:
    """Saves raw maps by the images' ids, up to a number of them."""

    def __init__(self, folder: Path, last: int, scaling: str = "max") -> None:
        self.folder, self.last, self.made = folder, last, 0
        self.facts = Writer(folder, {}, "planted", scaling).facts

    def __call__(self, one: Explanation) -> dict[str, Any]:
        if self.made == self.last:
            raise InterruptedError
        self.made += 1
        file = one.key.replace("/", "-") + ".npy"
        np.save(self.folder / file, one.relevance)
        return {"file": file}


def test_an_interrupted_run_makes_no_file_twice(tmp_path: Path) -> None:
    images = planted_images(tmp_path / "set", ("one",), n=70)  # 140: more than one shard
    detector, partials, out = planted_detector(), tmp_path / "partials", tmp_path / "out"
    out.mkdir()
    with pytest.raises(InterruptedError):
        explain(detector, images, "gradcam", take=Saving(out, 130), partials=partials)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert len(before) == 130
    other = Saving(tmp_path, 1000, scaling="signed")
    explain(detector, images, "gradcam", take=other, partials=partials, resume=True)
    assert other.made == 140  # what was drawn in another way is no part of it
    rest = Saving(out, 1000)
    whole = explain(detector, images, "gradcam", take=rest, partials=partials, resume=True)
    assert rest.made == 140 - 128
    assert sum(path.stat().st_mtime_ns == before[path] for path in before) == 128
    assert len(list(out.iterdir())) == len(whole.table) == 140
    assert whole.table["path"].tolist() == [images.image_id(entry) for entry in images]
    assert len(whole) == 0  # no map is held
    fresh = explain(detector, images, "gradcam")
    np.testing.assert_allclose(whole.table["sum"], fresh.table["sum"], rtol=1e-5)


def test_results_are_tables_files_figures_and_a_sentence(tmp_path: Path) -> None:
    images = planted_images(tmp_path / "set", n=1)
    found = explain(planted_detector(), images, ["lrp", "gradcam"])
    assert len(found) == 8
    assert len(found.of("lrp")) == 4
    assert found.said.startswith("planted decides: ")
    assert "2 fake" in found.said
    found.save(tmp_path / "out")
    table = pd.read_csv(tmp_path / "out/explained.csv")
    assert table["decision"].tolist() == [one.decision for one in found]
    raw = sorted((tmp_path / "out/raw").glob("*.npy"))
    np.testing.assert_array_equal(np.load(raw[1]), found[1].relevance)
    assert json.loads((tmp_path / "out/manifest.json").read_text())["methods"] == ["lrp", "gradcam"]
    assert len(found.plot("explanations").axes) == 4 * 3 + 1


def test_an_empty_map_is_called_empty(tmp_path: Path) -> None:
    image = np.full((3, 8, 8), 99, np.uint8)
    nothing, some = np.zeros((8, 8)), np.eye(8)

    def words(figure: Any) -> list[str]:
        return [text.get_text() for axes in figure.axes for text in axes.texts]

    assert words(plot_overlay(image, nothing)) == ["nothing to show"]
    assert words(plot_overlay(image, some)) == []
    both = plot_explanations([image, image], {"a": [some, nothing]})
    assert words(both) == ["nothing to show"]
    smooth = planted_images(tmp_path, ("one",), n=1).only(label=0)
    (one,) = explain(planted_detector(), smooth, "gradcam", target="fake")
    (other,) = explain(planted_detector(), smooth, "gradcam", target="real")
    assert [found.empty for found in (one, other)] == [
        not (found.relevance > 0).any() for found in (one, other)
    ]
    assert one.empty != other.empty
    empty = one if one.empty else other
    assert "no evidence" in empty.caption


# --- networks that a method does not fit -------------------------------------------------------


def test_a_network_of_tokens_is_not_guided(own: Path, tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.png", (24, 24))
    for method in ("guided-gradcam", "guided-backprop"):
        code, _, err = run(f"{own}:tokens", image, "--method", method, "--out", tmp_path / "out")
        assert code == 2
        assert err.count("\n") == 1
        assert "'patches'" in err
        assert "use method gradient" in err
    code, _, err = run(f"{own}:tokens", image, "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    for method in ("gradcam", "gradient"):
        code, _, err = run(f"{own}:tokens", image, "--method", method, "--out", tmp_path / "out")
        assert (code, err) == (0, "")


class Cumulated(nn.Module):
    """What LRP has no rule for, in any network."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.cumsum(-1)


def test_patches_that_other_convolutions_follow_are_looked_through() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 4, 4), nn.GroupNorm(2, 4), nn.GELU(), nn.Conv2d(4, 4, 3, padding=1),
        nn.LayerNorm(6), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1),
    ).eval()  # fmt: skip
    batch = torch.rand(2, 3, 24, 24)
    assert GradCAM(network).layer == "3"
    assert GradCAM(network)(batch).relevance.abs().max() > 0
    assert GuidedBackprop(network)(batch).relevance.abs().max() > 0
    refused = nn.Sequential(*network[:6], Cumulated(), *network[6:]).eval()
    detector = Detector(
        "norms", refused, get_preset("wang-nocrop"), (), WeightsOrigin("initialisation", "", "bare")
    )
    with pytest.raises(UserError, match="methods that work on it: gradcam, guided-gradcam"):
        explain(detector, np.zeros((1, 3, 24, 24), np.uint8), "lrp")


def test_faithfulness_leaves_out_what_fails_at_its_first_image(own: Path, tmp_path: Path) -> None:
    from forensift.detectors import load_detector

    images = planted_images(tmp_path / "set", n=4)
    detector = load_detector(f"{own}:twice")
    label = None
    found = faithfulness(
        detector, images, methods=("gradcam", "gradient"), n=3, label=label, draws=2, cell=4,
        shares=(),
    )  # fmt: skip
    assert set(found.summary["method"]) == {"gradient", "random"}
    assert len(found.notes) == 1
    assert found.notes[0].startswith("gradcam is left out: Grad-CAM needs a layer")
    assert found.notes[0] in found.said
    assert "2 random orders" in found.said
    assert "2 random orders" in found.plot().legends[0].get_title().get_text()
    with pytest.raises(UserError, match="gradcam is left out"):
        faithfulness(detector, images, methods=("gradcam",), n=3, label=label)


# --- memory ------------------------------------------------------------------------------------


def test_large_photographs_go_through_one_by_one_where_memory_is_short(
    own: Path, tmp_path: Path
) -> None:
    for place in range(6):
        write_image(tmp_path / "set" / f"{place}.png", (640, 480), seed=place)
    script = (
        "import resource, sys; from pathlib import Path; import torch; from forensift.cli.app "
        "import app; import forensift.explain, forensift.figures; torch.set_num_threads(1); "
        "now = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize(); "
        "limit = now + int(float(sys.argv[1]) * 2**30); "
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit)); app(sys.argv[2:])"
    )
    words = ["explain", f"{own}:wide", str(tmp_path / "set"), "--out", str(tmp_path / "out")]

    def limited(gigabytes: float) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", script, str(gigabytes), *words],
            capture_output=True, text=True, check=False, timeout=300,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    # six at once take 6 × 0.3 megapixels × 96 maps × 4 bytes × some five copies: 3.5 GB
    enough = limited(3.0)
    assert (enough.returncode, enough.stderr) == (0, "")
    table = pd.read_csv(tmp_path / "out/explained.csv")
    assert len(table) == 6
    assert table["sum"].notna().all()
    short = limited(0.6)
    assert short.returncode == 2
    assert "Traceback" not in short.stderr
    assert "memory" in short.stderr
    assert short.stderr.startswith("error: ")
