"""Published figures beside ours: a panel a detector and quantity, a line a generator and input."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .style import BLUE, GREEN, GREY, MASK_COLOURS, ORANGE, PAGE, new_figure, styled

COLOURS = {**MASK_COLOURS, "baseline": "black", "RGB": BLUE, "grey": GREY, "RGB, crop 224": GREEN}
HEADS = {"ap": "AP", "real_accuracy": "reals right", "fake_accuracy": "fakes right"}
LINE = 0.13  # inches


@styled
def plot_reproduction(cells: pd.DataFrame, table: str) -> Figure:
    """Draw one table of ``reproduction.csv``: ours with its interval, published as a hollow mark.

    cells: columns of ``reproduction.csv``, percent. Cells without a figure of ours or known
    corrupt are left out. Panels: a row a detector, a column a training and quantity.
    """
    own = cells[(cells["table"] == table) & cells["ours"].notna() & cells["published"].notna()]
    own = own[own["verdict"] != "published cell known corrupt"]
    hue = "mask" if len(set(own["mask"])) > 1 else "input"
    archs = list(dict.fromkeys(own["arch"]))
    columns = list(dict.fromkeys(zip(own["training"], own["quantity"], strict=True)))
    hues = list(dict.fromkeys(own[hue]))
    generators = list(dict.fromkeys(own["generator"]))
    step = len(hues) + 1
    height = len(archs) * (0.5 + LINE * step * len(generators)) + 0.5
    figure = new_figure(PAGE, max(height, 1.8))
    axes = figure.subplots(len(archs), len(columns), squeeze=False, sharex=True, sharey=True)
    for arch, row in zip(archs, axes, strict=True):
        for (training, quantity), panel in zip(columns, row, strict=True):
            named = HEADS.get(quantity, quantity)
            detector = arch if training == "baseline" else f"{training}-{arch}"
            panel.set_title(f"{detector}: {named}")
            chosen = own[(own["arch"] == arch) & (own["training"] == training)]
            for cell in chosen[chosen["quantity"] == quantity].to_dict("records"):
                place = step * generators.index(cell["generator"]) + hues.index(cell[hue])
                colour = COLOURS.get(cell[hue], ORANGE)
                panel.plot([cell["low"], cell["high"]], [place, place], color=colour, lw=1.2)
                panel.plot(cell["ours"], place, "o", color=colour, ms=2.5)
                panel.plot(
                    cell["published"], place, "D", mfc="none", mec=colour, ms=4, mew=0.7, zorder=3
                )
            panel.grid(axis="x", lw=0.3)
    middles = [step * at + (len(hues) - 1) / 2 for at in range(len(generators))]
    axes[0, 0].set_yticks(middles, generators)
    axes[0, 0].invert_yaxis()
    for panel in axes[-1]:
        panel.set_xlabel("percent")
    marks = [Line2D([], [], color=COLOURS.get(one, ORANGE), lw=2, label=one) for one in hues]
    marks.append(Line2D([], [], color="black", marker="o", ms=3, lw=1, label="ours, 95 %"))
    marks.append(
        Line2D([], [], color="black", marker="D", mfc="none", ms=4, lw=0, label="published")
    )
    figure.legend(handles=marks, loc="outside lower center", ncols=len(marks), frameon=False)
    return figure
