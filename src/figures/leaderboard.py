"""The leader board of explanation methods: measures across, methods down, a dot a detector."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .style import BLUE, GREEN, GREY, ORANGE, PAGE, PURPLE, new_figure, styled

PANELS = {
    "share": "share in the box\nhigher is better",
    "hit": "pointing game\nhigher is better",
    "deletion": "deletion\nlower is better",
    "insertion": "insertion\nhigher is better",
    "flip": "flip\nhigher is better",
    "spearman": "random weights\nnear 0 is right",
    "gradients": "time, gradients\n",
}
COLOURS = (ORANGE, BLUE, GREEN, PURPLE, "#56B4E9", "#E69F00", GREY, "black")


@styled
def plot_leaderboard(board: pd.DataFrame, floors: Sequence[str]) -> Figure:
    """Draw each measure's mean and 95 % interval of each method and detector.

    board: the table of a ``Leaderboard``; floors: methods drawn last, as dashed lines too (the
    mean over detectors).
    """
    methods = [one for one in dict.fromkeys(board["method"]) if one not in floors] + list(floors)
    detectors = list(dict.fromkeys(board["detector"]))
    figure = new_figure(PAGE, 0.19 * len(methods) + 1.1)
    panels = figure.subplots(1, len(PANELS), sharey=True)
    for axes, (measure, title) in zip(panels, PANELS.items(), strict=True):
        for at, detector in enumerate(detectors):
            own = board[board["detector"] == detector].set_index("method").reindex(methods)
            if measure not in own:
                continue
            places = np.arange(len(methods)) + (at - (len(detectors) - 1) / 2) * 0.7 / len(
                detectors
            )
            colour = COLOURS[at % len(COLOURS)]
            values = own[measure].to_numpy(dtype=float)
            if f"{measure}_low" in own:
                ends = own[[f"{measure}_low", f"{measure}_high"]].to_numpy(dtype=float)
                axes.hlines(places, *ends.T, color=colour, linewidth=0.8)
            axes.plot(values, places, "o", ms=2.2, color=colour, label=detector)
        for name in floors if measure in PANELS and measure != "gradients" else ():
            mean = board.loc[board["method"] == name, measure].mean()
            if np.isfinite(mean):
                axes.axvline(mean, color="0.6", linewidth=0.6, linestyle="--", zorder=0)
        axes.set_title(title, fontsize=6)
        axes.tick_params(labelsize=5.5)
        if measure == "gradients":
            axes.set_xscale("log")
            axes.set_xlim(0.3, 1000)
            axes.set_xticks([1, 10, 100, 1000], ["1", "10", "100", ""])
            axes.minorticks_off()
    panels[0].set_yticks(range(len(methods)), methods)
    panels[0].invert_yaxis()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure
