"""The published dropout beside the causal one, along k."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from .style import PAGE, head, new_figure, styled

PANELS = (
    ("gap_removed", "gap removed (%)"),
    ("fake_accuracy_05", "fakes found (%)"),
    ("real_accuracy_05", "reals right (%)"),
)
TOP, MATCHED = "top-k", "random-k-layer-matched"
COLOURS = {"published": "#c25a2b", "causal": "#2b6cb0"}


@styled
def plot_causal(curves: pd.DataFrame, *, title: str = "") -> Figure:
    """Draw a row a detector: gap removed, fakes found and reals right against the maps taken away.

    curves: detector, arm ('published', 'causal'), mask, k and each number with its interval
    (``gap_curve.csv`` of both experiments), of one generator or mean. Lines: the top maps, with
    their 95 % interval; dashed: random maps of the same layers with the same value.
    """
    detectors = list(dict.fromkeys(curves["detector"]))
    figure = new_figure(PAGE, 0.5 + 1.55 * len(detectors))
    grid = figure.subplots(len(detectors), len(PANELS), squeeze=False)
    for detector, line in zip(detectors, grid, strict=True):
        for axes, (column, label) in zip(line, PANELS, strict=True):
            for arm, colour in COLOURS.items():
                own = curves[(curves["detector"] == detector) & (curves["arm"] == arm)]
                _lines(axes, own, column, arm, colour)
            axes.set_xscale("log")
            shown = sorted(set(curves.loc[curves["detector"] == detector, "k"]) - {0})
            few = shown if len(shown) <= 7 else shown[:: -(-len(shown) // 7)]
            axes.set_xticks(few, [str(one) for one in few], fontsize=5.5)
            axes.set_xticks([], minor=True)
            axes.set_ylabel(label)
            if column != "gap_removed":
                axes.set_ylim(-3, 103)
        line[0].set_title(detector, loc="left")
    for axes in grid[-1]:
        axes.set_xlabel("maps taken away")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    head(figure, title)
    return figure


def _lines(axes: object, own: pd.DataFrame, column: str, arm: str, colour: str) -> None:
    for mask, style, name in ((TOP, "-", arm), (MATCHED, "--", f"{arm}: random, same layers")):
        rows = own[own["mask"] == mask].sort_values("k")
        rows = rows[rows["k"] > 0]
        k, values = rows["k"], 100 * rows[column]
        axes.plot(k, values, style, color=colour, marker=".", ms=3, lw=1, label=name)  # type: ignore[attr-defined]
        if mask == TOP:
            low, high = 100 * rows[f"{column}_low"], 100 * rows[f"{column}_high"]
            axes.fill_between(k, low, high, color=colour, alpha=0.18, linewidth=0)  # type: ignore[attr-defined]
