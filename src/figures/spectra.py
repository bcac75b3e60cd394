"""Mean spectra of reals and fakes, and their power along frequency."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .style import (
    DIVERGING,
    FAKE,
    GREY,
    PAGE,
    REAL,
    RISING,
    colour_bar,
    head,
    key,
    new_figure,
    styled,
)

BLOCKS = 3  # generators side by side
BAR = {"location": "bottom", "aspect": 40, "shrink": 0.7, "pad": 0.02}
KINDS = ("image", "residual")
STYLES = {"image": "-", "residual": "--"}


@styled
def plot_spectra(
    mean: Mapping[tuple[str, int], np.ndarray],
    peaks: pd.DataFrame,
    *,
    title: str = "",
    note: str = "",
) -> Figure:
    """Draw the reals' mean spectra, and each generator's difference from its reals.

    mean, peaks: of a ``Spectra``. Image and residual side by side; 0 is in the middle. Found
    peaks have a circle.
    """
    generators = sorted({name for name, _ in mean})
    reals = np.mean([mean[name, 0] for name in generators], axis=0)
    apart = {name: mean[name, 1] - mean[name, 0] for name in generators}
    reach = max(0.3, float(np.percentile(np.abs(list(apart.values())), 99.7)))
    cells = 1 + len(generators)
    down = math.ceil(cells / BLOCKS)
    side = PAGE / (2 * BLOCKS)
    figure = new_figure(PAGE, 1.35 + down * (side + 0.12))
    grid = figure.subplots(down, 2 * BLOCKS, squeeze=False).reshape(-1, 2)
    for axes in grid.flat:
        axes.set_axis_off()
    low, high = np.percentile(reals, [0.5, 99.5])
    for place, kind in enumerate(KINDS):
        axes = grid[0, place]
        axes.imshow(_whole(reals[place]), cmap=RISING, vmin=low, vmax=high, interpolation="nearest")
        axes.set_title(f"reals, {kind}", fontsize=6)
    for line, name in zip(grid[1:], generators, strict=False):
        own = peaks[(peaks["generator"] == name) & peaks["found"]]
        for place, (axes, kind) in enumerate(zip(line, KINDS, strict=True)):
            axes.imshow(
                _whole(apart[name][place]), cmap=DIVERGING, vmin=-reach, vmax=reach,
                interpolation="nearest",
            )  # fmt: skip
            axes.set_title(f"{name}, {kind}", fontsize=6)
            if kind == "residual":
                _circles(axes, own, reals.shape[1])
    left, right = (list(grid.reshape(down, -1)[:, part].flat) for part in np.s_[:BLOCKS, BLOCKS:])
    colour_bar(figure, left, (low, high), RISING, "reals: log10 of power", **BAR)
    colour_bar(figure, right, (-reach, reach), DIVERGING, "fakes − reals", **BAR)
    head(figure, title, note)
    return figure


@styled
def plot_radial(
    radial: pd.DataFrame, peaks: pd.DataFrame, *, title: str = "", note: str = ""
) -> Figure:
    """Draw power along frequency of reals and fakes, one panel a generator.

    radial, peaks: of a ``Spectra``. Found peaks along an axis are ticks with their period.
    """
    generators = list(dict.fromkeys(radial["generator"]))
    down = math.ceil(len(generators) / 4)
    across = math.ceil(len(generators) / down)
    figure = new_figure(max(PAGE * across / 4, 3.4), 0.9 + 1.45 * down)
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for axes, name in zip(grid.flat, generators, strict=False):
        for label, colour in (("real", REAL), ("fake", FAKE)):
            for kind, style in STYLES.items():
                own = radial[
                    (radial["generator"] == name)
                    & (radial["label"] == label)
                    & (radial["kind"] == kind)
                ]
                x = own["frequency"]
                axes.plot(x, own["power"], style, color=colour, lw=1, label=f"{label}s, {kind}")
                axes.fill_between(x, own["low"], own["high"], color=colour, alpha=0.18, lw=0)
        found = peaks[(peaks["generator"] == name) & peaks["found"]]
        for period in sorted(set(found.loc[found["down"] * found["across"] == 0, "period"])):
            axes.axvline(1 / period, color=GREY, lw=0.5, ls=":")
            axes.text(
                1 / period, 1.0, f"{period:g} px", transform=axes.get_xaxis_transform(),
                fontsize=5, color=GREY, ha="right", va="top", rotation=90,
            )  # fmt: skip
        axes.set_title(name, fontsize=7)
    for axes in grid.flat[len(generators) :]:
        axes.set_visible(False)
    for place, axes in enumerate(grid.flat[: len(generators)]):
        if place + across >= len(generators):
            axes.set_xlabel("cycles a pixel")
            axes.tick_params(labelbottom=True)
        if place % across == 0:
            axes.set_ylabel("log10 of power")
    key(figure, grid[0, 0].get_legend_handles_labels()[0], note)
    head(figure, title)
    return figure


def _whole(half: np.ndarray) -> np.ndarray:
    """Return the whole plane of ``rfft2``'s half (S, S/2 + 1), 0 in the middle."""
    side = half.shape[0]
    whole = np.empty((side, side))
    whole[:, : side // 2 + 1] = half
    whole[:, side // 2 + 1 :] = np.roll(half[:, 1 : side // 2][::-1, ::-1], 1, axis=0)
    return np.fft.fftshift(whole)


def _circles(axes: Axes, found: pd.DataFrame, side: int) -> None:
    for down, across in zip(found["down"], found["across"], strict=True):
        for sign in (1, -1):
            x, y = (side // 2 + sign * value * side for value in (across, down))
            if 0 <= x < side and 0 <= y < side:
                axes.plot(x, y, "o", mfc="none", mec="black", ms=5, mew=0.5)
