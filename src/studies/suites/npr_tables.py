"""NPR's published tables, and ours set in them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ...views.text import number, with_interval
from ..published import published_table
from .suites import Found

OURS, NPR, MEAN = "ours", "NPR", "Mean"
FILES = {name: f"npr_{name}.csv" for name in ("aigcdetectbenchmark", "genimage", "forensynths")}


def published_cells(suite: str) -> dict[str, tuple[float, float]]:
    """Return NPR's published (accuracy, AP) by generator, percent, NaN for what is not printed."""
    if suite not in FILES:
        return {}
    table = published_table(FILES[suite])
    if suite == "aigcdetectbenchmark":
        return {row["generator"]: (row[NPR], math.nan) for row in table.to_dict("records")}
    if "method" in table:
        table = table[table["method"] == NPR]
    return {row["generator"]: (row["accuracy"], row["ap"]) for row in table.to_dict("records")}


def wide_tables(table: pd.DataFrame, found: Sequence[Found]) -> dict[str, pd.DataFrame]:
    """Return the published tables with our figures in place, by file name; percent.

    The row or columns Mean are over the generators that are in the data, for every method alike,
    so that they compare; where all are there, those of the published methods are as printed.
    """
    made = {}
    names = {one.suite.name: list(one.sets) for one in found}
    for suite, there in names.items():
        if suite not in FILES:
            continue
        own = table[table["suite"] == next(o.suite.title for o in found if o.suite.name == suite)]
        ours = own.set_index("generator")[["accuracy", "ap"]]
        wide = published_table(FILES[suite])
        if suite == "aigcdetectbenchmark":
            wide[OURS] = wide["generator"].map(ours["accuracy"])
        elif suite == "genimage":
            wide = wide.rename(columns={key: f"{NPR}_{key}" for key in ("accuracy", "ap")})
            for key in ("accuracy", "ap"):
                wide[f"{OURS}_{key}"] = wide["generator"].map(ours[key])
        else:
            made[f"{suite}.csv"] = _by_method(wide, ours, there)
            continue
        means = wide[wide["generator"].isin(there)].mean(numeric_only=True)
        made[f"{suite}.csv"] = pd.concat(
            [wide, pd.DataFrame([{"generator": MEAN, **means}])], ignore_index=True
        )
    return made


def _by_method(table: pd.DataFrame, ours: pd.DataFrame, there: Sequence[str]) -> pd.DataFrame:
    """Return one row a method, two columns a generator and two for their mean."""
    generators = list(dict.fromkeys(table["generator"]))
    rows = []
    for method in [*dict.fromkeys(table["method"]), OURS]:
        own = table[table["method"] == method].set_index("generator")[["accuracy", "ap"]]
        own = (ours if method == OURS else own).reindex(generators)
        row: dict[str, Any] = {"method": method}
        for name in generators:
            row |= {f"{name}_{key}": own.loc[name, key] for key in ("accuracy", "ap")}
        mean = own.loc[list(there)].mean()
        rows.append(row | {f"{MEAN}_{key}": mean[key] for key in ("accuracy", "ap")})
    return pd.DataFrame(rows)


def shown_tables(
    table: pd.DataFrame, found: Sequence[Found], tables: Mapping[str, pd.DataFrame]
) -> list[tuple[str, pd.DataFrame]]:
    """Return (title, rows of strings): each suite, then the tables of all methods."""
    shown = []
    for one in found:
        rows = []
        for row in table[table["suite"] == one.suite.title].to_dict("records"):
            cells = {
                "generator": row["generator"],
                "real + fake": f"{row['n_real']} + {row['n_fake']}",
                "accuracy [95 %]": with_interval(row, "accuracy"),
                "AP [95 %]": with_interval(row, "ap"),
            }
            if one.suite.name in FILES:
                cells |= {
                    "published accuracy": number(row["published_accuracy"]),
                    "published AP": number(row["published_ap"]),
                    "verdict": row["verdict"],
                }
            rows.append(cells)
        shown.append((f"{one.suite.title}, preset {one.suite.preset}", pd.DataFrame(rows)))
    for name, wide in tables.items():
        suite = next(one.suite for one in found if f"{one.suite.name}.csv" == name)
        there = next(len(one.sets) for one in found if one.suite is suite)
        title = f"{suite.title}, {there} of {len(suite.names)} generators, all methods"
        if name == "genimage.csv":
            continue  # the table of the suite says it all
        shown.append((title, _compact(wide)))
    return shown


def _compact(wide: pd.DataFrame) -> pd.DataFrame:
    """Return a wide table as strings; accuracy and AP of a generator in one cell."""
    first = str(wide.columns[0])
    if f"{MEAN}_accuracy" not in wide:
        return wide.apply(lambda column: column if column.name == first else column.map(number))
    names = [name.removesuffix("_accuracy") for name in wide if str(name).endswith("_accuracy")]
    rows = [
        {first: row[first]}
        | {name: f"{number(row[f'{name}_accuracy'])}/{number(row[f'{name}_ap'])}" for name in names}
        for row in wide.to_dict("records")
    ]
    return pd.DataFrame(rows).replace("-/-", "-")
