"""Kernel densities of spatial maxima, in colour against grey, with the legend apart."""

from __future__ import annotations

import math
from typing import Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .style import BLUE, ORANGE, PAGE, new_figure, styled

Style = Literal["-", "--"]
Place = Literal["center", "outside lower center"]

ACROSS, DOWN = 4, 6  # maps on a page
# Solid and dashed are told apart in black and white too.
LINES: tuple[tuple[str, Style], ...] = ((BLUE, "-"), (ORANGE, "--"))
WORDS = {"rgb": "RGB"}
TICKS = 50  # values that are drawn themselves


@styled
def plot_densities(
    densities: pd.DataFrame,
    tests: pd.DataFrame,
    samples: pd.DataFrame | None = None,
    *,
    legend: bool = True,
    title: str = "",
) -> list[Figure]:
    """Return pages of 24 feature maps of one generator, in the order of ``tests``.

    densities: generator, feature_map, mode, x, density. tests: the rows of ``median_test.csv`` of
    that generator. samples: generator, feature_map, mode, maximum; curves end at the outermost of
    them, and up to 50 a mode are ticks below. Above each panel stand the map, the corrected p of
    Mood's and of the paired test, and the effect; a sample without spread is a vertical line; dead
    maps are labelled. legend: below the page, or not at all (see :func:`plot_density_legend`).
    """
    by_map = dict(list(densities.groupby("feature_map", sort=False, observed=True)))
    values = {} if samples is None else dict(list(samples.groupby("feature_map", observed=True)))
    rows = tests.to_dict("records")
    drawn: list[Figure] = []
    pages = math.ceil(len(rows) / (ACROSS * DOWN))
    for page in range(pages):
        shown = rows[page * ACROSS * DOWN : (page + 1) * ACROSS * DOWN]
        down, across = math.ceil(len(shown) / ACROSS), min(ACROSS, len(shown))
        figure = new_figure(max(PAGE * across / ACROSS, 3.4), 0.5 + 1.42 * down)
        panels = figure.subplots(down, across, squeeze=False)
        for axes, row in zip(panels.flat, shown, strict=False):
            _panel(axes, by_map[row["feature_map"]], row, values.get(row["feature_map"]))
        for axes in panels.flat[len(shown) :]:
            axes.set_visible(False)
        for column in range(across):
            lowest = [axes for axes in panels[:, column] if axes.get_visible()][-1]
            lowest.set_xlabel("max. activation over space", fontsize=6.5)
        for axes in panels[:, 0]:
            axes.set_ylabel("density", fontsize=6.5)
        if legend:
            _legend(figure, list(dict.fromkeys(densities["mode"])), "outside lower center")
        if title:
            of = f" ({page + 1} of {pages})" if pages > 1 else ""
            figure.suptitle(title + of, fontsize=8)
        drawn.append(figure)
    return drawn


@styled
def plot_density_legend(modes: tuple[str, ...] = ("rgb", "grey")) -> Figure:
    """Draw the legend alone, to be set beside panels without one."""
    figure = new_figure(1.8, 0.25)
    _legend(figure, list(modes), "center")
    return figure


def _panel(
    axes: Axes, curves: pd.DataFrame, row: dict[str, object], samples: pd.DataFrame | None
) -> None:
    for (mode, curve), (colour, style) in zip(
        curves.groupby("mode", sort=False), LINES, strict=False
    ):
        if samples is not None and len(curve) > 1:
            own = samples[samples["mode"] == mode]["maximum"]
            curve = curve[curve["x"].between(own.min(), own.max())]
            if len(own) <= TICKS:
                place = axes.get_xaxis_transform()
                axes.plot(own, [0.02] * len(own), "|", color=colour, ms=3, mew=0.5, transform=place)
        if len(curve) == 1:
            axes.axvline(curve["x"].iloc[0], color=colour, linestyle=style, linewidth=1.2)
        else:
            axes.plot(curve["x"], curve["density"], color=colour, linestyle=style, linewidth=1.2)
            axes.fill_between(curve["x"], curve["density"], color=colour, alpha=0.12, linewidth=0)
    name = str(row["feature_map"]).split("(")[0]
    axes.set_title(f"{name}\n{_said(row)}", fontsize=5.5 if len(name) > 24 else 6)
    axes.set_ylim(bottom=0)
    flat = bool(curves["density"].isna().all())
    if flat:
        axes.set_yticks([])
    axes.margins(x=0.02)
    axes.locator_params(axis="x", nbins=4)
    if not flat:
        axes.locator_params(axis="y", nbins=4)
    axes.tick_params(labelsize=5.5, length=2)


def _said(row: dict[str, object]) -> str:
    if row["status"] == "dead":
        return "dead"
    q, effect = float(str(row["q_value"])), float(str(row["effect"]))
    size = "∞" if math.isinf(effect) else f"{abs(effect):.2f}"
    size = ("−" if effect < 0 else "+") * (size != "0.00") + size
    said = "Mood undefined (ties)" if math.isnan(q) else f"q: Mood {_q(q)}"
    return f"{said}, paired {_q(float(str(row['paired_q_value'])))}\neffect {size}"


def _q(q: float) -> str:
    return "< 0.001" if q < 0.001 else f"= {q:.2g}" if q < 0.1 else f"= {q:.2f}"


def _legend(figure: Figure, modes: list[str], place: Place) -> None:
    handles = [
        Line2D([], [], color=colour, linestyle=style, linewidth=1.5, label=WORDS.get(mode, mode))
        for mode, (colour, style) in zip(modes, LINES, strict=False)
    ]
    figure.legend(handles=handles, loc=place, ncols=len(handles), frameon=False)
