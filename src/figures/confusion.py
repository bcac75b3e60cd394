"""A confusion matrix: true classes down, predicted classes across."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from .style import COLUMN, head, new_figure, styled


@styled
def plot_confusion_matrix(
    confusion: pd.DataFrame, *, words: Mapping[str, str] | None = None, title: str = ""
) -> Figure:
    """Draw counts as shares of each true class, with the counts below.

    confusion: columns truth, then one a predicted class, in the same order; words: what a class is
    called in the figure.
    """
    names = [one for one in confusion.columns if one != "truth"]
    counts = confusion[names].to_numpy(dtype=float)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    figure = new_figure(COLUMN, 0.5 * len(names) + 1.1)
    axes = figure.subplots()
    axes.imshow(shares, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        axes.text(
            column,
            row,
            f"{100 * share:.0f} %\n{counts[row, column]:.0f}",
            ha="center",
            va="center",
            fontsize=7,
            color="white" if share < 0.5 else "black",
        )
    shown = [(words or {}).get(name, name) for name in names]
    axes.set_xticks(range(len(names)), shown)
    axes.set_yticks(range(len(names)), shown)
    axes.set(xlabel="predicted", ylabel="true")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    head(figure, title)
    return figure
