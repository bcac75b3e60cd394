"""Whole studies in one call, and the pages that show them."""

from __future__ import annotations

from ..views.sections import Section, Table
from .demo.demo import Demo, Scale, Study, demo
from .demo.pages import write_index, write_results
from .tff import (
    TABLES,
    Protocol,
    Reproduction,
    find_weights,
    reproduce_tff,
    reproduction_markdown,
    shown_rows,
    tally,
)

__all__ = [
    "TABLES",
    "Demo",
    "Protocol",
    "Reproduction",
    "Scale",
    "Section",
    "Study",
    "Table",
    "demo",
    "find_weights",
    "reproduce_tff",
    "reproduction_markdown",
    "shown_rows",
    "tally",
    "write_index",
    "write_results",
]
