"""Percentages with their intervals: a panel a detector, a line a generator and kind."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .style import BLUE, GREEN, GREY, ORANGE, PAGE, PURPLE, head, new_figure, styled

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, GREY)
MARKS = "osD^v"  # told apart in black and white too
LINE = 0.13  # inches


@styled
def plot_intervals(table: pd.DataFrame, *, xlabel: str, title: str = "") -> Figure:
    """Draw values with 95 % intervals.

    table: columns panel, group (down), kind (colour and mark), value, low, high, fractions of 1.
    """
    panels = list(dict.fromkeys(table["panel"]))
    groups = list(dict.fromkeys(table["group"]))
    kinds = list(dict.fromkeys(table["kind"]))
    step = len(kinds) + 1
    figure = new_figure(PAGE, max(0.9 + LINE * step * len(groups) + 0.2 * bool(title), 1.8))
    axes = figure.subplots(1, len(panels), squeeze=False, sharex=True, sharey=True)[0]
    for panel, one in zip(axes, panels, strict=True):
        for row in table[table["panel"] == one].to_dict("records"):
            kind = kinds.index(row["kind"])
            place = step * groups.index(row["group"]) + kind
            colour = COLOURS[kind % len(COLOURS)]
            panel.plot([100 * row["low"], 100 * row["high"]], [place, place], color=colour, lw=1.2)
            panel.plot(100 * row["value"], place, MARKS[kind % len(MARKS)], color=colour, ms=3.5)
        panel.set_title(one)
        panel.set_xlabel(xlabel)
        panel.grid(axis="x", lw=0.3)
    axes[0].set_yticks([step * at + (step - 2) / 2 for at in range(len(groups))], groups)
    axes[0].set_ylim(step * len(groups) - 1, -1)
    handles = [
        Line2D([], [], color=COLOURS[at % 5], marker=MARKS[at % 5], ms=3.5, lw=1.2, label=kind)
        for at, kind in enumerate(kinds)
    ]
    columns = len(handles) if len(handles) < 5 else 3
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)
    head(figure, title)
    return figure
