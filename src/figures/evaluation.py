"""How well a detector does: its scores, ROC and PR curves, calibration and worst mistakes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from .style import BLUE, FAKE, GREY, ORANGE, PAGE, REAL, head, key, new_figure, one_panel, styled

ACROSS = 4  # generators side by side
BINS = 24  # of logits
CURVES = {
    "roc": ("reals called fake (%)", "fakes found (%)", "AUC", "auc", BLUE),
    "pr": ("fakes found (%)", "precision (%)", "AP", "ap", ORANGE),
}


@styled
def plot_scores(
    scores: pd.DataFrame, table: pd.DataFrame, *, title: str = "", note: str = ""
) -> Figure:
    """Draw the logits of reals (up) and fakes (down), one panel a generator, lowest AP first.

    scores, table: of an ``Evaluation``. A panel's title says how many of each are called fake.
    """
    rows = _by_ap(table)
    figure, grid = _panels(len(rows), 1.25)
    panels = list(grid[0])
    low, high = scores["logit"].min(), scores["logit"].max()
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    most = 1
    for axes, row in zip(panels, rows, strict=True):
        own = scores[scores["generator"] == row["generator"]]
        said = []
        for label, sign, colour, name in ((0, 1, REAL, "reals"), (1, -1, FAKE, "fakes")):
            logits = own.loc[own["label"] == label, "logit"]
            counts, _ = np.histogram(logits, edges)
            axes.stairs(sign * counts, edges, color=colour, fill=True, label=name)
            most = max(most, int(counts.max()))
            said.append(f"{(logits > 0).sum()} of {len(logits)} {name}")
        axes.axvline(0, color="black", linewidth=0.8, linestyle=":", label="threshold")
        axes.axhline(0, color="black", linewidth=0.5)
        axes.set_title(f"{row['generator']}, AP {100 * row['ap']:.0f} %", fontsize=7, pad=10)
        axes.text(
            0.5, 1.01, f"called fake: {', '.join(said)}", transform=axes.transAxes, ha="center",
            va="bottom", fontsize=5, color=GREY,
        )  # fmt: skip
    for axes in panels:
        axes.set_ylim(-1.05 * most, 1.05 * most)
        axes.set_yticks([-most, 0, most], [str(most), "0", str(most)])
    _outer(panels, "logit", "images")
    key(figure, panels[0].get_legend_handles_labels()[0], note)
    head(figure, title)
    return figure


@styled
def plot_curves(
    curves: pd.DataFrame, table: pd.DataFrame, *, title: str = "", note: str = ""
) -> Figure:
    """Draw ROC, then precision against recall, each with its band, one panel a generator.

    curves, table: of an ``Evaluation``; dotted: guessing. Lowest AP first.
    """
    rows = _by_ap(table)
    figure, grid = _panels(len(rows), 1.3, kinds=2)
    for line, (curve, (x, y, name, column, colour)) in zip(grid, CURVES.items(), strict=True):
        for axes, row in zip(line, rows, strict=True):
            own = curves[(curves["generator"] == row["generator"]) & (curves["curve"] == curve)]
            # Between two thresholds nothing is found more: a curve goes in steps.
            step = {"step": "post"} if curve == "roc" else {"step": "pre"}
            axes.fill_between(
                100 * own["x"], 100 * own["low"], 100 * own["high"], color=colour, alpha=0.2,
                linewidth=0, **step,
            )  # fmt: skip
            axes.step(100 * own["x"], 100 * own["y"], color=colour, lw=1.2, where=step["step"])
            share = 100 * row["n_fake"] / (row["n_real"] + row["n_fake"])
            guess = ([0, 100], [0, 100]) if curve == "roc" else ([0, 100], [share, share])
            axes.plot(*guess, color="black", linewidth=0.6, linestyle=":")
            axes.set(xlim=(-2, 102), ylim=(-2, 104), xticks=[0, 50, 100], yticks=[0, 50, 100])
            axes.set_title(f"{row['generator']}\n{name} {100 * row[column]:.0f} %", fontsize=7)
        _outer(line, x, y)
    head(figure, title, note)
    return figure


@styled
def plot_calibration(
    reliability: pd.DataFrame, *, title: str = "", note: str = "", ax: Axes | None = None
) -> Figure | Axes:
    """Draw the share of fakes against the probability of fake, with intervals; dotted: as it says.

    reliability: of an ``Evaluation``; the number of images stands at each point. ax: axes to draw
    into, which are given back.
    """
    drawn, axes = one_panel(ax, 3.4, 3.3)
    p, share = 100 * reliability["p"], 100 * reliability["fakes"]
    axes.plot([0, 100], [0, 100], color="black", linewidth=0.6, linestyle=":")
    axes.vlines(p, 100 * reliability["low"], 100 * reliability["high"], color=BLUE, linewidth=1.2)
    axes.plot(p, share, "o", color=BLUE, markersize=3.5)
    for x, y, n in zip(p, share, reliability["n"], strict=True):
        above = y < 95
        axes.annotate(
            f"{n:,}", (x, y), xytext=(3, 3 if above else -3), textcoords="offset points",
            fontsize=5.5, color=GREY, va="bottom" if above else "top",
        )  # fmt: skip
    axes.set(xlim=(-3, 105), ylim=(-3, 105), xlabel="probability of fake (%)")
    axes.set_ylabel("images that are fake (%)")
    axes.set_aspect("equal")
    head(drawn, title, note)
    return drawn


@styled
def plot_mistakes(
    rows: Sequence[tuple[str, Sequence[tuple[Image.Image | None, str]]]],
    across: int,
    *,
    title: str = "",
    note: str = "",
) -> Figure:
    """Draw rows of images with a text below each; a row without any says so by its name alone.

    rows: name → pictures (None where a file cannot be read any more) and what stands below.
    """
    high = [1.6 if images else 0.25 for _, images in rows]
    figure = new_figure(PAGE, 0.5 + sum(high))
    grid = figure.subplots(len(rows), across, squeeze=False, height_ratios=high)
    for line, (name, images) in zip(grid, rows, strict=True):
        for axes in line:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        line[0].set_title(name, loc="left", fontsize=7.5)
        for axes, (picture, text) in zip(line, images, strict=False):
            if picture is None:
                axes.text(0.5, 0.5, "file not there", ha="center", va="center", fontsize=6)
            else:
                axes.imshow(np.asarray(picture), interpolation="nearest")
            axes.set_xlabel(text, fontsize=5.5)
    head(figure, title, note)
    return figure


def _by_ap(table: pd.DataFrame) -> list[dict]:
    own = table[table["generator"] != "macro mean"]
    return own.sort_values("ap", kind="stable").to_dict("records")  # type: ignore[no-any-return]


def _panels(generators: int, high: float, kinds: int = 1) -> tuple[Figure, np.ndarray]:
    """Return a figure, and for each kind its panels (kinds, generators)."""
    down = math.ceil(generators / ACROSS)
    across = math.ceil(generators / down)
    figure = new_figure(max(PAGE * across / ACROSS, 3.4), 0.7 + high * down * kinds)
    grid = figure.subplots(down * kinds, across, sharex=True, sharey=True, squeeze=False)
    grid = grid.reshape(kinds, -1)
    for axes in grid[:, generators:].flat:
        axes.set_visible(False)
    return figure, grid[:, :generators]


def _outer(panels: Sequence[Axes], x: str, y: str) -> None:
    """Label the lowest panel of each column and the first of each row."""
    across = math.ceil(len(panels) / math.ceil(len(panels) / ACROSS))
    for place, axes in enumerate(panels):
        lowest, first = place + across >= len(panels), place % across == 0
        axes.tick_params(labelbottom=lowest, labelleft=first)
        if lowest:
            axes.set_xlabel(x)
        if first:
            axes.set_ylabel(y)
