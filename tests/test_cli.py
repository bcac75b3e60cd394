"""The command line: what is written, and one line with exit code 2 for what users can mend."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import typer
from rich.cells import cell_len
from typer.testing import CliRunner, Result

from forensift.cli.app import VERBS, app
from forensift.data import scan
from forensift.detectors import get_architecture
from forensift.evaluation import COLUMNS

from .conftest import write_image

MakeFolder = Callable[..., Path]


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def refused(*words: str | Path) -> str:
    """Return the one line of an error that the user can mend."""
    result = run(*words)
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.fixture(scope="module")
def npr_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "npr.pth"
    torch.save(get_architecture("npr").build().state_dict(), path)
    return path


def every_command() -> dict[str, Any]:
    """Return each verb and each command of a verb, by its words; groups are left out."""
    found, groups = {}, {"": typer.main.get_command(app)}
    while groups:
        name, group = groups.popitem()
        context = typer.Context(group)
        for one in group.list_commands(context):
            command = group.get_command(context, one)
            there = groups if hasattr(command, "list_commands") else found
            there[f"{name} {one}".strip()] = command
    return found


COMMANDS = every_command()
GROUPS = sorted({name.partition(" ")[0] for name in COMMANDS if " " in name})


def example(name: str) -> list[str]:
    """Return the words of a command's example, without `forensift`."""
    found = re.findall(r"Example: `forensift ([^`]+)`", COMMANDS[name].help)
    assert found, f"{name}: no example in its help"
    return shlex.split(found[0])


# Commands that make their own input, or have it in the clone.
NO_INPUT = {"doctor", "demo", "explore", "forge", "planted", "causal", "attribute forge"} | {
    name for name in COMMANDS if name.startswith("forge-train ")
}


def test_every_verb_is_a_command_or_a_group_of_them() -> None:
    verbs = {name for panel in VERBS.values() for name in panel}
    assert {name.partition(" ")[0] for name in COMMANDS} == verbs
    assert set(GROUPS) == {"attribute", "deepfeaturex", "forge-train", "reproduce", "train"}
    assert {f"reproduce {study}" for study in ("tff", "wang", "npr")} <= set(COMMANDS)


@pytest.mark.parametrize("name", ["", *GROUPS, *COMMANDS])
def test_help_fits_and_lists_every_option(name: str) -> None:
    result = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": "100"})
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert f"Usage: forensift {name}".strip() in result.stdout
    assert max(map(cell_len, result.stdout.splitlines())) <= 100
    if name in COMMANDS:
        assert f"Example: forensift {name}" in " ".join(result.stdout.split())
        for option in COMMANDS[name].params:
            if option.param_type_name == "option":
                assert option.opts[0] in result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_an_example_is_a_command_that_can_be_typed(name: str) -> None:
    words = example(name)
    assert words[: len(name.split())] == name.split()
    # Reads the words as the command line would: unknown, missing or wrong options are errors.
    COMMANDS[name].make_context(name, words[len(name.split()) :])


def test_long_verbs_go_on_and_can_be_read_by_scripts() -> None:
    options = {
        name: {flag for one in command.params for flag in one.opts}
        for name, command in COMMANDS.items()
    }
    sweeping = {name for name, flags in options.items() if "--max-skipped" in flags}
    assert sweeping >= {
        *("score", "evaluate", "robustness", "attribute evaluate", "deepfeaturex test"),
        *("explain", "faithfulness", "rank", "dropout", "transfer", "colour", "median-test"),
        *("patches", "embed", "demo", "reproduce tff", "reproduce wang", "reproduce npr"),
    }
    # Gradient images that are there are kept, without being asked.
    asked = sweeping - {"gradients"}
    assert [name for name in asked if not options[name] >= {"--resume", "--json"}] == []
    # These print, write or serve one page or file, and are no results.
    single = {"doctor", "explore", "attribute page", "deepfeaturex guidance"}
    assert {name for name, flags in options.items() if "--json" not in flags} == single


@pytest.mark.parametrize("name", ["", *GROUPS, *COMMANDS])
def test_an_unknown_option_is_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = example(name) if name in COMMANDS else name.split()
    line = refused(*given, "--no-such-option")
    assert "No such option: --no-such-option" in line
    assert line.endswith(f"see `{' '.join(['forensift', *name.split()])} --help`")
    assert list(tmp_path.iterdir()) == []


def test_other_wrong_words_are_one_line() -> None:
    assert "No such command 'evalute'" in refused("evalute")
    assert "No such command 'tf'" in refused("reproduce", "tf")
    assert "Missing argument 'DETECTOR'" in refused("evaluate", "--data", ".")
    assert "Missing option '--data'" in refused("evaluate", "npr")
    wrong = refused("evaluate", "npr", "--data", ".", "--batch-size=0")
    assert re.search(r"Invalid value for '--batch-size': .*\b1\b", wrong), wrong


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in NO_INPUT])
def test_missing_input_is_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = example(name)
    line = refused(*words)
    files = [part for word in words[len(name.split()) :] for part in re.split("[=,]", word)]
    assert line.startswith(tuple(f"error: {part}" for part in files)), line


def test_the_console_script_is_quick_and_loads_no_torch() -> None:
    slow = {"torch", "pandas", "jinja2", "starlette", "matplotlib"}
    code = f"import forensift.cli.app, sys; sys.exit(bool({slow} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    command = [sys.executable, "-m", "forensift.cli.app", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()[0], done.stderr) == (0, "forensift", "")


def test_scan_writes_a_manifest_that_scans_equal(image_folder: MakeFolder, tmp_path: Path) -> None:
    folder, out = image_folder(), tmp_path / "out"
    (folder / "two" / "1_fake" / "0.png").write_bytes(b"")
    result = run("scan", folder, "--out", out)
    assert result.exit_code == 0, result.output
    for word in ("one", "two", "real", "fake", "PNG 3", "16 × 16", "12 images"):
        assert word in result.output
    assert scan(out / "manifest.csv").entries == scan(folder).entries
    skipped = pd.read_csv(out / "skipped.csv")
    assert skipped["path"].tolist() == [str(folder / "two" / "1_fake" / "0.png")]
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["images"] == 12
    assert manifest["image_set_sha256"] == scan(folder).hash()


def test_scan_says_what_gives_fakes_away(tmp_path: Path) -> None:
    for number in range(2):
        write_image(tmp_path / "s" / "a" / "0_real" / f"{number}.jpg")
        write_image(tmp_path / "s" / "a" / "1_fake" / f"{number}.png")
        write_image(tmp_path / "s" / "b" / "0_real" / f"{number}.png", (9, 9 + number))
        write_image(tmp_path / "s" / "b" / "1_fake" / f"{number}.png", (8, 8))
        write_image(tmp_path / "s" / "c" / "1_fake" / f"{number}.png")
    output = run("scan", tmp_path / "s", "--out", tmp_path / "out").output
    output = " ".join(output.split())
    assert "a: reals and fakes differ in file format" in output
    assert "b: no real image has the size of a fake one" in output
    assert "c: no real images" in output, output


def test_evaluate_writes_its_tables(
    image_folder: MakeFolder, tmp_path: Path, npr_weights: Path
) -> None:
    folder = image_folder(n=4, size=(33, 32))
    arguments = ("evaluate", "npr", "--data", folder, "--weights", npr_weights, "--device", "cpu")
    result = run(*arguments, "--out", tmp_path / "a", "--batch-size", "3")
    assert result.exit_code == 0, result.output
    assert "macro mean" in result.output
    assert "0.5" in result.output
    table = pd.read_csv(tmp_path / "a" / "evaluation.csv")
    assert list(table.columns) == list(COLUMNS)
    assert table["generator"].tolist() == ["one", "two", "macro mean"]
    scores = pd.read_csv(tmp_path / "a" / "scores.csv")
    assert len(scores) == 16
    assert pd.read_csv(tmp_path / "a" / "skipped.csv").empty
    manifest = json.loads((tmp_path / "a" / "manifest.json").read_text())
    assert manifest["detector"] == "npr"
    assert len(manifest["weights"]["sha256"]) == 64
    assert (manifest["used"], manifest["skipped"], manifest["threshold"]) == (16, 0, 0.5)
    # The same again, and from the manifest of the same images, is the same to the byte.
    run("scan", folder, "--out", tmp_path)
    assert run(*arguments, "--out", tmp_path / "b", "--batch-size", "3").exit_code == 0
    words = ("evaluate", "npr", "--data", tmp_path / "manifest.csv", *arguments[4:])
    assert run(*words, "--batch-size", "3", "--out", tmp_path / "c").exit_code == 0
    for name in ("evaluation.csv", "scores.csv"):
        first = (tmp_path / "a" / name).read_bytes()
        assert first == (tmp_path / "b" / name).read_bytes()
        assert first == (tmp_path / "c" / name).read_bytes()


def test_evaluate_draws_clusters(
    image_folder: MakeFolder, tmp_path: Path, npr_weights: Path
) -> None:
    folder = image_folder(n=2, size=(32, 32))
    for path in sorted(folder.rglob("*.png")):
        path.rename(path.with_name(f"photo-a-00{path.name}"))
    words = ("evaluate", "npr", "--data", folder, "--weights", npr_weights, "--out", tmp_path / "o")
    result = run(*words, "--cluster", "photograph", "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "photograph" in result.output
    table = pd.read_csv(tmp_path / "o" / "evaluation.csv")
    assert set(table["intervals_over"]) == {"photographs"}
    assert (table["ap_high"] - table["ap_low"] >= 0.5).all()  # of one photograph nothing is known
    assert "choose photograph, class, none" in refused(*words, "--cluster", "film")


def test_unreadable_images_are_counted_named_and_limited(
    image_folder: MakeFolder, tmp_path: Path, npr_weights: Path
) -> None:
    folder = image_folder(n=4, size=(32, 32))
    bad = [folder / "one" / "0_real" / "0.png", folder / "two" / "1_fake" / "x.png"]
    bad[0].write_bytes(bad[0].read_bytes()[:100])
    bad[1].mkdir()
    words = ("evaluate", "npr", "--data", folder, "--weights", npr_weights, "--device", "cpu")
    line = refused(*words, "--out", tmp_path / "out")
    assert f"2 of 17 images cannot be used (11.8%, allowed 1.0%), first {bad[0]}: " in line
    assert "--max-skipped" in line
    assert not (tmp_path / "out" / "evaluation.csv").exists()
    result = run(*words, "--out", tmp_path / "out", "--max-skipped", "0.2")
    assert result.exit_code == 0, result.output
    assert "2 images left out (skipped.csv)" in result.output
    skipped = pd.read_csv(tmp_path / "out" / "skipped.csv")
    assert skipped["path"].tolist() == [str(path) for path in bad]
    assert skipped["reason"].str.len().gt(5).all()
    assert len(pd.read_csv(tmp_path / "out" / "scores.csv")) == 15


def test_bad_folders(tmp_path: Path) -> None:
    absent, empty, out = tmp_path / "absent", tmp_path / "empty", tmp_path / "out"
    empty.mkdir()
    for verb in (("scan",), ("evaluate", "npr", "--data")):
        assert "no such folder" in refused(*verb, absent, "--out", out)
        assert "is empty" in refused(*verb, empty, "--out", out)
    write_image(tmp_path / "g" / "0_real" / "a.png")
    line = refused("evaluate", "npr", "--data", tmp_path / "g", "--out", out)
    assert "generator 'g' has no fake images" in line
    assert not list(out.glob("*.json"))


def test_bad_detectors_and_options(
    image_folder: MakeFolder, tmp_path: Path, npr_weights: Path
) -> None:
    folder = image_folder(n=1, size=(32, 32))
    start = ("evaluate", "npr", "--data", folder, "--out", tmp_path / "out")
    given = (*start, "--weights", npr_weights)
    assert "no detector is called 'xception'" in refused("evaluate", "xception", *start[2:])
    absent = tmp_path / "absent.pth"
    assert str(absent) in refused(*start, "--weights", absent)
    other = refused("evaluate", "resnet50", *start[2:], "--weights", npr_weights)
    assert "npr" in other
    assert str(npr_weights) in other
    assert "no preset 'huge'" in refused(*given, "--preset", "huge")
    assert "choose auto, cpu or cuda" in refused(*given, "--device", "tpu")
    if not torch.cuda.is_available():
        assert "--device cuda" in refused(*given, "--device", "cuda")
    (tmp_path / "file").touch()
    assert "nothing can be written there" in refused(*given[:-4], "--weights", npr_weights, "--out",
                                       tmp_path / "file" / "x")  # fmt: skip
    if os.geteuid() != 0:
        (tmp_path / "locked").mkdir(mode=0o500)
        assert "nothing can be written there" in refused(*given, "--out", tmp_path / "locked")
    assert "--batch-size" in refused(*given, "--batch-size", "0")


def test_an_interruption_is_130_and_a_defect_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def raising(error: BaseException) -> Callable[..., None]:
        def scan(*_: object, **__: object) -> None:
            raise error

        return scan

    monkeypatch.setattr("forensift.evaluation.survey", raising(KeyboardInterrupt()))
    assert run("scan", tmp_path).exit_code == 130
    monkeypatch.setattr("forensift.evaluation.survey", raising(RuntimeError("defect")))
    assert isinstance(run("scan", tmp_path).exception, RuntimeError)


def test_doctor_says_what_fits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    result = run("doctor")
    assert result.exit_code == 0, result.output
    for word in ("torchvision operators", "36 train", "CPU", "detector npr", "forensift can run"):
        assert word in result.output
    monkeypatch.setenv("FORENSIFT_HOME", str(tmp_path))
    assert "do not fit: photographs" in refused("doctor")
