"""What stages hand each other: feature-map names, image sets, rankings."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, overload

import numpy as np
import pandas as pd

from .archives import split
from .errors import UserError
from .files import sha256

REAL, FAKE = 0, 1

_KEY = re.compile(r"(?P<layer>.+)\.#(?P<channel>\d+)\(T=(?P<width>\d+)\)")


@dataclass(frozen=True, order=True)
class FeatureMap:
    """One output channel of a convolution, before BatchNorm, or one neuron of a transformer's MLP.

    layer: module name in the plain network; channel: 0 … width − 1; width: channels of the layer.
    ``str`` gives the published name, ``layer1.0.conv1.#63(T=64)``.
    """

    layer: str
    channel: int
    width: int

    def __str__(self) -> str:
        return f"{self.layer}.#{self.channel}(T={self.width})"

    @classmethod
    def parse(cls, key: str) -> FeatureMap:
        """Read a published name back.

        Raises:
            UserError: the text is no feature-map name, or its channel is outside the layer.
        """
        match = _KEY.fullmatch(key)
        if match is None:
            raise UserError(f"{key!r} is no feature map; expected e.g. layer1.0.conv1.#63(T=64)")
        found = cls(match["layer"], int(match["channel"]), int(match["width"]))
        if found.channel >= found.width:
            raise UserError(f"{key!r}: channel {found.channel} is outside a layer of {found.width}")
        return found


@dataclass(frozen=True, slots=True)
class ImageEntry:
    """One image of a set: its file, label (0 real, 1 fake), generator and class ('' if none)."""

    path: Path
    label: int
    generator: str
    class_name: str = ""


@dataclass(frozen=True, repr=False)
class ImageSet:
    """A sorted list of images below one root; what ``scan`` returns and every stage takes.

    left_out: what ``scan`` passed over, a line each ('12 .heic files: …'); notes: what it took for
    granted, a line each (shared reals, splits taken together); reading: what was understood from
    which words, pairs ('real', '0_real').
    """

    root: Path
    entries: tuple[ImageEntry, ...]
    layout: str = ""
    left_out: tuple[str, ...] = field(default=(), compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)
    reading: tuple[tuple[str, str], ...] = field(default=(), compare=False)

    def __repr__(self) -> str:
        labels = Counter(entry.label for entry in self.entries)
        generators = ", ".join(self.generators[:3]) + ", …" * (len(self.generators) > 3)
        layout = f", layout {self.layout}" * bool(self.layout)
        left_out = f", left out: {len(self.left_out)} kinds" * bool(self.left_out)
        return (
            f"<ImageSet {len(self):,} images ({labels[REAL]:,} real, {labels[FAKE]:,} fake) of "
            f"{len(self.generators)} generators ({generators}){layout}{left_out}, in {self.root}>"
        )

    def _repr_html_(self) -> str:
        counts = Counter((entry.generator, entry.label) for entry in self.entries)
        rows = [(one, counts[one, REAL], counts[one, FAKE]) for one in self.generators]
        return pd.DataFrame(rows, columns=["generator", "real", "fake"]).to_html(index=False)

    @overload
    def __getitem__(self, place: int) -> ImageEntry: ...

    @overload
    def __getitem__(self, place: slice) -> ImageSet: ...

    def __getitem__(self, place: int | slice) -> ImageEntry | ImageSet:
        """Return one entry, or the images of a slice in their order as a set of the same root."""
        if isinstance(place, slice):
            return replace(self, entries=self.entries[place])
        return self.entries[place]

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[ImageEntry]:
        return iter(self.entries)

    @property
    def generators(self) -> tuple[str, ...]:
        """The generators' names, sorted, each once."""
        return tuple(sorted({entry.generator for entry in self.entries}))

    @property
    def shared_reals(self) -> bool:
        """Whether a real image is listed for more than one generator."""
        if self.layout in ("parquet", "webdataset"):  # rows are different images
            return False
        paths = [entry.path for entry in self.entries if entry.label == REAL]
        return len(set(paths)) < len(paths)

    def image_id(self, entry: ImageEntry) -> str:
        """Return the path below the root with forward slashes: the key of an image's randomness."""
        try:
            return entry.path.relative_to(self.root).as_posix()
        except ValueError:
            return entry.path.as_posix()

    def only(self, *, label: int | None = None, generator: str | None = None) -> ImageSet:
        """Return the images of one label and/or one generator, in the same order."""
        kept = tuple(
            entry
            for entry in self.entries
            if label in (None, entry.label) and generator in (None, entry.generator)
        )
        return replace(self, entries=kept)

    def hash(self) -> str:
        """Return a SHA-256 over ids, labels, generators and contents: the set's name in manifests.

        A file is read once in a process, and again after it has changed.
        """
        digest = hashlib.sha256()
        for entry in self.entries:
            told = f"{self.image_id(entry)}\t{entry.label}\t{entry.generator}"
            digest.update(f"{told}\t{_content(entry.path)}\n".encode())
        return digest.hexdigest()


def _content(path: Path) -> str:
    try:
        try:
            facts = path.stat()
        except NotADirectoryError:
            found = split(path)
            if found is None:
                raise
            path = found[0]  # the id names the member: the container's content says the rest
            facts = path.stat()
        return _digest(path, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino)
    except OSError as error:  # it is skipped by name when it is read
        return type(error).__name__


@lru_cache(maxsize=2**18)
def _digest(path: Path, *facts: int) -> str:
    return sha256(path)


class Result:
    """What a verb found. Every result has the same five things, here and on the command line.

    ``tables``: name → tidy table, as saved in ``NAME.csv``; ``said``: what they show in a sentence
    that follows from the numbers alone; ``plot(name)``: a figure; ``save(folder)``: all of it, with
    a manifest; and a short ``repr``, in Jupyter the sentence and the tables for people.
    """

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The tidy tables by name; AP, accuracies and probabilities are fractions."""
        return dict(self._view().tables)

    @property
    def said(self) -> str:
        """What the tables show, in words."""
        return str(self._view().said)

    def plot(self, name: str | None = None, **options: Any) -> Any:
        """Return a Matplotlib figure: the first, or the one of that name.

        options: ``ax``, Matplotlib axes to draw into; only figures of one panel take it.

        Raises:
            UserError: no figure of that name, or one of several panels that takes no axes.
        """
        return self._view().plot(name, **options)

    def save(self, folder: Path | str) -> Path:
        """Write tables, figures and ``manifest.json`` to ``folder``, and return it."""
        return _views().save(self, Path(folder))  # type: ignore[no-any-return]

    def _view(self) -> Any:
        return _views().view_of(self)

    def __repr__(self) -> str:
        view = self._view()
        said = view.said.split(". ")[0].rstrip(".") or view.title
        return f"<{type(self).__name__}: {said}; tables {', '.join(view.tables)}>"

    def _repr_html_(self) -> str:
        return str(_views().html_of(self._view()))


def _views() -> Any:
    # The one look downwards: how a result is shown is decided in one place, not by each caller.
    return import_module(".views", __package__)


@dataclass(frozen=True)
class Skipped:
    """An image that was not scored, and why."""

    path: Path
    reason: str


def skipped_table(skipped: Iterable[Skipped]) -> pd.DataFrame:
    """Return the table of ``skipped.csv``: path, reason."""
    rows = [(str(one.path), one.reason) for one in skipped]
    return pd.DataFrame(rows, columns=["path", "reason"])


@dataclass(frozen=True, eq=False, repr=False)
class Ranking(Result):
    """Feature maps in descending order of ω (FF-RS) or another score, with what that does not say.

    table: one row a feature map, columns layer, channel, width, omega (0 … 1),
        standard_error (of ω, NaN if unknown), omega_width (ω × width: 1 means the layer's
        average share); index 0 … M − 1 in rank order. By another score: score, and no omega_width.
    by: what they are ranked by.
    label: 1 if computed on fakes, 0 on reals.
    start: 'logit' (R = +1), 'published' (R = −1 on reals) or 'predicted' (+1 for the class).
    counts: images used, and skipped by reason.
    """

    table: pd.DataFrame
    label: int
    start: str = "logit"
    counts: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    by: str = "omega"

    def __len__(self) -> int:
        return len(self.table)

    @property
    def scores(self) -> np.ndarray:
        """What the maps are ranked by, float64 (M,), falling."""
        column = "omega" if "omega" in self.table else "score"
        return self.table[column].to_numpy(dtype=np.float64)

    def feature_maps(self, rows: np.ndarray | slice | None = None) -> list[FeatureMap]:
        """Return the feature maps of the given rows (all by default), in rank order."""
        chosen = self.table if rows is None else self.table.iloc[rows]
        return [
            FeatureMap(str(layer), int(channel), int(width))
            for layer, channel, width in zip(
                chosen["layer"], chosen["channel"], chosen["width"], strict=True
            )
        ]
