"""Colour modes pixel by pixel, and the ablation on detectors that see a known trace."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.cbook import boxplot_stats
from PIL import Image

import forensift.data.batching as batching
from forensift import UserError, colour, metrics, score
from forensift.data.colour import MODES, PUBLISHED_MODES, recolour
from forensift.detectors import Detector
from forensift.records import ImageEntry, ImageSet
from forensift.sensitivity import box_table, colour_table
from forensift.sweep.per_image import PerImage

from .planted import batch_of, fingerprint, planted_detector, planted_images
from .two_traces import two_trace_detector, two_trace_images

LUMA = np.array([0.299, 0.587, 0.114])


def noise(shape: tuple[int, ...] = (3, 3, 20, 17), low: int = 0, high: int = 256) -> torch.Tensor:
    values = np.random.default_rng(0).integers(low, high, shape, dtype=np.uint8)
    return torch.from_numpy(values)


def luma(pixels: torch.Tensor) -> np.ndarray:
    return np.tensordot(pixels.double().numpy(), LUMA, axes=([1], [0]))


def test_grey_is_pillows_for_every_colour_there_is() -> None:
    green, blue = np.mgrid[0:256, 0:256].astype(np.uint8)
    for red in range(256):
        pixels = np.stack([np.full_like(green, red), green, blue])
        theirs = np.asarray(Image.fromarray(pixels.transpose(1, 2, 0)).convert("L"))
        ours = recolour(torch.from_numpy(pixels)[None], "grey")[0].numpy()
        assert (ours == theirs).all(), red


def test_grey_is_torchvisions_grayscale_3() -> None:
    from torchvision.transforms import Grayscale

    pixels = noise()
    for one, ours in zip(pixels, recolour(pixels, "grey"), strict=True):
        theirs = Grayscale(3)(Image.fromarray(one.permute(1, 2, 0).numpy()))
        assert np.array_equal(ours.permute(1, 2, 0).numpy(), np.asarray(theirs))


@pytest.mark.parametrize("shape", [(3, 3, 20, 17), (1, 3, 1, 1), (2, 3, 3, 40)])
@pytest.mark.parametrize("mode", [*MODES, "luma-only", "hue--33.5", "saturation-0", "swap-rbg"])
def test_every_mode_is_a_function_of_each_image_alone(mode: str, shape: tuple[int, ...]) -> None:
    pixels = noise(shape)
    before = pixels.clone()
    found = recolour(pixels, mode)
    assert (found.dtype, found.shape) == (torch.uint8, pixels.shape)
    assert torch.equal(pixels, before)
    for row in range(len(pixels)):
        assert torch.equal(found[row : row + 1], recolour(pixels[row : row + 1], mode))


def test_modes_that_are_one_another() -> None:
    pixels = noise()
    for mode in ("rgb", "saturation-1", "hue-0", "hue-360", "hue--720", "swap-rgb"):
        assert torch.equal(recolour(pixels, mode), pixels), mode
    grey = recolour(pixels, "grey")
    for mode in ("luma-only", "saturation-0"):
        assert torch.equal(recolour(pixels, mode), grey), mode
    assert torch.equal(recolour(recolour(pixels, "swap-gbr"), "swap-brg"), pixels)
    assert torch.equal(recolour(pixels, "swap-gbr")[:, 0], pixels[:, 1])
    # An image without colour has none to change.
    for mode in MODES:
        if mode not in ("chroma-only", "luma-smoothed"):
            assert torch.equal(recolour(grey, mode), grey), mode


@pytest.mark.parametrize("low_high", [(0, 256), (90, 160)])
def test_luma_stays_where_it_is_said_to(low_high: tuple[int, int]) -> None:
    pixels = noise((2, 3, 16, 16), *low_high)
    for mode in ("chroma-smoothed", "hue-60", "hue-180", "saturation-0.25", "saturation-3"):
        assert np.abs(luma(recolour(pixels, mode)) - luma(pixels)).max() <= 0.5 + 1e-3, mode
    assert np.abs(luma(recolour(pixels, "chroma-only")) - 128).max() <= 0.5 + 1e-3


def test_chroma_only_is_blind_to_luma_and_grey_to_chroma() -> None:
    pixels = noise((2, 3, 8, 8), 60, 180)
    steps = torch.from_numpy(np.random.default_rng(1).integers(-50, 50, (2, 1, 8, 8)))
    brighter = (pixels + steps).to(torch.uint8)
    assert torch.equal(recolour(brighter, "chroma-only"), recolour(pixels, "chroma-only"))
    assert not torch.equal(recolour(brighter, "grey"), recolour(pixels, "grey"))
    turned = recolour(pixels, "hue-90")
    apart = recolour(turned, "grey").int() - recolour(pixels, "grey").int()
    assert apart.abs().max() <= 1
    far = recolour(turned, "chroma-only").int() - recolour(pixels, "chroma-only").int()
    assert far.abs().max() > 20


def test_hue_turns_the_cb_cr_plane() -> None:
    pixels = noise((1, 3, 6, 6), 110, 146)
    r, g, b = pixels[0].double().numpy()
    y = 0.299 * r + 0.587 * g + 0.114 * b
    angle = np.arctan2((r - y) / 1.402, (b - y) / 1.772) + np.radians(60)
    size = np.hypot((r - y) / 1.402, (b - y) / 1.772)
    red, blue = y + 1.402 * size * np.sin(angle), y + 1.772 * size * np.cos(angle)
    green = (y - 0.299 * red - 0.114 * blue) / 0.587
    found = recolour(pixels, "hue-60")[0].double().numpy()
    assert np.abs(found - np.stack([red, green, blue])).max() <= 0.51
    back = recolour(recolour(pixels, "hue-180"), "hue-180").int() - pixels.int()
    assert back.abs().max() <= 2


def test_a_pixel_that_would_leave_the_range_keeps_luma_and_hue() -> None:
    pixels = torch.tensor([[200, 120, 40], [250, 250, 10]], dtype=torch.uint8).T.reshape(1, 3, 1, 2)
    found = recolour(pixels, "saturation-10")
    before, after = (one.double().numpy()[0, :, 0] for one in (pixels, found))
    chroma, stretched = (one - LUMA @ one for one in (before, after))
    factors = stretched / chroma
    assert factors.std(axis=0).max() < 0.05  # one factor a pixel, but for rounding
    assert ((after == 0) | (after == 255)).any(axis=0).all()  # each goes as far as it can
    assert (factors.mean(axis=0) > 0.99).all()


def test_smoothed_modes_smooth_what_they_say() -> None:
    board = np.indices((32, 32)).sum(axis=0) % 2 * 2 - 1
    flat = np.array([120, 130, 110])[:, None, None]
    in_luma = torch.from_numpy((flat + 10 * board).astype(np.uint8))[None]
    chroma = np.array([14.0, 0, 0]) - 14 * 0.299
    coloured = np.rint(flat + chroma[:, None, None] * board)
    in_chroma = torch.from_numpy(coloured.astype(np.uint8))[None]

    def trace(pixels: torch.Tensor) -> float:
        inside = pixels.double().numpy()[0, :, 6:-6, 6:-6]
        return float(np.abs((inside * board[6:-6, 6:-6]).mean(axis=(1, 2))).max())

    assert trace(recolour(in_luma, "luma-smoothed")) < 0.6
    assert trace(recolour(in_luma, "chroma-smoothed")) > 9
    assert trace(recolour(in_chroma, "chroma-smoothed")) < 0.6
    assert trace(recolour(in_chroma, "luma-smoothed")) > 9


@pytest.mark.parametrize(
    "mode", ["", "gray", "hue", "hue-x", "hue-inf", "saturation--1", "saturation-nan", "swap-rgg"]
)
def test_unknown_modes_are_refused(mode: str) -> None:
    with pytest.raises(UserError, match="no colour mode"):
        recolour(noise((1, 3, 2, 2)), mode)


def counting(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Count images that go through the network, and files that are decoded."""
    counts = {"images": 0, "decoded": 0}

    def passed(module: torch.nn.Module, args: tuple[torch.Tensor]) -> None:
        counts["images"] += len(args[0])

    detector.network.register_forward_pre_hook(passed)
    read = batching.read_image

    def decoded(path: Path) -> Image.Image:
        counts["decoded"] += 1
        return read(path)

    monkeypatch.setattr(batching, "read_image", decoded)
    return counts


def test_each_image_is_decoded_once_and_equal_ones_are_scored_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = planted_images(tmp_path, n=4)
    detector = planted_detector()
    counts = counting(detector, monkeypatch)
    modes = ("rgb", "grey", "hue-90")
    told: list[tuple[str, int, int]] = []
    result = colour(detector, images, modes, batch_size=3, progress=lambda *one: told.append(one))
    # Two generators of 4 reals and 4 fakes, which share their reals.
    assert counts == {"decoded": 12, "images": 12 * len(modes)}
    assert told[-1][1:] == (12, 12)
    assert len(result.scores) == 16 * len(modes)


def test_grey_equals_scoring_files_without_colour(tmp_path: Path) -> None:
    images = planted_images(tmp_path / "rgb", n=5)
    detector = two_trace_detector()
    entries = []
    for entry in images:
        path = tmp_path / "grey" / images.image_id(entry)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.open(entry.path).convert("L").convert("RGB").save(path)
        entries.append(ImageEntry(path, entry.label, entry.generator))
    grey = ImageSet(tmp_path / "grey", tuple(entries))
    result = colour(detector, images, PUBLISHED_MODES)
    for mode, of in (("rgb", images), ("grey", grey)):
        theirs = score(detector, of)
        ours = result.scores[result.scores["mode"] == mode].reset_index(drop=True)
        assert ours["path"].tolist() == theirs["path"].tolist()
        np.testing.assert_allclose(ours["logit"], theirs["logit"], atol=1e-5)
        table = metrics(theirs)
        rows = result.table[result.table["mode"] == mode].reset_index(drop=True)
        assert rows["generator"].tolist() == table["generator"].tolist()
        for name in ("ap", "ap_low", "ap_high", "accuracy", "real_accuracy", "fake_accuracy"):
            np.testing.assert_allclose(rows[name], table[name], atol=1e-9, err_msg=name)
        single = rows["generator"] != "macro mean"
        for name in ("accuracy_low", "accuracy_high"):
            np.testing.assert_allclose(rows[name][single], table[name][single], atol=1e-9)


def test_it_tells_a_chroma_trace_from_a_luma_trace(tmp_path: Path) -> None:
    images = two_trace_images(tmp_path)
    result = colour(two_trace_detector(), images, (*PUBLISHED_MODES, "chroma-only"))
    ap = result.table.set_index(["generator", "mode"])["ap"]
    assert ap["in-chroma", "rgb"] == ap["in-luma", "rgb"] == 1
    assert ap["in-luma", "grey"] == ap["in-chroma", "chroma-only"] == 1
    assert ap["in-chroma", "grey"] < 0.75
    assert ap["in-luma", "chroma-only"] < 0.75
    change = result.table.set_index(["generator", "mode"])
    fell = change.loc[("in-chroma", "grey")]
    assert fell["change_ap_high"] < 0
    assert fell["change_mean_logit_fake"] < -3
    assert abs(fell["change_mean_logit_real"]) < 0.5
    assert fell["ap"] - 1 == pytest.approx(fell["change_ap"])
    assert (change.xs("rgb", level="mode")[["change_ap", "change_ap_low"]] == 0).all(axis=None)
    drop = result.box.set_index(["generator", "mode"])["drop_of_median"]
    assert drop["in-chroma", "grey"] > 0.3
    assert abs(drop["in-luma", "grey"]) < 0.05
    assert (result.table["calibrated_fake_accuracy"] <= 1).all()


def made_scores(n: int = 60, modes: tuple[str, ...] = ("rgb", "grey")) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    parts = []
    labels = np.repeat([0, 1], n)
    logits = 1.5 * rng.normal(size=2 * n) + labels
    for place, mode in enumerate(modes):
        logit = logits - place * labels * (1 + rng.random(2 * n))
        parts.append(
            pd.DataFrame(
                {"path": [f"{i}.png" for i in range(2 * n)], "label": labels, "generator": "one",
                 "mode": mode, "logit": logit, "score": 1 / (1 + np.exp(-logit))}
            )
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def test_the_box_plots_numbers_are_the_published_ones() -> None:
    scores = made_scores()
    fakes = scores[scores["label"] == 1]
    rgb, grey = (fakes[fakes["mode"] == mode]["score"].to_numpy() for mode in ("rgb", "grey"))
    kept = rgb >= 0.2
    box = box_table(scores, ("rgb", "grey")).set_index("mode")
    assert 0 < kept.sum() < len(kept)
    assert box["n"].tolist() == [kept.sum()] * 2
    drop = np.median(rgb[kept]) - np.median(grey[kept])
    assert box.loc["grey", "drop_of_median"] == pytest.approx(drop)
    assert box.loc["grey", "drop_low"] < drop < box.loc["grey", "drop_high"]
    assert box.loc["rgb", ["drop_of_median", "drop_low", "drop_high"]].tolist() == [0, 0, 0]
    for mode, values in (("rgb", rgb), ("grey", grey)):
        theirs = boxplot_stats(values[kept])[0]
        for ours, name in (("whisker_low", "whislo"), ("q1", "q1"), ("median", "med"),
                           ("q3", "q3"), ("whisker_high", "whishi")):  # fmt: skip
            assert box.loc[mode, ours] == pytest.approx(theirs[name]), name
    none = box_table(scores.assign(score=0.1), ("rgb", "grey"))
    assert none["n"].tolist() == [0, 0]
    assert none["drop_of_median"].isna().all()


def test_the_intervals_of_a_change_are_paired() -> None:
    scores = made_scores()
    table = colour_table(scores, ("rgb", "grey")).set_index("mode").loc["grey"]
    width = table["change_ap_high"] - table["change_ap_low"]
    apart = table["ap_high"] - table["ap_low"]
    assert table["change_ap_low"] < table["change_ap"] < table["change_ap_high"] < 0
    assert width < apart  # differences of independent draws would be wider than either
    assert table["change_mean_logit_real"] == 0
    crops = [f"c{'abcdefghijkl'[i % 12]}-{i}.png" for i in range(120)] * 2
    clustered = colour_table(scores.assign(path=crops), ("rgb", "grey")).set_index("mode")
    assert clustered["intervals_over"].tolist() == ["photographs"] * 2
    assert table["intervals_over"] == "images"
    assert clustered.loc["grey", "ap"] == table["ap"]
    assert clustered.loc["grey", "ap_low"] != table["ap_low"]


def test_the_drops_interval_covers() -> None:
    rng = np.random.default_rng(5)
    covered, repeats, n = 0, 120, 60
    for _ in range(repeats):
        own = rng.normal(0.7, 0.05, n)
        scores = pd.DataFrame({"label": 1, "generator": "g", "path": np.arange(n).astype(str)})
        both = [scores.assign(mode="rgb", score=own)]
        both.append(scores.assign(mode="grey", score=own - 0.1 + rng.normal(0, 0.05, n)))
        box = box_table(pd.concat(both), ("rgb", "grey"), resamples=200).iloc[1]
        covered += box["drop_low"] <= 0.1 <= box["drop_high"]
    assert 0.91 <= covered / repeats <= 1


def test_results_do_not_depend_on_batches_and_the_model_is_left_alone(tmp_path: Path) -> None:
    images = planted_images(tmp_path, n=3)
    detector = planted_detector()
    before = fingerprint(detector.network)
    first = colour(detector, images, PUBLISHED_MODES, batch_size=1)
    second = colour(detector, images, PUBLISHED_MODES, batch_size=7)
    np.testing.assert_allclose(first.scores["logit"], second.scores["logit"], atol=1e-5)
    assert fingerprint(detector.network) == before


def test_refusals(tmp_path: Path) -> None:
    images = planted_images(tmp_path, n=3)
    detector = planted_detector()
    with pytest.raises(UserError, match="no colour mode 'sepia'"):
        colour(detector, images, ("rgb", "sepia"))
    with pytest.raises(UserError, match="twice"):
        colour(detector, images, ("grey", "grey"))
    with pytest.raises(UserError, match="no real"):
        colour(detector, images.only(label=1))
    assert colour(detector, images, ("grey",)).facts["modes"] == ["rgb", "grey"]
    images.entries[0].path.write_bytes(b"")
    skipped: list = []
    with pytest.raises(UserError, match="cannot be used"):
        colour(detector, images, ("grey",), skipped=skipped)
    assert [one.path for one in skipped] == [images.entries[0].path]
    kept = colour(detector, images, ("grey",), max_skipped=0.5)
    assert len(kept.scores) == 2 * (len(images) - 1)
    with torch.no_grad():
        detector.network.fc.bias.fill_(float("nan"))
    with pytest.raises(UserError, match="not finite"):
        colour(detector, images, ("grey",), max_skipped=0.5)


def test_the_per_image_statistic_merges_in_any_order() -> None:
    rng = np.random.default_rng(0)
    parts = []
    for ids in (["b", "d\udcff"], ["a"], ["c", "e"]):
        part = PerImage()
        part.update(batch_of(ids), {"x": rng.random((len(ids), 2)), "n": np.arange(len(ids))})
        parts.append(part)
    whole, other = PerImage(), PerImage()
    for part in parts:
        whole.merge(part)
    for part in reversed(parts):
        other.merge(part.from_state(part.state()))
    names = ["a", "b", "c", "d\udcff", "e"]
    assert [image_id for _, image_id in whole.result()] == names
    assert list(whole.result()) == list(other.result())
    for name in ("x", "n"):
        assert np.array_equal(whole.of(names, name), other.of(names, name))
    assert np.isnan(whole.of(["z", "a"], "x")[0]).all()
    assert np.array_equal(whole.of(["a"], "x")[0], parts[1].rows["clean", "a"]["x"])
    assert whole.has("a")
    assert not whole.has("a", "jpeg-50")
    with pytest.raises(KeyError):
        whole.of(["z"], "x")
    assert not whole.empty().from_state(whole.empty().state()).result()
