"""Detectors × generators, a small heat map a condition: the average precision in every cell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .style import PAGE, head, new_figure, styled

CHANCE = 0.5  # AP of guessing where there are as many reals as fakes: the dark end of the scale
BOX = {"boxstyle": "square,pad=0.15", "facecolor": "none", "linewidth": 0.6}
MEAN = "macro mean"  # stands apart from the generators
SAID = {
    "clean": "clean",
    "grey": "grey",
    "jpeg": "JPEG {}",
    "blur": "blur σ {}",
    "resize": "resized × {}",
    "jpeg444": "JPEG {} 4:4:4",
    "kernel": "blur {0} × {0}",
    "area": "scaled × {}",
    "turn": "turned {}°",
    "mirror": "mirrored",
}


@styled
def plot_robustness(table: pd.DataFrame, *, value: str = "ap", title: str = "") -> Figure:
    """Draw ``robustness.csv``: a panel a condition, rows detectors, columns generators, percent.

    A number in a box has fallen from clean for certain: the paired 95 % interval of the fall lies
    above zero. The scale goes from 50 (chance) to 100; what is below has the darkest colour.

    table: columns ``detector``, ``generator``, ``condition``, the value and its fall.
    """
    detectors = list(dict.fromkeys(table["detector"]))
    generators = list(dict.fromkeys(table["generator"]))
    conditions = list(dict.fromkeys(table["condition"]))
    longest = max(map(len, detectors))
    most = 3 if len(generators) <= 10 else 2 if len(generators) <= 16 else 1
    down = -(-len(conditions) // most)
    across = -(-len(conditions) // down)
    cell = (PAGE - 0.2 - 0.055 * longest) / (across * (len(generators) + 0.6))
    tall = min(max(cell, 0.16), 0.28)
    rotated = 0.055 * max(map(len, generators)) + 0.1
    height = down * (tall * len(detectors) + 0.3) + rotated + 0.75
    figure = new_figure(PAGE, height)
    grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    for place, axes in enumerate(grid.flat):
        if place >= len(conditions):
            axes.set_axis_off()
            continue
        own = table[table["condition"] == conditions[place]]
        values = _grid(own, value, detectors, generators)
        fallen = _grid(own, f"{value}_fall_low", detectors, generators) > 0
        image = _heat(axes, values, fallen, cell)
        if generators[-1] == MEAN:
            axes.axvline(len(generators) - 1.5, color="white", lw=2)
        axes.set_title(said(conditions[place]), fontsize=7, pad=3)
        axes.set_yticks(range(len(detectors)), detectors, fontsize=6)
        if place + across >= len(conditions):
            axes.set_xticks(range(len(generators)), generators, rotation=90, fontsize=6)
            axes.tick_params(labelbottom=True)
    bar = figure.colorbar(image, ax=grid, location="bottom", aspect=50, pad=0.02, fraction=0.03)
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.set_ticks([0.5, 0.6, 0.7, 0.8, 0.9, 1.0], labels=["≤ 50", "60", "70", "80", "90", "100"])
    name = {"ap": "AP", "auc": "AUC"}.get(value, value)
    bar.set_label(f"{name} (percent); boxed: fallen from clean, paired 95 % interval above 0")
    bar.ax.tick_params(labelsize=6)
    head(figure, title)
    return figure


def said(condition: str) -> str:
    """Return a condition's name for people: 'jpeg-50' is 'JPEG 50'."""
    kind, _, number = condition.partition("-")
    number = {"0.5": "½"}.get(number, number)
    return SAID.get(kind, condition).format(number)


def _heat(axes: Any, values: np.ndarray, bold: np.ndarray, cell: float) -> Any:
    image = axes.imshow(
        np.clip(values, CHANCE, 1), cmap="cividis", vmin=CHANCE, vmax=1, aspect="auto"
    )
    size = float(np.clip(24 * cell, 3.2, 6.5))
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            colour = "white" if value < 0.75 else "black"
            axes.text(
                column,
                row,
                f"{100 * value:.0f}",
                ha="center",
                va="center",
                fontsize=size,
                fontweight="bold" if bold[row, column] else "normal",
                color=colour,
                bbox=BOX | {"edgecolor": colour} if bold[row, column] else None,
            )
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return image


def _grid(table: pd.DataFrame, column: str, rows: list[str], columns: list[str]) -> np.ndarray:
    found = table.pivot_table(index="detector", columns="generator", values=column, dropna=False)
    return found.reindex(index=rows, columns=columns).to_numpy(dtype=float)
