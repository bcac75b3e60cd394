"""Feature-map dropout: what dropping took away as a heat map, and AP and the gap along k."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .style import (
    DIVERGING,
    GREY,
    MASK_COLOURS,
    MASK_NAMES,
    PAGE,
    colour_bar,
    head,
    key,
    new_figure,
    signed,
    styled,
)

LINES = {"random-k": ("--", "s"), "random-k-layer-matched": (":", "^"), "top-k": ("-", "o")}
BAR = {"location": "bottom", "aspect": 40, "shrink": 0.8, "pad": 0.03, "fraction": 0.04}
MANY = 6  # generators, above which the panels stand in two rows
BASE, TOP, ENSEMBLE = "baseline", "top-k", "random-k-ensemble"
MEANS = "macro mean"
# Column of the summary, its title, and what it is times to be read.
PANELS = (
    ("ap", "AP", 100),
    ("fake_accuracy", "fakes found", 100),
    ("real_accuracy", "reals right", 100),
    ("mean_logit_fake", "mean logit of fakes", 1),
    ("mean_logit_real", "mean logit of reals", 1),
)
REALS = "the reals, shared by all"
LINE = 0.21  # inches of a row


@styled
def plot_dropout(
    summary: pd.DataFrame, *, seen: str | None = None, title: str = "", note: str = ""
) -> Figure:
    """Draw what each mask changes: generators down, masks across, one panel a number.

    summary: of a ``DropoutResult``. The first column of a panel is the whole network, as it is; the
    others are differences from it, with the standard deviation of the draws where masks are random.
    Generators by what the top maps take from their AP, the seen one named, means below. Mean
    logits tell evidence for fake that was removed (fakes fall, reals stay) from damage. Where all
    generators share their reals, one row says what happens to these.
    """
    there = set(summary["mask"]) - {BASE, ENSEMBLE}  # which repeats random maps
    masks = [mask for mask in MASK_NAMES if mask in there]
    rows = _order(summary)
    change = summary[summary["mask"].isin(masks)].groupby("mask")["change_mean_logit_real"]
    shared = len(rows) > 1 and bool((change.max() - change.min() < 1e-9).all())
    panels = PANELS[: len(PANELS) - shared]
    lines: list[str | None] = list(rows)
    if any(name.startswith(MEANS) for name in rows):
        lines.insert([name.startswith(MEANS) for name in rows].index(True), None)
    if shared:
        lines += [None, REALS]
    figure = new_figure(PAGE, 2.5 + LINE * len(lines))
    grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    cells = [_cells(summary, lines, masks, *panel) for panel in panels]
    points = max([5.0, *(np.nanmax(np.abs(one[1]), initial=0) for one in cells[:3])])
    logits = max([0.5, *(np.nanmax(np.abs(one[1]), initial=0) for one in cells[3:])])
    for place, (axes, (_, label, _), (base, values, spread)) in enumerate(
        zip(grid, panels, cells, strict=True)
    ):
        reach = points if place < 3 else logits
        _heat(axes, base, values, spread, reach, 1 if place >= 3 else 0)
        axes.set_title(f"{label}{' (%)' if place < 3 else ''}", fontsize=7.5)
        names = [MASK_NAMES[BASE], *(MASK_NAMES[mask] for mask in masks)]
        axes.set_xticks(np.arange(len(names)) + 0.5, names, rotation=90, fontsize=6)
    grid[0].set_yticks(np.arange(len(lines)) + 0.5, [_named(one, seen) for one in lines])
    for text, name in zip(grid[0].get_yticklabels(), lines, strict=True):
        text.set_fontsize(7)
        text.set_fontweight("bold" if name and name.startswith(MEANS) else "normal")
    for panels_of, reach, words in (
        (grid[:3], points, "change in points"),
        (grid[3:], logits, "change of the mean logit"),
    ):
        colour_bar(figure, list(panels_of), (-reach, reach), DIVERGING, words, **BAR)
    head(figure, title, note)
    return figure


def _order(summary: pd.DataFrame) -> list[str]:
    """Return the generators, most AP lost to the top maps first, then the means."""
    every = list(dict.fromkeys(summary["generator"]))
    top = summary[summary["mask"] == TOP].set_index("generator")["change_ap"]
    own = [name for name in every if not name.startswith(MEANS)]
    own.sort(key=lambda name: (float(top.get(name, 0.0)), name))
    return own + [name for name in every if name.startswith(MEANS)]


def _named(name: str | None, seen: str | None) -> str:
    return "" if name is None else f"{name} (seen)" if name == seen else name


def _cells(
    summary: pd.DataFrame,
    lines: Sequence[str | None],
    masks: Sequence[str],
    column: str,
    label: str,
    scale: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the whole network's numbers (R,), the masks' differences and their spread (R, M)."""
    by = {(row["generator"], row["mask"]): row for row in summary.to_dict("records")}
    base = np.full(len(lines), np.nan)
    values, spread = (np.full((len(lines), len(masks)), np.nan) for _ in range(2))
    logits = scale == 1
    for line, name in enumerate(lines):
        of, own = name, column
        if name == REALS:
            if column != "mean_logit_fake":
                continue
            of, own = next(one for one in lines if one), "mean_logit_real"
        whole = by.get((of, BASE))
        if whole is None:
            continue
        base[line] = scale * whole[own]
        for place, mask in enumerate(masks):
            row = by.get((of, mask))
            if row is not None:
                values[line, place] = scale * (row[own] - whole[own])
                spread[line, place] = scale * row.get(f"{'change_' * logits}{own}_sd", np.nan)
    return base, values, spread


def _heat(
    axes: Axes, base: np.ndarray, values: np.ndarray, spread: np.ndarray, reach: float, digits: int
) -> None:
    down, across = values.shape
    edges = np.arange(1, across + 2), np.arange(down + 1)
    axes.pcolormesh(
        *edges, np.ma.masked_invalid(values), cmap=DIVERGING, vmin=-reach, vmax=reach,
        edgecolors="white", linewidth=0.4,
    )  # fmt: skip
    size = float(np.clip(34 / across, 4.2, 5.6))
    for row, value in enumerate(base):
        if not np.isnan(value):
            text = f"{value:.{digits}f}".replace("-", "−")
            axes.text(0.5, row + 0.5, text, ha="center", va="center", fontsize=size)
    for (row, place), value in np.ndenumerate(values):
        if np.isnan(value):
            continue
        text, dark = signed(value), abs(value) > 0.62 * reach
        if spread[row, place] == spread[row, place]:
            text += f"\n±{spread[row, place]:.{int(spread[row, place] < 9.95)}f}"
        axes.text(
            place + 1.5, row + 0.5, text, ha="center", va="center", fontsize=size,
            color="white" if dark else "black", linespacing=0.95,
        )  # fmt: skip
    axes.set(xlim=(0, across + 1), ylim=(down, 0))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


@styled
def plot_ap_curve(
    curve: pd.DataFrame,
    k: int,
    *,
    chance: Mapping[str, float] | None = None,
    seen: str | None = None,
    title: str = "",
    note: str = "",
) -> Figure:
    """Draw AP against the number of dropped maps, one panel a generator.

    curve: of a ``DropoutResult``; random masks as their mean with the range of their draws.
    chance: generator → AP of guessing, the share of fakes, half by default.
    """
    chance = chance or {}
    every = [100 * chance.get(str(name), 0.5) for name in curve["generator"]]
    low = min([100 * float(curve["ap_low"].min()), *every]) - 6

    def lines(axes: Axes, own: pd.DataFrame, generator: str) -> None:
        base = 100 * own.loc[own["mask"] == BASE, "ap"].iloc[0]
        axes.axhline(base, color="black", lw=0.8, ls=":", label=MASK_NAMES[BASE])
        guess = 100 * chance.get(generator, 0.5)
        axes.axhline(guess, color=GREY, lw=0.8, ls=(0, (5, 1, 1, 1)), label="guessing")
        for mask, rows in _by_mask(own):
            _line(axes, rows, mask, 100 * rows["ap"])
            ends = 100 * rows["ap_low"], 100 * rows["ap_high"]
            if (rows["draws"] > 1).all():
                axes.fill_between(rows["k"], *ends, color=MASK_COLOURS[mask], alpha=0.2, lw=0)
            else:
                axes.vlines(rows["k"], *ends, color=MASK_COLOURS[mask], lw=1)
        axes.set_ylim(max(low, -2), 103)

    return _along(curve, k, lines, "AP (%)", seen, title, note)


@styled
def plot_gap_curve(
    curve: pd.DataFrame, k: int, *, seen: str | None = None, title: str = "", note: str = ""
) -> Figure:
    """Draw the share of the gap between fakes and reals that went, against the maps taken away.

    curve: ``gap_curve`` of a ``DropoutResult``, one value; bands are 95 % intervals by photograph,
    of the mean over draws where masks are random. One panel a generator.
    """

    def lines(axes: Axes, own: pd.DataFrame, generator: str) -> None:
        for height in (0, 100):
            axes.axhline(height, color="black", linewidth=0.6, linestyle=":")
        for mask, rows in _by_mask(own):
            _line(axes, rows, mask, 100 * rows["gap_removed"])
            low, high = 100 * rows["gap_removed_low"], 100 * rows["gap_removed_high"]
            axes.fill_between(rows["k"], low, high, color=MASK_COLOURS[mask], alpha=0.2, lw=0)
        axes.set_ylim(-60, 140)

    return _along(curve, k, lines, "gap removed (%)", seen, title, note)


def _along(
    curve: pd.DataFrame, k: int, lines: Any, label: str, seen: str | None, title: str, note: str
) -> Figure:
    """Draw a panel a generator on a logarithmic axis of k that names the k there are."""
    generators = list(dict.fromkeys(curve["generator"]))
    rows = 1 if len(generators) <= MANY else -(-len(generators) // 5)
    columns = -(-len(generators) // rows)
    figure = new_figure(PAGE, 0.7 + 1.6 * rows)
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for place, axes in enumerate(grid.flat):
        if place >= len(generators):
            axes.set_visible(False)
            continue
        generator = generators[place]
        own = curve[curve["generator"] == generator]
        lines(axes, own, generator)
        axes.axvline(k, color=GREY, linewidth=0.6, label=f"k = {k}")
        shown = sorted(set(own["k"]) - {0})
        axes.set(xscale="log", xlim=(shown[0] / 1.25, shown[-1] * 1.25))
        # Plain numbers at the k there are: a logarithmic axis would print powers between them.
        axes.set_xticks(shown, [str(one) for one in shown], fontsize=6)
        axes.set_xticks([], minor=True)
        mean = generator.startswith(MEANS)
        name = _named(generator, seen)
        axes.set_title(name, fontsize=7, fontweight="bold" if mean else "normal")
        if place + columns >= len(generators):
            axes.set_xlabel("maps dropped")
        if place % columns == 0:
            axes.set_ylabel(label)
    key(figure, grid[0, 0].get_legend_handles_labels()[0], note)
    head(figure, title)
    return figure


def _by_mask(own: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    found = [(mask, own[own["mask"] == mask].sort_values("k")) for mask in LINES]
    return [(mask, rows) for mask, rows in found if len(rows)]


def _line(axes: Axes, rows: pd.DataFrame, mask: str, values: pd.Series) -> None:
    style, marker = LINES[mask]
    axes.plot(
        rows["k"], values, style, color=MASK_COLOURS[mask], marker=marker, lw=1.1, ms=2.5,
        label=MASK_NAMES[mask],
    )  # fmt: skip
