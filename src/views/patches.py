"""What the feature maps look at: LRP-max patches."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from .. import figures
from ..patches import Collages, Patches
from .text import other_rules
from .view import Draw, View, Write

CAPTION = (
    "A row a feature map, of the highest ω first; in it the places of the images that excite it "
    "most, best first, cut out where its relevance lies and scaled to one size. How large each "
    "is in the image stands below it, in pixels. What a row's patches share is what the map "
    "looks at."
)


def view(result: Patches | Collages) -> View:
    """Return the collages, their patches as PNG files, and where each was cut out."""
    if isinstance(result, Patches):
        parts: Mapping[str, Patches] = {str(result.facts["generator"]): result}
    else:
        parts = result.of
    drawn: dict[str, Draw] = {}
    files: dict[str, Write] = {}
    tables = []
    for name, found in parts.items():
        stem = "collage" if len(parts) == 1 else f"collage-{_safe(name)}"
        for page in range(len(figures.collage_pages(found))):
            drawn[stem if not page else f"{stem}-{page + 1}"] = _page(found, page)
        own = _crops(found, name)
        files |= {place: _png(crop) for place, crop in own if crop is not None}
        places = ["" if crop is None else place for place, crop in own]
        tables.append(found.table.assign(file=places))
    table = pd.concat(tables, ignore_index=True)
    k = len(next(iter(parts.values())).feature_maps)
    of = f", {next(iter(parts))}" if len(parts) == 1 else ""
    title, facts = f"What the maps look at{of}", result.facts
    return View(
        title, said(table, k) + other_rules(facts), {"patches": table}, (), drawn, files, facts,
        dict.fromkeys(drawn, CAPTION),
    )  # fmt: skip


def said(table: pd.DataFrame, maps: int) -> str:
    """Say how large the patches are, and where none was found."""
    there = table["height"].notna()
    lost = int((~there).sum())
    none = f" {lost} places hold no patch: patches.csv says why." if lost else ""
    if lost == len(table):
        return f"None of the {maps} maps has a patch.{none}"
    sides = np.sqrt((table["height"] * table["width"])[there].astype(float))
    return (
        f"Each row is one of the {maps} maps of the highest ω; patches are what is left of the "
        f"images that excite it most after a cut of relevance at a percentile. Their side is "
        f"{sides.median():.0f} pixels in the median ({sides.min():.0f} to {sides.max():.0f}).{none}"
    )


def _crops(found: Patches, name: str) -> list[tuple[str, np.ndarray | None]]:
    """Return each patch's place below the folder, and its pixels."""
    ranks = {feature_map: rank for rank, feature_map in enumerate(found.feature_maps, 1)}
    return [
        (
            f"patches/{_safe(name)}/{ranks[one.feature_map]:03d}-{_safe(one.feature_map.layer)}"
            f"-{one.feature_map.channel}/{one.place}.png",
            one.crop,
        )
        for one in found.patches
    ]


def _safe(name: str) -> str:
    return re.sub(r"[^\w.+-]", "_", name) or "none"


def _png(crop: np.ndarray) -> Write:
    def write(path: Path) -> None:
        Image.fromarray(crop).save(path, format="PNG")

    return write


def _page(found: Patches, page: int) -> Draw:
    facts = found.facts
    whose = "all fakes" if facts["generator"] == "all" else f"fakes of {facts['generator']}"
    title = f"{facts['detector']}, top {facts['k']} maps, {facts['used']} {whose}"
    return lambda: figures.plot_collage(found, title=title)[page]
