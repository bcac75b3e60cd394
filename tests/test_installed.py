"""forensift away from its clone: in a container, and from a wheel."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import forensift
from forensift.cli.doctor import machine

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def lines() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile with their words."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    found = [line.split(maxsplit=1) for line in text.splitlines() if re.match(r"[A-Z]+ ", line)]
    return [(name, " ".join(words.split())) for name, words in found]


def test_what_the_image_copies_is_there(lines: list[tuple[str, str]]) -> None:
    copied = [words.split() for name, words in lines if name in ("COPY", "ADD")]
    assert copied
    for *sources, _ in copied:
        assert all((ROOT / source).exists() for source in sources)
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".git", ".venv"} <= set(ignored)
    assert not {"photos", "weights", "src", "fmap_relevances"} & set(ignored)


def test_the_image_runs_as_a_user_in_the_folder_that_is_mounted(
    lines: list[tuple[str, str]],
) -> None:
    names = [name for name, _ in lines]
    said = dict(lines)  # the last of each
    assert said["USER"] not in ("root", "0")
    assert f" {said['USER']}" in next(words for name, words in lines if "useradd" in words)
    assert names.index("USER") > max(at for at, name in enumerate(names) if name == "RUN")
    assert said["WORKDIR"] == "/work"
    assert names[-2:] == ["ENTRYPOINT", "CMD"]
    assert said["ENTRYPOINT"] == '["forensift"]'
    assert re.fullmatch(r"python:3\.\d+-slim", said["FROM"])  # a version, not the latest
    assert "sudo" not in str(lines)
    assert all("--no-cache-dir" in words for _, words in lines if "pip install" in words)
    assert "/work" in (ROOT / "docs/docker.md").read_text()


@pytest.mark.parametrize("index", ["", "INDEX"])
def test_the_build_of_pytorch_is_a_choice(
    lines: list[tuple[str, str]], index: str, tmp_path: Path
) -> None:
    """The instruction itself is run, by a shell whose ``python`` only says what it was told."""
    assert ("ARG", 'TORCH_INDEX=""') in lines
    (command,) = [words for name, words in lines if name == "RUN" and "TORCH_INDEX" in words]
    shutil.copy(ROOT / "requirements.txt", tmp_path)
    script = f'python() {{ echo "$@"; for one; do test -f "$one" && cat "$one"; done; }}\n{command}'
    told = subprocess.run(
        ["sh", "-ec", script], cwd=tmp_path, env={**os.environ, "TORCH_INDEX": index},
        capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    calls = [at for at, line in enumerate(told) if line.startswith("-m pip install")]
    assert told[calls[-1]].endswith("-r requirements.txt")
    assert len(calls) == 1 + bool(index)
    if index:
        assert "--index-url INDEX" in told[calls[0]]
        first = told[calls[0] + 1 : calls[1]]
        assert [line.split("==")[0] for line in first] == ["torch", "torchvision"]


def test_away_from_the_clone_one_line_says_where_the_weights_are(tmp_path: Path) -> None:
    """As a wheel is installed: the package alone, without photographs and weights."""
    shutil.copytree(
        Path(forensift.__file__).parent, tmp_path / "site" / "forensift",
        ignore=shutil.ignore_patterns("__pycache__"),
    )  # fmt: skip
    shutil.copy(ROOT / "photos" / "chelsea.jpg", tmp_path / "own.jpg")
    words = [sys.executable, "-m", "forensift", "score", "npr", "own.jpg", "--again", "0"]
    kept = {key: value for key, value in os.environ.items() if key != "FORENSIFT_HOME"}
    kept |= {"PYTHONPATH": str(tmp_path / "site")}
    alone = subprocess.run(words, cwd=tmp_path, env=kept, capture_output=True, text=True)
    assert alone.returncode == 2
    (line,) = alone.stderr.splitlines()
    assert line.startswith("error: ")
    assert "set FORENSIFT_HOME to the clone" in line
    found = subprocess.run(
        words, cwd=tmp_path, env={**kept, "FORENSIFT_HOME": str(ROOT)}, capture_output=True,
        text=True,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert "probability of being synthetic" in " ".join(found.stdout.split())


def test_doctor_says_what_fits_this_machine() -> None:
    found = {one.what: one for one in machine()}
    assert list(found) == ["memory", "disk", "browser"]
    for name in ("memory", "disk"):
        free = float(re.match(r"([\d.]+) GB free", found[name].found)[1])  # type: ignore[index]
        needed = float(re.search(r"([\d.]+) GB$", found[name].found)[1])  # type: ignore[index]
        assert (found[name].state == "ok") == (free >= needed)
        assert bool(found[name].mend) == (free < needed)
