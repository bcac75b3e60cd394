"""The command line in real terminals of several widths: nothing is cut, and nothing falls over."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from rich.cells import cell_len

from forensift.records import FAKE, REAL, Ranking
from forensift.views import colour, dropout, evaluation, ranking, score

PASSES = {
    "evaluate": "scoring",
    "rank": "ranking",
    "dropout": "dropping feature maps",
    "colour": "changing colours",
    "score": "scoring",
}
# Each run takes seconds, most of them to start: tables that others are like need not all be seen.
JOBS = [
    *(("evaluate", width) for width in (60, 80, 140)),
    *(("rank", width) for width in (60, 80, 140)),
    *(("colour", width) for width in (60, 80, 140)),
    *(("dropout", width) for width in (60, 140)),
    *(("score", width) for width in (60, 80)),
]
CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
FAMILIES = "dcgan-like,progan-like"


@dataclass(frozen=True)
class Said:
    """What a command left: its exit code, all that the terminal got, and its folder."""

    code: int
    raw: str
    out: Path

    @property
    def text(self) -> str:
        return CODES.sub("", self.raw)

    @property
    def lines(self) -> list[str]:
        return re.split(r"[\r\n]+", self.text)

    @property
    def cells(self) -> Counter[str]:
        rows = [line for line in self.lines if line.startswith(("│", "┃"))]
        return Counter(cell.strip() for row in rows for cell in re.split("[│┃]", row))


def environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
    return {**kept, "TERM": "xterm-256color", "OMP_NUM_THREADS": "1"}


def in_terminal(columns: int, out: Path, *words: object) -> Said:
    """Run a command with a pseudo-terminal of so many columns as stdin, stdout and stderr."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    command = [sys.executable, "-m", "forensift", *map(str, words), "--out", str(out)]
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment(), close_fds=True
    ) as process:
        os.close(theirs)
        read = b"".join(iter(lambda: _some(ours), b""))
    os.close(ours)
    return Said(process.returncode, read.decode(), out)


def _some(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says so when the other side is closed
        return b""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("terminal")


@pytest.fixture(scope="module")
def forged(folder: Path) -> Said:
    words = ("forge", "--families", FAMILIES, "--per-family", 4, "--size", 64, "--audit")
    return in_terminal(80, folder / "set", *words)


@pytest.fixture(scope="module")
def ranked(folder: Path, forged: Said) -> Said:
    words = ("rank", "npr", "--data", forged.out, *_common(), "--min-confidence", 0.5)
    return in_terminal(80, folder / "rank-80", *words)


@pytest.fixture(scope="module")
def runs(folder: Path, forged: Said, ranked: Said) -> Iterator[dict[tuple[str, int], Said]]:
    data = ("--data", forged.out, *_common())
    verbs = {
        "evaluate": ("evaluate", "npr", *data),
        "rank": ("rank", "npr", *data, "--min-confidence", 0.5),
        "dropout": (
            "dropout", "npr", *data, "--ranking", ranked.out / "set-fake.csv",
            "--k", 3, "--draws", 2, "--ks", "none",
        ),
        "colour": ("colour", "npr", *data),
        "score": ("score", "npr", forged.out, *_common()),
    }  # fmt: skip
    jobs = [job for job in JOBS if job != ("rank", 80)]
    with ThreadPoolExecutor(max(2, min(8, os.cpu_count() or 1))) as pool:
        found = pool.map(
            lambda job: in_terminal(job[1], folder / f"{job[0]}-{job[1]}", *verbs[job[0]]), jobs
        )
        yield {**dict(zip(jobs, found, strict=True)), ("rank", 80): ranked}


def _common() -> tuple[object, ...]:
    return "--device", "cpu", "--batch-size", 3


def shown(verb: str, out: Path) -> list[pd.DataFrame]:
    """Return the tables for people, made of what was saved."""
    if verb == "evaluate":
        return [evaluation.rows(pd.read_csv(out / "evaluation.csv"))]
    if verb == "dropout":
        return [dropout.rows(pd.read_csv(out / "dropout_summary.csv"))]
    if verb == "colour":
        return [colour.rows(pd.read_csv(out / "colour.csv"))]
    if verb == "score":
        summary = pd.read_csv(out / "summary.csv").iloc[0]
        return [score.rows(pd.read_csv(out / "scores.csv")), score.summary_rows(summary)]
    whole = pd.read_parquet(out / "ranking.parquet")
    return [
        ranking.rows(Ranking(whole[whole["label"] == kind].reset_index(drop=True), label))
        for kind, label in (("fake", FAKE), ("real", REAL))
    ]


KEYS = {"evaluate": 1, "rank": 0, "dropout": 2, "colour": 0, "score": 1}  # names, that may wrap


@pytest.mark.parametrize(("verb", "width"), JOBS)
def test_a_verb_says_every_number_in_a_terminal_of_any_width(
    runs: dict[tuple[str, int], Said], verb: str, width: int
) -> None:
    found = runs[verb, width]
    assert found.code == 0, found.text
    assert "Traceback" not in found.text
    assert "Error" not in found.text
    assert "…" not in re.sub(r"\d … \d", "", "".join(found.cells))
    expected: Counter[str] = Counter()
    for table in shown(verb, found.out):
        assert len(table) >= 2
        cells = table.iloc[:, KEYS[verb] :].astype(str).to_numpy().ravel()
        expected.update(cell for cell in cells if re.search(r"\d", cell))
    assert len(expected) > 4
    # Row names come again in every block of columns, so there may be more.
    assert not expected - found.cells
    for line in found.lines:
        if line.startswith(("│", "┃", "┏", "┡", "├", "└")):
            assert cell_len(line) <= width


@pytest.mark.parametrize(("verb", "width"), JOBS)
def test_a_bar_shows_how_far_the_pass_is(
    runs: dict[tuple[str, int], Said], verb: str, width: int
) -> None:
    pattern = rf"{PASSES[verb]} +[━╸╺ ]+ (\d+)/(\d+)"
    states = [tuple(map(int, one)) for one in re.findall(pattern, runs[verb, width].text)]
    assert states
    (total,) = {total for _, total in states}
    assert all(0 < done <= total for done, _ in states)


def test_forge_says_what_gives_its_fakes_away(forged: Said) -> None:
    assert forged.code == 0, forged.text
    assert "Traceback" not in forged.text
    table = pd.read_csv(forged.out / "audit.csv")
    numbers = table.select_dtypes("float").to_numpy().ravel()
    expected = Counter(f"{one:.3f}" for one in numbers if one == one)
    assert len(table) >= 2
    assert not expected - forged.cells
    assert len(list(forged.out.glob("*/*/*.png"))) == 16


def test_a_short_training_in_a_terminal(folder: Path, forged: Said) -> None:
    found = in_terminal(
        60, folder / "train", "train", "npr", "--recipe", "npr", "--data", forged.out,
        "--validation", forged.out, "--crop-size", 32, "--load-size", 0, "--max-steps", 2,
        "--batch-size", 4, "--workers", 0, "--device", "cpu",
    )  # fmt: skip
    assert found.code == 0, found.text
    assert "Traceback" not in found.text
    row = pd.read_csv(found.out / "history.csv").iloc[-1]
    for name in ("loss", "accuracy", "ap"):
        assert found.cells[f"{row[name]:.4g}"]
    assert re.search(r"training npr +[━╸╺ ]+ \d+/\d+", found.text)
    assert (found.out / "npr.safetensors").is_file()


def test_an_error_is_one_line_in_a_terminal(folder: Path) -> None:
    found = in_terminal(80, folder / "bad", "evaluate", "npr", "--data", folder / "nowhere")
    assert found.code == 2
    lines = [line for line in found.lines if line.strip()]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")


def test_json_is_all_there_is_on_stdout(folder: Path, forged: Said) -> None:
    out = folder / "json"
    words = ["evaluate", "npr", "--data", forged.out, *_common(), "--json", "--out", out]
    done = subprocess.run(
        [sys.executable, "-m", "forensift", *map(str, words)],
        capture_output=True, text=True, env=environment(), timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["verb"] == "evaluate"
    assert found["said"].startswith("AP is ")
    for name, table in found["tables"].items():
        saved = pd.read_csv(out / f"{name}.csv")
        assert list(table[0]) == saved.columns.tolist()
        assert len(table) == len(saved)
        for column in ("score", "ap"):
            if column in saved:
                values = [row[column] for row in table]
                assert values == pytest.approx(saved[column].tolist())
