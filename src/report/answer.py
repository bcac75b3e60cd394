"""What a page says first: the answer in at most three sentences, from the numbers alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..data.conditions import CLEAN
from ..evaluation import MACRO
from ..sensitivity import BASELINE, LAYER_MATCHED, TOP, UNSEEN
from .found import Part, Picture

ZERO = "zero"
# The picture that shows the answer where nothing was dropped: of which result, best first.
LEADING = ("Collages", "Patches", "Evaluation", "Robustness")
WORDS = {"zero": "zero", "mean": "their mean", "mean-real": "their mean over reals",
         "resample": "another image's maps", "paired": "the photograph's own maps",
         "optimal": "a learnt constant"}  # fmt: skip


@dataclass(frozen=True)
class Dropped:
    """What a detector finds without its top maps.

    table: a row a generator or mean (index): found and right, fractions, with all maps, and with
        the endings _top and _matched; k, maps, value: what was dropped; where: the row that is
        meant, over generators that it was not trained on, or over all.
    """

    detector: str
    table: pd.DataFrame
    k: int
    maps: int
    value: str
    where: str


def answer(parts: Sequence[Part]) -> list[str]:
    """Return at most three sentences: how well, what carries it, what it hangs on.

    Where results do not say, a part's own first sentence stands for it.
    """
    found = [one for one in (_how_well(parts), _what_carries(parts), _what_costs(parts)) if one]
    used = ("Evaluation", "DropoutResult", "Robustness", "ColourResult", "ColourRobust", "Measured")
    for part in parts:
        first = part.said.split(". ")[0].rstrip(".")
        if len(found) < 3 and first and not part.is_whole and part.result not in used:
            found.append(f"{part.title}: {first}.")
    return found[:3]


def dropped(parts: Sequence[Part]) -> list[Dropped]:
    """Return each detector's dropout, the causal experiment rather than the published one."""
    found: dict[str, Dropped] = {}
    for part in sorted(parts, key=lambda part: str(part.manifest.get("value", ZERO)) == ZERO):
        gap = part.csv("gap") if part.result == "DropoutResult" else None
        if gap is None or part.detector in found:
            continue
        value = str(part.manifest.get("value", ZERO)).split(",")[0]
        own = gap[gap["value"] == value] if "value" in gap else gap
        masks = {mask: rows.set_index("generator") for mask, rows in own.groupby("mask")}
        if not {BASELINE, TOP} <= set(masks):
            continue
        columns = {"found": "fake_accuracy_05", "right": "real_accuracy_05"}
        ends = {"": BASELINE, "_top": TOP, "_matched": LAYER_MATCHED}
        whole = masks[BASELINE]
        table = pd.DataFrame(
            {
                f"{name}{end}": masks[mask][column] if mask in masks else float("nan")
                for name, column in columns.items()
                for end, mask in ends.items()
            },
            index=whole.index,
        )
        where = next((one for one in (UNSEEN, MACRO) if one in table.index), str(table.index[0]))
        k, maps = (int(part.manifest.get(key, 0)) for key in ("k", "feature_maps"))
        found[part.detector] = Dropped(part.detector, table, k, maps, value, where)
    order = {part.detector: at for at, part in reversed(list(enumerate(parts)))}
    return sorted(found.values(), key=lambda one: order[one.detector])


def drawn(found: Sequence[Dropped]) -> tuple[Any, str] | None:
    """Return the figure of what is found without the top maps, and how to read it.

    A line a detector, or of a single detector a line a generator.
    """
    from ..figures import plot_answer

    if not found:
        return None
    if len(found) == 1:
        one = found[0]
        shown = one.table.drop(index=[MACRO, UNSEEN], errors="ignore")
        mean = one.table.loc[[one.where]] if one.where not in shown.index else shown.iloc[:0]
        shown = pd.concat([shown, mean.rename(index={UNSEEN: "mean, unseen", MACRO: "mean"})])
        table = shown.rename_axis("name").reset_index()
        title = f"{one.detector}: k = {one.k} of {one.maps:,} feature maps"
        instead = WORDS.get(one.value, one.value)
    else:
        rows = [
            {"name": f"{one.detector} (k = {one.k})", **one.table.loc[one.where]} for one in found
        ]
        table, title = pd.DataFrame(rows), "mean over generators not trained on"
        if any(one.where != UNSEEN for one in found):
            title = "mean over generators"
        instead = " or ".join(dict.fromkeys(WORDS.get(one.value, one.value) for one in found))
    caption = (
        f"At the detector's own threshold. In the place of dropped maps: {instead}. "
        "Where the square is far from the circle and the diamond is not, the top maps carry what "
        "is found; where the reals' square falls too, the network was damaged."
    )
    return plot_answer(table, title=title), caption


def leading(parts: Sequence[Part]) -> tuple[Part, Picture] | None:
    """Return the picture that stands first where nothing was dropped, and the part it is of."""
    for result in LEADING:
        for part in parts:
            if part.result == result and part.figures:
                return part, part.figures[0]
    return next(((part, part.figures[0]) for part in parts if part.figures), None)


def _tables(parts: Sequence[Part], result: str, name: str) -> dict[str, pd.DataFrame]:
    """Return each detector's table of that name."""
    found: dict[str, pd.DataFrame] = {}
    for part in parts:
        table = part.csv(name) if part.result == result else None
        if table is not None:
            found.setdefault(part.detector or part.title, table)
    return found


def _several(values: dict[str, float]) -> str:
    """Return 'npr 96, vit 85': the numbers by detector, the highest first."""
    falling = sorted(values, key=lambda name: -values[name])
    return ", ".join(f"{name} {values[name]:.0f}" for name in falling)


def _how_well(parts: Sequence[Part]) -> str:
    tables = {
        name: table[table["generator"] != MACRO]
        for name, table in _tables(parts, "Evaluation", "evaluation").items()
    }
    if not tables:
        return ""
    ap, reals, fakes = (
        {name: 100 * float(table[column].mean()) for name, table in tables.items()}
        for column in ("ap", "real_accuracy", "fake_accuracy")
    )
    number = max(len(table) for table in tables.values())
    over = f", on average over {number} generators" if number > 1 else ""
    if len(tables) > 1:
        return (
            f"AP in percent{over}: {_several(ap)}; as they stand they find "
            f"{_range(list(fakes.values()))} % of the fakes, and are right on "
            f"{_range(list(reals.values()))} % of the reals."
        )
    (name, table), *_ = tables.items()
    low_row = table.loc[table["ap"].idxmin()]
    lowest = f" (lowest {100 * low_row['ap']:.0f}, {low_row['generator']})" if number > 1 else ""
    return (
        f"{name} reaches an AP of {ap[name]:.0f} %{over}{lowest}; as it stands it finds "
        f"{fakes[name]:.0f} % of the fakes and is right on {reals[name]:.0f} % of the reals."
    )


def _what_carries(parts: Sequence[Part]) -> str:
    found = dropped(parts)
    if not found:
        return ""
    unseen = all(one.where == UNSEEN for one in found)
    whose = " of generators that it was not trained on" if unseen else ""
    if len(found) == 1:
        one, row = found[0], found[0].table.loc[found[0].where]
        text = (
            f"Without {one.k} of its {one.maps:,} feature maps {one.detector} finds "
            f"{_percent(row, 'found_top')} of the fakes{whose} ({_percent(row, 'found')} with "
            f"them) and is right on {_percent(row, 'right_top')} of the reals "
            f"({_percent(row, 'right')})"
        )
        if row["found_matched"] == row["found_matched"]:
            text += (
                f"; without as many random maps of the same layers, on "
                f"{_percent(row, 'found_matched')} and {_percent(row, 'right_matched')}"
            )
            text += ": they do as much" * bool(row["found_matched"] <= row["found_top"])
        return f"{text}."
    told = []
    for one in found:
        row = one.table.loc[one.where]
        told.append(f"{one.detector} {100 * row['found']:.0f} → {100 * row['found_top']:.0f}")
    rows = [one.table.loc[one.where] for one in found]
    right = [100 * float(row["right_top"]) for row in rows]
    left = [100 * float(row["found_matched"]) for row in rows]
    control = ", ".join(f"{one:.0f}" for one in left)
    control = f"; without as many random maps of the same layers {control}" * all(
        one == one for one in left
    )
    return (
        f"Of fakes{whose.replace('it was', 'they were')} they find, in percent, without their top "
        f"maps: {', '.join(told)}{control}; {_range(right)} % of the reals are still right."
    )


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.0f}", f"{max(values):.0f}"
    return low if low == high else f"{low} to {high}"


def _percent(row: Any, column: str) -> str:
    return f"{100 * float(row[column]):.0f} %"


def _what_costs(parts: Sequence[Part]) -> str:
    told: list[str] = []
    for table in _tables(parts, "Robustness", "robustness").values():
        whole = table[table["generator"] == MACRO]
        whole = whole if len(whole) else table
        falls = whole[whole["condition"] != CLEAN].groupby("condition")["ap_fall"].mean()
        if len(falls) and not told:
            among = " on average over detectors" if len(set(table["detector"])) > 1 else ""
            told.append(
                f"of what was done to the images {falls.idxmax()} costs most, "
                f"{100 * falls.max():.0f} points of AP{among}"
            )
    lost: dict[str, float] = {}
    for name, table in _tables(parts, "ColourResult", "colour").items():
        ap = table[table["generator"] != MACRO].groupby("mode")["ap"].mean()
        if {"rgb", "grey"} <= set(ap.index):
            lost[name] = 100 * float(ap["rgb"] - ap["grey"])
    if len(lost) == 1:
        told.append(f"without colour AP falls by {next(iter(lost.values())):.0f} points")
    elif lost:
        told.append(f"without colour AP falls by {_several(lost)} points")
    text = "; ".join(told)
    return text[:1].upper() + text[1:] + "." if text else ""
