"""Figures in a notebook: a PNG that displays by itself, whatever the backend."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import matplotlib as mpl
from matplotlib.figure import Figure

from .style import RC

PIXELS = 120  # of the page per inch of a figure: 7 inches fill a notebook's column


@dataclass(frozen=True)
class Picture:
    """A drawn figure; as the last expression of a notebook's cell it is displayed.

    png: the file; width, height: pixels that it takes on the page.
    """

    png: bytes = field(repr=False)
    width: int
    height: int

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        return self.png, {"width": self.width, "height": self.height}


def show(figure: Figure, *, dpi: int = 2 * PIXELS) -> Picture:
    """Return a figure as a PNG that Jupyter displays.

    Figures of this package are made without pyplot, and Jupyter shows such figures only once
    pyplot was imported. dpi: of the PNG; twice what the page takes stays sharp on fine screens.
    """
    mpl.rcParams.update(RC)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    width, height = figure.get_size_inches() * PIXELS
    return Picture(buffer.getvalue(), round(width), round(height))
