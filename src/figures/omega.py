"""How ω, or another score, lies over the feature maps, and in which layers its top is."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .style import BLUE, GREY, ORANGE, PAGE, new_figure, styled


@styled
def plot_omega(ranking: pd.DataFrame, k: int, *, title: str = "") -> Figure:
    """Draw ω, or another score, by rank with its standard error, and the top k over the layers.

    ranking: the table of a ``Ranking`` (columns layer, width, omega or score, standard_error), rank
    order. Left: ω in descending order on a logarithmic scale; zeros, and scores below, are left out
    and counted in the title.
    Right: for each layer in network order of its best map, how many of the top k it holds and how
    many would be there by chance, if the k were spread over the layers by width.
    """
    figure = new_figure(PAGE, 2.6)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.25))
    name = "ω" if "omega" in ranking else "score"
    omega = ranking["omega" if name == "ω" else "score"].to_numpy()
    positive = omega > 0
    rank = np.arange(1, len(omega) + 1)
    error = ranking["standard_error"].fillna(0).to_numpy()
    low, high = omega - error, omega + error
    floor = omega[positive].min() if positive.any() else 1e-12
    left.fill_between(
        rank[positive],
        np.maximum(low, floor)[positive],
        high[positive],
        color=BLUE,
        alpha=0.3,
        linewidth=0,
        label="± standard error",
    )
    left.plot(rank[positive], omega[positive], color=BLUE, linewidth=1)
    left.axvline(k, color=ORANGE, linewidth=1, linestyle="--", label=f"k = {k}")
    scale = "log" if positive.any() else "linear"
    left.set(
        xscale="log",
        yscale=scale,
        xlabel="rank of the feature map",
        ylabel="ω (FF-RS)" if name == "ω" else name,
    )
    none = f"{name} {'=' if name == 'ω' else '≤'} 0"
    left.set_title(f"{len(omega):,} maps, {int((~positive).sum()):,} of them with {none}")
    left.legend(loc="lower left", framealpha=1, edgecolor="none")

    top = ranking.head(k)
    counts = top["layer"].value_counts()
    widths = ranking.drop_duplicates("layer").set_index("layer")["width"]
    shown = counts.head(14)
    chance = k * widths.loc[shown.index] / widths.sum()
    places = np.arange(len(shown))
    right.barh(places, shown, color=ORANGE, height=0.7, label=f"among the top {k}")
    right.scatter(chance, places, marker="|", s=40, color="black", label="by width alone", zorder=3)
    labels = [f"{layer} ({widths[layer]})" for layer in shown.index]
    right.set_yticks(places, labels, fontsize=6)
    right.invert_yaxis()
    right.set_xlabel("feature maps")
    rest = int(k - shown.sum())
    more = len(counts) - len(shown)
    right.set_title(
        "layers (width) of the top maps" + (f"; {more} more hold {rest}" if more > 0 else "")
    )
    right.legend(frameon=False, loc="lower right")
    for axes in (left, right):
        axes.tick_params(color=GREY)
    if title:
        figure.suptitle(title, fontsize=8)
    return figure
