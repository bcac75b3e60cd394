"""LRP-max patches: the lists of best images, the boxes, the crops and the collage."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import forensift.data.batching
from forensift.data import Batch
from forensift.detectors.detector import Detector
from forensift.errors import UserError
from forensift.figures import plot_collage, save
from forensift.figures.collage import DPI, map_label
from forensift.fmap_ranking.omega import ranking_table
from forensift.lrp import LRP
from forensift.patches import (
    Box,
    Patches,
    PeakLook,
    TopImages,
    bounding_box,
    heat,
    patches,
    tile,
)
from forensift.records import FAKE, REAL, FeatureMap, ImageEntry, ImageSet, Ranking
from forensift.sweep import Rows, sweep

from .lrp_reference import reference, seeded_images, seeded_network
from .planted import batch_of, fingerprint, planted_detector, planted_images

topn = import_module("forensift.patches.topn")  # the package's name is that of its verb
MAPS = tuple(FeatureMap("conv", channel, 3) for channel in range(3))


def ranking_of(detector: Detector, *first: str) -> Ranking:
    """A ranking of all the detector's maps that begins with those named."""
    maps = sorted(detector.feature_maps, key=lambda one: str(one) not in first)
    maps[: len(first)] = [FeatureMap.parse(name) for name in first]
    omega = np.linspace(0.5, 0.01, len(maps))
    return Ranking(ranking_table(maps, omega).reset_index(drop=True), FAKE)


def peaks(values: np.ndarray, first: int = 0) -> tuple[Batch, Rows]:
    batch = batch_of([f"{first + row:03d}.png" for row in range(len(values))])
    positions = np.stack([np.arange(values.size).reshape(values.shape)] * 2, axis=-1)
    return batch, {"value": values.astype(np.float64), "position": positions}


def same(a: TopImages, b: TopImages) -> bool:
    return a.lists == b.lists and (a.seen, a.not_finite) == (b.seen, b.not_finite)


def test_lists_are_a_full_sort_however_the_images_are_cut_up(rng: np.random.Generator) -> None:
    values = rng.integers(0, 6, (40, 3)).astype(float)  # many ties
    whole = TopImages(MAPS, 7)
    whole.update(*peaks(values))
    for column, feature_map in enumerate(MAPS):
        order = sorted(range(40), key=lambda row: (-values[row, column], f"{row:03d}.png"))[:7]
        found = whole.result()[feature_map]
        assert [one.image_id for one in found] == [f"{row:03d}.png" for row in order]
        assert [one.value for one in found] == [values[row, column] for row in order]
    for size in (1, 3, 11, 40):
        parts = []
        for first in range(0, 40, size):
            part = whole.empty()
            part.update(*peaks(values[first : first + size], first))
            parts.append(part.from_state(part.state()))
        rng.shuffle(parts)
        merged = whole.empty()
        for part in parts:
            merged.merge(part)
        # Positions of `peaks` count from each piece's start, so compare what does not.
        assert [[p[:2] for p in best] for best in merged.lists] == [
            [p[:2] for p in best] for best in whole.lists
        ]
        assert merged.seen == 40


def test_merging_is_commutative_and_associative(rng: np.random.Generator) -> None:
    def part(first: int) -> TopImages:
        one = TopImages(MAPS, 4)
        one.update(*peaks(np.random.default_rng(first).integers(0, 3, (5, 3)), first))
        return one

    def merged(*parts: TopImages) -> TopImages:
        total = TopImages(MAPS, 4)
        for one in parts:
            total.merge(one)
        return total

    a, b, c = part(0), part(5), part(10)
    assert same(merged(a, b, c), merged(c, b, a))
    assert same(merged(a, merged(b, c)), merged(merged(a, b), c))
    assert same(merged(a), a)
    with pytest.raises(ValueError, match="same feature maps"):
        a.merge(TopImages(MAPS, 5))


def test_state_is_plain_arrays_and_comes_back() -> None:
    one = TopImages(MAPS, 2)
    values = np.array([[1.0, np.nan, -2.0], [3.0, np.nan, np.inf]])
    one.update(*peaks(values))
    assert all(array.dtype != object for array in one.state().values())
    back = one.from_state(one.state())
    assert same(back, one)
    assert back.not_finite == 3
    assert back.result()[MAPS[1]] == ()
    assert same(one.empty().from_state(one.empty().state()), one.empty())


def test_peaks_are_of_the_plain_convolution_before_batchnorm(tmp_path: Path) -> None:
    detector = planted_detector()
    images = planted_images(tmp_path, ("one",)).only(label=FAKE)
    chosen = [FeatureMap("conv2", 3, 8), FeatureMap("conv1", 5, 8), FeatureMap("conv2", 0, 8)]
    look = PeakLook(detector, chosen, 2)
    sweep(images, [look], batch_size=4)
    pixels = np.stack([np.asarray(Image.open(entry.path)) for entry in images])
    batch = detector.preset.normalise(torch.from_numpy(pixels.transpose(0, 3, 1, 2)))
    network = detector.network
    with torch.no_grad():
        outputs = {"conv1": network.conv1(batch)}
        outputs["conv2"] = network.conv2(network.relu1(network.bn1(outputs["conv1"])))
    for feature_map, found in look.statistic.result().items():
        values = outputs[feature_map.layer][:, feature_map.channel]
        top = values.flatten(1).max(1).values
        order = torch.argsort(-top)[:2]
        assert [one.value for one in found] == pytest.approx(top[order].tolist(), rel=1e-5)
        for one, row in zip(found, order, strict=True):
            assert images.image_id(images.entries[row]) == one.image_id
            assert float(values[row, one.y, one.x]) == pytest.approx(one.value, rel=1e-5)


def test_heat_is_positive_relevance_over_its_maximum(rng: np.random.Generator) -> None:
    relevance = rng.standard_normal((3, 5, 6))
    found = heat(relevance)
    summed = relevance[0] + relevance[1] + relevance[2]
    np.testing.assert_allclose(found, np.where(summed > 0, summed, 0) / summed.max(), atol=1e-15)
    assert found.max() == 1
    assert not heat(-np.abs(relevance)).any()


def test_boxes() -> None:
    values = np.zeros((8, 8))
    values[2:4, 5:8] = 1.0
    assert bounding_box(values) == Box(2, 5, 4, 8)  # the percentile is 0: all that is positive
    assert bounding_box(values, published_edge=True) == Box(2, 5, 3, 7)
    values = np.arange(64.0).reshape(8, 8)  # a quarter of 64 places is two rows
    assert bounding_box(values) == Box(6, 0, 8, 8)
    assert bounding_box(values, 0.0) == Box(0, 0, 8, 8)
    assert bounding_box(np.zeros((4, 4))) is None
    assert bounding_box(np.ones((4, 4))) == Box(0, 0, 4, 4)
    one = np.zeros((4, 4))
    one[1, 2] = 1
    assert bounding_box(one) == Box(1, 2, 2, 3)
    assert bounding_box(one, published_edge=True) is None
    assert Box(1, 2, 3, 6).cut(np.zeros((8, 8, 3))).shape == (2, 4, 3)


@pytest.mark.parametrize("name", ["resnet50", "efficientnet_b0"])
def test_boxes_agree_with_those_of_the_reference_relevances(name: str) -> None:
    meta, arrays = reference(name)
    lrp, batch = LRP(seeded_network(meta).double()), seeded_images(meta).double()
    # Behind the first gate the EfficientNet file has other weights; see test_lrp_published.
    first = "channel_max/" + ("_blocks.0._depthwise_conv" if name != "resnet50" else "")
    keys = [key for key in arrays if key.startswith(first)]
    assert keys
    for key in keys:
        layer, channel = key.removeprefix("channel_max/").rsplit(".#", 1)
        found = lrp.from_feature_map(batch, layer, int(channel)).pixels.numpy()
        expected = arrays["channel_pixel_relevance/" + key.removeprefix("channel_max/")]
        for ours, theirs in zip(found[:1], expected, strict=True):
            difference = np.linalg.norm(heat(ours) - heat(theirs)) / np.linalg.norm(heat(theirs))
            assert difference < 1e-6
            assert bounding_box(heat(ours)) == bounding_box(heat(theirs))


def test_a_patch_is_the_receptive_field_at_the_planted_place(tmp_path: Path) -> None:
    detector = planted_detector()
    before = fingerprint(detector.network)
    entries = []
    for number, (y, x) in enumerate([(3, 4), (9, 2), (0, 0)]):
        pixels = np.full((12, 16, 3), 100, np.uint8)
        pixels[y, x] = 160 + 20 * number
        path = tmp_path / f"{number}.png"
        Image.fromarray(pixels).save(path)
        entries.append(ImageEntry(path, FAKE, "spot"))
    images = ImageSet(tmp_path, tuple(entries))
    found = patches(detector, images, ranking_of(detector, "conv1.#0(T=8)"), 1, n=3)
    assert fingerprint(detector.network) == before
    assert [one.image for one in found.patches] == ["2.png", "1.png", "0.png"]
    corner, second, third = found.patches
    assert (third.y, third.x, third.start_y, third.start_x) == (3, 4, 3, 4)
    assert third.reach == Box(2, 3, 5, 6)
    # The Laplacian sees a cross; LRP puts relevance on all five of its places.
    assert third.box == Box(2, 3, 5, 6)
    assert second.box == Box(8, 1, 11, 4)
    assert corner.reach == Box(0, 0, 2, 2)
    assert third.crop is not None
    assert third.crop.shape == (3, 3, 3)
    assert third.crop[1, 1].tolist() == [160] * 3
    assert third.share_of_relevance == pytest.approx(1)
    assert third.share_of_image == 9 / (12 * 16)
    assert third.maximum == pytest.approx(third.start, rel=1e-4)
    row = found.table.iloc[2]
    assert (row["top"], row["left"], row["height"], row["width"]) == (2, 3, 3, 3)
    assert (row["feature_map"], row["rank"], row["place"]) == ("conv1.#0(T=8)", 1, 3)


def test_a_batchnorm_of_negative_scale_starts_elsewhere(tmp_path: Path) -> None:
    detector = planted_detector()
    with torch.no_grad():
        detector.network.bn1.weight[0] = -1.0
    images = planted_images(tmp_path, ("one",))
    one = patches(detector, images, ranking_of(detector, "conv1.#0(T=8)"), 1, n=1).patches[0]
    assert (one.y, one.x) != (one.start_y, one.start_x)
    assert one.maximum > 0
    assert one.start > 0


def test_no_positive_position_is_said_and_drawn(tmp_path: Path) -> None:
    detector = planted_detector()
    with torch.no_grad():
        detector.network.bn1.bias[0] = -1000.0
    ranking = ranking_of(detector, "conv1.#0(T=8)", "conv1.#1(T=8)")
    found = patches(detector, planted_images(tmp_path, ("one",)), ranking, 2, n=2)
    dark, bright = found.of(found.feature_maps[0]), found.of(found.feature_maps[1])
    assert all(one.crop is None and one.box is None and one.start < 0 for one in dark)
    assert {one.note for one in dark} == {"no position of the map is positive"}
    assert all(one.crop is not None and one.note == "" for one in bright)
    assert found.facts["without_patch"] == 2
    assert found.table["top"].isna().tolist() == [True, True, False, False]
    (figure,) = plot_collage(found)
    assert sum("no positive" in text.get_text() for text in figure.texts) == 2
    assert len(figure.axes) == 2


def mixed(root: Path) -> ImageSet:
    small = planted_images(root / "a", ("one",), n=4, size=16)
    large = planted_images(root / "b", ("two",), n=4, size=24)
    return ImageSet(root, small.entries + large.entries)


def test_batches_shards_and_what_is_kept_change_nothing(tmp_path: Path, monkeypatch) -> None:
    detector = planted_detector()
    images, ranking = mixed(tmp_path), ranking_of(detector, "conv2.#0(T=8)", "conv1.#2(T=8)")
    first = patches(detector, images, ranking, 6, n=3)
    backwards = ImageSet(images.root, images.entries[::-1])
    again = patches(detector, backwards, ranking, 6, n=3, batch_size=1)
    monkeypatch.setattr(topn, "KEPT_BYTES", 2000)
    thrifty = patches(detector, images, ranking, 6, n=3, batch_size=5)
    for other in (again, thrifty):
        assert_same_patches(first, other)
    assert {one.image.split("/")[1] for one in first.patches} == {"one", "two"}


def assert_same_patches(a: Patches, b: Patches) -> None:
    for one, other in zip(a.patches, b.patches, strict=True):
        assert (one.image, one.box, one.note) == (other.image, other.box, other.note)
        assert one.maximum == pytest.approx(other.maximum, rel=1e-5)
        if one.crop is not None:
            np.testing.assert_array_equal(one.crop, other.crop)


def test_each_image_is_decoded_once(tmp_path: Path, monkeypatch) -> None:
    read: Counter[Path] = Counter()
    original = forensift.data.batching.read_image

    def counted(path: Path) -> Image.Image:
        read[path] += 1
        return original(path)

    monkeypatch.setattr(forensift.data.batching, "read_image", counted)
    detector, images = planted_detector(), mixed(tmp_path)
    told: dict[str, tuple[int, int]] = {}
    patches(
        detector, images, ranking_of(detector), 5, n=2,
        progress=lambda what, done, total: told.update({what: (done, total)}),
    )  # fmt: skip
    assert read == dict.fromkeys((entry.path for entry in images.only(label=FAKE)), 1)
    assert told == {"finding images": (8, 8), "cutting patches": (10, 10)}


def test_generators_and_short_sets(tmp_path: Path) -> None:
    detector, images = planted_detector(), planted_images(tmp_path, n=2)
    found = patches(detector, images, ranking_of(detector), 2, n=5, generator="two")
    assert {one.generator for one in found.patches} == {"two"}
    assert len(found.patches) == 4  # two fakes a map are all there are
    assert found.facts["used"] == 2


def test_refusals(tmp_path: Path) -> None:
    detector, images = planted_detector(), planted_images(tmp_path, n=2)
    ranking = ranking_of(detector)
    with pytest.raises(UserError, match=r"no fakes of 'three'; generators: one, two"):
        patches(detector, images, ranking, 1, generator="three")
    with pytest.raises(UserError, match="no fakes"):
        patches(detector, images.only(label=REAL), ranking, 1)
    with pytest.raises(UserError, match="n = 0"):
        patches(detector, images, ranking, 1, n=0)
    with pytest.raises(UserError, match="percentile 100"):
        patches(detector, images, ranking, 1, percentile=100)
    with pytest.raises(UserError, match="k = 17"):
        patches(detector, images, ranking, 17)
    other = replace(detector, feature_maps=detector.feature_maps[:8])
    with pytest.raises(UserError, match="belongs to another network"):
        patches(other, images, ranking, 1)


def test_unreadable_images_are_skipped_and_counted(tmp_path: Path) -> None:
    detector, images = planted_detector(), planted_images(tmp_path, ("one",))
    bad = images.only(label=FAKE).entries[0].path
    bad.write_bytes(b"no image")
    with pytest.raises(UserError, match="1 of 6 images cannot be used"):
        patches(detector, images, ranking_of(detector), 1)
    skipped: list = []
    found = patches(detector, images, ranking_of(detector), 1, max_skipped=0.5, skipped=skipped)
    assert [one.path for one in skipped] == [bad]
    assert found.facts["used"] == 5


def test_a_tile_is_nearest_neighbour_with_a_black_frame(rng: np.random.Generator) -> None:
    crop = rng.integers(1, 256, (7, 7, 3), dtype=np.uint8)
    found = tile(crop)
    assert found.shape == (224, 224, 3)
    np.testing.assert_array_equal(found[16::32, 16::32], crop)
    inside = found[1:-1, 1:-1]
    assert inside.min() > 0
    assert not found[[0, -1]].any()
    assert not found[:, [0, -1]].any()
    assert tile(crop[:3]).shape == (224, 224, 3)


def test_collage_holds_the_tiles_to_the_pixel(tmp_path: Path) -> None:
    detector, images = planted_detector(), planted_images(tmp_path / "set", ("one",))
    found = patches(detector, images, ranking_of(detector), 3, n=2)
    figures = plot_collage(found, title="planted")
    assert len(figures) == 1
    written = save(figures[0], tmp_path / "out", "collage")
    assert [path.name for path in written] == ["collage.pdf", "collage.png"]
    page = np.asarray(Image.open(written[1]).convert("RGB"))
    height = page.shape[0]
    for axes, patch in zip(figures[0].axes, found.patches, strict=True):
        box = axes.get_window_extent().transformed(figures[0].dpi_scale_trans.inverted())
        left, top = round(box.x0 * DPI), height - round(box.y1 * DPI)
        assert patch.crop is not None
        np.testing.assert_array_equal(page[top : top + 224, left : left + 224], tile(patch.crop))
    sides = [f"{one.crop.shape[1]} × {one.crop.shape[0]} px" for one in found.patches]
    assert [text.get_text() for text in figures[0].texts if "px" in text.get_text()] == sides
    pdf = written[0].read_bytes()
    assert b"/FontFile2" in pdf  # fonts are embedded as TrueType
    assert len(re.findall(rb"/Subtype /Image", pdf)) == 6
    assert len(re.findall(rb"/Width 224\b", pdf)) == 6
    assert b"/Interpolate true" not in pdf
    again = save(plot_collage(found, title="planted")[0], tmp_path / "again", "collage")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in written]


def test_many_maps_make_pages(tmp_path: Path) -> None:
    detector, images = planted_detector(), planted_images(tmp_path / "set", ("one",), n=1)
    found = patches(detector, images, ranking_of(detector), 16, n=1)
    assert len(plot_collage(found)) == 1  # two blocks of eight
    pages = plot_collage(found, rows=3, columns=2, title="planted")
    assert len(pages) == 3
    empty = [sum("no positive" in text.get_text() for text in page.texts) for page in pages]
    assert [len(page.axes) + n for page, n in zip(pages, empty, strict=True)] == [6, 6, 4]
    assert pages[-1].texts[0].get_text() == "planted (3 of 3)"
    assert len(plot_collage(found, rows=4, columns=1, first=5)) == 2


def test_labels_of_long_names_are_broken_at_dots() -> None:
    assert map_label(FeatureMap("layer1.0.conv2", 63, 64)) == "layer1.0.conv2\n#63"
    long = FeatureMap("_blocks.10._depthwise_conv", 7, 8)
    assert map_label(long) == "_blocks.10\n_depthwise_conv\n#7"
    assert map_label(FeatureMap("layer3.0.downsample.0", 1000, 1024)) == (
        "layer3.0\ndownsample.0\n#1000"
    )
