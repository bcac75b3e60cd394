"""Files within files: ``set.zip/a/b.png`` is a path like any other, and nothing is unpacked.

A path leads through a ZIP, a TAR or a parquet of image bytes as if that were a folder. Plain files
are opened as ever; only where a path goes through a file is its container asked.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from .errors import UserError

SUFFIXES = (".zip", ".tar", ".parquet")
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
LARGEST = 2**30  # bytes that one member may unpack to
BLOCK = 16  # rows of a parquet that are read at a time
HELD = 16  # blocks kept: images are read in order, some ahead in threads


class Container(Protocol):
    """What holds members: ``read`` returns the bytes of one, ``size`` their number, if known."""

    def read(self, member: str) -> bytes: ...

    def size(self, member: str) -> int | None: ...


def is_container(path: Path) -> bool:
    """Whether a file is one of the kinds that are looked into, by its name."""
    return path.name.lower().endswith(SUFFIXES)


def split(path: Path) -> tuple[Path, str] | None:
    """Return the container that a path leads through and the member's name, None of a plain one."""
    parts = path.parts
    for depth in range(1, len(parts)):
        if parts[depth].lower().endswith(SUFFIXES):
            container = Path(*parts[: depth + 1])
            if depth + 1 < len(parts) and container.is_file():
                return container, "/".join(parts[depth + 1 :])
    return None


def opened(path: Path) -> BinaryIO:
    """Return a file for reading, or the bytes of a member of a container.

    Raises:
        OSError: there is no such file or member.
    """
    try:
        return path.open("rb")
    except NotADirectoryError:
        found = split(path)
        if found is None:
            raise
        return io.BytesIO(container(found[0]).read(found[1]))


def is_file(path: Path) -> bool:
    """Whether there is a file or, as far as its container tells, a member of that name."""
    return path.is_file() or split(path) is not None


def size(path: Path) -> int | None:
    """Return the bytes of a file or member, None where only reading would tell."""
    try:
        return path.stat().st_size
    except NotADirectoryError:
        found = split(path)
        if found is None:
            raise
        return container(found[0]).size(found[1])


def container(path: Path) -> Container:
    """Return the opened container; one whose file has changed is opened anew.

    Raises:
        UserError: it is broken, encrypted, or split into several files.
    """
    facts = path.stat()
    return _container(path, facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=64)
def _container(path: Path, *facts: int) -> Container:
    suffix = path.suffix.lower()
    if suffix == ".zip":
        return Zip(path)
    return Tar(path) if suffix == ".tar" else Parquet(path)


class Zip:
    """A ZIP; ``names`` in the archive's order, without folders, links and names that lead out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.file = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
            raise UserError(f"{path}: cannot be read as ZIP ({error}); {_JOIN}") from None
        self.lock = threading.Lock()
        self.infos: dict[str, zipfile.ZipInfo] = {}
        self.refused: list[str] = []
        for info in self.file.infolist():
            if info.is_dir():
                continue
            # The upper half of the external attributes is a Unix mode; 0xA000 is a link.
            if _leads_out(info.filename) or (info.external_attr >> 16) & 0xF000 == 0xA000:
                self.refused.append(info.filename)
            elif info.flag_bits & 1:
                raise UserError(f"{path}: is encrypted; unpack it with its password")
            else:
                self.infos[_tidy(info.filename)] = info

    @property
    def names(self) -> list[str]:
        return list(self.infos)

    def size(self, member: str) -> int | None:
        return self._info(member).file_size

    def read(self, member: str) -> bytes:
        info = self._info(member)
        if info.file_size > LARGEST:
            raise OSError(f"unpacks to {info.file_size / 2**30:.1f} GiB")
        try:
            with self.lock, self.file.open(info) as found:
                return found.read(info.file_size)
        except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
            raise OSError(str(error)) from None

    def _info(self, member: str) -> zipfile.ZipInfo:
        try:
            return self.infos[member]
        except KeyError:
            raise FileNotFoundError(member) from None


class Tar:
    """An uncompressed TAR, of which only headers are read until a member is asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.places: dict[str, tuple[int, int]] = {}
        self.refused: list[str] = []
        try:
            with tarfile.open(path, "r:") as archive:
                for info in archive:
                    archive.members = []  # type: ignore[attr-defined]  # else every header stays in memory
                    if info.isdir():
                        continue
                    if not info.isreg() or info.issparse() or _leads_out(info.name):
                        self.refused.append(info.name)
                    else:
                        self.places[_tidy(info.name)] = info.offset_data, info.size
        except (tarfile.TarError, OSError, EOFError) as error:
            raise UserError(
                f"{path}: cannot be read as TAR ({error}); if it is compressed, unpack that "
                "compression (gunzip), not the archive"
            ) from None
        self.handle = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "handle"):
            os.close(self.handle)

    @property
    def names(self) -> list[str]:
        return list(self.places)

    def size(self, member: str) -> int | None:
        return self._place(member)[1]

    def read(self, member: str) -> bytes:
        start, length = self._place(member)
        if length > LARGEST:
            raise OSError(f"holds {length / 2**30:.1f} GiB")
        content = os.pread(self.handle, length, start)
        if len(content) < length:
            raise OSError("the archive ends within it")
        return content

    def _place(self, member: str) -> tuple[int, int]:
        try:
            return self.places[member]
        except KeyError:
            raise FileNotFoundError(member) from None


class Parquet:
    """A parquet of images, whose rows are members ``name.12`` or, without names, ``file.12.row``.

    image: the column that holds the bytes; None where there is none. ClassLabel: names of the
    integers of each column, from the schema's ``huggingface`` metadata.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.path = path
        try:
            # Buffered and not read ahead: a row group may be larger than the memory.
            self.file = pq.ParquetFile(path, buffer_size=2**20, pre_buffer=False)
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"{path}: cannot be read as parquet ({error})") from None
        self.schema = self.file.schema_arrow
        self.class_labels = _class_labels(self.schema.metadata or {})
        self.image, self.has_path = _image_column(self.schema)
        groups = [self.file.metadata.row_group(n).num_rows
                  for n in range(self.file.metadata.num_row_groups)]  # fmt: skip
        self.ends = [sum(groups[: n + 1]) for n in range(len(groups))]
        self.lock = threading.Lock()
        self.held: OrderedDict[tuple[int, int], list[bytes | None]] = OrderedDict()
        self.reading: tuple[int, int, Iterator[Any]] | None = None  # group, next block, batches

    def size(self, member: str) -> int | None:
        return None

    def read(self, member: str) -> bytes:
        number = member.removesuffix(".row").rpartition(".")[2]
        row = int(number) if number.isdecimal() else -1
        if not 0 <= row < self.file.metadata.num_rows or self.image is None:
            raise FileNotFoundError(member)
        group = next(n for n, end in enumerate(self.ends) if row < end)
        start = self.ends[group - 1] if group else 0
        block, place = divmod(row - start, BLOCK)
        with self.lock:
            content = self._block(group, block)[place]
        if content is None:
            raise OSError("the row holds no bytes")
        return content

    def _block(self, group: int, block: int) -> list[bytes | None]:
        if (group, block) in self.held:
            self.held.move_to_end((group, block))
            return self.held[group, block]
        if self.reading is None or self.reading[0] != group or self.reading[1] > block:
            column = f"{self.image}.bytes" if self.has_path is not None else str(self.image)
            batches = self.file.iter_batches(BLOCK, row_groups=[group], columns=[column])
            self.reading = group, 0, batches
        _, at, batches = self.reading
        while at <= block:
            values = next(batches).column(0)
            if self.has_path is not None:
                values = values.field("bytes")
            self.held[group, at] = values.to_pylist()
            at += 1
            while len(self.held) > HELD:
                self.held.popitem(last=False)
        self.reading = group, at, batches
        return self.held[group, block]


_JOIN = "if it is one part of a split archive, join the parts first (zip -s 0 IN.zip --out OUT.zip)"


def _image_column(schema: Any) -> tuple[str | None, bool | None]:
    """Return the column of images and whether it also has paths; None where it is plain bytes."""
    import pyarrow as pa

    binary: list[tuple[str, bool | None]] = []
    for field in schema:
        if pa.types.is_struct(field.type):
            names = {field.type.field(n).name for n in range(field.type.num_fields)}
            if "bytes" in names:
                binary.append((field.name, "path" in names))
        elif pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type):
            binary.append((field.name, None))
    for name, has_path in binary:  # a mask beside the image is none
        if name.lower() in ("image", "img", "image_data", "image_bytes", "jpg", "png", "bytes"):
            return name, has_path
    return binary[0] if binary else (None, None)


def _class_labels(metadata: dict[bytes, bytes]) -> dict[str, list[str]]:
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return {
            str(name): [str(one) for one in facts["names"]]
            for name, facts in features.items()
            if isinstance(facts, dict) and facts.get("_type") == "ClassLabel"
        }
    except (KeyError, ValueError, TypeError):
        return {}


def _leads_out(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    return name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in name


def _tidy(name: str) -> str:
    return "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))
