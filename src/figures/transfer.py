"""The transfer matrix as a heat map, with the agreement of the rankings beside it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .style import DIVERGING, GREY, PAGE, RISING, colour_bar, head, new_figure, signed, styled

FALLS = f"{DIVERGING}_r"  # a fall is red here as elsewhere
FEW = 8  # fakes, below which a ranking's row is pale
PALE = 0.35
CELL = 0.3  # inches, at most
BAR = {"location": "right", "aspect": 25, "shrink": 0.8, "pad": 0.02}


@styled
def plot_transfer(
    table: pd.DataFrame, agreement: pd.DataFrame, k: int, *, title: str = "", note: str = ""
) -> Figure:
    """Draw the falls of AP (ranked on A down, dropped on B across), and the agreement of rankings.

    table: ``transfer.csv``. The first panel is the fall of AP in points; the second the fall for as
    many random maps of the same layers, on the same scale about 0, where there is such a control.
    agreement: ``agreement.csv``. Kendall's τ over all maps and Jaccard overlap of the top k; the
    diagonal holds two halves of one generator's images, which is what agreement can be here.
    Rows of rankings on fewer than eight fakes are pale; a frame marks a generator with itself.
    """
    ranked = list(dict.fromkeys(table["ranked_on"]))
    dropped = list(dict.fromkeys(table["dropped_on"]))
    used = table.drop_duplicates("ranked_on").set_index("ranked_on")["images_ranked_on"]
    falls = _grid(table, "fall_ap_points", ranked, dropped)
    control = _grid(table, "fall_ap_points_matched", ranked, dropped)
    shown = [(f"AP lost with the top {k}", falls, dropped)]
    if not np.isnan(control).all():
        shown.append((f"AP lost with {k} random maps\nof the same layers", control, dropped))
    kinds = [len(shown), 2]
    shown += [
        ("rank correlation of ω\n(Kendall's τ, all maps)",
         _symmetric(agreement, "kendall_tau", ranked), ranked),
        (f"the same maps in the top {k}\n(Jaccard)",
         _symmetric(agreement, "jaccard", ranked), ranked),
    ]  # fmt: skip
    cell = min(CELL, 0.36 * PAGE / max(len(dropped), len(ranked)))
    figure = new_figure(PAGE, 2 * (1.2 + cell * len(ranked)) + 0.06 * max(map(len, dropped)))
    grid = figure.subplots(2, 2, squeeze=False)
    reach = max(float(np.nanmax(np.abs([falls, control]))), 1.0)
    few = [used[name] < FEW for name in ranked]
    rows = [f"{name} ({used[name]})" for name in ranked]
    panels = [grid[0, 0], grid[0, 1], grid[1, 0], grid[1, 1]]
    if kinds[0] == 1:
        panels.remove(grid[0, 1])
        figure.delaxes(grid[0, 1])
    for place, (axes, (label, values, names)) in enumerate(zip(panels, shown, strict=True)):
        points = place < kinds[0]
        limits = (-reach, reach) if points else (0.0, 1.0)
        pale = np.array(few)[:, None]  # agreement is of two rankings
        pale = pale if points else pale | pale.T
        _heat(axes, values, limits, FALLS if points else RISING, pale, cell)
        _frame(axes, ranked, names)
        axes.set_title(label, fontsize=7.5)
        axes.set_xticks(np.arange(len(names)) + 0.5, names, rotation=90, fontsize=6.5)
        first = axes in (grid[0, 0], grid[1, 0])
        axes.set_yticks(np.arange(len(ranked)) + 0.5, rows if first else [""] * len(ranked))
        for text, grey in zip(axes.get_yticklabels(), few, strict=True):
            text.set(fontsize=7, color=GREY if grey else "black")
        if first:
            axes.set_ylabel("ranked on (fakes used)", fontsize=7)
        if points:
            axes.set_xlabel("dropped on", fontsize=7)
    colour_bar(figure, panels[: kinds[0]], (-reach, reach), FALLS, "AP lost (points)", **BAR)
    colour_bar(figure, panels[kinds[0] :], (0, 1), RISING, "agreement", **BAR)
    head(figure, title or f"k = {k}", note)
    return figure


def _heat(
    axes: Axes,
    values: np.ndarray,
    limits: tuple[float, float],
    colours: str,
    pale: np.ndarray,
    cell: float,
) -> None:
    low, high = limits
    painted = colormaps[colours](Normalize(low, high)(np.clip(np.nan_to_num(values), low, high)))
    painted[np.broadcast_to(pale, values.shape), 3] = PALE
    painted[np.isnan(values), 3] = 0
    size = float(np.clip(21 * cell, 3.5, 6.2))
    for (row, place), value in np.ndenumerate(values):
        if np.isnan(value):
            continue
        corner = (place, row)
        axes.add_patch(Rectangle(corner, 1, 1, facecolor=painted[row, place], edgecolor="white",
                                 linewidth=0.4))  # fmt: skip
        # What stands on: the colour laid over white, by its luminance.
        alpha = painted[row, place, 3]
        light = alpha * painted[row, place, :3] @ [0.299, 0.587, 0.114] + 1 - alpha
        text = signed(value) if low < 0 else f"{value:.2f}"
        axes.text(
            place + 0.5, row + 0.5, text, ha="center", va="center", fontsize=size,
            color="black" if light > 0.5 else "white",
        )  # fmt: skip
    axes.set(xlim=(0, values.shape[1]), ylim=(values.shape[0], 0))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _frame(axes: Axes, rows: Sequence[str], columns: Sequence[str]) -> None:
    for down, name in enumerate(rows):
        if name in columns:
            corner = (columns.index(name), down)
            axes.add_patch(
                Rectangle(corner, 1, 1, fill=False, edgecolor="black", linewidth=1, zorder=3)
            )


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
