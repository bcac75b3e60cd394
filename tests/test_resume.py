"""SIGKILL at a random moment, the same command with --resume: the same bytes, for every verb."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

import forensift
from forensift.detectors import save_weights
from forensift.detectors.dna_det import build
from forensift.files import home
from forensift.forge import forge
from forensift.studies.dna_det import CROSS
from forensift.studies.dna_det import FAMILIES as MADE_BY
from forensift.sweep import sweep

from .test_cli import COMMANDS

SHARD = 5  # images between two partial results
FAMILIES = {"progan": "progan-like", "stylegan2": "stylegan2-like"}
# What a manifest says of the run and not of its result: the words it was called with, how long it
# took, and how many images went through a network that were not there already.
TIME = re.compile(r"\b\d+ s\b|\d+ gradient images? of [^\"]* there")
LAST_COLUMN = re.compile(r"[\d.-]* \|$", re.MULTILINE)
OF_THE_RUN = {
    "command", "seconds", "processor_seconds", "network_passes", "network_passes_over_test_images",
}  # fmt: skip

# Verb → its words. Those in FILES keep what they make, file by file.
RANKED = "--ranking {top} --k 8"
VERBS = {
    "score": "npr {set}",
    "evaluate": "npr --data {set}",
    "spectra": "--data {set}",
    "robustness": "npr --data {set} --conditions jpeg-75,grey",
    "explain": "npr {set}/progan-like/1_fake --method lrp",
    "faithfulness": "npr --data {set} --methods gradcam,gradient --n 6 --label both --draws 1",
    "rank": "npr --data {set} --min-confidence 0.5 --by omega,contrast,eap-ig,single --steps 2 "
    "--maps 3",
    "dropout": f"npr --data {{set}} {RANKED} --draws 1 --ks 4,16 --band-draws 1",
    "prune": f"npr --data {{set}} --refit {{set}} {RANKED} --draws 1 --conditions jpeg-75",
    "bias-units": "npr --data {set} --jpeg 80,40 --resize none --k 3 --draws 1",
    "transfer": "npr --data {set} --k 8 --draws 1 --min-confidence 0.5",
    "colour": "npr --data {set}",
    "median-test": f"npr --data {{set}} {RANKED}",
    "patches": f"npr --data {{set}} {RANKED} --n 2",
    "embed": f"npr --data {{set}} {RANKED}",
    "demo": "--detectors npr --families progan-like,dcgan-like --per-family 15 --size 48 --draws 2",
    "study": "npr --data {set} --k 8 --draws 2",
    "causal": "--detectors npr --pairs 3 --size 48 --draws 1",
    "planted": "--traces luma-box --pairs 16 --held-out 15 --size 16 --steps 40 --draws 2",
    "attribute evaluate": "--data {world} --detector {dna} --per-group 0 --resamples 20",
    "deepfeaturex test": "--data {set} --weights {home}/weights/deepfeaturex.safetensors",
    "deepfeaturex compare": "one={home}/weights/deepfeaturex.safetensors --data {set}",
    "deepfeaturex filters": "--data {set} --filters mirror-B,jpegQF50",
    "deepfeaturex sets": "--data {set}",
    "reproduce tff": "--data {forensynths} --weights {weights} --arch efficientnet-b0 --draws 1 "
    "--tables dropout,colour-robust",
    "reproduce wang": "--data {forensynths} --limit 4 --no-crop",
    "reproduce npr": "--data {forensynths}",
    "gradients": "{set}",
}
WITHOUT = {"gradients"}  # goes on without being asked, so it has no --resume
FILES = {"deepfeaturex filters", "deepfeaturex sets", "gradients"}


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Photographs and their fakes in every layout that a verb asks for, and weights."""
    root = tmp_path_factory.mktemp("given")
    world = root / "world"
    families = list(FAMILIES.values())
    forge(forensift.photographs("test"), families, world / "closed/test", per_family=6, side=64)
    for published, family in FAMILIES.items():
        made = world / "closed/test" / family
        shutil.copytree(made, root / "set" / family)
        shutil.copytree(made, root / "ForenSynths_test" / published)
        for cross in CROSS:
            shutil.copytree(made, world / cross / f"{family}--{cross}")
    torch.manual_seed(0)
    facts = {"classes": json.dumps(("real", *MADE_BY)), "preset": "dna-det-32"}
    dna = root / "dna.safetensors"
    save_weights(dna, build(("real", *MADE_BY), width=4).state_dict(), facts)
    here = home()
    return {
        "set": root / "set",
        "forensynths": root / "ForenSynths_test",
        "world": world,
        "dna": Path(f"dna-det={dna}"),
        "weights": here / "weights/efficientnet-b0.safetensors",
        "top": here / "fmap_relevances/npr/progan-like_npr/progan-like-fake.csv",
        "home": here,
    }


Command = Callable[..., multiprocessing.process.BaseProcess]


@pytest.fixture(scope="module")
def started() -> Command:
    """Start a verb in a process of its own, forked where forensift is imported already."""
    os.environ["OMP_NUM_THREADS"] = "1"  # a fork has no other threads, and waits for them for ever
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "forensift.figures", "forensift.studies.demo"])

    def start(words: list[str], folder: Path, **how: bool) -> multiprocessing.process.BaseProcess:
        folder.mkdir(exist_ok=True)
        process = context.Process(target=_command, args=(words, folder), kwargs=how)
        process.start()
        return process

    return start


def _command(words: list[str], folder: Path, keep: bool = False) -> None:
    """Be the command line, in small parts; ``keep``: leave the parts where they are."""
    from forensift.cli import verb
    from forensift.cli.app import app
    from forensift.figures.style import Drawing

    Drawing.dots = 40  # small pictures are drawn sooner
    os.chdir(folder)
    said = os.open("said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)

    sys.argv = ["forensift", *words]
    assert sweep.__kwdefaults__ is not None
    sweep.__kwdefaults__["shard_size"] = SHARD
    if keep:
        verb.shutil = type("", (), {"rmtree": staticmethod(lambda *path, **how: None)})
    app()


def done(process: multiprocessing.process.BaseProcess, folder: Path) -> None:
    process.join(120)
    assert process.exitcode == 0, (folder / "said").read_text()


def first_part(process: multiprocessing.process.BaseProcess, folder: Path, pattern: str) -> float:
    """Wait for the first file of that kind, and return when it was there."""
    while process.is_alive() and not any(folder.glob(pattern)):
        time.sleep(0.002)
    return time.monotonic()


def parts(folder: Path) -> dict[Path, int]:
    return {one: one.stat().st_mtime_ns for one in folder.glob("out/**/partials/*/shard-*.npz")}


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_that_was_killed_goes_on_to_the_same_bytes(
    name: str, given: dict[str, Path], started: Command, tmp_path: Path
) -> None:
    words = [*name.split(), *VERBS[name].format_map(given).split(), "--device", "cpu"]
    words += ["--out", "out"]
    kind = "out/**/[!.]*.png" if name in FILES else "out/**/partials/*/shard-*.npz"
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = started(words, whole)
    since = first_part(process, whole, kind)
    done(process, whole)
    rest = time.monotonic() - since

    moment = random.Random(name)
    for _ in range(5):  # what is over before it is killed says nothing
        shutil.rmtree(killed, ignore_errors=True)
        process = started(words, killed)
        first_part(process, killed, kind)
        time.sleep(rest * moment.uniform(0, 0.8))
        process.kill()
        process.join()
        if process.exitcode:
            break
    assert process.exitcode == -9, (killed / "said").read_text()
    there = parts(killed)
    assert there or name in FILES
    done(started([*words, *["--resume"] * (name not in WITHOUT)], killed, keep=True), killed)
    assert there.items() <= parts(killed).items()  # none was made again
    shutil.rmtree(killed / "out" / "partials", ignore_errors=True)
    assert contents(killed / "out") == contents(whole / "out")


def test_every_verb_that_sweeps_is_killed_here() -> None:
    flags = {
        name: {flag for one in COMMANDS[name].params for flag in one.opts} for name in COMMANDS
    }
    assert {name for name in COMMANDS if "--resume" in flags[name]} == VERBS.keys() - WITHOUT


def contents(folder: Path) -> dict[str, object]:
    """Return every file below a folder, less what is of the run itself: times, mostly."""
    found: dict[str, object] = {}
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        content: object = path.read_bytes()
        if path.name == "view.json":
            content = json.loads(TIME.sub("", path.read_text()))
            for table in content["shown"]:
                timed = [at for at, name in enumerate(table["columns"]) if "s an image" in name]
                table["rows"] = [
                    [cell for at, cell in enumerate(row) if at not in timed]
                    for row in table["rows"]
                ]
        elif path.suffix in (".html", ".md"):
            content = TIME.sub("", path.read_text())
            if "s an image" in content:
                content = LAST_COLUMN.sub("", content)
        elif path.name == "comparison.csv":
            content = pd.read_csv(path).drop(columns="seconds_an_image").to_csv()
        elif path.name == "manifest.json":
            facts = json.loads(TIME.sub("", path.read_text()))
            content = {key: facts[key] for key in facts.keys() - OF_THE_RUN}
        found[path.relative_to(folder).as_posix()] = content
    return found
