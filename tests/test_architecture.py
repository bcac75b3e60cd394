"""The order of the folders in the design: a folder imports only from those before it."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

import forensift

SOURCE = Path(forensift.__file__).parent
CONTRIBUTING = Path(__file__).resolve().parents[1] / "CONTRIBUTING.md"
# The table of rooms in CONTRIBUTING.md is the order: single files in its first row, then folders.
ROOMS = re.findall(r"^\| (`[^|]+`) \|", CONTRIBUTING.read_text(encoding="utf-8"), flags=re.M)
BASE = tuple(re.findall(r"`(\w+)\.py`", ROOMS[0]))
ORDER = tuple(name for row in ROOMS[1:] for name in re.findall(r"`(\w+)/`", row))
ONLY = {"matplotlib": "figures", "seaborn": "figures", "ray": "sweep"}
FILES = sorted(SOURCE.rglob("*.py"))


def imported(path: Path) -> list[tuple[int, str]]:
    """Return line and absolute dotted name of every import of a file, wherever it stands."""
    package = ["forensift", *path.relative_to(SOURCE).parts[:-1]]
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = [*base, node.module] if node.module else base
            found += [(node.lineno, ".".join([*start, alias.name])) for alias in node.names]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_folder_imports_only_from_those_before_it(path: Path) -> None:
    parts = path.relative_to(SOURCE).parts
    home = parts[0].removesuffix(".py")
    if home in ("__init__", "__main__"):
        return
    assert home in (*BASE, *ORDER), f"{home} has no place in the order"
    for line, name in imported(path):
        words = name.split(".")
        if words[0] in ONLY:
            assert home == ONLY[words[0]], f"line {line}: only {ONLY[words[0]]} imports {words[0]}"
        if words[0] != "forensift" or words[1:2] == [home]:
            continue
        assert len(words) > 1, f"line {line}: imports the package itself"
        if words[1] in BASE:
            continue
        assert words[1] in ORDER, f"line {line}: {name} is not in the order"
        assert home in ORDER, f"line {line}: {home} imports from {words[1]}"
        assert ORDER.index(words[1]) < ORDER.index(home), f"line {line}: {home} imports {name}"


def test_the_table_of_rooms_is_the_tree() -> None:
    assert set(ORDER) == {
        path.name for path in SOURCE.iterdir() if (path / "__init__.py").is_file()
    }
    assert len(set(ORDER)) == len(ORDER)
    files = {path.stem for path in SOURCE.glob("*.py")} - {"__init__", "__main__"}
    assert set(BASE) == files


def test_every_package_is_installed_with_the_wheel() -> None:
    with CONTRIBUTING.with_name("pyproject.toml").open("rb") as file:
        listed = tomllib.load(file)["tool"]["setuptools"]["packages"]
    there = {path.parent.relative_to(SOURCE) for path in SOURCE.rglob("__init__.py")}
    assert sorted(listed) == sorted(".".join(("forensift", *path.parts)) for path in there)


def test_no_study_imports_another() -> None:
    studies = [path for path in FILES if path.relative_to(SOURCE).parts[0] == "studies"]
    assert len(studies) > 10
    for path in studies:
        own = path.relative_to(SOURCE).parts[1].removesuffix(".py")
        if own == "__init__":
            continue
        for line, name in imported(path):
            words = name.split(".")
            if words[:2] == ["forensift", "studies"] and len(words) > 2:
                shared = (SOURCE / "studies" / f"{words[2]}.py").is_file()
                assert words[2] == own or shared, f"{path}, line {line}: imports {name}"


def test_imports_inside_the_package_are_relative() -> None:
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and not node.level:
                assert (node.module or "").split(".")[0] != "forensift", path
            if isinstance(node, ast.Import):
                assert not any(one.name.split(".")[0] == "forensift" for one in node.names), path


def test_every_name_of_the_package_resolves() -> None:
    for name in forensift.__all__:
        assert getattr(forensift, name) is not None
        assert name in dir(forensift)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = forensift.nothing
