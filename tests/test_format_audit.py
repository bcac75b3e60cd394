"""File facts read from headers, the audit that judges them, and JPEG made equal."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from forensift.cli.app import app
from forensift.data import (
    JpegEqualiser,
    UnreadableImage,
    format_facts,
    format_table,
    jpeg_equaliser,
    scan,
)
from forensift.data.degrade import encode_jpeg
from forensift.data.formats import jpeg_quality, standard_tables
from forensift.detectors import get_architecture
from forensift.errors import UserError
from forensift.evaluation import format_audit
from forensift.records import FAKE, ImageSet

GENERATOR = "planted"


def picture(seed: int, size: tuple[int, int] = (24, 20)) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def image_set(root: Path, real: dict, fake: dict, n: int = 24) -> ImageSet:
    """Write pairs; real and fake: what Pillow's save gets, and 'suffix' and 'size'."""
    for label, how in enumerate((real, fake)):
        given = dict(how)
        suffix, size = given.pop("suffix"), given.pop("size", (24, 20))
        folder = root / GENERATOR / ("0_real", "1_fake")[label]
        folder.mkdir(parents=True)
        for number in range(n):
            picture(number, size).save(folder / f"photo{number // 2}-{number % 2}{suffix}", **given)
    return scan(root)


def judged(images: ImageSet) -> pd.Series:
    return format_audit(format_table(images, skipped=[])).verdicts.iloc[0]


def rewritten(images: ImageSet, equaliser: JpegEqualiser, root: Path) -> ImageSet:
    """Write the set as the equaliser makes it."""
    for entry in images:
        key = images.image_id(entry)
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = equaliser.kinds.get(key)
        if kind is None:
            path.write_bytes(entry.path.read_bytes())
        else:
            with Image.open(entry.path) as opened:
                path.with_suffix(".jpg").write_bytes(
                    encode_jpeg(
                        opened.convert("RGB"),
                        qtables=[list(one) for one in kind.tables],
                        subsampling=kind.subsampling,
                    )
                )
    return scan(root)


PNG, JPEG90 = {"suffix": ".png"}, {"suffix": ".jpg", "quality": 90}


@pytest.mark.parametrize("quality", range(1, 101))
def test_the_quality_of_a_jpeg_is_read_from_its_tables(quality: int) -> None:
    buffer = io.BytesIO()
    picture(0).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as opened:
        tables = tuple(tuple(table) for table in opened.quantization.values())
    assert tables == standard_tables(quality)
    assert jpeg_quality(tables) == (quality, True)


def test_headers_say_everything_there_is(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "maker"
    for name, sampling in (("4:4:4", 0), ("4:2:2", 1), ("4:2:0", 2)):
        path = tmp_path / f"{sampling}.jpg"
        picture(1).save(path, quality=77, subsampling=sampling, exif=exif, icc_profile=b"profile")
        facts = format_facts(path)
        assert (facts.format, facts.width, facts.height, facts.mode) == ("JPEG", 24, 20, "RGB")
        assert (facts.quality, facts.tables, facts.subsampling) == (77, "standard", name)
        assert facts.bytes == path.stat().st_size
        assert facts.exif
        assert facts.icc
    picture(1).convert("L").save(tmp_path / "grey.jpg", quality=60)
    grey = format_facts(tmp_path / "grey.jpg")
    assert (grey.quality, grey.subsampling, grey.mode) == (60, "grey", "L")
    picture(1).save(tmp_path / "plain.png")
    plain = format_facts(tmp_path / "plain.png")
    assert (plain.format, plain.quality, plain.tables, plain.subsampling) == ("PNG", None, "", "")
    assert not plain.exif
    assert not plain.icc
    tables = [[max(1, step - 1) for step in table] for table in standard_tables(80)]
    picture(1).save(tmp_path / "own.jpg", qtables=tables)
    own = format_facts(tmp_path / "own.jpg")
    assert own.tables == "unknown"
    assert 80 < own.quality < 90
    (tmp_path / "empty.jpg").write_bytes(b"")
    with pytest.raises(UnreadableImage):
        format_facts(tmp_path / "empty.jpg")
    with pytest.raises(UnreadableImage, match="directory"):
        format_facts(tmp_path)


def test_no_pixel_is_decoded(tmp_path: Path) -> None:
    picture(1, (64, 64)).save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: whole.index(b"\xff\xda") + 20])
    assert format_facts(tmp_path / "cut.jpg").width == 64


@pytest.mark.parametrize(
    ("real", "fake", "fact"),
    [
        (JPEG90, PNG, "format"),
        (PNG, {**PNG, "size": (32, 32)}, "size"),
        (JPEG90, {**JPEG90, "quality": 75}, "quality"),
        (JPEG90, {**JPEG90, "subsampling": 0}, "subsampling"),
    ],
    ids=["format", "size", "quality", "subsampling"],
)
def test_a_planted_bias_is_seen_and_named(
    tmp_path: Path, real: dict, fake: dict, fact: str
) -> None:
    images = image_set(tmp_path, real, fake)
    found = format_audit(format_table(images, skipped=[]))
    row = found.verdicts.iloc[0]
    assert found.biased
    assert row["verdict"] == "separates"
    assert row["facts"].split()[0] == fact
    assert row["balanced_accuracy"] == row["auc"] == 1
    assert row[f"balanced_accuracy_{fact}"] == 1
    (line,) = found.warnings
    assert line.startswith(f"WARNING {GENERATOR}")
    named = {"format": "file format", "size": "size in pixels", "quality": "JPEG quality"}
    assert named.get(fact, "chroma subsampling") in line


def test_equal_files_are_no_bias(tmp_path: Path) -> None:
    found = format_audit(format_table(image_set(tmp_path, JPEG90, JPEG90), skipped=[]))
    row = found.verdicts.iloc[0]
    assert (row["verdict"], row["balanced_accuracy"], row["auc"]) == ("not above chance", 0.5, 0.5)
    assert not found.warnings
    counts = found.counts.set_index(["label", "fact"])
    assert counts.loc[(FAKE, "quality"), "value"] == "90"
    assert counts.loc[(FAKE, "subsampling"), "value"] == "4:2:0"
    assert (counts["share"] == 1).all()


def test_too_few_images_cannot_be_told(tmp_path: Path) -> None:
    found = format_audit(format_table(image_set(tmp_path, JPEG90, PNG, n=6), skipped=[]))
    assert found.verdicts.iloc[0]["verdict"] == "cannot be told"
    assert not found.biased
    assert "too few" in found.warnings[0]
    # Forty crops of three photographs are no more than three photographs.
    images = image_set(tmp_path / "crops", JPEG90, PNG)
    formats = format_table(images, skipped=[])
    formats["path"] = [
        f"{GENERATOR}/{label}/photo{at % 3}-{at}.x" for at, label in enumerate(formats["label"])
    ]
    assert format_audit(formats).verdicts.iloc[0]["verdict"] == "cannot be told"


@pytest.mark.parametrize("asked", ["fakes", "fakes:90", "both:70", "both"])
def test_equalised_files_are_no_bias(tmp_path: Path, asked: str) -> None:
    images = image_set(tmp_path / "before", JPEG90, PNG)
    equaliser = jpeg_equaliser(images, asked)
    assert equaliser is not None
    after = rewritten(images, equaliser, tmp_path / "after")
    assert judged(images)["verdict"] == "separates"
    assert judged(after)["verdict"] == "not above chance"
    assert equaliser.facts["fakes_compressed"] == 24
    assert equaliser.facts["reals_compressed"] == (24 if asked.startswith("both") else 0)
    entry = images.only(label=FAKE).entries[0]
    key = images.image_id(entry)
    (written,) = (
        one for one in after if Path(after.image_id(one)).stem == Path(key).stem and one.label
    )
    with Image.open(entry.path) as opened, Image.open(written.path) as compressed:
        seen = equaliser(opened.convert("RGB"), key)
        np.testing.assert_array_equal(np.asarray(seen), np.asarray(compressed))


def test_fakes_get_the_kinds_of_the_reals_in_their_shares(tmp_path: Path) -> None:
    folder = tmp_path / GENERATOR
    tables = [[max(1, step - 1) for step in table] for table in standard_tables(80)]
    kinds = [
        {"quality": 95, "subsampling": 0},
        {"quality": 75, "subsampling": 2},
        {"qtables": tables, "subsampling": 1},
    ]
    for name in ("0_real", "1_fake"):
        (folder / name).mkdir(parents=True)
    for number in range(40):
        if number % 4 < 3:
            picture(number).save(folder / "0_real" / f"{number}.jpg", **kinds[number % 4])
        else:
            picture(number).save(folder / "0_real" / f"{number}.png")
        how = kinds[0] if number < 20 else {}  # half of the fakes are JPEGs of one kind
        picture(number).save(folder / "1_fake" / f"{number}.{'jpg' if how else 'png'}", **how)
    images = scan(tmp_path)
    equaliser = jpeg_equaliser(images, "fakes")
    assert equaliser is not None
    after = format_table(rewritten(images, equaliser, tmp_path / "out"), skipped=[])
    shown = after.groupby(["label", "format", "tables_sha256", "subsampling"]).size()
    pd.testing.assert_series_equal(shown[0], shown[1], check_names=False)
    assert equaliser.facts["fakes_that_stay_unlike_the_reals"] == 0
    again = jpeg_equaliser(images, "fakes")
    assert again is not None
    assert again.kinds == equaliser.kinds


def test_what_cannot_be_equalised_is_refused(tmp_path: Path) -> None:
    images = image_set(tmp_path, PNG, JPEG90)
    with pytest.raises(UserError, match=r"no real image .* is a JPEG"):
        jpeg_equaliser(images, "fakes")
    assert jpeg_equaliser(images, "none") is None
    for wrong in ("reals", "none:90", "both:0", "fakes:101", "both:x"):
        with pytest.raises(UserError, match="choose none, fakes"):
            jpeg_equaliser(images, wrong)


def random_formats(seed: int, n: int = 30) -> pd.DataFrame:
    """Return files whose facts have nothing to do with the label; two crops a photograph."""
    rng = np.random.default_rng(seed)
    rows = []
    for label in (0, 1):
        for number in range(n):
            jpeg = rng.random() < 0.5
            rows.append(
                {
                    "path": f"g/{label}/{label}p{number // 2}-{number % 2}.x",
                    "label": label,
                    "generator": "g",
                    "format": "JPEG" if jpeg else "PNG",
                    "width": int(rng.choice([256, 300, 512])),
                    "height": int(rng.integers(200, 600)),
                    "quality": int(rng.choice([75, 90, 95])) if jpeg else pd.NA,
                    "tables": "standard" if jpeg else "",
                    "subsampling": str(rng.choice(["4:4:4", "4:2:0"])) if jpeg else "",
                }
            )
    return pd.DataFrame(rows).astype({"quality": "Int64"})


def test_without_a_bias_warnings_are_rare() -> None:
    found = [format_audit(random_formats(seed)) for seed in range(25)]
    # At most one in forty is allowed for; three or more of 25 would come up once in forty tests.
    assert sum(one.biased for one in found) <= 2
    accuracies = [one.verdicts["balanced_accuracy"][0] for one in found]
    assert np.mean(accuracies) == pytest.approx(0.5, abs=0.05)


def test_a_weak_bias_is_seen_with_more_images() -> None:
    formats = random_formats(0, n=400)
    moved = (formats["label"] == FAKE) & (np.random.default_rng(1).random(len(formats)) < 0.4)
    formats.loc[moved, "width"] = 640
    row = format_audit(formats).verdicts.iloc[0]
    assert row["verdict"] == "separates"
    assert row["facts"] == "size"
    assert 0.6 < row["balanced_accuracy"] < 0.8


def test_the_commands(tmp_path: Path) -> None:
    images = image_set(tmp_path / "set", JPEG90, PNG)
    broken = images.entries[0].path
    broken.write_bytes(b"nothing")
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["scan", str(images.root), "--audit", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "WARNING" in result.output
    assert "file format (100 %)" in " ".join(result.output.split())
    formats = pd.read_csv(out / "formats.csv")
    assert len(formats) == 47
    assert pd.read_csv(out / "skipped.csv")["path"].tolist() == [str(broken)]
    assert pd.read_csv(out / "format_audit.csv")["facts"].tolist() == ["format"]
    assert set(pd.read_csv(out / "format_counts.csv")["fact"]) == {
        "format", "size", "quality", "subsampling",
    }  # fmt: skip
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["format_bias"] is True
    plain = CliRunner().invoke(app, ["scan", str(images.root), "--out", str(tmp_path / "plain")])
    assert plain.exit_code == 0
    assert "WARNING" not in plain.output
    assert not (tmp_path / "plain" / "formats.csv").exists()


def test_evaluate_takes_jpeg_away_and_says_so(tmp_path: Path) -> None:
    images = image_set(tmp_path / "set", {**JPEG90, "size": (32, 32)}, {**PNG, "size": (32, 32)})
    torch.manual_seed(0)
    torch.save(get_architecture("npr").build().state_dict(), tmp_path / "npr.pth")
    logits = {}
    for asked in ("none", "fakes", "both:50"):
        out = tmp_path / asked
        words = ["evaluate", "npr", "--weights", str(tmp_path / "npr.pth"), "--device", "cpu"]
        words += ["--data", str(images.root), "--equalise-jpeg", asked, "--out", str(out)]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
        manifest = json.loads((out / "manifest.json").read_text())
        assert manifest["equalise_jpeg"]["mode"] == asked.split(":")[0]
        logits[asked] = pd.read_csv(out / "scores.csv").set_index(["label", "path"])["logit"]
    for label, changed in ((0, ["both:50"]), (1, ["fakes", "both:50"])):
        for asked in ("fakes", "both:50"):
            moved = (logits[asked][label] != logits["none"][label]).mean()
            assert moved > 0.9 if asked in changed else moved == 0
