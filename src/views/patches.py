"""What the feature maps look at: LRP-max patches."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from .. import figures
from ..patches import Patches
from .view import Draw, View, Write


def view(result: Patches) -> View:
    """Return the collage, its patches as PNG files, and where each was cut out."""
    name = f"{result.facts['detector']}, fakes of {result.facts['generator']}"
    pages = range(len(figures.collage_pages(result)))
    drawn: dict[str, Draw] = {
        "collage" if not page else f"collage-{page + 1}": _page(result, page, name)
        for page in pages
    }
    table = result.table
    files: dict[str, Write] = {}
    places = []
    ranks = {feature_map: rank for rank, feature_map in enumerate(result.feature_maps, 1)}
    for one in result.patches:
        of = one.feature_map
        place = f"patches/{ranks[of]:03d}-{_safe(of.layer)}-{of.channel}/{one.place}.png"
        places.append("" if one.crop is None else place)
        if one.crop is not None:
            files[place] = _png(one.crop)
    tables = {"patches": table.assign(file=places)}
    title = f"What the maps look at, {result.facts['generator']}"
    return View(
        title, said(table, len(result.feature_maps)), tables, (), drawn, files, result.facts
    )


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


def _safe(name: str) -> str:
    return re.sub(r"[^\w.+-]", "_", name) or "none"


def _png(crop: np.ndarray) -> Write:
    def write(path: Path) -> None:
        Image.fromarray(crop).save(path, format="PNG")

    return write


def _page(result: Patches, page: int, title: str) -> Draw:
    return lambda: figures.plot_collage(result, title=title)[page]
