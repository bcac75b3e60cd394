"""One pass, many looks: exact merging, shared work, memory, shards and resuming."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from fractions import Fraction
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from torch import nn

import forensift.data.batching as decoding
from forensift.data import Batch, Preset, RandomResizedCrop, jpeg_equaliser
from forensift.data.colour import recolour
from forensift.detectors import load_detector
from forensift.detectors.detector import Detector, WeightsOrigin
from forensift.errors import UserError
from forensift.records import FAKE, REAL, ImageEntry, ImageSet, Skipped
from forensift.sweep import ExactSum, Look, Partials, Pass, Rows, Seen, first_alike, sweep
from forensift.sweep.memory import PeakBytes, free_bytes, measured_need

from .conftest import write_image
from .planted import fingerprint, planted_detector, planted_images

passes_of_networks = import_module("forensift.sweep.passes")

shares = hnp.arrays(np.float64, st.tuples(st.integers(1, 12), st.just(3)),
                    elements=st.floats(0, 1))  # fmt: skip


def total(*parts: np.ndarray) -> ExactSum:
    one = ExactSum((3,))
    for part in parts:
        one.add(part)
    return one


@given(shares, shares, shares)
@settings(deadline=None)
def test_exact_sums_merge_in_any_order_and_grouping(a, b, c) -> None:
    left, right, other = total(a), total(b), total(a, b, c)
    left.merge(right)
    left.merge(total(c))  # (a + b) + c
    inner = total(c)
    inner.merge(total(b))
    inner.merge(total(a))  # c + b + a
    for one in (left, inner):
        np.testing.assert_array_equal(one.words, other.words)
        assert one.count == other.count == len(a) + len(b) + len(c)
    neutral = other.empty_like()
    neutral.merge(other)
    np.testing.assert_array_equal(neutral.words, other.words)


@given(shares)
@settings(deadline=None)
def test_exact_sums_are_right(a) -> None:
    truth = [float(sum((Fraction(v) for v in column), Fraction())) for column in a.T.tolist()]
    np.testing.assert_allclose(total(a).value(), truth, rtol=1e-15, atol=1e-27)


def test_exact_sums_refuse_what_they_cannot_hold() -> None:
    one = ExactSum((2,))
    for bad in ([[0.5, 1.5]], [[np.nan, 0.0]], [[-0.1, 0.0]], [[0.0, np.inf]]):
        with pytest.raises(ValueError, match="between 0 and 1"):
            one.add(np.array(bad))
    with pytest.raises(ValueError, match="shape"):
        one.add(np.zeros((1, 3)))
    assert one.count == 0


# --- looks to test with -------------------------------------------------------------------------


class Brightness:
    """Sum of the images' mean values, and the ids in the order seen."""

    def __init__(self) -> None:
        self.sum = ExactSum(())
        self.ids: list[str] = []
        self.labels: list[int] = []

    def empty(self) -> Brightness:
        return Brightness()

    def update(self, batch: Batch, rows: Rows) -> None:
        assert len(batch) == len(batch.entries) == len(rows["mean"])
        self.sum.add(rows["mean"])
        self.ids += batch.ids
        self.labels += batch.labels.tolist()

    def merge(self, other: Brightness) -> None:
        self.sum.merge(other.sum)
        self.ids += other.ids
        self.labels += other.labels

    def state(self) -> dict[str, np.ndarray]:
        return {
            "words": self.sum.words,
            "count": np.array(self.sum.count),
            "ids": np.array(self.ids, dtype=np.str_),
            "labels": np.array(self.labels, dtype=np.int64),
        }

    def from_state(self, state: Mapping[str, np.ndarray]) -> Brightness:
        found = Brightness()
        found.sum.words, found.sum.count = state["words"], int(state["count"])
        found.ids, found.labels = state["ids"].tolist(), state["labels"].tolist()
        return found

    def result(self) -> float:
        return float(self.sum.value())


class BrightLook(Look):
    """The mean value of an image's pixels, 0 … 1."""

    statistic: Brightness

    def __init__(self, detector: Detector, **options: object) -> None:
        super().__init__(detector, Brightness(), **{"colours": (), **options})  # type: ignore[arg-type]
        self.batches: list[int] = []

    def observe(self, batch: Batch, seen: Mapping[str, Seen]) -> Rows:
        assert set(seen) == set(self.colours)
        self.batches.append(len(batch))
        return {"mean": batch.pixels.double().mean(dim=(1, 2, 3)).numpy() / 255}


class LogitLook(BrightLook):
    """The sigmoid of the logit in a colour mode."""

    def observe(self, batch: Batch, seen: Mapping[str, Seen]) -> Rows:
        super().observe(batch, seen)
        return {"mean": 1 / (1 + np.exp(-seen[self.colours[0]].logits))}


def fully(network: nn.Module, preset: str | Preset = "wang-nocrop", name: str = "own") -> Detector:
    from forensift.data import get_preset

    preset = get_preset(preset) if isinstance(preset, str) else preset
    return Detector(name, network.eval(), preset, (), WeightsOrigin("initialisation", "", "bare"))


def passes(network: nn.Module) -> list[int]:
    """Return a list that gets the size of every batch that the network sees."""
    seen: list[int] = []
    network.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    return seen


def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    read: list[Path] = []
    original = decoding.read_image
    monkeypatch.setattr(decoding, "read_image", lambda path: read.append(path) or original(path))
    return read


# --- one pass for all ---------------------------------------------------------------------------


def test_results_do_not_depend_on_shards_or_batches(tmp_path: Path) -> None:
    images, detector = planted_images(tmp_path, n=5), planted_detector()
    found = set()
    for batch_size, shard_size in ((1, 3), (4, 256), (16, 7), (3, 1)):
        one, other = BrightLook(detector), BrightLook(detector)
        done = sweep(images, [one, other], batch_size=batch_size, shard_size=shard_size)
        assert done.used.entries == images.entries
        assert one.statistic.sum.count == len(images)
        assert sorted(one.statistic.ids) == [images.image_id(entry) for entry in images]
        assert one.statistic.result() == other.statistic.result()
        assert max(one.batches) <= min(batch_size, shard_size)
        found.add(one.statistic.sum.words.tobytes())
    assert len(found) == 1


def test_each_image_is_decoded_once_for_all_looks(tmp_path, monkeypatch) -> None:
    images = planted_images(tmp_path, ("one",), n=3)
    read = decoded(monkeypatch)
    detector = planted_detector()
    cropped = detector.with_preset(Preset("crop", crop=8))
    looks = [BrightLook(detector), LogitLook(detector, colours=("rgb",)), BrightLook(cropped)]
    looks.append(BrightLook(detector, conditions=("jpeg-50", "blur-1")))
    done = sweep(images, looks, shard_size=4)
    assert sorted(read) == sorted(entry.path for entry in images)
    assert done.decoded == len(images)
    assert [look.statistic.sum.count for look in looks] == [6, 6, 6, 12]


def test_looks_of_one_detector_share_its_passes(tmp_path: Path) -> None:
    images, detector = planted_images(tmp_path, ("one",), n=4), planted_detector()
    seen = passes(detector.network)
    looks = [
        LogitLook(detector, colours=("rgb",)),
        LogitLook(detector, colours=("grey", "rgb")),
        LogitLook(detector, colours=("rgb",)),
        BrightLook(detector),  # asks for no pass
    ]
    done = sweep(images, looks, batch_size=3)
    assert seen == [3, 3, 3, 3, 2, 2]  # RGB and grey of each batch
    assert done.networks == sum(seen)
    rgb, grey, again, _ = (look.statistic.result() for look in looks)
    assert rgb == again != grey
    pixels = torch.stack([_pixels(entry.path) for entry in images])
    for mode, sum_ in (("rgb", rgb), ("grey", grey)):
        logits = detector.logits(recolour(pixels, mode)).double()
        assert sum_ == pytest.approx(float(logits.sigmoid().sum()), rel=1e-5)


def test_another_preset_or_network_takes_its_own_pass(tmp_path: Path) -> None:
    images, detector = planted_images(tmp_path, ("one",), n=2), planted_detector()
    other = detector.with_preset(Preset("half", mean=(0.5,) * 3, std=(0.5,) * 3))
    assert other.preset.shape_key() == detector.preset.shape_key()
    seen = passes(detector.network)
    looks = [LogitLook(one, colours=("rgb",)) for one in (detector, other, detector)]
    sweep(images, looks, batch_size=4)
    assert seen == [4, 4]
    assert looks[0].statistic.result() == looks[2].statistic.result()
    assert looks[0].statistic.result() != looks[1].statistic.result()


def test_a_look_sees_only_what_it_wants(tmp_path: Path) -> None:
    class Fakes(LogitLook):
        def wants(self, entry: ImageEntry) -> bool:
            return entry.label == FAKE

    images, detector = planted_images(tmp_path, n=3), planted_detector()
    fakes, every = Fakes(detector, colours=("rgb",)), BrightLook(detector)
    seen = passes(detector.network)
    sweep(images, [fakes, every], batch_size=1)
    assert fakes.statistic.labels == [FAKE] * 6
    assert every.statistic.sum.count == 12
    assert len(seen) == 6  # batches without a fake take no pass


def test_conditions_come_before_the_preset(tmp_path: Path) -> None:
    images = planted_images(tmp_path, ("one",), n=2)
    look = BrightLook(planted_detector(), conditions=("grey",))
    sweep(images, [look])
    grey = [np.asarray(Image.open(entry.path).convert("L")).mean() / 255 for entry in images]
    assert look.statistic.result() == pytest.approx(sum(grey), rel=1e-12)


def test_progress_reaches_the_totals_it_names(tmp_path: Path) -> None:
    images = planted_images(tmp_path, n=7)  # the reals are shared: 21 of 28 files differ
    for shard_size, conditions in ((128, ("clean",)), (4, ("clean", "jpeg-50")), (9, ("grey",))):
        told: list[tuple[str, int, int]] = []
        look = BrightLook(planted_detector(), conditions=conditions)
        sweep(images, [look], what="counting", batch_size=2, shard_size=shard_size,
              progress=lambda *one, told=told: told.append(one))  # fmt: skip
        assert {(what, total) for what, _, total in told} == {("counting", 21)}
        done = [number for _, number, _ in told]
        assert done == sorted(done)
        assert done[-1] == 21
        assert len(set(done)) > 4


# --- equal files --------------------------------------------------------------------------------


def copies(root: Path) -> ImageSet:
    """Write three files that differ, and copies of one as a real, a fake and of another set."""
    first = write_image(root / "a" / "0_real" / "0.png", seed=1)
    entries = [ImageEntry(first, REAL, "a")]
    for generator, kind, name in (("b", "0_real", "x"), ("b", "1_fake", "0"), ("c", "1_fake", "1")):
        path = root / generator / kind / f"{name}.png"
        path.parent.mkdir(parents=True)
        shutil.copy(first, path)
        entries.append(ImageEntry(path, int(kind[0]), generator))
    for number in (2, 3):
        path = write_image(root / "a" / "1_fake" / f"{number}.png", seed=number)
        entries.append(ImageEntry(path, FAKE, "a"))
    return ImageSet(root, tuple(sorted(entries, key=lambda entry: entry.path)))


def test_equal_files_are_seen_once_and_counted_for_each_copy(tmp_path, monkeypatch) -> None:
    images, detector = copies(tmp_path), planted_detector()
    read, seen = decoded(monkeypatch), passes(detector.network)
    look = LogitLook(detector, colours=("rgb",))
    done = sweep(images, [look])
    # The copies as real are one, those as fake are another: a look may ask for a label.
    assert first_alike(images).tolist().count(0) == 2
    assert done.decoded == len(read) == sum(seen) == 4
    assert sorted(look.statistic.ids) == [images.image_id(entry) for entry in images]
    assert done.used.entries == images.entries
    labels = {images.image_id(entry): entry.label for entry in images}
    assert look.statistic.labels == [labels[one] for one in look.statistic.ids]
    alone = LogitLook(detector, colours=("rgb",))
    alone.alone = True
    assert sweep(images, [alone]).decoded == 6
    assert alone.statistic.result() == pytest.approx(look.statistic.result(), rel=1e-6)


def test_a_lost_image_is_lost_with_its_copies(tmp_path: Path) -> None:
    images = copies(tmp_path)
    for entry in images.entries[:1] + images.only(generator="b", label=REAL).entries:
        entry.path.write_bytes(b"no image")
    look = BrightLook(planted_detector())
    skipped: list[Skipped] = []
    done = sweep(images, [look], max_skipped=0.5, skipped=skipped)
    lost = [entry for entry in images if entry.label == REAL]
    assert [one.path for one in skipped] == [entry.path for entry in lost]
    assert done.skipped == tuple(skipped)
    assert len({one.reason for one in skipped}) == 1
    assert done.used.entries == images.only(label=FAKE).entries


def test_random_presets_are_not_merged(tmp_path: Path) -> None:
    images = copies(tmp_path)
    crop = Preset("crop", random_resized_crop=RandomResizedCrop(8, (0.2, 0.9), (0.8, 1.2)))
    look = BrightLook(planted_detector().with_preset(crop))
    assert sweep(images, [look], batch_size=2).decoded == len(images)
    other = BrightLook(planted_detector().with_preset(crop))
    sweep(ImageSet(images.root, images.entries[::-1]), [other], batch_size=3)
    assert look.statistic.result() == other.statistic.result()
    seeded = BrightLook(planted_detector().with_preset(crop))
    sweep(images, [seeded], seed=1)
    assert look.statistic.result() != seeded.statistic.result()


def test_a_transform_of_ones_own_sees_every_image(tmp_path: Path) -> None:
    images = copies(tmp_path)
    keys: list[str] = []

    def blacken(image: Image.Image, key: str) -> Image.Image:
        keys.append(key)
        return Image.new("RGB", image.size)

    look = BrightLook(planted_detector())
    sweep(images, [look], transform=blacken)
    assert sorted(keys) == [images.image_id(entry) for entry in images]
    assert look.statistic.result() == 0


def test_equal_files_that_are_compressed_differently_are_not_merged(tmp_path: Path) -> None:
    """Three equal fakes of a generator whose reals are of two qualities."""
    entries = []
    for number, quality in enumerate((30, 95)):
        path = tmp_path / "g" / "0_real" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path, quality=quality)
        entries.append(ImageEntry(path, REAL, "g"))
    for number in range(4):
        path = write_image(tmp_path / "g" / "1_fake" / f"{number}.png", seed=9)
        entries.append(ImageEntry(path, FAKE, "g"))
    images = ImageSet(tmp_path, tuple(entries))
    equaliser = jpeg_equaliser(images, "fakes")
    assert equaliser is not None
    look = BrightLook(planted_detector())
    assert sweep(images, [look], transform=equaliser).decoded == 2 + 2  # a fake of each quality
    expected = []
    for entry in images:
        image = equaliser(Image.open(entry.path), images.image_id(entry))
        expected.append(np.asarray(image).mean() / 255)
    assert len({round(one, 9) for one in expected[2:]}) == 2
    assert look.statistic.result() == pytest.approx(sum(expected), rel=1e-12)
    both = jpeg_equaliser(images, "both:80")
    assert sweep(images, [BrightLook(planted_detector())], transform=both).decoded == 3


# --- images that cannot be used -----------------------------------------------------------------


def test_unreadable_images_are_reported_shard_by_shard(tmp_path: Path) -> None:
    images = planted_images(tmp_path, n=3)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    images = ImageSet(tmp_path, (ImageEntry(broken, 0, "one"), *images.entries))
    skipped: list[Skipped] = []
    look = BrightLook(planted_detector())
    with pytest.raises(UserError, match="1 of 13 images cannot be used"):
        sweep(images, [look], shard_size=2, skipped=skipped)
    assert [one.path for one in skipped] == [broken]
    assert look.statistic.sum.count == len(images) - 1
    assert len(sweep(images, [BrightLook(planted_detector())], max_skipped=0.1).used) == 12


def test_an_image_too_small_for_the_network_is_skipped_with_a_reason(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 7), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network.append(nn.Linear(4, 1))
    detector = fully(network, name="needs-seven")
    before = fingerprint(network)
    sizes = ((16, 16), (5, 5), (16, 16), (20, 9), (16, 6))
    entries = tuple(
        ImageEntry(write_image(tmp_path / f"{number}.png", size, number), REAL, "g")
        for number, size in enumerate(sizes)
    )
    images = ImageSet(tmp_path, entries)
    looks = [LogitLook(detector, colours=("rgb",)), BrightLook(planted_detector())]
    done = sweep(images, looks, max_skipped=0.5)
    assert [one.path.name for one in done.skipped] == ["1.png", "4.png"]
    assert done.skipped[0].reason.startswith("needs-seven, planted cannot take 5 × 5 pixels: ")
    assert "16 × 6 pixels" in done.skipped[1].reason
    assert "\n" not in done.skipped[0].reason
    assert [look.statistic.sum.count for look in looks] == [3, 3]  # used by all or by none
    assert fingerprint(network) == before
    with pytest.raises(UserError, match=r"2 of 5 images cannot be used.*1\.png: needs-seven"):
        sweep(images, looks)


def test_a_user_error_of_a_look_ends_the_pass(tmp_path: Path) -> None:
    class Refuses(BrightLook):
        def observe(self, batch: Batch, seen: Mapping[str, Seen]) -> Rows:
            raise UserError("no")

    with pytest.raises(UserError, match=r"^no$"):
        sweep(planted_images(tmp_path, n=1), [Refuses(planted_detector())], max_skipped=1.0)


# --- memory -------------------------------------------------------------------------------------


class Hungry(BrightLook):
    """Raises what PyTorch raises when memory runs out, for more images than ``fit``."""

    fit = 2

    def observe(self, batch: Batch, seen: Mapping[str, Seen]) -> Rows:
        if len(batch) > self.fit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().observe(batch, seen)


def test_out_of_memory_halves_the_batch(tmp_path: Path) -> None:
    images, detector = planted_images(tmp_path, n=5), planted_detector()
    hungry, plain = Hungry(detector), BrightLook(detector)
    done = sweep(images, [hungry, plain], batch_size=8)
    assert max(hungry.batches) == 2
    assert not done.skipped
    assert hungry.statistic.sum.count == plain.statistic.sum.count == len(images)
    assert hungry.statistic.result() == plain.statistic.result()
    assert sorted(hungry.statistic.ids) == [images.image_id(entry) for entry in images]
    nothing = Hungry(detector)
    nothing.fit = 0
    with pytest.raises(UserError, match=r"cannot take 16 × 16 pixels: CUDA out of memory"):
        sweep(images, [nothing], batch_size=8)


def test_the_need_of_a_network_is_what_it_takes() -> None:
    """Two convolutions of w and 2 w maps: their outputs live together, input and weights do not."""
    width = 16
    network = nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(width, 2 * width, 3, padding=1)
    )
    for size in ((32, 50), (300, 400)):  # smaller images are repeated, larger ones cut
        pixels = torch.zeros(1, 3, *size)
        with torch.no_grad():
            need = measured_need(network, pixels)
        assert need.pixel == pytest.approx(4 * 3 * width, rel=0.01)
        assert need.constant == pytest.approx(0, abs=1000)
    # With gradients the first output is kept as well, and so is the square of it here.
    need = measured_need(lambda x: (network(x) ** 2).sum(), pixels)
    assert need.pixel == pytest.approx(4 * (width + 2 * 2 * width), rel=0.01)
    assert need.of(1000) == pytest.approx(need.constant + 1000 * need.pixel)
    with PeakBytes() as meter:
        for _ in range(10):
            torch.zeros(1000)  # freed each time
    assert meter.peak == 4000


def test_what_does_not_grow_with_the_image_is_told_apart() -> None:
    network = nn.Conv2d(3, 8, 3, padding=1)

    def run(x: torch.Tensor) -> torch.Tensor:
        folded = torch.zeros(5_000_000)
        with torch.no_grad():
            return network(x) + folded[0]

    need = measured_need(run, torch.zeros(1, 3, 64, 64))
    assert need.constant == pytest.approx(4 * 5_000_000, rel=0.01)
    assert need.pixel == pytest.approx(4 * 16, rel=0.05)

    def only_wide(x: torch.Tensor) -> torch.Tensor:
        if x.shape[2:] != (20, 30):
            raise RuntimeError("needs 20 × 30 pixels")
        return run(x)

    need = measured_need(only_wide, torch.zeros(1, 3, 20, 30))
    assert need.constant == 0
    assert need.of(600) == pytest.approx(4 * (5_000_000 + 600 * 16), rel=0.01)


def test_images_that_do_not_fit_together_go_one_by_one(tmp_path, monkeypatch) -> None:
    """Room for the need of two images of 64 × 64 pixels, and not for one of 256 × 256."""
    width = 64
    network = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.AdaptiveAvgPool2d(1))
    network.append(nn.Flatten()).append(nn.Linear(width, 1))
    sizes = [(64, 64)] * 5 + [(256, 256)]
    entries = tuple(
        ImageEntry(write_image(tmp_path / f"{number}.png", size, number), REAL, "g")
        for number, size in enumerate(sizes)
    )
    images = ImageSet(tmp_path, entries)
    one = 4.0 * (width + 3 + 3 + 1) * 64 * 64
    monkeypatch.setattr(
        passes_of_networks,
        "free_bytes",
        lambda device, before: int(2.6 * one / passes_of_networks.SHARE),
    )
    look = LogitLook(fully(network), colours=("rgb",))
    done = sweep(images, [look], max_skipped=0.5)
    assert look.batches[-3:] == [2, 2, 1]  # after what was measured
    (lost,) = done.skipped
    assert lost.path.name == "5.png"
    assert lost.reason.startswith("256 × 256 pixels take 0.0 GB of memory")
    assert look.statistic.sum.count == 5


def test_limits_of_the_process_count_as_memory() -> None:
    plenty = free_bytes(torch.device("cpu"))
    code = (
        "import resource, torch; resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33));"
        "from forensift.sweep.memory import free_bytes; print(free_bytes(torch.device('cpu')))"
    )
    limited = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert limited.returncode == 0, limited.stderr
    assert 0 < int(limited.stdout) < 2**33
    assert plenty > 0


def test_a_picture_too_large_for_the_memory_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "set" / "g" / "1_fake" / "huge.png"
    path.parent.mkdir(parents=True)
    Image.new("RGB", (6000, 6000), (90, 120, 60)).save(path)
    write_image(tmp_path / "set" / "g" / "0_real" / "small.png", (64, 64))
    limit = 6 * 2**30

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    words = ["evaluate", "npr", "--data", tmp_path / "set", "--out", tmp_path / "out"]
    words += ["--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "forensift", *map(str, words)],
        capture_output=True, text=True, preexec_fn=limited, timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    *progress, line = done.stderr.strip().splitlines()  # of a slow machine
    assert all(re.search(r": (.*, )?\d+ s( left)?$", one) for one in progress), progress
    assert line.startswith("error: 1 of 2 images cannot be used")
    assert "6000 × 6000 pixels take" in line
    assert "huge.png" in line


LIMITED = """
import resource, sys
from pathlib import Path
from forensift.data import scan
from forensift.detectors import load_detector
from forensift.errors import UserError
from forensift.fmap_ranking import OmegaLook
from forensift.records import ImageSet
from forensift.sweep import sweep

def allow(gigabytes):
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + int(gigabytes * 1e9)
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))

class Counted(OmegaLook):
    sizes = []

    def observe(self, batch, seen):
        self.sizes.append(len(batch))
        return super().observe(batch, seen)

images = scan(Path(sys.argv[1]))
detector = load_detector("npr", device="cpu")
small = ImageSet(images.root, tuple(one for one in images if one.path.name == "small.png"))
large = ImageSet(images.root, tuple(one for one in images if one not in small.entries))
sweep(small, [OmegaLook(detector, 1)])  # what is loaded once is loaded
allow(float(sys.argv[2]))
look = Counted(detector, 1)
try:
    sweep(large, [look])
except UserError as error:
    sys.exit(str(error))
print(look.statistic.counts, look.sizes)
"""


@pytest.mark.parametrize(("gigabytes", "fits"), [(1.9, True), (0.5, False)])
def test_lrp_of_photographs_stays_in_the_memory_there_is(
    tmp_path: Path, gigabytes: float, fits: bool
) -> None:
    """LRP of NPR takes 1.8 GB a megapixel: three photographs of 0.48 megapixels take 2.6 GB."""
    folder = tmp_path / "set" / "g" / "1_fake"
    write_image(folder / "small.png", (64, 64))
    write_image(tmp_path / "set" / "g" / "0_real" / "none.png", (64, 64))
    for number in range(3):
        write_image(folder / f"{number}.png", (800, 600), number)
    words = [sys.executable, "-c", LIMITED, str(tmp_path / "set"), str(gigabytes)]
    done = subprocess.run(
        words, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert (done.returncode == 0) == fits, done.stderr
    if fits:
        assert max(map(int, re.findall(r"\d+", done.stdout.split("[")[1]))) == 1
    else:
        assert done.stderr.count("\n") == 1
        assert "800 × 600 pixels take 0.9 GB of memory, which is not free" in done.stderr


# --- shards and resuming ------------------------------------------------------------------------


class Killed(Exception):
    pass


class Mortal(BrightLook):
    """Dies after so many images."""

    after: int | None = None

    def observe(self, batch: Batch, seen: Mapping[str, Seen]) -> Rows:
        if self.after is not None and sum(self.batches) >= self.after:
            raise Killed
        return super().observe(batch, seen)


def run(images: ImageSet, folder: Path, after: int | None = None, **how: object) -> Mortal:
    look = Mortal(planted_detector())
    look.after = after
    sweep(images, [look], shard_size=4, partials=folder, **how)  # type: ignore[arg-type]
    return look


def shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*/shard-*.npz")}


def test_a_killed_run_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    images = planted_images(tmp_path / "set", ("one",), n=10)
    whole = run(images, tmp_path / "a")
    with pytest.raises(Killed):
        run(images, tmp_path / "b", after=8)
    assert len(shards(tmp_path / "b")) == 2
    resumed = run(images, tmp_path / "b", resume=True)
    assert sum(resumed.batches) == len(images) - 8
    assert whole.statistic.ids == resumed.statistic.ids
    np.testing.assert_array_equal(whole.statistic.sum.words, resumed.statistic.sum.words)
    assert shards(tmp_path / "a") == shards(tmp_path / "b")
    assert len(shards(tmp_path / "a")) == 5
    assert not run(images, tmp_path / "b", resume=True).batches
    assert sum(run(images, tmp_path / "b").batches) == len(images)  # without resume: afresh


def test_skipped_images_are_remembered_with_their_shard(tmp_path: Path) -> None:
    images = planted_images(tmp_path / "set", ("one",), n=10)
    images.entries[5].path.write_bytes(b"no image")
    first: list[Skipped] = []
    run(images, tmp_path / "a", max_skipped=0.5, skipped=first)
    again: list[Skipped] = []
    look = run(images, tmp_path / "a", max_skipped=0.5, skipped=again, resume=True)
    assert not look.batches
    assert again == first
    assert [one.path for one in first] == [images.entries[5].path]


def test_a_damaged_shard_is_computed_again(tmp_path: Path) -> None:
    images = planted_images(tmp_path / "set", ("one",), n=10)
    whole = run(images, tmp_path / "a")
    paths = sorted((tmp_path / "a").glob("*/shard-*.npz"))
    content = bytearray(paths[0].read_bytes())
    content[len(content) // 3] ^= 0xFF
    paths[0].write_bytes(content)
    paths[1].write_bytes(paths[1].read_bytes()[:50])
    paths[2].write_bytes(b"")
    again = run(images, tmp_path / "a", resume=True)
    assert sum(again.batches) == 12
    np.testing.assert_array_equal(whole.statistic.sum.words, again.statistic.sum.words)


def test_runs_of_other_plans_live_side_by_side(tmp_path: Path) -> None:
    images = planted_images(tmp_path / "set", ("one",), n=10)
    run(images, tmp_path / "p", seed=0)
    assert sum(run(images, tmp_path / "p", seed=1, resume=True).batches) == len(images)
    assert len(list((tmp_path / "p").iterdir())) == 2
    for seed in (0, 1):
        assert not run(images, tmp_path / "p", seed=seed, resume=True).batches
    # What decides the numbers: other files, another batch size, another look.
    write_image(images.entries[0].path, seed=77)
    assert run(images, tmp_path / "p", seed=0, resume=True).batches
    assert run(images, tmp_path / "p", seed=0, batch_size=2, resume=True).batches
    other = BrightLook(planted_detector(), facts={"of": "another"})
    sweep(images, [other], shard_size=4, partials=tmp_path / "p", resume=True)
    assert other.batches
    assert len(list((tmp_path / "p").iterdir())) == 5


def test_a_pass_clears_its_own_shards_only(tmp_path: Path) -> None:
    one = Partials(tmp_path / "p", "some pass", {"seed": 0})
    other = Partials(tmp_path / "p", "some pass", {"seed": 1})
    assert one.folder.name.startswith("some-pass-")
    assert one.folder != other.folder
    for each in (one, other):
        each.write(0, [{"x": np.arange(3)}], [Skipped(Path("a.png"), "empty file")])
    one.clear()
    assert not one.folder.exists()
    ((state,), skipped) = other.read(0) or ((), ())
    np.testing.assert_array_equal(state["x"], np.arange(3))
    assert skipped == [Skipped(Path("a.png"), "empty file")]
    assert other.read(1) is None
    again = Partials(tmp_path / "p", "some pass", {"seed": 1}, resume=True)
    assert again.read(0) is not None
    shutil.copy(again.folder / "shard-00000.npz", tmp_path / "kept.npz")
    mixed = Partials(tmp_path / "p", "some pass", {"seed": 2})
    shutil.copy(tmp_path / "kept.npz", mixed.folder / "shard-00000.npz")
    assert mixed.read(0) is None  # of another plan


VICTIM = """
import os, signal, sys
from pathlib import Path
from tests.test_sweep import BrightLook
from tests.planted import planted_detector
from forensift.data import scan
from forensift.sweep import sweep

def told(what, done, total):
    if done >= 9:
        os.kill(os.getpid(), signal.SIGKILL)

look = BrightLook(planted_detector())
sweep(scan(Path(sys.argv[1])), [look], shard_size=4, partials=Path(sys.argv[2]), progress=told)
"""


def test_a_run_that_was_killed_with_sigkill_ends_with_the_same_bytes(tmp_path: Path) -> None:
    from forensift.data import scan

    planted_images(tmp_path / "set", ("one",), n=10)
    images = scan(tmp_path / "set")
    words = [sys.executable, "-c", VICTIM, tmp_path / "set", tmp_path / "b"]
    done = subprocess.run(list(map(str, words)), cwd=Path(__file__).parents[1], timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert 0 < len(shards(tmp_path / "b")) < 5
    looks = {}
    for name in "ab":
        looks[name] = BrightLook(planted_detector())
        sweep(images, [looks[name]], shard_size=4, partials=tmp_path / name, resume=True)
    assert sum(looks["b"].batches) < sum(looks["a"].batches) == len(images)
    assert shards(tmp_path / "a") == shards(tmp_path / "b")
    one, other = (looks[name].statistic.state() for name in "ab")
    for key, value in one.items():
        np.testing.assert_array_equal(value, other[key])


def test_a_pass_says_what_it_went_through(tmp_path: Path) -> None:
    images = planted_images(tmp_path, ("one",), n=2)
    done = sweep(images, [LogitLook(load_detector("npr"), colours=("rgb", "grey"))])
    assert done == Pass(images, (), 4, 8)


def _pixels(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(path)).transpose(2, 0, 1))
