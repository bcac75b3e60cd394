"""t-SNE of an image set: where a detector puts reals and the fakes of each generator."""

from __future__ import annotations

import math
from collections.abc import Mapping
from textwrap import fill
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .style import BLUE, GREEN, GREY, ORANGE, PAGE, PALE, PURPLE, new_figure, styled

# Without black, which reals that generators share are drawn in; the last two are lighter.
COLOURS = (ORANGE, BLUE, GREEN, PURPLE, "#8CCBF2", "#E8D25C")
REAL_MARK, FAKE_MARK = "o", "^"
SHARED = "several (one image)"
OTHERS = {"generator": "other generators", "class": "other classes"}
ACROSS = 4  # panels side by side where there are more groups than colours


@styled
def plot_embedding(
    table: pd.DataFrame,
    quality: Mapping[str, Any],
    *,
    by: str = "generator",
    title: str = "",
    ax: Axes | None = None,
) -> Figure:
    """Draw one kind of an ``Embedding``: fakes as filled triangles, reals as open circles.

    table: the rows of one kind; quality: the row of the same kind (perplexity, kl_divergence,
    trustworthiness, seed, images), which is stated below. by: 'generator' or 'class', the colours.
    Images at one point in several groups (reals that generators share) are black. With more
    groups than six colours each has its own panel, fakes orange, reals blue, the other groups'
    images grey behind. ax: axes to draw into, up to six groups (:func:`one_panel`).
    Axes have no unit: only who is near whom means something, and not how far groups are apart.
    """
    table = table.copy()
    spread = table.groupby(["x", "y", "label"])[by].transform("nunique")
    table["group"] = table[by].where(spread == 1, SHARED)
    groups = sorted(set(table[by]))
    shared = (table["group"] == SHARED).any()
    if not one_panel(table, by):
        figure = _many_panels(table, groups, by, title)
    elif ax is None:
        figure = new_figure(0.75 * PAGE, 3.6)
        handles = _one_panel(figure.subplots(), table, groups, by, bool(shared), title)
        figure.legend(handles=handles, loc="outside right upper", frameon=False)
    else:
        handles = _one_panel(ax, table, groups, by, bool(shared), title)
        ax.legend(handles=handles, frameon=False)
        ax.set_xlabel(caption(quality), fontsize=6.5)
        whole = ax.get_figure(root=True)
        assert whole is not None
        return whole
    figure.supxlabel(caption(quality), fontsize=6.5, color="black")
    return figure


def one_panel(table: pd.DataFrame, by: str = "generator") -> bool:
    """Say whether the groups of :func:`plot_embedding` are few enough for one panel."""
    return table[by].nunique() <= len(COLOURS)


def caption(quality: Mapping[str, Any]) -> str:
    """Return what has to be known of a t-SNE in one line."""
    return (
        f"t-SNE of {quality['images']} images: perplexity {quality['perplexity']:.3g}, "
        f"seed {quality['seed']}, KL divergence {quality['kl_divergence']:.2f}, "
        f"trustworthiness {quality['trustworthiness']:.3f}"
    )


def _one_panel(
    axes: Axes, table: pd.DataFrame, groups: list[str], by: str, shared: bool, title: str
) -> list[Line2D]:
    """Draw all groups in one panel, and return what the legend shows."""
    axes.set_title(fill(title, 62))
    colours = dict(zip(groups, COLOURS, strict=False))
    for label in (0, 1):
        if shared:
            own = table[(table["group"] == SHARED) & (table["label"] == label)]
            _scatter(axes, own.drop_duplicates(["x", "y"]), label, "black")
        for group in groups:
            own = table[(table["group"] == group) & (table["label"] == label)]
            _scatter(axes, own, label, colours[group])
    _bare(axes)
    used = [group for group in groups if (table["group"] == group).any()]
    handles = _kinds(table, "black")
    handles.append(Line2D([], [], linestyle="", label=f"\n{by}"))
    handles += [
        Line2D([], [], marker="s", color=colours[group], linestyle="", ms=5, label=group or "none")
        for group in used
    ]
    if shared:
        handles.append(Line2D([], [], marker="s", color="black", linestyle="", ms=5, label=SHARED))
    return handles


def _many_panels(table: pd.DataFrame, groups: list[str], by: str, title: str) -> Figure:
    down = math.ceil(len(groups) / ACROSS)
    figure = new_figure(PAGE, 1.75 * down + 0.8)
    panels = figure.subplots(down, ACROSS, sharex=True, sharey=True, squeeze=False).ravel()
    figure.suptitle(fill(title, 56), fontsize=8.5)  # left of the legend
    for axes in panels[len(groups) :]:
        axes.set_visible(False)
    for axes, group in zip(panels, groups, strict=False):
        own, others = table[table[by] == group], table[table[by] != group]
        axes.scatter(others["x"], others["y"], s=3, color=PALE, linewidths=0, rasterized=True)
        _scatter(axes, own[own["label"] == 0], 0, BLUE)
        _scatter(axes, own[own["label"] == 1], 1, ORANGE)
        axes.set_title(group or "none", fontsize=7)
        _bare(axes)
    handles = [
        Line2D([], [], marker=REAL_MARK, mfc="none", color=BLUE, linestyle="", ms=4, label="real"),
        Line2D([], [], marker=FAKE_MARK, color=ORANGE, linestyle="", ms=4, label="fake"),
        Line2D([], [], marker=".", color=PALE, linestyle="", ms=5, label=OTHERS[by]),
    ]
    figure.legend(handles=handles, loc="outside right upper", frameon=False)
    return figure


def _scatter(axes: Axes, rows: pd.DataFrame, label: int, colour: str) -> None:
    if label:
        axes.scatter(
            rows["x"], rows["y"], s=13, marker=FAKE_MARK, color=colour, alpha=0.85, linewidths=0
        )
    else:
        axes.scatter(
            rows["x"], rows["y"], s=12, marker=REAL_MARK, facecolors="none", edgecolors=colour,
            linewidths=0.7,
        )  # fmt: skip


def _kinds(table: pd.DataFrame, colour: str) -> list[Line2D]:
    marks = {0: (REAL_MARK, "none", "real"), 1: (FAKE_MARK, colour, "fake")}
    return [
        Line2D([], [], marker=mark, mfc=fill, color=colour, linestyle="", ms=4, label=word)
        for label, (mark, fill, word) in marks.items()
        if (table["label"] == label).any()
    ]


def _bare(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(True)
    axes.spines[:].set(linewidth=0.5, color=GREY)
