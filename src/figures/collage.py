"""Collages of LRP-max patches: one row a feature map, its best images side by side."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..patches.patch import TILE, tile
from .style import GREY, new_figure, styled

if TYPE_CHECKING:
    from ..patches import Patches
    from ..records import FeatureMap

DPI = 436  # dots an inch at which a tile's pixels are the PNG's: two blocks are a page wide
LABEL, GAP, BETWEEN, MARGIN = 306, 8, 36, 6  # pixels
UNDER = 36  # pixels below a tile, where the side of its patch stands
TITLE = 74
ROWS = 14  # of feature maps down a page
ALONE = 8  # so many feature maps still stand in one column of a two-column page
WIDEST = 14  # characters of a label's line


@styled
def plot_collage(
    patches: Patches,
    *,
    rows: int = ROWS,
    columns: int | None = None,
    first: int | None = None,
    title: str = "",
) -> list[Figure]:
    """Draw one row a feature map: layer, channel and ω, then its patches, best image first.

    Each patch is scaled to a square of 224 × 224 pixels by nearest neighbour, framed in black; how
    wide and high it is in the image stands below it, in pixels.
    rows: feature maps down a page; columns: blocks of maps side by side, by default one (a column's
    width, 3.4 inches for five patches) up to eight maps and two (a page's width) beyond; the order
    is down, then across. first: draw only so many maps. More maps than fit make more pages.
    """
    figures = []
    pages = collage_pages(patches, rows, columns, first)
    columns = columns or _columns(patches, first)
    rows = min(rows, math.ceil(sum(map(len, pages)) / columns))
    for number, page in enumerate(pages, 1):
        said = f"{title} ({number} of {len(pages)})" if title and len(pages) > 1 else title
        figures.append(_page(patches, page, rows, columns, said))
    return figures


def collage_pages(
    patches: Patches, rows: int = ROWS, columns: int | None = None, first: int | None = None
) -> list[list[FeatureMap]]:
    """Return the feature maps of each page of :func:`plot_collage`."""
    maps = list(patches.feature_maps[:first])
    columns = columns or _columns(patches, first)
    size = min(rows, math.ceil(len(maps) / columns)) * columns
    return [maps[at : at + size] for at in range(0, len(maps), size)]


def _columns(patches: Patches, first: int | None) -> int:
    return 1 if len(patches.feature_maps[:first]) <= ALONE or patches.n > 5 else 2


def _page(patches: Patches, maps: list[FeatureMap], rows: int, columns: int, title: str) -> Figure:
    block = LABEL + patches.n * (TILE + GAP) - GAP
    width = 2 * MARGIN + columns * (block + BETWEEN) - BETWEEN
    top = TITLE if title else 0
    down = min(rows, len(maps))
    height = 2 * MARGIN + top + down * (TILE + UNDER)
    figure = new_figure(width / DPI, height / DPI)
    figure.dots = DPI
    figure.set_layout_engine("none")
    if title:
        figure.text(
            0.5, 1 - (MARGIN + TITLE / 2 - 8) / height, title, ha="center", va="center", fontsize=7
        )
    for place, feature_map in enumerate(maps):
        left = MARGIN + place // rows * (block + BETWEEN)
        above = MARGIN + top + place % rows * (TILE + UNDER)
        own = patches.of(feature_map)
        omega = f"\nω = {own[0].omega:.4f}" if own else ""
        figure.text(
            left / width,
            1 - (above + TILE / 2) / height,
            map_label(feature_map) + omega,
            va="center",
            fontsize=5.5,
            linespacing=1.25,
        )
        for patch in own:
            x = left + LABEL + (patch.place - 1) * (TILE + GAP)
            corner = (x / width, 1 - (above + TILE) / height)
            if patch.crop is None:
                _say_why(figure, corner, TILE / width, TILE / height)
                continue
            axes = figure.add_axes((*corner, TILE / width, TILE / height))
            axes.imshow(tile(patch.crop), interpolation="none", aspect="auto")
            axes.set_axis_off()
            sides = f"{patch.crop.shape[1]} × {patch.crop.shape[0]} px"
            under = 1 - (above + TILE + UNDER / 2) / height
            middle = (x + TILE / 2) / width
            figure.text(middle, under, sides, ha="center", va="center", fontsize=4.5, color=GREY)
    return figure


def map_label(feature_map: FeatureMap) -> str:
    """Return layer and channel broken at the layer's dots into lines of a collage's label."""
    lines: list[str] = []
    for part in [*feature_map.layer.split("."), f"#{feature_map.channel}"]:
        between = " " if part.startswith("#") else "."
        if lines and len(lines[-1]) + len(between) + len(part) <= WIDEST:
            lines[-1] += between + part
        else:
            lines.append(part)
    return "\n".join(lines)


def _say_why(figure: Figure, corner: tuple[float, float], width: float, height: float) -> None:
    """Draw an empty field where there is no patch; the table says why."""
    field = Rectangle(corner, width, height, facecolor="#f2f2f2", edgecolor=GREY, linewidth=0.4)
    field.set_transform(figure.transFigure)
    figure.add_artist(field)
    x, y = corner[0] + width / 2, corner[1] + height / 2
    text = "no positive\nresponse"
    figure.text(x, y, text, ha="center", va="center", fontsize=5, color=GREY)
