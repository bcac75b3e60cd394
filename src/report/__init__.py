"""Whole studies in one call, and the pages that show them."""

from __future__ import annotations

from .demo import Demo, Study, demo
from .pages import write_index, write_results

__all__ = ["Demo", "Study", "demo", "write_index", "write_results"]
