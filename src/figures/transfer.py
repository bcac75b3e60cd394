"""The transfer matrix as a heat map, with the agreement of the rankings beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .style import PAGE, new_figure, styled

MANY = 6  # generators, above which the panels stand in two rows


@styled
def plot_transfer(
    table: pd.DataFrame, agreement: pd.DataFrame, k: int, *, title: str = ""
) -> Figure:
    """Draw the falls of AP (ranked on A down, dropped on B across), and the agreement of rankings.

    table: ``transfer.csv``. The first panel is the fall of AP in points; the second the fall for as
    many random maps of the same layers, on the same scale, where there is such a control.
    agreement: ``agreement.csv``. Kendall's τ over all maps and Jaccard overlap of the top k; the
    diagonal holds two halves of one generator's images, which is what agreement can be here.
    """
    ranked = list(dict.fromkeys(table["ranked_on"]))
    dropped = list(dict.fromkeys(table["dropped_on"]))
    falls = _grid(table, "fall_ap_points", ranked, dropped)
    control = _grid(table, "fall_ap_points_matched", ranked, dropped)
    shown = [("fall of AP, top k\n(points)", falls, dropped)]
    if not np.isnan(control).all():
        shown.append(("fall of AP, random maps\nof the same layers", control, dropped))
    for key, label in (("kendall_tau", "Kendall's τ of ω\n(all maps)"),
                       ("jaccard", "Jaccard overlap\nof the top k")):  # fmt: skip
        shown.append((label, _symmetric(agreement, key, ranked), ranked))
    down = 2 if len(dropped) > MANY else 1
    across = -(-len(shown) // down)
    cell = 0.85 * PAGE * down / sum(len(names) for _, _, names in shown)
    longest = max(map(len, [*ranked, *dropped]))
    height = 0.75 + min(cell, 0.35) * len(ranked) + 0.07 * longest
    figure = new_figure(PAGE, down * height)
    widths = None if down > 1 else [len(names) for _, _, names in shown]
    grid = figure.subplots(down, across, width_ratios=widths, squeeze=False)
    panels = list(grid.flat)[: len(shown)]
    for empty in list(grid.flat)[len(shown) :]:
        empty.set_axis_off()
    used = table.drop_duplicates("ranked_on").set_index("ranked_on")["images_ranked_on"]
    rows = [f"{name} ({used[name]})" for name in ranked]
    reach = max(float(np.nanmax(falls, initial=1.0)), 1.0)
    for place, (axes, (label, values, names)) in enumerate(zip(panels, shown, strict=True)):
        points = names is dropped
        _heat(axes, values, reach if points else 1.0, points, cell)
        axes.set_title(label, fontsize=7)
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=6.5)
        axes.set_yticks(range(len(ranked)), rows if place % across == 0 else [""] * len(ranked))
        if points:
            axes.set_xlabel("dropped on", fontsize=7)
    for row in grid:
        row[0].set_ylabel("ranked on (fakes used)", fontsize=7)
    figure.suptitle(f"{title}{', ' if title else ''}k = {k}", fontsize=8)
    return figure


def _heat(axes: Any, values: np.ndarray, reach: float, points: bool, cell: float) -> None:
    # Both agreements and falls of AP are shown from 0; what is below is written in its cell.
    axes.imshow(
        np.clip(values, 0, reach),
        cmap="cividis",
        vmin=0,
        vmax=reach,
        aspect="auto",
    )
    size = float(np.clip(14 * cell, 3.5, 6.5))
    for (row, place), value in np.ndenumerate(values):
        if np.isnan(value):
            continue
        text = (
            f"{value:.0f}" if points and abs(value) >= 9.95 else f"{value:.{1 if points else 2}f}"
        )
        text = text.replace("-0.0", "0.0") if points and abs(value) < 0.05 else text
        colour = "white" if value < 0.5 * reach else "black"
        axes.text(place, row, text, ha="center", va="center", fontsize=size, color=colour)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _grid(table: pd.DataFrame, column: str, rows: list[str], columns: list[str]) -> np.ndarray:
    found = table.pivot_table(index="ranked_on", columns="dropped_on", values=column, dropna=False)
    return found.reindex(index=rows, columns=columns).to_numpy(dtype=float)


def _symmetric(agreement: pd.DataFrame, key: str, names: list[str]) -> np.ndarray:
    place = {name: at for at, name in enumerate(names)}
    values = np.full((len(names), len(names)), np.nan)
    for first, second, value in zip(
        agreement["first"], agreement["second"], agreement[key], strict=True
    ):
        values[place[first], place[second]] = values[place[second], place[first]] = value
    return values
