"""How every figure looks and how it is saved: PDF with embedded fonts, and PNG."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import matplotlib as mpl
from fontTools import subset
from matplotlib.figure import Figure

from ..files import whole

# Okabe and Ito's colours, which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#666666"
COLUMN, PAGE = 3.4, 7.0  # inches: one column and both columns of a two-column page

MASK_COLOURS = {
    "top-k": ORANGE,
    "random-k": BLUE,
    "random-k-layer-matched": GREEN,
    "low-k": PURPLE,
    "lowest-non-zero": GREY,
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


@contextmanager
def laid_out(figure: Figure, dots: float = Drawing.dots) -> Iterator[None]:
    """Lay a figure out once, at what it is saved at; each savefig would draw all of it to do so."""
    engine, screen = figure.get_layout_engine(), figure.dpi
    placed = any(axes.get_subplotspec() is not None for axes in figure.get_axes())
    try:
        if engine is not None and placed:  # a figure of a legend alone has nothing to lay out
            figure.set_dpi(dots)
            engine.execute(figure)
            figure.set_layout_engine("none")
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
