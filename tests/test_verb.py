"""What makes a command of a function: options declared once, names in messages, what is written."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from forensift.cli.run import OnDetector, OnImages, Out, Run, Seeded, Sweeping
from forensift.cli.verb import one_line_errors, verb
from forensift.errors import UserError
from forensift.evaluation import Evaluation, evaluate

from .conftest import write_image


@verb
def look_at(
    run: Run,
    cluster: Annotated[str, typer.Option(help="What intervals draw.")] = "none",
    fail: Annotated[str, typer.Option(help="An error to raise.")] = "",
) -> Evaluation:
    """Score an image set."""
    if fail:
        raise UserError(fail)
    return evaluate(run.loaded, run.images, cluster=cluster, **run.how)  # type: ignore[arg-type]


def app(command: Any = look_at) -> typer.Typer:
    made = typer.Typer(pretty_exceptions_enable=False)
    made.command("look-at")(command)
    return made


def options(command: Any = look_at) -> dict[str, Any]:
    return {one.name: one for one in typer.main.get_command(app(command)).params if one.name}


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    for number in range(4):
        kind = ("0_real", "1_fake")[number % 2]
        write_image(tmp_path / "set" / "g" / kind / f"{number}.png", (32, 32), number)
    given = ["npr", "--data", tmp_path / "set", "--device", "cpu", "--out", tmp_path / "out"]
    return [str(one) for one in given]


def run(*words: str) -> Any:
    return CliRunner().invoke(app(), list(words))


def test_common_options_are_the_fields_of_the_run_each_declared_once() -> None:
    declared: dict[str, type] = {}
    for kind in (Out, Seeded, Sweeping, OnDetector, OnImages, Run):
        for name in vars(kind).get("__annotations__", {}):
            assert name not in declared, (name, kind, declared.get(name))
            declared[name] = kind
    shown = {one.name for one in fields(Run) if not one.metadata.get("hidden")}
    found = options()
    assert set(found) - {"help", "install_completion", "show_completion"} == shown | {
        "cluster", "fail"
    }  # fmt: skip
    for name in shown - {"detector"}:
        assert found[name].opts == [f"--{name.replace('_', '-')}"]
        assert found[name].rich_help_panel == "Common options"
    assert found["cluster"].rich_help_panel is None
    assert found["detector"].param_type_name == "argument"
    assert found["data"].required
    assert not found["out"].required


def test_a_verb_has_the_options_of_what_it_runs_on_and_no_others(tmp_path: Path) -> None:
    @verb
    def say(run: Out) -> None:
        """Say nothing."""

    assert set(options(say)) >= {"out", "json"}
    assert not set(options(say)) & {"data", "detector", "seed", "batch_size"}
    refused = CliRunner().invoke(app(say), ["--seed", "1"])
    assert refused.exit_code == 2
    assert "No such option: --seed" in refused.stderr
    assert CliRunner().invoke(app(say), ["--out", str(tmp_path)]).exit_code == 0


def test_an_unknown_option_is_refused_before_anything_is_done(
    words: list[str], tmp_path: Path
) -> None:
    for wrong in (["--resample", "3"], ["--batchsize", "3"], ["more"]):
        done = run(*words, *wrong)
        assert done.exit_code == 2
        assert wrong[0] in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("lower max_skipped", "lower --max-skipped"),
        ("batch_size 0: at least 1", "--batch-size 0: at least 1"),
        ("max_skipped, then batch_size", "--max-skipped, then --batch-size"),
        ("my_max_skipped_file and x-batch_size", "my_max_skipped_file and x-batch_size"),
        ("seed and data are words", "seed and data are words"),
        ("two\nlines  of it", "two lines of it"),
    ],
)
def test_parameters_in_messages_become_flags(words: list[str], message: str, line: str) -> None:
    done = run(*words, "--fail", message)
    assert done.exit_code == 2
    assert done.stderr == f"error: {line}\n"
    assert done.stdout == ""


def test_flags_of_another_verb_are_left_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as stopped, one_line_errors(["out"]):
        raise UserError("raise max_skipped")
    assert stopped.value.exit_code == 2
    assert capsys.readouterr().err == "error: raise max_skipped\n"


def test_what_is_written_names_the_run(words: list[str], tmp_path: Path) -> None:
    done = run(*words, "--batch-size", "3", "--seed", "5")
    assert done.exit_code == 0, done.output
    out = tmp_path / "out"
    assert done.stdout.splitlines()[-1] == f"tables in {out}"
    facts = json.loads((out / "manifest.json").read_text())
    assert facts["options"] == {"cluster": "none", "fail": ""}
    assert (facts["seed"], facts["batch_size"], facts["device"]) == (5, 3, "cpu")
    assert (facts["detector"], facts["used"], facts["skipped"]) == ("npr", 4, 0)
    assert len(facts["weights"]["sha256"]) == len(facts["image_set_sha256"]) == 64
    assert facts["said"] in " ".join(done.stdout.split())
    assert pd.read_csv(out / "skipped.csv").empty
    assert not (out / "partials").exists()


def test_what_was_left_out_is_listed_also_after_an_error(words: list[str], tmp_path: Path) -> None:
    broken = tmp_path / "set" / "g" / "1_fake" / "broken.png"
    broken.write_bytes(b"no image")
    done = run(*words)
    assert done.exit_code == 2
    assert "--max-skipped" in done.stderr
    listed = pd.read_csv(tmp_path / "out" / "skipped.csv")
    assert listed["path"].tolist() == [str(broken)]
    assert not (tmp_path / "out" / "evaluation.csv").exists()
    done = run(*words, "--max-skipped", "0.5")
    assert done.exit_code == 0
    assert "1 image left out (skipped.csv); " in done.stdout
