from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score
from torch import nn

from forensift.data import get_preset, scan
from forensift.detectors import Detector, WeightsOrigin
from forensift.errors import UserError
from forensift.evaluation import COLUMNS, MACRO, metrics, score, wilson
from forensift.records import Skipped

from .conftest import write_image

MakeFolder = Callable[..., Path]


class Brightness(nn.Module):
    """Logit = mean of the normalised image; counts the images it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.seen = 0

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        self.seen += len(batch)
        return (self.weight * batch).mean(dim=(1, 2, 3))[:, None]


def detector(preset: str = "wang-nocrop") -> Detector:
    origin = WeightsOrigin("initialisation", "", "bare")
    return Detector("brightness", Brightness(), get_preset(preset), (), origin)


def test_scores_are_the_networks_and_independent_of_batches(image_folder: MakeFolder) -> None:
    images = scan(image_folder(n=4))
    write_image(images.entries[3].path, (9, 13))
    one = detector()
    steps: list[tuple[str, float, float | None]] = []
    table = score(one, images, batch_size=3, progress=lambda *told: steps.append(told))
    assert list(table.columns) == ["path", "label", "generator", "class", "logit", "score"]
    done = [told[1] for told in steps]
    assert done == sorted(done)
    assert steps[-1][1:] == (16, 16)
    assert len(table) == 16
    assert list(table["path"]) == [images.image_id(entry) for entry in images]
    entry = images.entries[3]
    image = np.asarray(Image.open(entry.path)) / 255
    preset = one.preset
    expected = ((image - preset.mean) / preset.std).mean()
    assert table["logit"][3] == pytest.approx(expected, abs=1e-6)
    assert table["score"][3] == pytest.approx(1 / (1 + np.exp(-table["logit"][3])))
    again = score(detector(), images, batch_size=1)
    np.testing.assert_allclose(again["logit"], table["logit"], atol=1e-6)


def test_equal_files_are_scored_once_and_reported_each(image_folder: MakeFolder) -> None:
    images = scan(image_folder(n=2))
    for name in ("0.png", "1.png"):
        shared = (images.root / "one" / "0_real" / name).read_bytes()
        (images.root / "two" / "0_real" / name).write_bytes(shared)
    broken = images.root / "one" / "1_fake" / "0.png", images.root / "two" / "1_fake" / "1.png"
    for path in broken:
        path.write_bytes(b"broken alike")
    one, skipped, steps = detector(), list[Skipped](), list[tuple[float, ...]]()
    table = score(
        one,
        images,
        max_skipped=0.5,
        skipped=skipped,
        progress=lambda what, *told: steps.append(told),
    )
    assert isinstance(one.network, Brightness)
    assert one.network.seen == 4
    assert len(table) == 6
    assert steps[-1][0] == steps[-1][1]
    assert [item.path for item in skipped] == list(broken)
    assert "none of the formats" in skipped[1].reason
    reals = table[table["label"] == 0]
    assert list(reals["logit"][:2]) == list(reals["logit"][2:])
    random = detector("tff-ffrs-8")
    score(random, images, max_skipped=0.5)
    assert isinstance(random.network, Brightness)
    assert random.network.seen == 6


def test_a_logit_that_is_not_finite_is_refused(image_folder: MakeFolder) -> None:
    broken = detector()
    assert isinstance(broken.network, Brightness)
    broken.network.weight.data.fill_(torch.nan)
    with pytest.raises(
        UserError, match=r"brightness gives a logit that is not finite for .*0\.png"
    ):
        score(broken, scan(image_folder()))


def scores_table(rng: np.random.Generator) -> pd.DataFrame:
    rows = []
    for name, n_real, n_fake, apart in (("b", 30, 20, 1.0), ("a", 10, 40, 2.0)):
        for label, n in ((0, n_real), (1, n_fake)):
            scores = 1 / (1 + np.exp(-(rng.normal(size=n) + apart * (label - 0.5))))
            rows += [(f"{name}{label}{i}.png", label, name, s) for i, s in enumerate(scores)]
    return pd.DataFrame(rows, columns=["path", "label", "generator", "score"])


def test_the_table(rng: np.random.Generator) -> None:
    scores = scores_table(rng)
    table = metrics(scores)
    assert list(table.columns) == list(COLUMNS)
    assert list(table["generator"]) == ["a", "b", MACRO]
    a, b, macro = table.to_dict("records")
    chosen = scores[scores["generator"] == "a"]
    assert a["ap"] == pytest.approx(average_precision_score(chosen["label"], chosen["score"]))
    assert (a["n_real"], a["n_fake"]) == (10, 40)
    assert (macro["n_real"], macro["n_fake"]) == (40, 60)
    for name in ("ap", "accuracy", "real_accuracy", "fake_accuracy", "auc", "eer"):
        assert macro[name] == pytest.approx((a[name] + b[name]) / 2)
    for row in (a, b, macro):
        for name in ("ap", "accuracy", "real_accuracy", "fake_accuracy"):
            assert 0 <= row[f"{name}_low"] <= row[name] <= row[f"{name}_high"] <= 1
    right = int(((chosen["score"] > 0.5) == (chosen["label"] == 1)).sum())
    assert (a["accuracy_low"], a["accuracy_high"]) == wilson(right, 50)
    assert np.isnan(macro["calibrated_threshold"])
    assert macro["ap_high"] - macro["ap_low"] < b["ap_high"] - b["ap_low"]


def test_the_table_does_not_depend_on_order_or_company(rng: np.random.Generator) -> None:
    scores = scores_table(rng)
    table = metrics(scores)
    alone = metrics(scores[scores["generator"] == "a"])
    pd.testing.assert_series_equal(table.iloc[0], alone.iloc[0])
    assert list(alone["generator"]) == ["a"]  # the mean of one generator is no mean
    numbers = table.drop(columns=["generator", "calibrated_threshold", "intervals_over"])
    points = [name for name in numbers if not name.endswith(("_low", "_high"))]
    shuffled = metrics(scores.sample(frac=1, random_state=0))
    pd.testing.assert_frame_equal(shuffled[points], table[points])


def test_clusters_widen_the_intervals(rng: np.random.Generator) -> None:
    """Crops of one photograph that are right or wrong together hold less than they seem to."""
    scores = pd.DataFrame({"label": np.repeat([0, 1], 60), "generator": "g"})
    scores["path"] = [f"{at}.png" for at in range(120)]
    clusters = np.tile(np.repeat(np.arange(6), 10), 2)
    shift = rng.normal(size=6)[clusters]
    scores["score"] = 1 / (1 + np.exp(-(2 * shift + scores["label"] - 0.5)))
    plain = metrics(scores).iloc[0]
    grouped = metrics(scores, cluster=clusters).iloc[0]
    for name in ("accuracy", "real_accuracy", "fake_accuracy"):
        width = plain[f"{name}_high"] - plain[f"{name}_low"]
        assert grouped[f"{name}_high"] - grouped[f"{name}_low"] > width
        assert grouped[name] == plain[name]


def test_a_generator_that_lacks_a_class_is_named(rng: np.random.Generator) -> None:
    scores = scores_table(rng)
    lacking = scores[(scores["generator"] != "b") | (scores["label"] == 1)]
    with pytest.raises(UserError, match="generator 'b': no real images"):
        metrics(lacking)
