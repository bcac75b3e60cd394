"""What a detector finds with all of its feature maps, without the top ones, and without others."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .style import BLUE, GREEN, ORANGE, head, new_figure, styled

WIDTH, LINE = 5.2, 0.34  # inches
WITH, WITHOUT, RANDOM = "all feature maps", "without the top k", "without as many random ones"


@styled
def plot_answer(table: pd.DataFrame, *, title: str = "") -> Figure:
    """Draw a line a detector or generator: fakes found, and reals right, in percent.

    table: columns name, found, found_top, found_matched, right, right_top, right_matched,
        fractions of 1; the matched ones, of random maps of the same layers, may be NaN.
    """
    places = np.arange(len(table))[::-1]
    figure = new_figure(WIDTH, 1.15 + LINE * len(table) + 0.2 * bool(title))
    panels = figure.subplots(1, 2, sharey=True)
    for panel, kind, about in zip(
        panels, ("found", "right"), ("fakes found", "reals right"), strict=True
    ):
        whole, top, matched = (100 * table[f"{kind}{end}"] for end in ("", "_top", "_matched"))
        panel.hlines(places, whole, top, color=ORANGE, lw=1.6, alpha=0.5, zorder=1)
        panel.plot(matched, places, "D", color=GREEN, ms=4.5, mfc="white", mew=1.2)
        panel.plot(whole, places, "o", color=BLUE, ms=6)
        panel.plot(top, places, "s", color=ORANGE, ms=5)
        panel.set(xlim=(-4, 104), xlabel="percent", title=about)
        panel.grid(axis="x", lw=0.3)
        panel.spines["left"].set_visible(False)
        panel.tick_params(axis="y", length=0)
    panels[0].set_yticks(places, table["name"])
    panels[0].set_ylim(-0.6, len(table) - 0.4)
    handles = [
        Line2D([], [], ls="", marker=mark, color=colour, ms=5, mfc=face, label=label)
        for mark, colour, face, label in (
            ("o", BLUE, BLUE, WITH), ("s", ORANGE, ORANGE, WITHOUT), ("D", GREEN, "white", RANDOM),
        )
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    head(figure, title)
    return figure
