"""How far rankings of the same feature maps agree."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .style import PAGE, head, new_figure, styled

PANELS = {"spearman": "Spearman's ρ, all maps", "overlap": "share of the top {k} in both"}


@styled
def plot_alike(alike: pd.DataFrame, *, title: str = "") -> Figure:
    """Draw rank correlation and overlap of the top k of every two rankings, with their intervals.

    alike: ``alike.csv``. Each cell holds the number with its 95 % interval below it; the diagonal
    holds two halves of one ranking's photographs, which is what agreement can be here.
    """
    names = list(dict.fromkeys(alike["first"]))
    height = 1.1 + 0.42 * len(names)
    figure = new_figure(PAGE, height)
    for axes, (key, label) in zip(figure.subplots(1, 2), PANELS.items(), strict=True):
        _cells(axes, alike, key, names)
        axes.set_title(label.format(k=int(alike["k"].max())))
        axes.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=6.5)
        axes.set_yticks(range(len(names)), names if key == "spearman" else [""] * len(names))
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    chance = alike["overlap_by_chance"].max()
    note = f"diagonal: two halves of the photographs; overlap by chance {chance:.3f}"
    head(figure, title, note)
    return figure


def _cells(axes: Axes, alike: pd.DataFrame, key: str, names: list[str]) -> None:
    values = np.full((len(names), len(names)), np.nan)
    size = float(np.clip(38 / len(names), 3.6, 6.5))
    texts: list[tuple[int, int, str]] = []
    for row in alike.to_dict("records"):
        value, low, high = (row[f"{key}{end}"] for end in ("", "_low", "_high"))
        if value != value:
            continue
        text = _short(value) + (f"\n{_short(low)} … {_short(high)}" if low == low else "")
        first, second = names.index(row["first"]), names.index(row["second"])
        for place in {(first, second), (second, first)}:
            values[place] = value
            texts.append((*place, text))
    # Shown from 0; what is below is written in its cell.
    axes.imshow(np.clip(values, 0, 1), cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for down, across, text in texts:
        dark = values[down, across] < 0.5
        axes.text(
            across, down, text, ha="center", va="center", fontsize=size,
            color="white" if dark else "black", linespacing=1.1,
        )  # fmt: skip


def _short(value: float) -> str:
    """Return two decimals without the 0 before them: the cells are narrow."""
    return f"{round(value, 2) + 0.0:.2f}".replace("0.", ".")
