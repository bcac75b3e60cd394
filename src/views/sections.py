"""What a study hands to its pages: a title, a sentence, tables for people, and figures."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Table:
    """A table as people read it, every cell a string; caption: units, intervals, what is drawn."""

    caption: str
    rows: pd.DataFrame


@dataclass(frozen=True)
class Section:
    """One stage of one detector's study.

    said: what it shows, a sentence that follows from the numbers. figures: file names below the
    detector's folder, each with what it shows. short: whether the console prints the tables too.
    """

    title: str
    said: str = ""
    tables: tuple[Table, ...] = ()
    figures: tuple[tuple[str, str], ...] = ()
    short: bool = False
