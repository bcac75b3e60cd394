from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from forensift import archives
from forensift.cli.app import app
from forensift.data import PRESETS, batches, format_facts, manifest_table, read_image, scan
from forensift.errors import UserError
from forensift.evaluation import survey
from forensift.files import sha256, write_csv
from forensift.records import ImageSet

from .conftest import write_image

GENIMAGE = [
    f"imagenet_ai_0419_sdv4/{at}/{kind}/{n}.png"
    for at in ("train", "val")
    for kind in ("ai", "nature")
    for n in range(2)
]


def png(seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, "PNG")
    return held.getvalue()


def make_zip(path: Path, names: Sequence[str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for n, name in enumerate(names):
            archive.writestr(name, png(n))
    return path


def make_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def make_parquet(
    path: Path, columns: dict[str, object], names: dict[str, list[str]] | None = None, **how: int
) -> Path:
    n = len(next(iter(columns.values())))  # type: ignore[arg-type]
    image = [{"bytes": png(i), "path": None} for i in range(n)]
    table = pa.table({"image": image, **columns})
    if names:
        features = {key: {"names": own, "_type": "ClassLabel"} for key, own in names.items()}
        told = json.dumps({"info": {"features": {"image": {"_type": "Image"}, **features}}})
        table = table.replace_schema_metadata({"huggingface": told})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **how)
    return path


def counts(images: ImageSet) -> dict[str, tuple[int, int]]:
    return {
        name: tuple(len(images.only(generator=name, label=label)) for label in (0, 1))
        for name in images.generators
    }  # type: ignore[return-value]


def pixels_of(images: ImageSet) -> dict[str, bytes]:
    found = {}
    for batch in batches(images, PRESETS["wang-nocrop"], 3, skipped=[]):
        for key, one in zip(batch.ids, batch.pixels, strict=True):
            found[key] = one.numpy().tobytes()
    return found


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_is_the_folder_it_was_made_of(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "plain" / "sdv4"
    for n, name in enumerate(GENIMAGE):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(n))
    archive = tmp_path / f"sdv4.{kind}"
    if kind == "zip":
        make_zip(archive, GENIMAGE)
    else:
        make_tar(archive, {name: png(n) for n, name in enumerate(GENIMAGE)})
    before = sorted(tmp_path.rglob("*"))
    plain, images = scan(folder), scan(archive)
    rows = [
        [(s.image_id(e), e.label, e.generator, e.class_name) for e in s] for s in (plain, images)
    ]
    assert rows[0] == rows[1]
    assert images.notes == plain.notes
    assert pixels_of(images) == pixels_of(plain)
    entry = images[0]
    assert sha256(entry.path) == sha256(plain[0].path)
    assert format_facts(entry.path) == format_facts(plain[0].path)
    assert sorted(tmp_path.rglob("*")) == before  # nothing is unpacked
    found = survey(archive, audit=True)
    assert (found.headers["width"] == 16).all()
    write_csv(tmp_path / "out" / "m.csv", manifest_table(images, relative_to=tmp_path / "out"))
    assert scan(tmp_path / "out" / "m.csv").entries == images.entries
    assert images.hash() == scan(archive).hash() != plain.hash()


def test_archives_in_a_folder_are_its_folders(tmp_path: Path) -> None:
    make_zip(tmp_path / "adm.zip", ["adm/val/ai/a.png", "adm/val/nature/b.png"])
    make_zip(tmp_path / "glide.zip", ["ai/a.png", "nature/b.png", "__MACOSX/x.png", "a.heic"])
    images = scan(tmp_path)
    assert counts(images) == {"adm": (1, 1), "glide": (1, 1)}
    assert images.left_out == ("1 .heic file: not a format that Pillow reads here",)
    assert images.image_id(images[0]) == "adm.zip/adm/val/ai/a.png"
    (tmp_path / "split").mkdir()
    for word in ("real", "fake"):
        make_zip(tmp_path / "split" / f"{word}.zip", ["a.png", "b.png"])
    assert counts(scan(tmp_path / "split")) == {"split": (2, 2)}


def test_hostile_archives_are_one_line(tmp_path: Path) -> None:
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as held:
        held.writestr("g/0_real/a.png", png())
        held.writestr("../1_fake/b.png", png())
        held.writestr("/1_fake/b.png", png())
        link = zipfile.ZipInfo("g/1_fake/link.png")
        link.external_attr = 0o120777 << 16
        held.writestr(link, "/etc/passwd")
        held.writestr("g/1_fake/bomb.png", b"\0" * 50_000_000)
    images = scan(archive)
    assert counts(images) == {"g": (1, 1)}
    assert images.left_out[0].startswith("3 members of x.zip: a link, or a name that leads out")
    found = survey(archive)
    assert [one.reason for one in found.skipped] == ["UnidentifiedImageError"]
    tar = tmp_path / "y.tar"
    with tarfile.open(tar, "w") as held:
        for name, content in (("0_real/a.png", png()), ("../../1_fake/b.png", png())):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            held.addfile(info, io.BytesIO(content))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE):
            info = tarfile.TarInfo(f"1_fake/{kind!r}.png")
            info.type, info.linkname = kind, "/etc/passwd"
            held.addfile(info)
    assert "4 members of y.tar" in scan(tar).left_out[0]
    (tmp_path / "broken.zip").write_bytes(b"PK\3\4 nonsense")
    (tmp_path / "broken.tar").write_bytes(b"nonsense" * 100)
    (tmp_path / "broken.parquet").write_bytes(b"nonsense" * 100)
    for name in ("broken.zip", "broken.tar", "broken.parquet"):
        with pytest.raises(UserError, match=rf"{name}: cannot be read as") as error:
            scan(tmp_path / name)
        assert "\n" not in str(error.value)
    (tmp_path / "a.tar.gz").touch()
    with pytest.raises(UserError, match=r"compressed as a whole.*gunzip"):
        scan(tmp_path / "a.tar.gz")
    with pytest.raises(FileNotFoundError):
        sha256(archive / "g/none.png")


def test_a_member_that_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = make_zip(tmp_path / "a.zip", ["0_real/a.png", "1_fake/b.png"])
    monkeypatch.setattr(archives, "LARGEST", 100)
    found = survey(archive)
    assert len(found.skipped) == 2


def test_webdataset_shards(tmp_path: Path) -> None:
    for shard in range(2):
        files = {}
        for n in range(3):
            files[f"{shard}{n:03d}.png"] = png(10 * shard + n)
            files[f"{shard}{n:03d}.cls"] = str(n % 2).encode()
        (tmp_path / "sets").mkdir(exist_ok=True)
        make_tar(tmp_path / "sets" / f"train-{shard:04d}.tar", files)
    images = scan(tmp_path / "sets")
    assert images.layout == "webdataset"
    assert counts(images) == {"sets": (4, 2)}
    files = {}
    for n, (label, model) in enumerate([("real", ""), ("fake", "sdxl"), ("fake", "flux")]):
        files[f"x/{n}.png"] = png(n)
        files[f"x/{n}.json"] = json.dumps({"label": label, "model": model}).encode()
    make_tar(tmp_path / "0000.tar", files)
    images = scan(tmp_path / "0000.tar")
    assert {one: n for one, n in counts(images).items() if n[1]} == {
        "sdxl": (images.shared_reals and (1, 1)) or (0, 1),
        "flux": (images.shared_reals and (1, 1)) or (0, 1),
    }
    assert len(pixels_of(images)) == 3


@pytest.mark.parametrize("names", [["real", "fake"], ["fake", "real"]])
def test_labels_of_a_parquet_are_their_names(tmp_path: Path, names: list[str]) -> None:
    labels = [0, 1, 1, 1, 0]
    path = make_parquet(tmp_path / "d" / "train.parquet", {"label": labels}, {"label": names})
    images = scan(path)
    assert [e.label for e in images] == [["real", "fake"].index(names[n]) for n in labels]
    assert images.notes == ()
    bare = scan(make_parquet(tmp_path / "bare.parquet", {"label": labels}))
    assert [e.label for e in bare] == labels
    assert "the file does not name them" in bare.notes[0]
    assert [e.label for e in scan(path, real_values=[names[1]])] == [1 - n for n in labels]


def test_three_classes_and_their_order(tmp_path: Path) -> None:
    for version, names in enumerate(
        (["real", "full_synthetic", "tampered"], ["full_synthetic", "tampered", "real"])
    ):
        columns = {
            "label": [names.index(one) for one in ("real", "tampered", "full_synthetic", "real")],
            "generator": ["", "flux", "sdxl", ""],
            "mask": [b"x"] * 4,
        }
        path = make_parquet(tmp_path / f"v{version}.parquet", columns, {"label": names})
        images = scan(path)
        assert counts(images) == {"flux": (2, 1), "sdxl": (2, 1)}
        assert dict(images.reading) == {"real": "real", "fake": "full_synthetic, tampered"}


def test_generators_that_are_splits(tmp_path: Path) -> None:
    for name in ("sd15", "flux"):
        for shard in range(2):
            make_parquet(
                tmp_path / "data" / f"{name}-{shard:05d}-of-00002.parquet",
                {"label": [0, 1, 1]},
                {"label": ["real", "fake"]},
            )
    images = scan(tmp_path)
    assert counts(images) == {"flux": (2, 4), "sd15": (2, 4)}
    assert len({images.image_id(e) for e in images}) == 12


def test_rows_are_read_in_any_order(tmp_path: Path) -> None:
    n = 100
    path = make_parquet(
        tmp_path / "a.parquet", {"label": [i % 2 for i in range(n)]}, row_group_size=37
    )
    images = scan(path)
    for row in (0, 99, 36, 37, 5, 74, 73, 0):
        expected = png(row)
        assert sha256(images[row].path) == hashlib.sha256(expected).hexdigest()
        assert read_image(images[row].path).size == (16, 16)
    assert len(pixels_of(images)) == n
    with pytest.raises(FileNotFoundError):
        sha256(path / "a.100.row")


def test_a_parquet_that_does_not_fit(tmp_path: Path) -> None:
    pq.write_table(pa.table({"label": [0], "url": ["x"]}), tmp_path / "u.parquet")
    with pytest.raises(UserError, match="no column holds image bytes; there are label, url"):
        scan(tmp_path / "u.parquet")
    with pytest.raises(UserError, match="no column of labels; there are image, y; --map OWN=label"):
        scan(make_parquet(tmp_path / "y.parquet", {"y": [0, 1]}))
    assert len(scan(tmp_path / "y.parquet", columns={"y": "label"})) == 2
    with pytest.raises(UserError, match=r"label 'maybe' of .* --real-values"):
        scan(make_parquet(tmp_path / "m.parquet", {"label": ["maybe", "real"]}))
    with pytest.raises(UserError, match="real_values yes: the labels are maybe, real"):
        scan(tmp_path / "m.parquet", real_values=["yes"])


def test_a_large_parquet_is_listed_without_its_images(tmp_path: Path) -> None:
    # 100,000 rows, 400 MB of bytes that compress to nothing: listing must not read them.
    n = 100_000
    image = pa.StructArray.from_arrays(
        [pa.array([b"\0" * 4096] * n, pa.binary()), pa.array([None] * n, pa.string())],
        ["bytes", "path"],
    )
    table = pa.table({"image": image, "label": pa.array([0, 1] * (n // 2), pa.int64())})
    pq.write_table(table, tmp_path / "a.parquet", compression="zstd", use_dictionary=False)
    code = (
        "import resource, sys\n"
        "from forensift.data import scan\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "images = scan(sys.argv[1])\n"
        "print(len(images), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a.parquet"], capture_output=True, text=True
    )
    found, kilobytes = map(int, done.stdout.split())
    assert found == n
    assert kilobytes < 150_000


def listed(tmp_path: Path, name: str, text: str, **how: object) -> ImageSet:
    (tmp_path / name).write_text(text)
    return scan(tmp_path / name, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.json", '[{"path": "a.png", "label": 0}, {"path": "b.png", "label": 1}]'),
        ("m.json", '{"d": [{"image": "a.png", "label": 0}, {"image": "b.png", "label": 1}]}'),
        ("m.json", '{"a.png": 0, "b.png": 1}'),
        ("m.jsonl", '{"image": "a.png", "label": 0.0}\n{"image": "b.png", "label": true}\n'),
        ("m.txt", "a.png 0\nb.png 1\n"),
        ("m.csv", "filename,typ\na.png,real\nb.png,m\n"),
    ],
)  # fmt: skip
def test_lists_as_people_have_them(tmp_path: Path, name: str, text: str) -> None:
    images = listed(tmp_path, name, text)
    assert counts(images) == {"m": (1, 1)}
    assert [images.image_id(e) for e in images] == ["a.png", "b.png"]


def test_columns_and_labels_of_other_names(tmp_path: Path) -> None:
    text = "bild;art;welt\na.png;REAL;\nb.png;x;sdxl\nc.png;y;flux\n"
    images = listed(
        tmp_path, "m.csv", text,
        columns={"bild": "path", "art": "label", "welt": "generator"}, real_values=["REAL", "0"],
    )  # fmt: skip
    assert counts(images) == {"flux": (1, 1), "sdxl": (1, 1)}
    assert dict(images.reading) == {"real": "REAL", "fake": "x, y"}
    with pytest.raises(UserError, match="no column 'nix'; there are bild, art, welt"):
        scan(tmp_path / "m.csv", columns={"nix": "path"})
    with pytest.raises(UserError, match="map bild=file: there are path, label, generator, class"):
        scan(tmp_path / "m.csv", columns={"bild": "file"})
    with pytest.raises(UserError, match="columns found are bild, art, welt; --map OWN=path says"):
        scan(tmp_path / "m.csv")
    out = tmp_path / "out"
    words = ["scan", tmp_path / "m.csv", "--map", "bild=path,art=label,welt=generator"]
    result = CliRunner().invoke(
        app, [*map(str, words), "--real-values", "REAL,0", "--out", str(out)]
    )
    assert result.exit_code == 0, result.output
    assert len(scan(out / "manifest.csv")) == 4


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.csv", "filename,label\nhttps://x.org/a.png,1\n"),
        ("m.txt", "http://x.org/a.png\nhttp://x.org/b.png\n"),
        ("m.jsonl", '{"path": "https://x.org/a.png", "label": 1}\n'),
    ],
)
def test_lists_of_addresses_are_refused(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(UserError, match=r"lists addresses .*nothing is downloaded"):
        listed(tmp_path, name, text)


def test_nested_json(tmp_path: Path) -> None:
    videos = {
        "FF-real": {"test": {"001": {"label": "FF-real", "frames": ["r\\0.png", "r/1.png"]}}},
        "FF-DF": {"test": {"c23": {"001": {"label": "FF-DF", "frames": ["d/0.png"]}}}},
    }
    images = listed(tmp_path, "FF.json", json.dumps({"FaceForensics++": videos}))
    assert counts(images) == {"FF-DF": (2, 1)}


def test_a_sweep_over_a_parquet_is_one_over_its_files(tmp_path: Path) -> None:
    path = make_parquet(tmp_path / "a.parquet", {"label": [0, 1, 0, 1]})
    for n, entry in enumerate(scan(path)):
        target = tmp_path / "plain" / ("0_real", "1_fake")[entry.label] / f"{n}.png"
        write_image(target)
        target.write_bytes(png(n))
    results = []
    for data in (path, tmp_path / "plain"):
        out = tmp_path / f"out-{data.name}"
        words = ["evaluate", "npr", "--data", str(data), "--out", str(out), "--device", "cpu"]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
        scores = pd.read_csv(out / "scores.csv")
        results.append(sorted(scores["logit"]))
    assert results[0] == pytest.approx(results[1], abs=1e-5)
