"""Relevance laid over images: one overlay, and panels of images against methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..files import whole
from .style import COLUMN, PAGE, head, laid_out, new_figure, styled

# The image is grey, so that every colour is relevance; opacity grows with its root, so that single
# pixels are seen and the image still shows through where a map covers all of it.
DIMMED, OPACITY = 0.65, 0.9
LUMA = (0.299, 0.587, 0.114)
RAMP = LinearSegmentedColormap.from_list(
    "relevance", colormaps["inferno"](np.linspace(0.55, 1, 256))
)
SIGNED = LinearSegmentedColormap.from_list("signed relevance", ["#3fb8ff", "#808080", "#ffb000"])

ACROSS = 6  # cells of a panel of methods
CELL = 360  # pixels of their longer side, at most
NOTHING = "nothing to show"
_EMPTY: dict[str, Any] = {"ha": "center", "va": "center", "color": "white", "fontsize": 7}


@styled
def overlay(pixels: np.ndarray, heat: np.ndarray, *, signed: bool = False) -> np.ndarray:
    """Return the heat's colours over the grey image, dimmed to 65 %, as uint8 (H, W, 3).

    Opacity is 0.9 · √|heat|. pixels: uint8 (3, H, W); heat: (H, W), 0 … 1, or −1 … 1 where
    ``signed`` (blue is negative).
    """
    colours = (SIGNED((heat + 1) / 2) if signed else RAMP(heat))[..., :3] * 255
    grey = DIMMED * np.tensordot(LUMA, pixels.astype(np.float64), axes=1)[..., None]
    opacity = OPACITY * np.sqrt(np.abs(heat))[..., None]
    return np.clip(np.rint((1 - opacity) * grey + opacity * colours), 0, 255).astype(np.uint8)


@styled
def plot_overlay(
    pixels: np.ndarray, heat: np.ndarray, *, signed: bool = False, caption: str = ""
) -> Figure:
    """Draw one image beside its overlay; the caption, which names the scaling, stands below.

    Arguments as for :func:`overlay`.
    """
    height, width = heat.shape
    high = min(COLUMN / 2 * height / width, 2 * COLUMN)
    figure = new_figure(COLUMN, high + 0.5)
    panels = figure.subplots(1, 2)
    for axes, shown, title in zip(
        panels,
        (pixels.transpose(1, 2, 0), overlay(pixels, heat, signed=signed)),
        ("image", "relevance"),
        strict=True,
    ):
        axes.imshow(shown, interpolation="nearest")
        axes.set_title(title, fontsize=7)
        axes.set_axis_off()
    if not heat.any():
        panels[1].text(0.5, 0.5, NOTHING, transform=panels[1].transAxes, **_EMPTY)
    if caption:
        figure.supxlabel(caption, fontsize=5.5, wrap=True)
    return figure


@styled
def save_overlay(
    folder: Path,
    name: str,
    pixels: np.ndarray,
    heat: np.ndarray,
    *,
    signed: bool = False,
    caption: str = "",
) -> None:
    """Write ``name.png``, the overlay pixel for pixel, and ``name.pdf``, :func:`plot_overlay`.

    The PNG carries the caption as its text field Description.
    """
    facts = PngInfo()
    facts.add_itxt("Description", caption.replace("\n", " "))
    picture = Image.fromarray(overlay(pixels, heat, signed=signed))
    with whole(folder / f"{name}.png") as temporary:
        picture.save(temporary, format="PNG", pnginfo=facts)
    figure = plot_overlay(pixels, heat, signed=signed, caption=caption)
    with laid_out(figure), whole(folder / f"{name}.pdf") as temporary:
        figure.savefig(temporary, format="pdf", dpi=300, metadata={"CreationDate": None})


@styled
def plot_explanations(
    images: Sequence[np.ndarray],
    heats: Mapping[str, Sequence[np.ndarray]],
    *,
    rows: Sequence[str] = (),
    signed: bool = False,
    scaling: str = "",
    title: str = "",
) -> Figure:
    """Draw images down and methods or detectors across, each cell an overlay.

    images: uint8 (3, H, W), as the networks saw them; heats: column title (may have line breaks) →
    one map (H, W) an image, see :func:`forensift.explain.heat.heat`; rows: a label an image;
    scaling: what stands under the colour bar, the sentence of ``scaling_words``. In the cell of a
    map of zeros stands that it has nothing to show.
    """
    columns = ["image", *heats]
    side = (PAGE - 0.5 * bool(rows)) / max(len(columns), 5)
    shape = max(image.shape[1] / image.shape[2] for image in images)
    lines = max(name.count("\n") for name in columns) + 1
    height = len(images) * side * shape + 0.12 * lines + 0.5 + 0.2 * bool(title)
    figure = new_figure(max(side * len(columns) + 0.5 * bool(rows), COLUMN), height)
    layout = figure.get_layout_engine()
    assert isinstance(layout, ConstrainedLayoutEngine)
    layout.set(w_pad=0.01, h_pad=0.01, wspace=0.01, hspace=0.01)
    grid = figure.subplots(len(images), len(columns), squeeze=False)
    for down, image in enumerate(images):
        for across, name in enumerate(columns):
            axes = grid[down, across]
            if across == 0:
                shown = image.transpose(1, 2, 0)
            else:
                shown = overlay(image, heats[name][down], signed=signed)
                if not heats[name][down].any():
                    axes.text(0.5, 0.5, NOTHING, transform=axes.transAxes, **_EMPTY)
            axes.imshow(shown, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
            if down == 0:
                axes.set_title(name, fontsize=6 if len(columns) > 6 else 7)
        if rows:
            grid[down, 0].set_ylabel(rows[down], fontsize=5, linespacing=1.25)
    _scale(figure, grid, signed, scaling)
    head(figure, title)
    return figure


@styled
def plot_methods(
    pixels: np.ndarray,
    heats: Mapping[str, np.ndarray],
    *,
    signed: bool = False,
    scaling: str = "",
    title: str = "",
) -> Figure:
    """Draw one image and its overlay by each method, as a panel of several rows.

    heats: method → map (H, W), see :func:`forensift.explain.heat.heat`; others as for
    :func:`plot_explanations`. Cells are drawn with at most 360 pixels a side.
    """
    scale = min(1.0, CELL / max(pixels.shape[1:]))
    size = (max(1, round(pixels.shape[2] * scale)), max(1, round(pixels.shape[1] * scale)))
    image = Image.fromarray(pixels.transpose(1, 2, 0)).resize(size, Image.Resampling.BOX)
    small = np.asarray(image).transpose(2, 0, 1)
    columns = min(ACROSS, len(heats) + 1)
    rows = -(-(len(heats) + 1) // columns)
    side = PAGE / columns
    height = rows * (side * size[1] / size[0] + 0.17) + 0.5 + 0.2 * bool(title)
    figure = new_figure(PAGE, height)
    layout = figure.get_layout_engine()
    assert isinstance(layout, ConstrainedLayoutEngine)
    layout.set(w_pad=0.01, h_pad=0.01, wspace=0.01, hspace=0.01)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    for axes, (name, heat) in zip(grid.ravel(), {"image": None, **heats}.items(), strict=False):
        shown = np.asarray(image)
        if heat is not None:
            map_ = Image.fromarray(heat.astype(np.float32)).resize(size, Image.Resampling.BOX)
            shown = overlay(small, np.asarray(map_), signed=signed)
            if not heat.any():
                axes.text(0.5, 0.5, NOTHING, transform=axes.transAxes, **_EMPTY)
        axes.imshow(shown, interpolation="nearest")
        axes.set_title(name, fontsize=6.5, pad=2)
    _scale(figure, grid, signed, scaling)
    head(figure, title)
    return figure


def _scale(figure: Figure, grid: np.ndarray, signed: bool, words: str) -> None:
    """Draw the colours' scale below a grid of axes."""
    scale = Normalize(-1, 1) if signed else Normalize(0, 1)
    bar = figure.colorbar(
        ScalarMappable(scale, ListedColormap(_bar(signed))),
        ax=grid.ravel().tolist(),
        location="bottom",
        shrink=0.4,
        aspect=40,
        pad=0.02,
    )
    bar.ax.tick_params(labelsize=6)
    bar.set_ticks([-1, 0, 1] if signed else [0, 1])
    bar.outline.set_visible(False)  # type: ignore[operator]
    if words:
        bar.set_label(words, fontsize=6)


def _bar(signed: bool) -> np.ndarray:
    """Return the colours of the scale (256, 3), 0 … 1, as they lie on mid grey."""
    heat = np.linspace(-1 if signed else 0, 1, 256)[None]
    return overlay(np.full((3, 1, 256), 128, np.uint8), heat, signed=signed)[0] / 255
