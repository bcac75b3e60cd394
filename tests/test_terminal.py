"""The command line in real terminals of several widths: nothing is cut, and nothing falls over."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
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

from .conftest import write_image

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
    *(("colour", width) for width in (60, 140)),
    *(("dropout", width) for width in (60, 140)),
    ("score", 80),
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


def terminal(columns: int) -> tuple[int, int]:
    """Return both ends of a pseudo-terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    return ours, theirs


def in_terminal(columns: int, out: Path, *words: object) -> Said:
    """Run a command with a pseudo-terminal of so many columns as stdin, stdout and stderr."""
    ours, theirs = terminal(columns)
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
    assert states[0][0] == 0  # before the first batch is done
    assert all(0 <= done <= total for done, _ in states)
    assert sorted(states) == states


@pytest.mark.parametrize(("verb", "width"), JOBS)
def test_what_is_loaded_and_drawn_is_said_too(
    runs: dict[tuple[str, int], Said], verb: str, width: int
) -> None:
    said = runs[verb, width].text
    stages = ["loading libraries", "loading npr", f"{PASSES[verb]} "]
    stages += ["drawing figures"] * any(runs[verb, width].out.glob("*.pdf"))
    places = [said.index(one) for one in stages]
    assert places == sorted(places)


@pytest.mark.parametrize(("verb", "width"), JOBS)
def test_the_bar_leaves_nothing_behind(
    runs: dict[tuple[str, int], Said], verb: str, width: int
) -> None:
    raw = runs[verb, width].raw
    assert raw.count("\x1b[?25l") == raw.count("\x1b[?25h") == 1  # the cursor is hidden and shown
    last = raw.rindex("\x1b[?25h")
    wiped = raw.rindex("\x1b[2K", raw.rindex("━", 0, last), last)  # the line of the bar
    assert not CODES.sub("", raw[wiped:last]).strip()
    assert "━╸" not in raw[last:]


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
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    assert "Traceback" not in found.text


@pytest.mark.parametrize("seen", [False, True], ids=["errors in a pipe", "errors in a terminal"])
def test_json_is_all_there_is_on_stdout(folder: Path, forged: Said, seen: bool) -> None:
    """As in ``forensift … --json | jq``: what the terminal shows of the bars is not mixed in."""
    out = folder / f"json-{seen}"
    words = ["evaluate", "npr", "--data", forged.out, *_common(), "--json", "--out", out]
    command = [sys.executable, "-m", "forensift", *map(str, words)]
    ours, theirs = terminal(60) if seen else os.pipe()
    with ThreadPoolExecutor(1) as reader:
        said = reader.submit(lambda: b"".join(iter(lambda: _some(ours), b"")))
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=theirs, text=True, env=environment()
        )
        os.close(theirs)
        errors = said.result().decode()
    os.close(ours)
    assert done.returncode == 0, errors
    assert ("scoring" in errors) == seen
    assert '"' not in errors
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


# --- a run that is stopped ----------------------------------------------------------------------

SLOW = """
import time
import torch

class Slow(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(4, 1)
        self.seen = 0

    def forward(self, x):
        self.seen += len(x)
        time.sleep(0.2 * (self.seen > 128))
        return self.fc(torch.relu(self.conv(x)).mean((2, 3)))

def slow():
    torch.manual_seed(0)
    return Slow()
"""


def _in_front() -> None:
    # A job in the background ignores Ctrl-C, and its children inherit that.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C reaches it


LOGGED = """
import sys
from forensift.cli import app, bars
bars.EVERY = 0.4
app.main()
"""


def test_a_log_gets_a_line_with_rate_and_remaining_time(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(SLOW)
    for number in range(150):  # the last 22 take a tenth of a second each
        kind = ("0_real", "1_fake")[number % 2]
        write_image(tmp_path / "set" / "g" / kind / f"{number}.png", (8, 8), number)
    words = ["evaluate", f"{tmp_path / 'own.py'}:slow", "--data", tmp_path / "set"]
    words += ["--device", "cpu", "--batch-size", 2, "--out", tmp_path / "out"]
    done = subprocess.run(
        [sys.executable, "-c", LOGGED, *map(str, words)], capture_output=True, text=True,
        env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert re.fullmatch(r"loading libraries: \d+ s", lines[0])
    pattern = r"scoring: (\d+)/150, ([\d.]+)(/s| s each), (\d+) s left"
    found = [match for match in (re.fullmatch(pattern, line) for line in lines) if match]
    assert 2 <= len(found) <= 12
    at = [int(one[1]) for one in found]
    assert at == sorted(at)
    assert at[-1] > 128
    for one in found:
        rate = float(one[2]) if one[3] == "/s" else 1 / float(one[2])
        assert int(one[4]) <= max(1, (150 - int(one[1])) / rate * 1.1)


@pytest.mark.parametrize(
    ("stop", "code"), [("\x03", 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"]
)
def test_a_run_that_is_stopped_goes_on_with_resume(
    tmp_path: Path, stop: str | signal.Signals, code: int
) -> None:
    (tmp_path / "own.py").write_text(SLOW)
    for number in range(150):  # a part is kept after 128
        kind = ("0_real", "1_fake")[number % 2]
        write_image(tmp_path / "set" / "g" / kind / f"{number}.png", (8, 8), number)
    words = ["evaluate", f"{tmp_path / 'own.py'}:slow", "--data", tmp_path / "set"]
    words += ["--device", "cpu", "--batch-size", 2, "--out", tmp_path / "out"]
    ours, theirs = terminal(80)
    read = b""
    with subprocess.Popen(
        [sys.executable, "-m", "forensift", *map(str, words)], env=environment(),
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        preexec_fn=_in_front,
    ) as process:  # fmt: skip
        os.close(theirs)
        while more := _some(ours):
            read += more
            if stop and any(f"{done}/150".encode() in read for done in range(130, 149)):
                if isinstance(stop, str):
                    os.write(ours, stop.encode())
                else:
                    process.send_signal(stop)
                stop = ""
    os.close(ours)
    said = CODES.sub("", read.decode())
    assert process.returncode == code, said
    assert "Traceback" not in said
    assert "interrupted; the same command with --resume goes on" in said
    assert read.count(b"\x1b[?25h") == 1  # the cursor is there again
    assert len(list(tmp_path.glob("out/partials/*/shard-*.npz"))) == 1
    assert not (tmp_path / "out" / "evaluation.csv").exists()

    again = in_terminal(80, tmp_path / "out", *words[:-2], "--resume")
    assert again.code == 0, again.text
    first = min(int(done) for done in re.findall(r"(\d+)/150", again.text))
    assert first >= 128
    assert not (tmp_path / "out" / "partials").exists()
    assert len(pd.read_csv(tmp_path / "out" / "scores.csv")) == 150
