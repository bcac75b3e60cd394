"""Public sets as they are distributed, by the commands of docs/data.md."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from forensift.cli.app import app

from .test_data_containers import make_parquet, make_tar, make_zip, png

PAGE = Path(__file__).resolve().parents[1] / "docs" / "data.md"
COMMANDS = re.findall(r"^\| .* \| `forensift (scan [^`]+)` \|$", PAGE.read_text(), flags=re.M)
Counts = dict[str, tuple[int, int]]  # generator → reals, fakes
TWO = {"label": ["real", "fake"]}


def tree(root: Path, *names: str) -> None:
    for n, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(n))


def genimage(at: Path) -> Counts:
    kinds = [f"{split}/{kind}" for split in ("train", "val") for kind in ("ai", "nature")]
    make_zip(at / "genimage.zip", [f"imagenet_ai_0419_sdv4/{one}/a.png" for one in kinds])
    return {"imagenet_ai_0419_sdv4": (2, 2)}


def commfor(at: Path) -> Counts:
    columns = {"label": [1, 1, 0, 1], "model_name": ["adm", "flux", "", "adm"]}
    make_parquet(at / "commfor" / "data" / "eval-00000-of-00001.parquet", columns, TWO)
    return {"adm": (1, 2), "flux": (1, 1)}


def commfor_local(at: Path) -> Counts:
    tree(at / "commfor-local", "adm/fake/a.png", "adm/fake/b.png", "flux/fake/c.png")
    tree(at / "commfor-local", "coco/real/a.png", "coco/real/b.png", "coco/real/c.png")
    return {"adm": (3, 2), "flux": (3, 1)}


def opensdi(at: Path) -> Counts:
    for name in ("sd15", "flux"):
        columns = {"key": ["a", "b", "c"], "mask": [b"", b"x", b"x"], "label": [0, 1, 1]}
        make_parquet(at / "opensdi" / f"{name}-00000-of-00001.parquet", columns, TWO)
    return {"flux": (1, 2), "sd15": (1, 2)}


def sofake(at: Path) -> Counts:
    names = ["full_synthetic", "tampered", "real"]
    columns = {"label": [2, 0, 1], "generator": ["real", "flux", "sdxl"], "split": ["test"] * 3}
    make_parquet(at / "sofake.parquet", columns, {"label": names})
    return {"flux": (1, 1), "sdxl": (1, 1)}


def openfake(at: Path) -> Counts:
    columns = {"prompt": ["x"] * 3, "label": ["real", "fake", "fake"]}
    make_parquet(at / "openfake.parquet", columns | {"model": ["real", "flux", "sdxl"]})
    return {"flux": (1, 1), "sdxl": (1, 1)}


def wildfake(at: Path) -> Counts:
    columns = {"group": ["real", "fake", "fake"], "category": ["real", "gan", "ddpm"]}
    make_parquet(at / "wildfake.parquet", columns)
    return {"ddpm": (1, 1), "gan": (1, 1)}


def dear(at: Path) -> Counts:
    tree(at / "dear", *(f"data/test/{one}/a.png" for one in ("fake/flux", "fake/sdxl")))
    tree(at / "dear", "data/test/real/redcaps/a.png", "data/test/real/redcaps/b.png")
    return {"flux": (2, 1), "sdxl": (2, 1)}


def shards(at: Path) -> Counts:
    (at / "shards").mkdir()
    for shard in range(2):
        files = {f"{shard}{n}.png": png(n) for n in range(3)}
        files |= {f"{shard}{n}.cls": b"%d" % (n > 0) for n in range(3)}
        make_tar(at / "shards" / f"{shard:06d}.tar", files)
    return {"shards": (2, 4)}


def univfd(at: Path) -> Counts:
    tree(at / "univfd", "imagenet/0_real/a.png", "laion/0_real/b.png")
    tree(at / "univfd", "ldm_200/1_fake/a.png", "glide_100_27/1_fake/b.png")
    return {"glide_100_27": (2, 1), "ldm_200": (2, 1)}


def synthbuster(at: Path) -> Counts:
    tree(at / "synthbuster", "dalle3/a.png", "dalle3/b.png", "midjourney-v5/c.png")
    tree(at / "raise", "r1.png", "r2.png")
    return {"dalle3": (2, 2), "midjourney-v5": (2, 1)}


def chameleon(at: Path) -> Counts:
    tree(at / "chameleon", "test/0_real/a.png", "test/1_fake/b.png", "test/1_fake/c.png")
    return {"chameleon": (1, 2)}


def forensynths(at: Path) -> Counts:
    names = ["progan/cat", "progan/car", "biggan"]
    kinds = ("0_real", "1_fake")
    tree(at / "forensynths", *(f"{one}/{kind}/a.png" for one in names for kind in kinds))
    return {"biggan": (1, 1), "progan": (2, 2)}


def bfree(at: Path) -> Counts:
    tree(at, "x/a.png", "x/b.png", "x/c.png")
    rows = "filename,label,typ\nx/a.png,REAL,real\nx/b.png,fake,sdxl\nx/c.png,fake,flux\n"
    (at / "bfree.csv").write_text(rows)
    return {"flux": (1, 1), "sdxl": (1, 1)}


def hub(at: Path) -> Counts:
    tree(at, "y/a.png", "y/b.png")
    rows = [{"path": "y/a.png", "label": 0}, {"path": "y/b.png", "label": 1, "mask": "m.png"}]
    (at / "hub.json").write_text(json.dumps(rows))
    return {"hub": (1, 1)}


def ffpp(at: Path) -> Counts:
    tree(at, "z/a.png", "z/b.png")
    real = {"test": {"000": {"label": "FF-real", "frames": ["z/a.png"]}}}
    fake = {"test": {"c23": {"000": {"label": "FF-DF", "frames": ["z/b.png"]}}}}
    (at / "ffpp.json").write_text(json.dumps({"FF": {"FF-real": real, "FF-DF": fake}}))
    return {"FF-DF": (1, 1)}


SETS: dict[str, Callable[[Path], Counts]] = {
    "genimage.zip": genimage, "commfor": commfor, "commfor-local": commfor_local,
    "opensdi": opensdi, "sofake.parquet": sofake, "openfake.parquet": openfake,
    "wildfake.parquet": wildfake, "dear": dear, "shards": shards, "univfd": univfd,
    "synthbuster": synthbuster, "chameleon": chameleon, "forensynths": forensynths,
    "bfree.csv": bfree, "hub.json": hub, "ffpp.json": ffpp,
}  # fmt: skip


def test_every_set_has_its_command() -> None:
    assert [shlex.split(one)[1] for one in COMMANDS] == list(SETS)


@pytest.mark.parametrize("command", COMMANDS, ids=list(SETS))
def test_a_public_set(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command)
    expected = SETS[words[1]](tmp_path)
    before = sorted(tmp_path.rglob("*"))
    result = CliRunner().invoke(app, [*words, "--out", "out"])
    assert result.exit_code == 0, result.output
    found = pd.read_csv(tmp_path / "out" / "manifest.csv", keep_default_na=False)
    counts = {
        str(name): (int((own["label"] == 0).sum()), int((own["label"] == 1).sum()))
        for name, own in found.groupby("generator")
    }
    assert counts == expected
    assert len(pd.read_csv(tmp_path / "out" / "skipped.csv")) == 0
    kept = [one for one in sorted(tmp_path.rglob("*")) if "out" not in one.parts]
    assert kept == before  # nothing is unpacked
