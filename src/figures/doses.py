"""Dose and response of feature maps: a panel a bias."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from .style import BLUE, GREEN, GREY, ORANGE, PAGE, PURPLE, head, new_figure, styled

COLOURS = (ORANGE, BLUE, GREEN, PURPLE, "black")
MARKS = "osD^v"
DOSES = {"jpeg": "JPEG quality", "down": "both sides times", "up": "both sides times"}


@styled
def plot_doses(curves: pd.DataFrame, *, title: str = "") -> Figure:
    """Draw how far feature maps move with the dose; grey: the middle 90 % of all maps.

    curves: columns bias, feature_map, step, condition, moved, with the 5, 50 and 95 % points.
    """
    biases = list(dict.fromkeys(curves["bias"]))
    figure = new_figure(PAGE, 3.2)
    panels = figure.subplots(1, len(biases), squeeze=False)[0]
    for axes, bias in zip(panels, biases, strict=True):
        own = curves[curves["bias"] == bias]
        lines = {str(name): part for name, part in own.groupby("feature_map", sort=False)}
        low, middle, high = (lines.pop(f"{share} % of all maps") for share in (5, 50, 95))
        steps = middle["step"].to_numpy()
        axes.fill_between(steps, low["moved"], high["moved"], color=GREY, alpha=0.25, lw=0)
        axes.plot(steps, middle["moved"], color=GREY, lw=1, ls="--")
        for at, (name, part) in enumerate(lines.items()):
            axes.plot(
                part["step"], part["moved"], color=COLOURS[at % 5], marker=MARKS[at % 5], ms=3,
                lw=1, label=name,
            )  # fmt: skip
        doses = [str(one).partition("-")[2] or "none" for one in middle["condition"]]
        axes.set_xticks(steps, doses)
        axes.set_xlabel(DOSES.get(bias, bias))
        axes.axhline(0, color=GREY, lw=0.4)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False, fontsize=6)
    panels[0].set_ylabel("moved, in standard deviations\nover clean photographs")
    head(figure, title)
    return figure
