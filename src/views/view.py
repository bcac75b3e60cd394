"""What a result looks like: tables, figures and a sentence, whoever asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ..errors import UserError

Draw = Callable[..., Any]  # () → Figure, or (ax=Axes) → Figure where it has one panel
Write = Callable[[Path], object]


@dataclass(frozen=True)
class Shown:
    """A table as people read it, every cell a string.

    caption: units, what brackets and signs mean, how intervals are drawn; keys: how many columns,
    from the left, name the row.
    """

    caption: str
    rows: pd.DataFrame
    keys: int = 1


@dataclass(frozen=True)
class View:
    """All that is shown and saved of a result.

    title: of its section; said: the sentence; tables: name → tidy table, saved as ``NAME.csv``
    unless the files hold ``NAME.parquet``;
    shown: for people; figures: name → draws it, saved as ``NAME.png``, ``NAME.pdf`` and, of lines
    and letters, ``NAME.svg``; captions: figure → how to read it, without what its title says;
    files: file name → writes it, for other formats; facts: for the manifest.
    """

    title: str
    said: str
    tables: Mapping[str, pd.DataFrame]
    shown: Sequence[Shown] = ()
    figures: Mapping[str, Draw] = field(default_factory=dict)
    files: Mapping[str, Write] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    captions: Mapping[str, str] = field(default_factory=dict)

    def plot(self, name: str | None = None, **options: Any) -> Any:
        """Return the first figure, or that of a name; see :meth:`forensift.records.Result.plot`."""
        known = ", ".join(self.figures) or "none"
        if name is None:
            name = next(iter(self.figures), "")
        if name not in self.figures:
            raise UserError(f"{self.title}: no figure {name!r}; there are {known}")
        try:
            return self.figures[name](**options)
        except TypeError as error:
            if "unexpected keyword argument" not in str(error):
                raise
            raise UserError(
                f"{name}: takes no {', '.join(options)}: it has several panels, and only a figure "
                "of one panel does"
            ) from None
