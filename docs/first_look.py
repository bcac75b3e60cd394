"""The picture of the README, from a run of the tutorial: ``make picture``.

python docs/first_look.py docs/first-look.png
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image

from forensift.explain.heat import heat
from forensift.figures.explanation import overlay
from forensift.figures.style import new_figure

BOOK = Path(__file__).resolve().parents[1] / "notebooks" / "find-a-planted-trace.ipynb"
SHOWN = 6  # of the fakes
METHODS = {"lrp": "LRP", "gradcam": "Grad-CAM", "gradient": "gradient"}
ROWS = {
    "baseline": "whole detector",
    "top-k": "without its\ntop 8 maps",
    "random-k-layer-matched": "without 8 random\nof the same layers",
}
BARS = {
    "fake_accuracy_05": ("fakes found (%)", "#d55e00"),
    "real_accuracy_05": ("photographs right (%)", "#56b4e9"),
}


def tutorial() -> dict[str, Any]:
    """Run the tutorial's code; return its names."""
    names: dict[str, Any] = {}
    for cell in json.loads(BOOK.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    return names


def main(path: Path) -> None:
    """Draw what the tutorial found."""
    names = tutorial()
    found, shares, gap, boxes = (names[one] for one in ("found", "shares", "gap", "boxes"))
    with matplotlib.rc_context({"font.size": 8}):
        figure = new_figure(9.0, 2.5)
        panels = figure.subplots(1, 5, width_ratios=[1, 1, 1, 1, 1.25])
        one = found.of("lrp")[SHOWN]
        left, top, right, bottom = boxes.loc[one.key]
        pictures = {"a photograph with\na planted trace": one.pixels.transpose(1, 2, 0)}
        for method, name in METHODS.items():
            explained = found.of(method)[SHOWN]
            title = f"{name}: {shares[method]:.0%}\nin the box"
            pictures[title] = overlay(one.pixels, heat(explained.map, "percentile-99")[0])
        for panel, (title, picture) in zip(panels, pictures.items(), strict=False):
            panel.imshow(picture, interpolation="nearest")
            panel.plot(
                np.array([left, right, right, left, left]) - 0.5,
                np.array([top, top, bottom, bottom, top]) - 0.5,
                color="white", linewidth=1.2, linestyle=(0, (4, 2)),
            )  # fmt: skip
            panel.set_title(title, fontsize=8)
            panel.set_axis_off()
        bars, places = panels[-1], np.arange(len(ROWS))[::-1]
        for shift, (column, (label, colour)) in zip((0.2, -0.2), BARS.items(), strict=True):
            values = [100 * gap.loc[row, column] for row in ROWS]
            bars.barh(places + shift, values, height=0.36, color=colour, label=label)
            for place, value in zip(places, values, strict=True):
                bars.text(value + 2, place + shift, f"{value:.0f}", va="center", fontsize=7)
        bars.set_yticks(places, list(ROWS.values()), fontsize=7)
        bars.set_xlim(0, 118)
        bars.set_xticks([])
        bars.spines[["top", "right", "bottom"]].set_visible(False)
        bars.legend(loc="lower center", bbox_to_anchor=(0.35, 1.0), fontsize=7, frameon=False)
        figure.savefig(path, dpi=200)
    picture = Image.open(path).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    picture.save(path, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
