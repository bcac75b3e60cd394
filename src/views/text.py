"""Numbers as people read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd


def percent(row: Mapping[Any, Any], name: str, decimals: int = 1) -> str:
    """Return a fraction as percent, with its interval in brackets where it has one."""
    value, low, high = row[name], row.get(f"{name}_low"), row.get(f"{name}_high")
    if value != value:
        return ""
    if low is None or high is None or low != low or high != high:
        return f"{100 * value:.{decimals}f}"
    return f"{100 * value:.{decimals}f} [{100 * low:.{decimals}f}, {100 * high:.{decimals}f}]"


def markdown(table: pd.DataFrame) -> str:
    """Return a table of strings as Markdown."""
    lines = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
