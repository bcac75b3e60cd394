"""Output files, written whole or not at all, and the manifest that says how they came about."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .archives import opened
from .errors import UserError

if TYPE_CHECKING:
    import pandas as pd  # a quarter of a second, which `forensift --help` has no use for

VERSIONED = ("forensift", "torch", "torchvision", "numpy", "scipy", "scikit-learn", "pillow")


def home() -> Path:
    """Return the folder that holds ``photos/``, ``weights/`` and ``fmap_relevances/``.

    It is the clone that forensift is installed from; the environment variable ``FORENSIFT_HOME``
    names another one.

    Raises:
        UserError: that folder holds no ``photos/``.
    """
    folder = Path(os.environ.get("FORENSIFT_HOME") or Path(__file__).resolve().parents[1])
    if not (folder / "photos").is_dir():
        raise UserError(
            f"{folder} holds no photos/ folder: install forensift from its clone "
            "(make demo does) or set FORENSIFT_HOME to the clone"
        )
    return folder


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that replaces it when the block ends without error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def clear_torn(folder: Path) -> None:
    """Remove what a run that was killed in :func:`whole` left below a folder."""
    for path in Path(folder).rglob(".*.????????.part"):
        path.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, whole or not at all."""
    with whole(path) as temporary:
        temporary.write_bytes(content)


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write ``table`` as CSV with full float precision and no index, whole or not at all."""
    with whole(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")


def write_with(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file that then replaces ``path``."""
    with whole(path) as temporary:
        write(temporary)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, or of a container's member, as 64 hexadecimal digits."""
    with opened(Path(path)) as content:
        return hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type]


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that decide a number."""
    found = {"python": platform.python_version()}
    for name in VERSIONED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def command_line() -> list[str]:
    """Return how the program was called; its folder is this machine's business, its name is not."""
    return [Path(sys.argv[0]).name, *sys.argv[1:]]


def provenance(before: Mapping[str, str], seconds: float) -> dict[str, str]:
    """Return the facts ``command`` and ``seconds`` of a weights file, over all its trainings.

    before: the header of the file that the training went on from, or nothing; its commands come
    first, a line each, and its seconds are added.
    """
    commands = [before["command"]] if before.get("command") else []
    return {
        "command": "\n".join([*commands, shlex.join(command_line())]),
        "seconds": f"{float(before.get('seconds', 0)) + seconds:.0f}",
    }


def write_manifest(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write ``manifest.json``: the command, the versions and whatever the stage knows.

    ``facts`` holds seeds, the weights' SHA-256, the image set's hash, counts of images used and
    skipped with reasons; values must be plain JSON.
    """
    content = {"manifest_version": 1, "command": command_line(), "versions": versions(), **facts}
    text = json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n"
    write_bytes(Path(folder) / "manifest.json", text.encode("utf-8", "backslashreplace"))
