"""Planted traces: what was put where, and whether the workbench found it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .style import BLUE, GREEN, GREY, ORANGE, PAGE, new_figure, styled

AMPLIFIED = 8  # times, about mid-grey: the trace itself is not visible
MAPS = {"lrp": "LRP", "gradient": "gradient", "random": "random"}
COLOURS = {"lrp": ORANGE, "gradient": BLUE, "random": GREY}


@styled
def plot_planted_examples(examples: Sequence[Any]) -> Figure:
    """Draw one image a row: photograph, the same with the trace, the trace, and three maps.

    examples: objects with trace, real, fake (uint8 (H, W, 3)), maps (name → float64 (H, W)) and box
    (left, top, right, bottom), as of ``report.planted.Example``. The trace is shown ``AMPLIFIED``
    times about grey. Maps: negatives are black, white is the map's 99.5th percentile.
    """
    heads = ["photograph", "with the trace", f"the trace × {AMPLIFIED}", *MAPS.values()]
    width = PAGE / len(heads)
    figure = new_figure(PAGE, 0.3 + (width - 0.03) * len(examples))
    panels = figure.subplots(len(examples), len(heads), squeeze=False)
    for row, one in zip(panels, examples, strict=True):
        difference = one.fake.astype(float) - one.real.astype(float)
        trace = np.clip(128 + AMPLIFIED * difference, 0, 255).astype(np.uint8)
        for axes, image in zip(row, (one.real, one.fake, trace), strict=False):
            axes.imshow(image, interpolation="nearest")
        for axes, name in zip(row[3:], MAPS, strict=True):
            values = np.maximum(one.maps[name], 0)
            axes.imshow(
                values, cmap="gray", vmin=0, vmax=np.percentile(values, 99.5) or 1,
                interpolation="nearest",
            )  # fmt: skip
        left, top, right, bottom = one.box
        height, side = one.real.shape[:2]
        for axes in row[1:]:
            if (right - left, bottom - top) != (side, height):
                corner = (left - 0.5, top - 0.5)
                size = (right - left, bottom - top)
                axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=ORANGE, lw=1.2))
        row[0].set_ylabel(one.trace, fontsize=7)
        for axes in row:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
    for axes, head in zip(panels[0], heads, strict=True):
        axes.set_title(head, fontsize=7)
    figure.get_layout_engine().set(w_pad=0.015, h_pad=0.015)  # type: ignore[union-attr,call-arg]
    return figure


@styled
def plot_ground_truth(localisation: pd.DataFrame, colour: pd.DataFrame) -> Figure:
    """Draw how much of each map lies in the box, and which top maps respond to colour.

    localisation: columns trace, method, area, share, hit, other_share, other_hit with _low and
    _high. Filled: the image's own box; open: another image's. Bars are 95 % intervals over
    photographs. colour: columns trace, images (fakes, twins), effect,
    colour_conditional_mood_q; one dot a map, filled where Mood's test rejects (q ≤ 0.05).
    """
    figure = new_figure(PAGE, 2.6)
    share, hit, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.5))
    for axes, key, label in (
        (share, "share", "positive relevance\nin the box"),
        (hit, "hit", "largest relevance\nin the box"),
    ):
        _in_box(axes, localisation, key)
        axes.set_title(label)
    share.set_ylabel("share")
    _colour(right, colour)
    handles, labels = share.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=3, frameon=False)
    handles, labels = right.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower right", ncols=1, frameon=False)
    return figure


@styled
def plot_along_k(along: pd.DataFrame, chosen: dict[str, dict[str, int]]) -> Figure:
    """Draw AP and accuracies against the number of dropped maps, one panel a trace.

    along: columns trace, k, ap, real_accuracy, fake_accuracy, of the images that are measured.
    chosen: trace → aim → k, drawn as vertical lines.
    """
    traces = list(dict.fromkeys(along["trace"]))
    figure = new_figure(PAGE, 2.0)
    panels = figure.subplots(1, len(traces), sharey=True, squeeze=False)[0]
    for axes, trace in zip(panels, traces, strict=True):
        own = along[along["trace"] == trace]
        for column, label, colour, style in (
            ("real_accuracy", "accuracy on reals", BLUE, "--"),
            ("ap", "AP", GREEN, "-."),
            ("fake_accuracy", "accuracy on fakes", ORANGE, "-"),
        ):
            axes.plot(own["k"], 100 * own[column], color=colour, ls=style, lw=1.2, label=label)
        for place, k in enumerate(dict.fromkeys(chosen[trace].values())):
            axes.axvline(k, color="black", lw=0.5, ls=":", label="chosen k" if not place else None)
        axes.set_title(trace)
        axes.set(xlabel="top maps dropped", ylim=(-3, 103))
    panels[0].set_ylabel("percent")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def _in_box(axes: Any, table: pd.DataFrame, key: str) -> None:
    traces = list(dict.fromkeys(table["trace"]))
    for place, trace in enumerate(traces):
        own = table[table["trace"] == trace].set_index("method")
        for offset, (name, label) in zip((-0.25, 0.0, 0.25), MAPS.items(), strict=True):
            row = own.loc[name]
            for prefix, shift, fill in (("", -0.04, COLOURS[name]), ("other_", 0.04, "white")):
                value = row[prefix + key]
                low, high = row[f"{prefix}{key}_low"], row[f"{prefix}{key}_high"]
                axes.errorbar(
                    place + offset + shift, value, [[value - low], [high - value]], fmt="o", ms=4,
                    color=COLOURS[name], mfc=fill, lw=1,
                    label=label if place == 0 and not prefix else None,
                )  # fmt: skip
        area = own["area"].iloc[0]
        axes.plot([place - 0.42, place + 0.42], [area, area], color="black", lw=0.8, ls=":",
                  label="area of the box" if not place else None)  # fmt: skip
    axes.plot([], [], "o", ms=4, color=GREY, mfc="white", label="box of another image")
    axes.set_xticks(range(len(traces)), [name.replace("-", "\n") for name in traces])
    axes.set(ylim=(-0.03, 1.05), xlim=(-0.5, max(len(traces), 1) - 0.5))


def _colour(axes: Any, table: pd.DataFrame) -> None:
    traces = list(dict.fromkeys(table["trace"]))
    for name, shift, colour in (("fakes", -0.17, ORANGE), ("twins", 0.17, BLUE)):
        for place, trace in enumerate(traces):
            own = table[(table["trace"] == trace) & (table["images"] == name)]
            spread = np.linspace(-0.1, 0.1, len(own)) + place + shift
            flagged = own["colour_conditional_mood_q"].to_numpy()
            effect = own["effect"].to_numpy()
            axes.scatter(spread[flagged], effect[flagged], s=14, color=colour, lw=0.8)
            axes.scatter(
                spread[~flagged], effect[~flagged], s=14, facecolor="none", edgecolor=colour, lw=0.8
            )
    axes.axhline(0, color="black", lw=0.5)
    axes.set_yscale("symlog", linthresh=0.1)
    axes.set_xticks(range(len(traces)), [name.replace("-", "\n") for name in traces])
    axes.set_ylabel("colour − grey\n(interquartile ranges)")
    axes.set_title("largest value of the top maps")
    axes.scatter([], [], s=14, color=ORANGE, label="fakes; filled: colour-conditional")
    axes.scatter([], [], s=14, color=BLUE, label="the same crops without a trace")
