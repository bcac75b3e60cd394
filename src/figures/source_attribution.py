"""Drawings of the source attribution study: accuracy, confusion, t-SNE, Grad-CAM, fingerprints."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .embedding import caption
from .style import BLUE, GREEN, GREY, ORANGE, PAGE, PURPLE, head, new_figure, styled

# One colour a class, reals black; the published five (black, blue, red, lime, cyan) end at five
# and are hard to tell apart for some.
CLASS_COLOURS = ("black", BLUE, ORANGE, GREEN, PURPLE, "#56B4E9", "#E69F00", GREY)
SET_MARKS = ("o", "^", "s", "D", "v", "P")
JET = mpl.colormaps["jet"]


@styled
def class_overlay(pixels: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Return the published Grad-CAM picture, uint8 (H, W, 3): (JET + image) / its maximum.

    pixels: uint8 (3, H, W), RGB; heat: (H, W), 0 … 1. Red is hot: the published files have red and
    blue swapped.
    """
    total = JET(heat)[..., :3] + pixels.transpose(1, 2, 0) / 255
    return np.rint(255 * total / total.max()).astype(np.uint8)


@styled
def heat_colours(heat: np.ndarray) -> np.ndarray:
    """Return a map (H, W), 0 … 1, in JET: uint8 (H, W, 3), red is hot."""
    return np.rint(255 * JET(heat)[..., :3]).astype(np.uint8)


@styled
def plot_class_maps(
    cells: Mapping[tuple[str, str], tuple[np.ndarray, np.ndarray, str, bool]],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    titles: Mapping[str, str],
    title: str = "",
) -> Figure:
    """Draw Grad-CAM of predicted classes: classes down, sets across.

    cells: (class, set) → pixels uint8 (3, H, W), heat (H, W), the words below it, and whether the
    prediction is right (else they are red). The first column shows the image itself.
    """
    side = PAGE / (len(columns) + 1)
    figure = new_figure(PAGE, len(rows) * (side + 0.16) + 0.3 + 0.25 * bool(title))
    grid = figure.subplots(len(rows), len(columns) + 1, squeeze=False)
    for down, row in enumerate(rows):
        for across, column in enumerate(("", *columns)):
            axes = grid[down, across]
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_box_aspect(1)  # also where there is no image
            axes.spines[:].set_visible(False)
            if down == 0:
                words = titles.get(column, column) if column else "image"
                axes.set_title(textwrap.fill(words, 20), fontsize=6.5)
            if across == 0:
                axes.set_ylabel(row, fontsize=6.5)
            cell = cells.get((row, column or columns[0]))
            if cell is None:
                continue
            pixels, heat, words, right = cell
            shown = class_overlay(pixels, heat) if column else pixels.transpose(1, 2, 0)
            axes.imshow(shown, interpolation="nearest")
            if column:
                axes.set_xlabel(words, fontsize=5.5, color="black" if right else "#c00000")
    head(figure, title)
    return figure


@styled
def plot_confusions(confusion: pd.DataFrame, sets: Mapping[str, str], *, title: str = "") -> Figure:
    """Draw the confusion of one detector, a panel a set: share of each true class, count in cells.

    confusion: columns set, truth, predicted, n; sets: set → its title.
    """
    classes = list(dict.fromkeys(confusion["truth"]))
    names = [name for name in sets if (confusion["set"] == name).any()]
    across = min(3, len(names))
    down = -(-len(names) // across)
    side = (PAGE - 1.0) / across
    figure = new_figure(PAGE, down * (side + 0.25) + 0.9)
    grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    for axes in grid.ravel()[len(names) :]:
        axes.set_visible(False)
    image = None
    for axes, name in zip(grid.ravel(), names, strict=False):
        own = confusion[confusion["set"] == name]
        counts = own.pivot_table("n", "truth", "predicted", "sum").loc[classes, classes].to_numpy()
        total = counts.sum(axis=1, keepdims=True)
        share = np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0)
        image = axes.imshow(share, vmin=0, vmax=1, cmap="Blues")
        for (at, to), value in np.ndenumerate(counts):
            if total[at, 0] and value:
                colour = "white" if share[at, to] > 0.6 else "black"
                axes.text(
                    to, at, f"{value:.0f}", ha="center", va="center", fontsize=6, color=colour
                )
        axes.set_xticks(range(len(classes)), classes, rotation=40, ha="right", fontsize=6)
        axes.set_yticks(range(len(classes)), classes, fontsize=6)
        axes.tick_params(labelbottom=True)
        axes.set_title(sets[name], fontsize=7)
        axes.spines[:].set_visible(False)
    for row in grid:
        row[0].set_ylabel("made by", fontsize=7)
    if image is not None:
        bar = figure.colorbar(image, ax=grid.ravel().tolist(), shrink=0.5, aspect=30)
        bar.set_label("share of the class's images, named as", fontsize=6.5)
        bar.ax.tick_params(labelsize=6)
    head(figure, title)
    return figure


@styled
def plot_source_attribution(metrics: pd.DataFrame, sets: Mapping[str, str]) -> Figure:
    """Draw the accuracy of every detector on every set with its 95 % interval.

    metrics: rows of the metric accuracy over all images: detector, set, value, low, high.
    """
    detectors = list(dict.fromkeys(metrics["detector"]))
    names = [name for name in sets if (metrics["set"] == name).any()]
    figure = new_figure(0.8 * PAGE, 0.9 + 0.32 * len(names))
    axes = figure.subplots()
    for at, detector in enumerate(detectors):
        own = metrics[metrics["detector"] == detector].set_index("set").loc[names]
        where = np.arange(len(names)) + 0.16 * (at - (len(detectors) - 1) / 2)
        spread = 100 * np.abs(own[["low", "high"]].to_numpy().T - own["value"].to_numpy())
        colour = CLASS_COLOURS[1:][at % (len(CLASS_COLOURS) - 1)]
        axes.errorbar(
            100 * own["value"], where, xerr=spread, fmt=SET_MARKS[at % len(SET_MARKS)], ms=4,
            lw=1, color=colour, label=detector,
        )  # fmt: skip
    axes.set_yticks(range(len(names)), [sets[name] for name in names])
    axes.invert_yaxis()
    axes.set_xlim(0, 102)
    axes.set_xlabel("images whose family is named rightly (%)")
    figure.legend(loc="outside right upper", frameon=False)
    return figure


@styled
def plot_world_embedding(
    table: pd.DataFrame,
    quality: Mapping[str, Any],
    sets: Mapping[str, str],
    *,
    title: str = "",
) -> Figure:
    """Draw a t-SNE with one colour a class and one marker a set.

    table: columns x, y, truth, set; quality: see :func:`plot_embedding`; sets: set → its name.
    Points are drawn in an order shuffled by a fixed seed, so that no class covers the others.
    """
    classes = sorted(set(table["truth"]), key=lambda name: (name != "real", name))
    names = [name for name in sets if (table["set"] == name).any()]
    colours = dict(zip(classes, CLASS_COLOURS * (1 + len(classes) // 8), strict=False))
    figure = new_figure(0.85 * PAGE, 4.4)
    axes = figure.subplots()
    axes.set_title(title)
    order = np.random.default_rng(0).permutation(len(table))
    shown = table.iloc[order]
    for name, mark in zip(names, SET_MARKS, strict=False):
        own = shown[shown["set"] == name]
        axes.scatter(
            own["x"], own["y"], s=13, marker=mark, linewidths=0.6, facecolors="none",
            edgecolors=[colours[one] for one in own["truth"]],
        )  # fmt: skip
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(True)
    axes.spines[:].set(linewidth=0.5, color=GREY)
    handles = [
        Line2D([], [], marker="s", color=colours[one], linestyle="", ms=5, label=one)
        for one in classes
    ]
    handles.append(Line2D([], [], linestyle="", label=""))
    handles += [
        Line2D([], [], marker=mark, mfc="none", color=GREY, linestyle="", ms=4.5, label=sets[name])
        for name, mark in zip(names, SET_MARKS, strict=False)
    ]
    figure.legend(handles=handles, loc="outside right upper", frameon=False)
    figure.supxlabel(caption(quality), fontsize=6.5, color="black")
    return figure


@styled
def plot_fingerprints(
    positions: pd.DataFrame, facts: Mapping[str, Any], chances: Mapping[str, float]
) -> Figure:
    """Draw accuracy over positions, a row a task: the grid, and single-pixel shifts.

    positions: see ``Fingerprints.positions``; facts: patch (pixels); chances: task → chance.
    The place of training has a white frame.
    """
    tasks = list(dict.fromkeys(positions["task"]))
    figure = new_figure(0.8 * PAGE, 2.6 * len(tasks))
    grid = figure.subplots(len(tasks), 2, squeeze=False)
    for row, task in zip(grid, tasks, strict=True):
        own = positions[positions["task"] == task]
        for axes, kind in zip(row, ("grid", "shift"), strict=True):
            table = own[own["kind"] == kind].pivot_table("accuracy", "top", "left")
            trained = own[(own["kind"] == kind) & own["trained"]]
            image = axes.imshow(
                100 * table, vmin=100 * chances[task], vmax=100, cmap="viridis", aspect="equal"
            )
            for place in trained.to_dict("records"):
                at = table.index.get_loc(place["top"]), table.columns.get_loc(place["left"])
                axes.add_patch(
                    mpl.patches.Rectangle(
                        (at[1] - 0.5, at[0] - 0.5), 1, 1, fill=False, color="white", lw=1.5
                    )
                )
            axes.set_xticks(range(0, len(table.columns), 2), table.columns[::2], fontsize=6)
            axes.set_yticks(range(0, len(table.index), 2), table.index[::2], fontsize=6)
            axes.set_xlabel("left of the patch (px)", fontsize=6.5)
            axes.set_ylabel("top (px)", fontsize=6.5)
            words = "same phase" if kind == "grid" else "shifted by single pixels"
            axes.set_title(f"{task}: {words}", fontsize=7)
        bar = figure.colorbar(image, ax=row.tolist(), shrink=0.8, aspect=20)
        bar.set_label(f"accuracy (%), from chance, {100 * chances[task]:.0f}", fontsize=6.5)
        bar.ax.tick_params(labelsize=6)
    figure.supxlabel(
        f"patches of {facts['patch']} px; trained only at the framed place", fontsize=6.5
    )
    return figure
