"""How ω, or another score, lies over the feature maps, and in which layers its top is."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .style import BLUE, GREY, ORANGE, PAGE, head, new_figure, styled

POINTS = 400  # of the line, evenly along its axis: no more can be seen


@styled
def plot_omega(ranking: pd.DataFrame, k: int, *, title: str = "", note: str = "") -> Figure:
    """Draw ω, or another score, by rank with its standard error, and the top k over the layers.

    ranking: the table of a ``Ranking`` (columns layer, width, omega or score, standard_error), rank
    order. Left: ω in descending order on a logarithmic scale; zeros, and scores below, are left out
    and counted in the title.
    Right: for each layer in network order of its best map, how many of the top k it holds and how
    many would be there by chance, if the k were spread over the layers by width.
    """
    figure = new_figure(PAGE, 2.9)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.25))
    name = "ω" if "omega" in ranking else "score"
    omega = ranking["omega" if name == "ω" else "score"].to_numpy()
    positive = int((omega > 0).sum())  # the first ones
    error = ranking["standard_error"].fillna(0).to_numpy()
    few = np.unique(np.geomspace(1, max(positive, 1), POINTS).round().astype(int))[: positive or 0]
    shown, spread = omega[few - 1], error[few - 1]
    floor = shown.min() if len(shown) else 1e-12
    left.fill_between(
        few, np.maximum(shown - spread, floor), shown + spread, color=BLUE, alpha=0.3, linewidth=0
    )
    left.plot(few, shown, color=BLUE, linewidth=1.1)
    left.axvline(k, color=ORANGE, linewidth=1, linestyle="--", label=f"k = {k}")
    left.annotate(
        f" k = {k:,}", (k, 0.02), xycoords=("data", "axes fraction"), color=ORANGE, fontsize=7,
        ha="left" if k < len(omega) ** 0.7 else "right", va="bottom",
    )  # fmt: skip
    scale = "log" if positive else "linear"
    left.set(
        xscale="log",
        yscale=scale,
        xlabel="rank of the feature map",
        ylabel="ω (FF-RS) ± standard error" if name == "ω" else f"{name} ± standard error",
    )
    none = f"{name} {'=' if name == 'ω' else '≤'} 0"
    left.set_title(f"{len(omega):,} maps, {len(omega) - positive:,} of them with {none}")
    _layers(right, ranking, k)
    for axes in (left, right):
        axes.tick_params(color=GREY)
    head(figure, title, note)
    return figure


def _layers(axes: Axes, ranking: pd.DataFrame, k: int) -> None:
    """Draw how many of the top k each layer holds, and by width alone."""
    counts = ranking.head(k)["layer"].value_counts()
    widths = ranking.drop_duplicates("layer").set_index("layer")["width"]
    shown = counts.head(14)
    chance = k * widths.loc[shown.index] / widths.sum()
    places = np.arange(len(shown))
    axes.barh(places, shown, color=ORANGE, height=0.7, label=f"among the top {k:,}")
    axes.scatter(chance, places, marker="|", s=40, color="black", label="by width alone", zorder=3)
    labels = [f"{layer} ({widths[layer]})" for layer in shown.index]
    axes.set_yticks(places, labels, fontsize=6)
    axes.invert_yaxis()
    axes.set_xlabel("feature maps")
    rest, more = int(k - shown.sum()), len(counts) - len(shown)
    axes.set_title(
        f"layers (width) of the top {k:,}" + (f"; {more} more hold {rest}" if more > 0 else "")
    )
    axes.legend(frameon=False, loc="lower right")
