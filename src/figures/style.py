"""How every figure looks and how it is saved: PDF with embedded fonts, and PNG."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import fill
from typing import Any
from unittest.mock import patch

import matplotlib as mpl
from fontTools import subset
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from ..files import whole

# Told apart without red or green, and printed in grey: each is a step lighter than the one before.
INK, PURPLE, BLUE, GREEN, ORANGE = "#262626", "#611E63", "#00589C", "#008463", "#DD7711"
GREY, PALE = "#666666", "#CCCCCC"  # what is said beside; what stands behind
REAL, FAKE = BLUE, ORANGE
COLUMN, PAGE = 3.4, 7.0  # inches: one column and both columns of a two-column page
DIVERGING, RISING = "RdBu", "cividis"  # of signed numbers, red below 0; of others

MASK_COLOURS = {
    "top-k": ORANGE,
    "random-k": BLUE,
    "random-k-layer-matched": GREEN,
    "random-k-magnitude-matched": PURPLE,
    "low-k": PURPLE,
    "lowest-non-zero": INK,
}
MASK_NAMES = {
    "baseline": "nothing dropped",
    "top-k": "top maps",
    "random-k": "random maps",
    "random-k-layer-matched": "random, same layers",
    "random-k-magnitude-matched": "random, same size",
    "random-k-ensemble": "random, logits' mean",
    "low-k": "lowest maps",
    "lowest-non-zero": "lowest above zero",
}

RC: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "pdf.fonttype": 42,
    "svg.hashsalt": "forensift",
    "figure.autolayout": False,
    "figure.constrained_layout.use": False,
}

# Of fonts in a PDF: a third of its time goes into how letters could be combined, which Matplotlib
# has decided already.
UNUSED = (*subset.Options._drop_tables_default, "GSUB", "GPOS", "GDEF")

FORMATS = {".pdf": {"CreationDate": None}, ".png": {"Software": None}, ".svg": {"Date": None}}
MOST_CELLS = 2_000  # of images in a figure that is still a drawing: heat maps, no photographs

PIXELS = 120  # of a notebook's page per inch of a figure: 7 inches fill the column

styled = mpl.rc_context(RC)  # a decorator: the user's own settings are as before afterwards


class Drawing(Figure):
    """A figure in our style, free of pyplot's global state, that a notebook displays by itself.

    dots: an inch, of what is saved.
    """

    dots = 300

    @styled
    def savefig(self, *given: Any, **options: Any) -> None:
        """Write the figure; see Matplotlib's ``Figure.savefig``."""
        with patch.object(subset.Options, "_drop_tables_default", list(UNUSED)):
            super().savefig(*given, **options)

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        buffer = io.BytesIO()
        # Twice what the page takes stays sharp on fine screens.
        self.savefig(buffer, format="png", dpi=2 * PIXELS, metadata={"Software": None})
        width, height = self.get_size_inches() * PIXELS
        return buffer.getvalue(), {"width": round(width), "height": round(height)}


@styled
def new_figure(width: float, height: float) -> Drawing:
    """Return an empty figure of so many inches in our style."""
    return Drawing(figsize=(width, height), layout="constrained")


@styled
def one_panel(ax: Axes | None, width: float, height: float) -> tuple[Figure | Axes, Axes]:
    """Return what a figure of one panel gives back, and the axes it draws into.

    ax: the user's axes, which are given back; without, a new figure of so many inches is.
    """
    if ax is not None:
        return ax, ax
    figure = new_figure(width, height)
    return figure, figure.subplots()


def head(drawn: Figure | Axes, title: str, note: str = "") -> None:
    """Write a title above, broken into lines that fit, and a small note of the facts below."""
    if isinstance(drawn, Axes):
        drawn.set_title(title)
        if note:
            drawn.set_xlabel("\n".join(filter(None, (drawn.get_xlabel(), note))))
        return
    width = drawn.get_size_inches()[0]
    if title:
        drawn.suptitle(fill(title, int(width * 15)), fontsize=8.5)
    if note:
        drawn.supxlabel(fill(note, int(width * 20)), fontsize=6.5, color=GREY)


def key(figure: Figure, handles: Sequence[Any], note: str = "") -> None:
    """Draw a legend below all panels, and a small note of the facts with it.

    Handles of one label are shown once. Two things below would lie on one another.
    """
    once = {handle.get_label(): handle for handle in handles}
    legend = figure.legend(
        handles=list(once.values()), loc="outside lower center", ncols=min(len(once), 6),
        frameon=False, title=fill(note, int(figure.get_size_inches()[0] * 20)),
    )  # fmt: skip
    legend.get_title().set(fontsize=6.5, color=GREY, multialignment="center")


def colour_bar(
    figure: Figure,
    panels: list[Axes],
    limits: tuple[float, float],
    colours: str,
    words: str,
    **place: Any,
) -> None:
    """Draw what the colours of panels mean; place: see Matplotlib's ``Figure.colorbar``."""
    bar = figure.colorbar(
        ScalarMappable(Normalize(*limits), mpl.colormaps[colours]), ax=panels, **place
    )
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.ax.tick_params(labelsize=6)
    bar.set_label(words, fontsize=6.5)


def signed(value: float, decimals: int = 1) -> str:
    """Return a number with its sign, '0' where it rounds to that; no decimals from 9.95 on."""
    text = f"{abs(value):.{decimals if abs(value) < 9.95 else 0}f}"
    return "0" if not float(text) else ("+" if value > 0 else "−") + text


@contextmanager
def laid_out(figure: Figure, dots: float = Drawing.dots) -> Iterator[None]:
    """Lay a figure out once, at what it is saved at; each savefig would draw all of it to do so."""
    engine, screen = figure.get_layout_engine(), figure.dpi
    placed = any(axes.get_subplotspec() is not None for axes in figure.get_axes())
    try:
        if engine is not None and placed:  # a figure of a legend alone has nothing to lay out
            figure.set_dpi(dots)
            engine.execute(figure)
            # "none" would leave a placeholder, for which every savefig draws all of it once more.
            figure.set_layout_engine(None)
        yield
    finally:
        figure.set_dpi(screen)
        figure.set_layout_engine(engine)


def is_drawing(figure: Figure) -> bool:
    """Return whether a figure is of lines and letters, not of photographs."""
    cells = (image.get_array() for axes in figure.axes for image in axes.get_images())
    return sum(one.shape[0] * one.shape[1] for one in cells if one is not None) <= MOST_CELLS


@styled
def svg(figure: Figure) -> bytes:
    """Return a figure as SVG; equal figures give equal bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata=FORMATS[".svg"])
    return buffer.getvalue()


@styled
def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write ``name.pdf``, ``name.png`` (300 dpi by default) and, of a drawing, ``name.svg``.

    Equal figures give equal bytes.
    """
    written, dots = [], getattr(figure, "dots", Drawing.dots)
    with laid_out(figure, dots):
        for suffix, metadata in FORMATS.items():
            if suffix == ".svg" and not is_drawing(figure):
                continue
            path = Path(folder) / f"{name}{suffix}"
            with whole(path) as temporary:
                figure.savefig(temporary, format=suffix[1:], dpi=dots, metadata=metadata)
            written.append(path)
    return written
