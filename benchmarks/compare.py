"""Compare the tables of two result folders cell by cell.

``python benchmarks/compare.py OLD NEW`` reads every CSV of OLD, finds its namesake in NEW, and
prints each column that differs, with the largest difference. A folder of 0.3.0's demo finds its
tables under the names that they have since 0.4.0. Exit code 1 if a cell differs by more than
``--tolerance`` (relative to the column's largest value; float32 networks round differently in other
batches) in a column that ``--expect FILE:COLUMN`` does not name.
"""

from __future__ import annotations

import argparse
import fnmatch
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

# 0.3.0's demo → the same table since 0.4.0; patches.csv held two generators in one file.
RENAMED = (
    (r"([^/]+)/scores\.csv", r"\1/evaluation/scores.csv"),
    (r"([^/]+)/evaluation\.csv", r"\1/evaluation/evaluation.csv"),
    (r"([^/]+)/(progan-like-(?:fake|real))\.csv", r"\1/ranking/\2.csv"),
    (r"([^/]+)/(dropout|dropout_summary|dropped)-(k\d+)\.csv", r"\1/dropout-\3/\2.csv"),
    (r"([^/]+)/ap_curve\.csv", r"\1/dropout-k*/ap_curve.csv"),
    (r"([^/]+)/colour\.csv", r"\1/colour/colour.csv"),
    (r"([^/]+)/colour_boxes\.csv", r"\1/colour/boxes.csv"),
    (r"([^/]+)/median_test\.csv", r"\1/median-test/median_test.csv"),
    (r"([^/]+)/colour_conditional\.csv", r"\1/median-test/percentages.csv"),
    (r"([^/]+)/patches\.csv", r"\1/patches-*/patches.csv"),
    (r"([^/]+)/embedding\.csv", r"\1/embedding/embedding.csv"),
    (r"([^/]+)/embedding_quality\.csv", r"\1/embedding/quality.csv"),
    (r"([^/]+)/neighbours\.csv", r"\1/embedding/neighbours.csv"),
    (r"([^/]+)/faithfulness_summary\.csv", r"\1/faithfulness/faithfulness.csv"),
    (r"([^/]+)/faithfulness_(\w+)\.csv", r"\1/faithfulness/\2.csv"),
    (r"([^/]+)/(transfer|agreement|transferability)\.csv", r"\1/transfer/\2.csv"),
    (r"colour_robust\.csv", r"colour-robust/colour_robust.csv"),
    (r"robustness\.csv", r"robustness/robustness.csv"),
)
KEYS = (
    "generator", "mask", "draw", "k", "mode", "kind", "path", "label", "detector", "training",
    "condition", "feature_map", "key", "criterion", "image", "method", "layers", "fraction",
    "method_a", "method_b", "ranked_on", "dropped_on", "first", "second", "place", "rank",
)  # fmt: skip


@dataclass(frozen=True)
class Column:
    """One column of one table: how many cells differ, and by how much at most."""

    table: str
    name: str
    cells: int
    differ: int
    largest: float
    example: str


def tables(old: Path, new: Path) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame | None]]:
    """Yield each table of OLD by its name there, and its namesake in NEW, None if there is none."""
    for path in sorted(old.rglob("*.csv")):
        name = path.relative_to(old).as_posix()
        if name.startswith("images/") or path.name in ("manifest.csv", "skipped.csv"):
            continue
        found = [new / name] if (new / name).is_file() else _renamed(name, new)
        first = pd.read_csv(path)
        other = pd.concat([pd.read_csv(one) for one in found]) if found else None
        yield name, first, other


def _renamed(name: str, new: Path) -> list[Path]:
    for pattern, replacement in RENAMED:
        if re.fullmatch(pattern, name):
            return sorted(new.glob(re.sub(pattern, replacement, name)))
    return []


def compare(name: str, first: pd.DataFrame, other: pd.DataFrame) -> Iterator[Column]:
    """Yield the columns of FIRST, each with what differs in OTHER; keys match the rows."""
    keys = [key for key in KEYS if key in first and key in other]
    first, other = (
        one.assign(_at=one.groupby(keys, dropna=False).cumcount() if keys else range(len(one)))
        for one in (first, other)
    )
    joined = first.merge(
        other, on=[*keys, "_at"], how="left", suffixes=("", "|new"), indicator=True
    )
    lost = int((joined["_merge"] != "both").sum())
    if lost:
        yield Column(
            name, "(rows)", len(joined), lost, float("inf"), "rows missing in the new table"
        )
    joined = joined[joined["_merge"] == "both"]
    for column in first.columns:
        if column in keys or column == "_at":
            continue
        if f"{column}|new" not in joined:
            yield Column(name, column, len(joined), len(joined), float("inf"), "column missing")
            continue
        yield _difference(name, column, joined[column], joined[f"{column}|new"])


def _difference(name: str, column: str, one: pd.Series, two: pd.Series) -> Column:
    same_nan = one.isna() & two.isna()
    if pd.api.types.is_numeric_dtype(one) and pd.api.types.is_numeric_dtype(two):
        a, b = one.to_numpy(np.float64), two.to_numpy(np.float64)
        scale = max(1e-12, float(np.nanmax(np.abs(a), initial=0.0)))
        gap = np.where(same_nan, 0.0, np.abs(a - b) / scale)
        gap = np.where(np.isnan(gap), np.inf, gap)
    else:
        gap = np.where(same_nan | (one.astype(str) == two.astype(str)), 0.0, np.inf)
    worst = int(gap.argmax()) if len(gap) else 0
    example = f"{one.iloc[worst]} → {two.iloc[worst]}" if len(gap) and gap[worst] else ""
    largest = float(gap.max(initial=0.0))
    return Column(name, column, len(gap), int((gap > 0).sum()), largest, example)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what differs; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--tolerance", type=float, default=1e-5)
    parser.add_argument(
        "--expect",
        action="append",
        default=[],
        metavar="FILE:COLUMN",
        help="a column that may differ; both may hold * (repeat the option)",
    )
    asked = parser.parse_args(arguments)
    counted = missing = bad = 0
    for name, first, other in tables(asked.old, asked.new):
        if other is None:
            missing += 1
            print(f"{name}: no such table in {asked.new}")
            continue
        for found in compare(name, first, other):
            counted += found.cells
            if found.largest <= asked.tolerance:
                continue
            expected = any(fnmatch.fnmatch(f"{name}:{found.name}", one) for one in asked.expect)
            bad += not expected
            print(
                f"{'expected' if expected else 'DIFFERS '} {name} {found.name}: {found.differ} of "
                f"{found.cells} cells, by {found.largest:.2g} at most ({found.example})"
            )
    print(f"{counted} cells compared, {bad} columns differ, {missing} tables missing")
    return int(bool(bad or missing))


if __name__ == "__main__":
    sys.exit(main())
