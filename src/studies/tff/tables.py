"""Published cells, and ours set beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ...errors import UserError
from ...files import home
from ...sensitivity import BASELINE as NOTHING_DROPPED
from ...views.text import markdown, number, with_interval
from ..published import (
    CORRUPT,
    INSIDE,
    NO_DATA,
    NO_WEIGHTS,
    NOTHING,
    OUTSIDE,
    ROUNDING,
    published_table,
    within,
)
from .weights import BASELINE, Slot

TABLES = ("dropout", "colour-robust", "median-test", "cnndetection")
FILES = {
    "dropout": "tff_dropout.csv",
    "colour-robust": "tff_colour_robust.csv",
    "cnndetection": "cnndetection_blur_jpg_0.5.csv",
}
# Names in the published tables, and folders of CNN_synth_testset.
FOLDERS = {
    "ProGAN": "progan",
    "StyleGAN2": "stylegan2",
    "StyleGAN": "stylegan",
    "BigGAN": "biggan",
    "CycleGAN": "cyclegan",
    "StarGAN": "stargan",
    "GauGAN": "gaugan",
    "CRN": "crn",
    "IMLE": "imle",
    "SITD": "seeingdark",
    "SAN": "san",
    "Deepfake": "deepfake",
    "Whichfaceisreal": "whichfaceisreal",
}
STUDIED = tuple(FOLDERS)[:7]  # by the T-FF study; the rest is in CNNDetection's table alone
RGB, GREY, CROPPED = "RGB", "grey", "RGB, crop 224"

KEYS = ("table", "arch", "training", "input", "generator", "mask", "quantity")
COLUMNS = (*KEYS, "published", "ours", "low", "high", "difference", "verdict", "n_real", "n_fake")


def published_cells(tables: Sequence[str], archs: Sequence[str]) -> pd.DataFrame:
    """Return every published cell of the tables: KEYS, published (percent), corrupt (bool).

    Raises:
        UserError: a file of ``published/`` is missing.
    """
    rows: list[tuple[object, ...]] = []
    for table in tables:
        if table not in FILES:
            continue
        for row in published_table(FILES[table]).fillna("").to_dict("records"):
            rows += _cells(table, row)
    cells = pd.DataFrame(rows, columns=[*KEYS, "published", "corrupt"])
    return cells[cells["arch"].isin(list(archs))].reset_index(drop=True)


def _cells(table: str, row: Mapping[str, object]) -> list[tuple[object, ...]]:
    generator = row["generator"]
    head: tuple[object, ...]
    if table == "dropout":
        head = (table, row["detector"], BASELINE, RGB, generator, row["mask"])
        names = {"ap": "ap", "real_accuracy": "real_accuracy", "gan_accuracy": "fake_accuracy"}
        return [(*head, ours, row[theirs], False) for theirs, ours in names.items()]
    if table == "colour-robust":
        seen = RGB if row["input"] == "RGB" else GREY
        head = (table, row["detector"], row["training"], seen, generator, NOTHING_DROPPED)
        return [(*head, "ap", row["ap"], bool(row["remark"]))]
    return [
        (table, "resnet50", BASELINE, seen, generator, NOTHING_DROPPED, quantity, row[key], False)
        for seen, tag in ((RGB, "nocrop"), (CROPPED, "crop224"))
        for quantity, key in (("ap", f"ap_{tag}"), ("accuracy", f"accuracy_{tag}"))
    ]


def compare(
    cells: pd.DataFrame, ours: pd.DataFrame, *, there: Sequence[str], weights: Sequence[Slot]
) -> pd.DataFrame:
    """Return published against ours, cell by cell, columns COLUMNS, percent.

    ours: COLUMNS; it holds 'published' where our rows bring it (ω of the published ranking).
    there: generators in the data; weights: detectors whose weights were given.
    A published figure is inside where it lies in our 95 % interval widened by half a unit of its
    last digit; on a cell known corrupt there is no verdict and no difference. Cells that only we
    have follow those published.
    """
    brought = ours[ours["published"].notna()]
    cells = _stacked(cells, brought[[*KEYS, "published"]].assign(corrupt=False))
    numbers = ours[[*KEYS, "ours", "low", "high", "n_real", "n_fake"]]
    both = cells.merge(numbers, on=list(KEYS), how="outer", sort=False)
    place = {key: at for at, key in enumerate(cells[list(KEYS)].itertuples(index=False, name=None))}
    keys = [tuple(row) for row in both[list(KEYS)].itertuples(index=False, name=None)]
    mine = {key: at for at, key in enumerate(ours[list(KEYS)].itertuples(index=False, name=None))}
    both["order"] = [place.get(key, len(place) + mine.get(key, 0)) for key in keys]
    both = both.sort_values("order").reset_index(drop=True)
    both["difference"] = both["ours"] - both["published"]
    corrupt = both["corrupt"].eq(True).to_numpy()
    both.loc[corrupt, "difference"] = np.nan
    spare = np.where(both["quantity"] == "omega", 0, ROUNDING)  # ω is published in full
    near = within(both["published"], both["low"], both["high"], spare)
    verdicts = []
    for row, inside, broken in zip(both.to_dict("records"), near, corrupt, strict=True):
        if np.isnan(row["ours"]):
            missing = (row["arch"], row["training"]) not in weights
            known = row["generator"] in there
            verdicts.append(NO_WEIGHTS if missing and known else NO_DATA)
        elif broken:
            verdicts.append(CORRUPT)
        elif np.isnan(row["published"]):
            verdicts.append(NOTHING)
        else:
            verdicts.append(INSIDE if inside else OUTSIDE)
    both["verdict"] = verdicts
    return both[list(COLUMNS)]


def _stacked(cells: pd.DataFrame, more: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([cells, more], ignore_index=True) if len(more) else cells


def shown_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return the cells for people: one a row, ours with its interval, percent with one decimal."""
    rows = []
    for row in table.to_dict("records"):
        rows.append(
            {
                "detector": f"{'CR-' if row['training'] != BASELINE else ''}{row['arch']}",
                "input": row["input"],
                "generator": row["generator"],
                "mask": row["mask"],
                "quantity": str(row["quantity"]).replace("_", " "),
                "published": number(row["published"]),
                "ours [95 %]": with_interval(row, "ours", ends=("low", "high")),
                "difference": number(row["difference"], sign=True),
                "verdict": row["verdict"],
            }
        )
    return pd.DataFrame(rows)


def tally(table: pd.DataFrame) -> str:
    """Return in one line how many cells have which verdict, and how much the intervals can tell."""
    counts = table["verdict"].value_counts()
    judged = int(counts.get(INSIDE, 0) + counts.get(OUTSIDE, 0))
    said = f"{counts.get(INSIDE, 0)} of {judged} published cells lie inside our 95 % interval"
    judged_rows = table[table["verdict"].isin([INSIDE, OUTSIDE])]
    if judged:  # with few images every figure is inside, and that says nothing
        width = (judged_rows["high"] - judged_rows["low"]).median()
        said += f" (median width {width:.1f} points)"
    others = [
        f"{counts[name]} {name}"
        for name in (CORRUPT, NO_DATA, NO_WEIGHTS, NOTHING)
        if name in counts
    ]
    return said + (f"; {', '.join(others)}" if others else "")


def reproduction_markdown(table: pd.DataFrame, notes: Sequence[str]) -> str:
    """Return ``reproduction.md``: the notes, and the cells table by table."""
    parts = ["# Published against ours: transferable forensic features", tally(table) + ".", *notes]
    for name, own in table.groupby("table", sort=False):
        rows = shown_rows(own)
        parts += [f"## {name}", tally(own) + ".", markdown(rows)]
    return "\n\n".join(parts) + "\n"


def check_generators(asked: Sequence[str], tables: Sequence[str]) -> list[str]:
    """Return the published names of the generators asked for, in the tables' order; all if none.

    Raises:
        UserError: a name that is neither in the published tables nor a folder's.
    """
    every = list(FOLDERS) if "cnndetection" in tables else list(STUDIED)
    if not asked:
        return every
    names = {name.lower(): name for name in FOLDERS} | {at: name for name, at in FOLDERS.items()}
    unknown = [name for name in asked if name.lower() not in names]
    if unknown:
        raise UserError(f"no published generator {unknown[0]!r}; there are {', '.join(FOLDERS)}")
    chosen = {names[name.lower()] for name in asked}
    return [name for name in FOLDERS if name in chosen]


def published_ranking(arch: str) -> Path:
    """Return the ranking on fakes that the study published for an architecture.

    Raises:
        UserError: it is missing from the clone.
    """
    path = home() / "fmap_relevances" / arch / "progan_val_0.5" / "progan_val-fake.csv"
    if not path.is_file():
        raise UserError(f"{path} is missing; it is a part of forensift's clone")
    return path
