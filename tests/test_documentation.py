"""What the documentation says is so: commands, Python, messages, tests, links; and it builds."""

from __future__ import annotations

import ast
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

import forensift as ff
from forensift.cli.app import VERBS, UsageError, app
from forensift.cli.verb import verb
from forensift.detectors.registry import ARCHITECTURES, shipped_weights
from forensift.explain.methods import METHODS, explainer
from forensift.files import home

from .browser import Browser, accessible, screenshot

DOCS = home() / "docs"
PAGES = [home() / "README.md", *sorted(DOCS.glob("*.md"))]
FENCE = re.compile(r"(<!-- runs -->\n)?^( *)```([^\n]*)\n(.*?)^\2```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`(forensift [^`]+)`(?!`)")
SHELL, DIRECTIVES = ("console", "bash", "sh"), ("{toctree}", "{eval-rst}", "{commands}")
SHOWN = ("text", "yaml", "bibtex")  # output and data: nothing to run
OTHERS = {"mkdir", "cp", "cd", "docker", "git", "pip", "source", "export", "done", "pytest", "["}
# Pages whose blocks another test runs, word for word.
ELSEWHERE = {"own-detector.md": "test_plugins.py"}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its kind, its text, the line it begins in, whether it runs."""

    page: Path
    line: int
    kind: str
    text: str
    runs: bool

    def __str__(self) -> str:
        return f"{self.page.name}, line {self.line}"


@cache
def blocks() -> tuple[Block, ...]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert len(re.findall(r"^ *```", text, re.MULTILINE)) % 2 == 0, (
            f"{page.name}: a fence is open"
        )
        for one in FENCE.finditer(text):
            marked, indent, kind, body = one.groups()
            body = re.sub(f"^{indent}", "", body, flags=re.MULTILINE)
            line = text.count("\n", 0, one.start()) + 1
            found.append(Block(page, line, kind.strip(), body, marked is not None))
    return tuple(found)


def commands(text: str) -> Iterator[list[str]]:
    """Yield the commands of a shell block as words, with its own variables put in."""
    known: dict[str, str] = {}
    text = re.sub(r"\\\n\s*", " ", text)
    for line in re.sub(r"\$\(\([^)]*\)\)", "1", text).splitlines():
        given = re.fullmatch(r'(\w+)="([^"]*)"', line.strip())
        if given:
            known[given[1]] = given[2]
            continue
        loop = re.match(r"for (\w+) in (\S+).*; do$", line.strip())
        if loop:
            known[loop[1]] = loop[2]
            continue
        for name, value in known.items():
            line = re.sub(rf"\${name}\b", value, line)
        words = shlex.shlex(line, posix=True, punctuation_chars=True)
        words.whitespace_split, words.commenters = True, "#"
        one: list[str] = []
        for word in [*words, ";"]:
            if word in ("&&", ";", "|", "&"):
                if one:
                    yield one
                one = []
            elif ">" in word and set(word) <= set("12>&"):
                one.append(">")
            else:
                one.append(word)


def taken(words: list[str], where: str, *, sketch: bool = False) -> None:
    """Assert that the command line takes these words; a sketch may lack some and name others."""
    command: Any = typer.main.get_command(app)
    words = words[1:]
    context = typer.Context(command, info_name="forensift")
    while words and hasattr(command, "get_command") and not words[0].startswith("-"):
        below = command.get_command(context, words[0])
        if below is None and sketch and words[0].isupper():  # train NAME --help
            return
        assert below is not None, f"{where}: no verb {words[0]!r}"
        command, words = below, words[1:]
        context = typer.Context(command, info_name=command.name, parent=context)
    if hasattr(command, "get_command"):
        options = {flag for one in command.params for flag in one.opts} | {"--help"}
        assert sketch or set(words) <= options, f"{where}: {' '.join(words)}"
        return
    errors = []
    for given in (words, [one for one in words if one != "…"]):  # … is a value, or stands for more
        try:
            command.make_context(command.name, list(given), parent=context)
            return
        except typer.Exit:  # --help
            return
        except UsageError as error:  # type: ignore[misc]
            errors.append(error)
    kinds = {type(error).__name__ for error in errors}
    if kinds & {"MissingParameter", "NoArgsIsHelpError"} and (sketch or "…" in words):
        return
    if kinds & {"BadParameter", "BadOptionUsage"} and sketch:  # --k K, or --value alone
        return
    pytest.fail(f"{where}: {errors[0].format_message()}")


def checked(words: list[str], block: Block) -> None:
    """Assert that a command of a block is one that can be typed."""
    where, words = str(block), [one for one in words if one not in ("nohup", "nice", "time")]
    words = words[: words.index(">")] if ">" in words else words
    tool = Path(words[0]).name
    if tool == "forensift":
        taken(words, where)
    elif tool in ("python", "python3"):
        script = home() / words[1]
        if words[1].startswith("paper/"):
            command = typer.Typer(add_completion=False)
            command.command()(verb(runpy.run_path(str(script))[script.stem]))
            typer.main.get_command(command).make_context(script.stem, words[2:])
        elif words[1] != "-m" and not script.is_file():
            written = block.page.read_text(encoding="utf-8")
            assert f"`{words[1]}`" in written, f"{where}: {words[1]} is neither here nor written"
    elif words[:2] == ["docker", "run"]:
        image = next(at for at, word in enumerate(words) if word.startswith("forensift"))
        taken(words[image:], where)
    elif tool == "make":
        rules = (home() / "Makefile").read_text(encoding="utf-8")
        assert re.search(rf"^{re.escape(words[1])}:", rules, re.MULTILINE), (
            f"{where}: no {words[1]}"
        )
    else:
        assert tool in OTHERS, f"{where}: {tool} is no command that is known here"


def test_every_block_is_checked() -> None:
    counts: Counter[str] = Counter()
    for block in blocks():
        if block.kind in SHELL:
            for words in commands(block.text):
                checked(words, block)
            fate = "run" if block.runs else "parsed"
        elif block.kind == "python":
            compile(block.text, str(block), "exec")
            fate = "run" if block.runs else "parsed"
        else:
            known = block.kind.split(" ")[0] in (*SHOWN, *DIRECTIVES)
            assert known, f"{block}: what is a block of {block.kind!r}?"
            assert not block.runs, f"{block}: marked to run"
            fate = "shown"
        if fate == "parsed" and block.page.name in ELSEWHERE:
            fate = f"run by {ELSEWHERE[block.page.name]}"
        counts[fate] += 1
    print(", ".join(f"{number} {fate}" for fate, number in sorted(counts.items())))
    assert sum(counts.values()) == len(blocks())
    assert counts["run"] >= 6


def test_every_command_in_a_sentence_or_table_is_one() -> None:
    found = 0
    for page in PAGES:
        text = FENCE.sub("", page.read_text(encoding="utf-8"))
        for line in SPAN.findall(text):
            # The headers of older weights spell it so; docs/training.md says what it is today.
            line = re.sub(
                r"--set (\w+)=(?:true\b)?", lambda m: f"--{m[1].replace('_', '-')} ", line
            )
            words = shlex.split(" ".join(line.replace("\\|", "|").split()).replace("'", '"'))
            taken(words, f"{page.name}: `{line}`", sketch=True)
            found += 1
    assert found > 50


def test_every_verb_has_an_example() -> None:
    lines = [words for one in blocks() if one.kind in SHELL for words in commands(one.text)]
    shown = {words[1] for words in lines if words[0] == "forensift" and len(words) > 1}
    every = {verb for panel in VERBS.values() for verb in panel}
    assert every - shown == {"demo"}  # make demo


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the pages suppose it: a photograph, a holiday, own images and a table of them."""
    folder = tmp_path_factory.mktemp("own")
    photographs = ff.photographs("test")
    images = folder / "my-images"
    ff.forge(photographs, ["progan-like", "dcgan-like"], images, per_family=6, side=64)
    reals = sorted(images.glob("*/0_real/*.png"))
    (folder / "holiday").mkdir()
    shutil.copy(reals[0], folder / "photo.png")
    shutil.copy(reals[1], folder / "holiday" / "beach.png")
    rows = [f"{path.relative_to(folder)},{path.parent.name[2:]}" for path in images.rglob("*.png")]
    (folder / "my-images.csv").write_text("\n".join(["path,label", *rows]), encoding="utf-8")
    return folder


RUNNING = sorted({block.page.name for block in blocks() if block.runs})


@pytest.mark.parametrize("page", RUNNING)
def test_blocks_that_can_run_do(
    page: str, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(own, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in (one for one in blocks() if one.runs and one.page.name == page):
        if block.kind == "python":
            exec(compile(block.text, str(block), "exec"), names)
            continue
        for words in commands(block.text):
            assert words[0] == "forensift", f"{block}: only forensift is run here"
            ran = CliRunner().invoke(app, words[1:])
            assert ran.exit_code == 0, f"{block}: {' '.join(words)}\n{ran.output}"


@cache
def literals() -> frozenset[str]:
    """Every string in the source, with … for what is put in."""
    found = set()
    for path in (home() / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (one.value if isinstance(one, ast.Constant) else "…" for one in node.values)
                found.add("".join(map(str, parts)).replace("`", ""))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value.replace("`", ""))
    return frozenset(found)


def test_messages_are_the_programs_own() -> None:
    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    headings = re.findall(r"^### `(.+)`$", text, re.MULTILINE)
    assert len(headings) > 20
    for heading in headings:
        assert any(heading in one for one in literals()), f"no such message: {heading}"


def test_the_tests_that_are_named_exist() -> None:
    text = (DOCS / "reliability.md").read_text(encoding="utf-8")
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", text)
    assert len(named) > 30
    for file, name in named:
        source = (home() / "tests" / file).read_text(encoding="utf-8")
        assert f"def {name}(" in source, f"{file} has no {name}"


def test_the_reference_is_complete() -> None:
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    described = re.findall(r"^\.\. auto(?:function|class):: forensift\.(\w+)$", text, re.MULTILINE)
    assert sorted(described) == sorted(set(ff.__all__) - {"figures"})


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        text = FENCE.sub("", page.read_text(encoding="utf-8"))
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


# What docs/findings.md says, and where the page that a command wrote says so.
FINDINGS = [
    ("NPR is ahead (mean AP 96)", "results", "AP is 96.3 % on average over 8 generators"),
    ("close to ResNet-50 (85 and 87)", "results", "AP is 85.1 % on average over 8 generators"),
    ("hold 29 % of what tells", "causal", "resnet50: the published dropout removes 29 % of what"),
    ("quarters of the fall of AP is damage", "causal", "| resnet50 | 114 | 16.4 | 4.2 | 74 "),
    ("in their place, hold 71 %", "causal", "the mean over reals in their place, remove 71 %"),
    ("same layers leave 47 % found", "causal", "| resnet50 | matched, 20 draws | 47.2 "),
    ("by a third of the", "causal", "moves, of the fakes' move | ≤ 33 | 32.0 | yes |"),
    ("calls 47 % of the", "causal", "| published: 27 by omega, zero | 62.9 [52.2, 73.6] | 53.3 "),
    ("narrow layers, 28 %", "causal", "| matched, 20 draws | 37.9 [30.4, 45.3] | 72.0 "),
    ("AP stays at 63 (ResNet-50)", "causal", "| 0.0 [0.0, 20.4] | 100.0 [79.6, 100.0] | 62.7 "),
    ("and 94 (NPR)", "causal", "| 0.0 [0.0, 20.4] | 100.0 [79.6, 100.0] | 94.3 "),
    ("12.5 points of AP", "results", "ranked on progan-like, 12.5 points"),
    ("families cost 7.0, and random ones 6.4", "results", "another family, 7.0 points (as many "
     "random maps of the same layers 6.4)"),
    ("costs DNA-Det 35", "results", "| dna-det | 34.8 [12.1, 46.3] ↓ | 30.1 "),
    ("LGrad 26", "results", "| lgrad | 25.9 "),
    ("DNA-Det loses 17 points of AP and NPR 14", "results", "| npr | 12.4 [5.8, 16.7] ↓ | 11.3 "
     "[2.5, 18.0] ↓ | 14.1 "),
    ("0 to 3 % are colour-conditional", "results", "Of the top 114 maps 0 to 3 % are colour-"),
    ("2 to 15 % and 25 to 57 %", "results", "Of the top 40 maps 2 to 15 % are colour-"),
    ("goes from 2.3 points to 0.7", "results", "falls by 2.3 points, after colour-robust training "
     "by 0.7"),
    ("from 2.9 to 2.0", "results", "AP falls by 2.9 points, after colour-robust training by 2.0"),
    ("72 % of fakes of families trained", "attribution", "71.6 % where another training"),
    ("75 % balanced", "deepfeaturex", "balanced accuracy of 75.0"),
]  # fmt: skip


def test_the_findings_stand_in_the_results() -> None:
    said = " ".join((DOCS / "findings.md").read_text(encoding="utf-8").split())
    for words, page, source in FINDINGS:
        assert words in said, f"findings.md does not say {words!r} any more"
        found = (DOCS / f"{page}.md").read_text(encoding="utf-8")
        assert source in found, f"findings.md says {words!r}, but {page}.md has no {source!r}"


# What a page is made of, as against links that a reader may follow.
ASSET = re.compile(
    r"""<(?:script|img|iframe|source|video)\b[^>]*\ssrc=["'](?:https?:)?//|"""
    r"""<link\b(?![^>]*rel=["'](?:canonical|license)["'])[^>]*\shref=["'](?:https?:)?//""",
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation, built with warnings as errors."""
    folder = tmp_path_factory.mktemp("built")
    words = ["-q", "-W", "--keep-going", "-d", folder / "trees", DOCS, folder / "site"]
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", *map(str, words)],
        capture_output=True, text=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    return folder / "site"


def test_the_site_builds_without_a_warning_and_needs_no_network(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        asked = ASSET.search(page.read_text(encoding="utf-8"))
        assert asked is None, f"{page.name} asks for {asked and asked[0]}"
    for sheet in site.rglob("*.css"):
        asked = re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", sheet.read_text("utf-8"))
        assert asked is None, f"{sheet.name} asks for {asked and asked[0]}"
    tutorial = site / "notebooks" / "find-a-planted-trace.html"
    assert tutorial.read_text(encoding="utf-8").count("<img") >= 2


def test_the_site_is_read_and_searched_in_a_browser(site: Path, browser: Browser) -> None:
    for name, width, dark in (("index", 1280, False), ("findings", 390, True)):
        page = browser.page(width=width, dark=dark)
        page.goto((site / f"{name}.html").as_uri())
        assert page.requests_outside == page.complaints == []
        assert accessible(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        screenshot(page, f"documentation-{name}", full=False)
    page = browser.page()
    page.goto((site / "search.html").as_uri() + "?q=pursuit")
    page.wait_for_selector("#search-results li a")
    assert page.locator("#search-results li a").count() >= 3
    assert page.requests_outside == []


def test_the_readme_sells_what_there_is() -> None:
    text = (home() / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| (\d+) \| yes \| (\d+) \| yes \|$", text, re.MULTILINE)
    shipped = [name for name in ARCHITECTURES if shipped_weights(name).is_file()]
    assert [name for name, *_ in rows] == shipped
    for name, maps, methods in rows:
        detector = ff.load_detector(name)
        assert len(detector.feature_maps) == int(maps)
        # The only one that is refused anywhere: tests/test_methods.py.
        assert len(METHODS) - (not applies(detector, "deeplift")) == int(methods)
    others = re.search(r"^\| ((?:`[\w-]+` ?)+)\| as built", text, re.MULTILINE)
    assert others is not None
    assert re.findall(r"`([\w-]+)`", others[1]) == [n for n in ARCHITECTURES if n not in shipped]
    picture = re.search(r"^!\[[^\]]+\]\(([^)]+)\)$", text, re.MULTILINE)
    assert picture is not None
    assert (home() / picture[1]).stat().st_size < 100_000
    assert len(text.splitlines()) < 120


def applies(detector: ff.Detector, method: str) -> bool:
    try:
        explainer(detector, method)
    except ff.UserError:
        return False
    return True


def test_the_citation_has_what_the_format_asks_for() -> None:
    found = yaml.safe_load((home() / "CITATION.cff").read_text(encoding="utf-8"))
    assert found["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "type", "version", "license"} <= set(found)
    assert found["authors"] == [{"name": "The forensift authors"}]
    project = tomllib.loads((home() / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (found["version"], found["license"]) == (project["version"], project["license"])
    (paper,) = found["references"]
    assert {"type", "title", "authors", "year"} <= set(paper)
    assert [one["family-names"] for one in paper["authors"]] == [
        "Chandrasegaran", "Tran", "Binder", "Cheung",
    ]  # fmt: skip


def test_pictures_and_outputs_stay_small() -> None:
    pictures = [path.stat().st_size for path in DOCS.glob("*.*") if path.suffix in (".png", ".jpg")]
    books = [path.stat().st_size for path in (home() / "notebooks").glob("*.ipynb")]
    assert max(pictures) < 150_000
    assert sum(pictures) + sum(books) < 950_000
