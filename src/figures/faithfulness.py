"""Tests of explanation methods: curves, randomisation, agreement."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .style import BLUE, GREEN, GREY, INK, ORANGE, PAGE, PURPLE, head, key, new_figure, styled

COLOURS = {
    "lrp": ORANGE,
    "guided-gradcam": BLUE,
    "gradcam": GREEN,
    "gradient": PURPLE,
    "guided-backprop": INK,
    "random": GREY,
}
MARKERS = {"lrp": "o", "guided-gradcam": "s", "gradcam": "^", "gradient": "D", "random": "x"}


@styled
def plot_faithfulness(
    curves: pd.DataFrame,
    randomisation: pd.DataFrame,
    agreement: pd.DataFrame,
    *,
    title: str = "",
    note: str = "",
) -> Figure:
    """Draw deletion, insertion, the randomisation check and the methods' agreement, side by side.

    Arguments: the tables of a ``Faithfulness``. Curves are means over images; the band is their
    standard error. Cells of the last panel: Spearman's ρ above, overlap of the top 5 % in brackets.
    """
    methods = [method for method in dict.fromkeys(curves["method"]) if method != "random"]
    figure = new_figure(PAGE, 2.75)
    panels = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.15))
    for axes, kind in zip(panels, ("deletion", "insertion"), strict=False):
        for method in (*methods, "random"):
            rows = curves[(curves["method"] == method) & (curves["kind"] == kind)]
            single = rows.groupby(["image", "fraction"])["probability"].mean()
            spread = single.groupby("fraction")
            _line(axes, spread.mean(), spread.sem().fillna(0), method)
        words = "replaced" if kind == "deletion" else "put in"
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel=f"share of cells {words}")
        axes.set_title(
            f"{kind}\n{'lower' if kind == 'deletion' else 'higher'} is better", fontsize=7
        )
    panels[0].set_ylabel("probability of what was\ndecided of the whole image", fontsize=7)
    checked = panels[2]
    for method in dict.fromkeys(randomisation["method"]):
        rows = randomisation[randomisation["method"] == method]
        spread = rows.groupby("share")["spearman"]
        _line(checked, spread.mean(), spread.sem().fillna(0), method)
    checked.axhline(0, color="black", linewidth=0.5)
    shares = sorted(set(randomisation["share"]))
    ticks = ["last" if share == 0 else "all" if share == 1 else f"{share:.0%}" for share in shares]
    checked.set_xticks(shares, ticks)
    checked.set(ylim=(-0.5, 1.02), xlabel="layers made random", ylabel="rank correlation")
    checked.set_title("randomisation\nnear 0 is right", fontsize=7)
    _agreement(panels[3], agreement, methods)
    key(figure, panels[0].get_legend_handles_labels()[0], note)
    head(figure, title)
    return figure


def _line(axes: Axes, mean: pd.Series, error: pd.Series, method: str) -> None:
    colour = COLOURS.get(method, "black")
    style = "--" if method == "random" else "-"
    marker = MARKERS.get(method, ".")
    axes.plot(
        mean.index, mean, style, color=colour, marker=marker, ms=2.5, linewidth=1, label=method
    )
    axes.fill_between(mean.index, mean - error, mean + error, color=colour, alpha=0.18, linewidth=0)


def _agreement(axes: Axes, agreement: pd.DataFrame, methods: list[str]) -> None:
    means = agreement.groupby(["method_a", "method_b"])[["spearman", "top_overlap"]].mean()
    count = len(methods)
    if count < 2:
        axes.set_axis_off()
        return
    grid = np.full((count, count), np.nan)
    for (one, other), row in means.iterrows():
        at = sorted((methods.index(one), methods.index(other)), reverse=True)
        grid[at[0], at[1]] = row["spearman"]
        text = f"{row['spearman']:.2f}\n({row['top_overlap']:.2f})"
        colour = "black" if abs(row["spearman"]) < 0.6 else "white"
        axes.text(at[1], at[0], text, ha="center", va="center", fontsize=5.5, color=colour)
    axes.imshow(grid[:, : count - 1], cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
    axes.set_xticks(range(count - 1), methods[: count - 1], rotation=30, ha="right")
    axes.set_yticks(range(1, count), methods[1:])
    axes.set_ylim(count - 0.5, 0.5)
    axes.tick_params(length=0, labelsize=5.5)
    axes.spines[:].set_visible(False)
    axes.set_title("agreement of two\nρ (overlap of the top 5 %)", fontsize=7)
