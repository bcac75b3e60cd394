"""Colour ablation: the published box plots, and AP by colour mode."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .style import BLUE, COLUMN, GREY, ORANGE, PAGE, head, new_figure, styled

PANELS = 6  # box plots side by side
FEW = 10  # fewer values are drawn themselves, for a box of them says little
LEAST_AP = 20  # percent, where the axis of AP begins, of every detector the same
WORDS = {"rgb": "RGB", "grey": "grey"}


@styled
def plot_colour_boxes(
    box: pd.DataFrame,
    scores: pd.DataFrame,
    mode: str = "grey",
    *,
    least_probability: float = 0.2,
    title: str = "",
    note: str = "",
) -> Figure:
    """Draw the fakes' probabilities in rgb against another mode, one panel a generator.

    box: of a ``ColourResult``: box from quartile to quartile with the median, whiskers to the
    outermost value within 1.5 of its height; the change of the median, in percentage points. Fewer
    than ten fakes are points, with a line at their median.
    scores: of the same, for the fakes (p in rgb of ``least_probability`` or more) beyond a whisker.
    """
    every, box = box, box[box["n"] > 0]
    generators = list(dict.fromkeys(box["generator"]))
    down, across = _grid(len(generators), PANELS)
    figure = new_figure(max(COLUMN, 0.55 + 1.15 * across), 0.5 + 2.0 * down)
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for axes, generator in zip(panels.flat, generators, strict=False):
        two = box[box["generator"] == generator].set_index("mode").loc[["rgb", mode]]
        own = scores[(scores["generator"] == generator) & (scores["label"] == 1)]
        wide = own.pivot_table(index="path", columns="mode", values="score")
        wide = wide[wide["rgb"] >= least_probability]
        _boxes(axes, two, {name: wide[name].to_numpy() for name in two.index})
        n, of = two[["n", "n_fake"]].iloc[0]
        axes.set_title(f"{generator}\n({n} of {of} fakes)", fontsize=7, pad=13)
        axes.set_xticks([0, 1], [WORDS["rgb"], WORDS.get(mode, mode)])
        axes.tick_params(axis="x", length=0)
    for axes in panels.flat[len(generators) :]:
        axes.set_visible(False)
    for axes in panels[:, 0]:
        axes.set_ylabel("probability of fake (%)")
    for axes in _lowest(panels):
        axes.tick_params(axis="x", labelbottom=True)
    none = sorted(set(every["generator"]) - set(generators))
    absent = [f"none of p ≥ {least_probability:g} in RGB: {', '.join(none)}"] * bool(none)
    head(figure, title, "; ".join([*filter(None, [note]), *absent]))
    return figure


def _boxes(axes: Axes, two: pd.DataFrame, values: dict[str, np.ndarray]) -> None:
    if two["n"].iloc[0] < FEW:
        for place, (points, colour) in enumerate(zip(values.values(), (BLUE, GREY), strict=True)):
            across = place + 0.06 * (np.arange(len(points)) - (len(points) - 1) / 2) / FEW
            axes.plot(across, 100 * points, ".", color=colour, markersize=4)
            middle = 100 * two["median"].iloc[place]
            axes.plot([place - 0.22, place + 0.22], [middle] * 2, color="black", linewidth=1.5)
    else:
        _tukey(axes, two, values)
    high, low = 100 * two["median"]
    drop = high - low
    text = f"median {'−' if drop >= 0.05 else '+' * (drop <= -0.05)}{abs(drop):.1f} points"
    # Beyond both boxes, where it covers neither.
    arrow = {"arrowstyle": "->", "color": ORANGE, "linewidth": 1, "shrinkA": 0, "shrinkB": 0}
    if abs(drop) >= 2:
        axes.annotate("", xy=(1.42, low), xytext=(1.42, high), arrowprops=arrow)
        axes.plot([0.23, 1.5], [high, high], color=ORANGE, lw=0.5, ls=":")
    axes.text(0.5, 1.02, text, ha="center", color=ORANGE, transform=axes.transAxes, fontsize=7)
    axes.set(xlim=(-0.45, 1.6), ylim=(-2, 104))
    axes.set_yticks(range(0, 101, 20))
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.5)
    axes.set_axisbelow(True)


def _tukey(axes: Axes, two: pd.DataFrame, values: dict[str, np.ndarray]) -> None:
    stats = []
    for name, row in two.iterrows():
        points = values[str(name)]
        outside = points[(points < row["whisker_low"]) | (points > row["whisker_high"])]
        ends = {"whislo": row["whisker_low"], "whishi": row["whisker_high"]}
        middle = {"q1": row["q1"], "med": row["median"], "q3": row["q3"]}
        stats.append(
            {key: 100 * value for key, value in (ends | middle).items()} | {"fliers": 100 * outside}
        )
    drawn = axes.bxp(
        stats,
        positions=[0, 1],
        widths=0.45,
        patch_artist=True,
        manage_ticks=False,
        medianprops={"color": "black", "linewidth": 1.5},
        flierprops={"marker": ".", "markersize": 2, "markeredgecolor": GREY},
        boxprops={"linewidth": 0.6},
        whiskerprops={"linewidth": 0.6},
        capprops={"linewidth": 0.6},
    )
    for patch, colour in zip(drawn["boxes"], (BLUE, "#BBBBBB"), strict=True):
        patch.set_facecolor(colour)


@styled
def plot_colour_modes(table: pd.DataFrame, *, title: str = "", note: str = "") -> Figure:
    """Draw AP with its 95 % interval in each colour mode, one panel a generator.

    table: of a ``ColourResult``. The dotted line is rgb; modes from top to bottom as asked for.
    """
    generators = list(dict.fromkeys(table["generator"]))
    modes = list(dict.fromkeys(table["mode"]))
    down, across = _grid(len(generators), 4)
    width = min(PAGE, 1.3 + 1.6 * across)
    over = table["intervals_over"].iloc[-1]
    note = "; ".join(filter(None, (note, f"lines: 95 % intervals over {over}; dotted: RGB")))
    # A narrow figure breaks its title into several lines, which take their room from the panels.
    lines = len(title) / (15 * width) + len(note) / (20 * width)
    figure = new_figure(width, 0.5 + 0.15 * lines + down * (0.5 + 0.15 * len(modes)))
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    places = np.arange(len(modes))
    least = LEAST_AP if 100 * float(table["ap_low"].min()) > LEAST_AP else 0
    for axes, generator in zip(panels.flat, generators, strict=False):
        own = table[table["generator"] == generator].set_index("mode").loc[modes]
        ap, low, high = (100 * own[name].to_numpy() for name in ("ap", "ap_low", "ap_high"))
        colours = [BLUE if mode == "rgb" else ORANGE if mode == "grey" else GREY for mode in modes]
        axes.hlines(places, low, high, color=colours, linewidth=1.2)
        axes.scatter(ap, places, c=colours, s=10, zorder=3, clip_on=False)
        axes.axvline(ap[0], color=BLUE, linewidth=0.6, linestyle=":")
        n = own[["n_real", "n_fake"]].iloc[0]
        counts = "" if n.isna().any() else f"\n({n.iloc[0]:.0f} + {n.iloc[1]:.0f} images)"
        axes.set_title(f"{generator}{counts}", fontsize=7)
        axes.grid(axis="x", color="#DDDDDD", linewidth=0.5)
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)
        axes.set(xlim=(least, 101), ylim=(len(modes) - 0.5, -0.5))
    panels[0, 0].set_yticks(places, [WORDS.get(mode, mode) for mode in modes], fontsize=6.5)
    for axes in panels.flat[len(generators) :]:
        axes.set_visible(False)
    for axes in _lowest(panels):
        axes.set_xlabel("AP (%)")
        axes.tick_params(axis="x", labelbottom=True)
    head(figure, title, note)
    return figure


def _grid(panels: int, most: int) -> tuple[int, int]:
    """Return rows and columns, no more than ``most``, with rows as even as they can be."""
    down = max(1, math.ceil(panels / most))
    return down, max(1, math.ceil(panels / down))


def _lowest(panels: np.ndarray) -> list[Axes]:
    """Return the lowest visible panel of each column, which bears the labels."""
    columns = ([axes for axes in column if axes.get_visible()] for column in panels.T)
    return [column[-1] for column in columns if column]
