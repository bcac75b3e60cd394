"""Feature-map dropout: the table as a heat map, and AP as maps go."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .style import MASK_COLOURS, PAGE, new_figure, styled

MASKS = (
    "baseline",
    "top-k",
    "random-k",
    "random-k-layer-matched",
    "random-k-magnitude-matched",
    "low-k",
    "lowest-non-zero",
)
LINES = ("random-k", "random-k-layer-matched", "top-k")
MANY = 6  # generators, above which the panels stand in two rows
PANELS = (
    ("ap", "AP\n(%)"),
    ("real_accuracy", "accuracy on\nreals (%)"),
    ("fake_accuracy", "accuracy on\nfakes (%)"),
    ("change_mean_logit_real", "change of the\nreals' mean logit"),
    ("change_mean_logit_fake", "change of the\nfakes' mean logit"),
)


@styled
def plot_dropout(summary: pd.DataFrame, *, title: str = "") -> Figure:
    """Draw the dropout table: masks down, generators across, one panel a number.

    summary: of a ``DropoutResult``. The first three panels are percentages on one scale, 0 to 100;
    the last two are signed changes of the mean logit on one scale symmetric about 0, which tell
    evidence for fake that was removed (fakes fall, reals stay) from a damaged layer.
    """
    generators = list(dict.fromkeys(summary["generator"]))
    masks = [mask for mask in MASKS if mask in set(summary["mask"])]
    height = 1.0 + 0.24 * len(masks) + 0.05 * max(map(len, generators))
    rows, size = (1, 5.5) if len(generators) <= MANY else (2, 4.8)
    figure = new_figure(PAGE, rows * height)
    grid_of = figure.subplots(rows, -(-len(PANELS) // rows), sharey=True, squeeze=False)
    panels = list(grid_of.flat)[: len(PANELS)]
    for empty in list(grid_of.flat)[len(PANELS) :]:
        empty.set_axis_off()
    signed = [name for name, _ in PANELS if name.startswith("change")]
    reach = float(np.nanmax(np.abs(summary[signed].to_numpy()))) or 1.0
    for axes, (column, label) in zip(panels, PANELS, strict=True):
        grid = summary.pivot_table(index="mask", columns="generator", values=column, dropna=False)
        grid = grid.reindex(index=masks, columns=generators)
        change = column in signed
        values = grid.to_numpy() * (1 if change else 100)
        limits = (-reach, reach) if change else (0, 100)
        axes.imshow(
            values,
            cmap="RdBu" if change else "cividis",
            vmin=limits[0],
            vmax=limits[1],
            aspect="auto",
        )
        for (row, place), value in np.ndenumerate(values):
            if np.isnan(value):
                continue
            dark = abs(value) > 0.6 * reach if change else value < 50
            text = f"{value:+.{int(abs(value) < 9.95)}f}" if change else f"{value:.0f}"
            text = "0" if change and abs(value) < 0.05 else text
            colour = "white" if dark else "black"
            axes.text(place, row, text, ha="center", va="center", fontsize=size, color=colour)
        axes.set_xticks(range(len(generators)), generators, rotation=90, fontsize=6)
        axes.set_yticks(range(len(masks)), masks)
        axes.set_title(label, fontsize=6.5)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    if title:
        figure.suptitle(title, fontsize=8)
    return figure


@styled
def plot_ap_curve(curve: pd.DataFrame, k: int, *, title: str = "") -> Figure:
    """Draw AP against the number of dropped maps, one panel a generator.

    curve: of a ``DropoutResult``; random masks as their mean with the range of their draws.
    """
    generators = list(dict.fromkeys(curve["generator"]))
    figure, panels = _panels(generators)
    for axes, generator in zip(panels, generators, strict=True):
        own = curve[curve["generator"] == generator]
        base = own.loc[own["mask"] == "baseline", "ap"].iloc[0]
        axes.axhline(100 * base, color="black", linewidth=0.6, linestyle=":", label="none dropped")
        for mask in LINES:
            rows = own[own["mask"] == mask].sort_values("k")
            if not len(rows):
                continue
            colour = MASK_COLOURS[mask]
            axes.plot(rows["k"], 100 * rows["ap"], color=colour, marker=".", lw=1, ms=3, label=mask)
            if (rows["draws"] > 1).any():
                low, high = 100 * rows["ap_low"], 100 * rows["ap_high"]
                axes.fill_between(rows["k"], low, high, color=colour, alpha=0.2, linewidth=0)
        _along_k(axes, own["k"], k, generator)
        axes.set_ylim(0, 104)
    _finish(figure, panels, "AP (%)", title)
    return figure


@styled
def plot_gap_curve(curve: pd.DataFrame, k: int, *, title: str = "") -> Figure:
    """Draw the share of the gap between fakes and reals that went, against the maps taken away.

    curve: ``gap_curve`` of a ``DropoutResult``, one value; bands are 95 % intervals by photograph,
    of the mean over draws where masks are random. One panel a generator.
    """
    generators = list(dict.fromkeys(curve["generator"]))
    figure, panels = _panels(generators)
    for axes, generator in zip(panels, generators, strict=True):
        own = curve[curve["generator"] == generator]
        for height in (0, 100):
            axes.axhline(height, color="black", linewidth=0.6, linestyle=":")
        for mask in LINES:
            rows = own[own["mask"] == mask].sort_values("k")
            if not len(rows):
                continue
            colour, share = MASK_COLOURS[mask], 100 * rows["gap_removed"]
            axes.plot(rows["k"], share, color=colour, marker=".", lw=1, ms=3, label=mask)
            low, high = 100 * rows["gap_removed_low"], 100 * rows["gap_removed_high"]
            axes.fill_between(rows["k"], low, high, color=colour, alpha=0.2, linewidth=0)
        _along_k(axes, own["k"], k, generator)
        axes.set_ylim(-60, 140)
    _finish(figure, panels, "gap removed (%)", title)
    return figure


def _panels(generators: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """Return a figure with a panel a generator, in two rows where they are many."""
    columns = len(generators) if len(generators) <= MANY else -(-len(generators) // 2)
    rows = -(-len(generators) // columns)
    figure = new_figure(PAGE, 0.5 + 1.7 * rows)
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for empty in list(grid.flat)[len(generators) :]:
        empty.set_axis_off()
    return figure, list(grid.flat)[: len(generators)]


def _along_k(axes: Axes, ks: pd.Series, k: int, generator: str) -> None:
    """Set a logarithmic axis of k that names the k there are."""
    axes.axvline(k, color="black", linewidth=0.4)
    axes.set(xscale="log", xlabel="maps taken away")
    # Plain numbers at the k there are: a logarithmic axis would print powers between them.
    shown = sorted(set(ks) - {0})
    axes.set_xticks(shown, [str(one) for one in shown], fontsize=6)
    axes.set_xticks([], minor=True)
    axes.set_title(generator)


def _finish(figure: Figure, panels: Sequence[Axes], label: str, title: str) -> None:
    columns = -(-len(panels) // (1 + (len(panels) > MANY)))
    for axes in panels[::columns]:
        axes.set_ylabel(label)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    if title:
        figure.suptitle(title, fontsize=8)
