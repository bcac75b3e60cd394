"""Numbers and tables as people read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd


def number(value: float, decimals: int = 1, *, sign: bool = False, missing: str = "-") -> str:
    """Return a number with its decimals, no zero with a minus; ``missing`` for NaN."""
    if value != value:
        return missing
    return f"{round(value, decimals) + 0.0:{'+' if sign else ''}.{decimals}f}"


def other_rules(facts: Mapping[str, Any]) -> str:
    """Return the sentence that relevance is not by the published rules; '' where it is."""
    used = str(facts.get("composite", "beta0"))
    if used == "beta0":
        return ""
    return (
        f" Relevance by composite {used}, not by the published beta0: not to be compared with it."
    )


def with_interval(
    row: Mapping[Any, Any],
    name: str,
    decimals: int = 1,
    *,
    ends: tuple[str, str] | None = None,
    scale: float = 1.0,
    sign: bool = False,
    missing: str = "-",
) -> str:
    """Return a number with its interval in brackets where it has one.

    ends: the interval's columns, by default ``name``_low and ``name``_high.
    """
    value = number(scale * row[name], decimals, sign=sign, missing=missing)
    low, high = (row.get(key) for key in ends or (f"{name}_low", f"{name}_high"))
    if row[name] != row[name] or low is None or high is None or low != low or high != high:
        return value
    shown = [number(scale * end, decimals, sign=sign) for end in (low, high)]
    return f"{value} [{shown[0]}, {shown[1]}]"


def percent(row: Mapping[Any, Any], name: str, decimals: int = 1, **options: Any) -> str:
    """Return a fraction as percent, see :func:`with_interval`; nothing for NaN."""
    return with_interval(row, name, decimals, **{"scale": 100.0, "missing": "", **options})


def markdown(table: pd.DataFrame) -> str:
    """Return a table of strings as Markdown."""
    lines = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
