"""Explanations: heat maps over images, and what is decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import figures
from ..errors import counted
from ..explain import Explanation, Explanations
from ..explain.heat import BLUR, check_scaling, heat, scaling_words
from ..files import write_with
from .text import other_rules
from .view import Draw, Shown, View, Write

SCALING = "percentile-99"
ROWS = 12  # images of a panel
NAME = 24  # characters of an image's name beside its row
CAPTION = (
    "Left the image as the network sees it; then each method's map over the grey image, brighter "
    "for more evidence for what the network decided. p is the probability of that decision, at its "
    'own threshold. "Nothing to show" is a map without any positive evidence. A map says where '
    "evidence lies, not that the decision is right."
)


def view(result: Explanations) -> View:
    """Return what is decided of each image, and the panel of images against methods."""
    keys = list(dict.fromkeys(one.key for one in result.found))[:ROWS]
    methods = list(dict.fromkeys(one.method for one in result.found))
    by_key = {(one.key, one.method): one for one in result.found}
    name = result.facts["detector"]

    def panel() -> object:
        first = [by_key[key, methods[0]] for key in keys]
        heats = {method: [drawn(by_key[key, method])[0] for key in keys] for method in methods}
        rows = [
            f"{where(one.key)}\ncalled {one.decision}, p = {one.probability:.2g}" for one in first
        ]
        words = scaling_words(SCALING, BLUR if methods == ["lrp"] else 0, methods[0])
        counts = result.table.drop_duplicates("path")["decision"].value_counts()
        called = ", ".join(f"{n} {kind}" for kind, n in counts.items())
        title = f"{name} calls {called} of {counts.sum()} images; maps of what it decided"
        return figures.plot_explanations(
            [one.pixels for one in first], heats, rows=rows, scaling=words, title=title
        )

    drawings: dict[str, Draw] = {"explanations": panel} if keys and _one_size(result) else {}
    files: dict[str, Write] = {}
    for place, one in enumerate(result.found):
        files[f"raw/{place:04d}-{one.method}.npy"] = _raw(one.relevance)
    shown = Shown("sum: of the raw relevance, in no fixed unit", rows(result.table), keys=1)
    tables = {"explained": result.table}
    captions = dict.fromkeys(drawings, CAPTION)
    told = said(result)
    return View("Explanations", told, tables, (shown,), drawings, files, result.facts, captions)


def where(key: str) -> str:
    """Return an image's name, short, below the two folders that say what it is."""
    parts = Path(key).with_suffix("").parts
    name = parts[-1] if len(parts[-1]) <= NAME else f"{parts[-1][: NAME - 6]}…{parts[-1][-5:]}"
    return "\n".join(["/".join(parts[-3:-1]), name]).strip()


def rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return what is decided of each image, and what each map holds."""
    return pd.DataFrame(
        [
            {
                "image": str(row["path"]),
                "decision": str(row["decision"]),
                "probability": f"{row['probability']:.3f}",
                "method": str(row["method"]),
                "explained": str(row["target_name"]),
                "logit": f"{row['logit']:.3g}",
                "sum": f"{row['sum']:.3g}",
                "map": "" if row["positive_sum"] > 0 else "nothing is positive",
            }
            for row in table.to_dict("records")
        ]
    )


def said(result: Explanations) -> str:
    """Say what is decided, and which maps hold no evidence."""
    first = result.table.drop_duplicates("path")
    counts = ", ".join(f"{n} {name}" for name, n in first["decision"].value_counts().items())
    empty = int((result.table["positive_sum"] <= 0).sum())
    text = f"{result.facts['detector']} decides: {counts}."
    if empty:
        hold = "holds" if empty == 1 else "hold"
        text += f" {empty} of {counted(len(result.table), 'map')} {hold} nothing positive."
    text += " A map shows where relevance lies, not that the decision is right."
    return " ".join([text + other_rules(result.facts), *result.notes])


def drawn(one: Explanation, scaling: str = SCALING) -> tuple[np.ndarray, float]:
    """Return an explanation's map for drawing, and the raw relevance that its 1 stands for."""
    return heat(one.map, scaling, BLUR if one.method == "lrp" else 0)


@dataclass(frozen=True)
class Writer:
    """Saves each explanation as soon as it is there, and names its files.

    Per image NAME.npy (raw, signed), NAME.png (overlay, pixel for pixel) and NAME.pdf; several:
    methods, whose name is then added, and a panel of all of them, NAME-methods.
    """

    folder: Path
    names: Mapping[Path | None, str]
    detector: str
    scaling: str = SCALING
    several: bool = False
    waiting: dict[Path | None, list[Explanation]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_scaling(self.scaling)

    @property
    def facts(self) -> dict[str, Any]:
        """What decides what is drawn: interrupted runs of another scaling are not gone on with."""
        return {"scaling": self.scaling}

    def __call__(self, one: Explanation) -> dict[str, Any]:
        """Save one explanation; return the name of its raw file and its unit of drawing."""
        name = self.names[one.path] + (f"-{one.method}" if self.several else "")
        pixels, unit = drawn(one, self.scaling)
        words = scaling_words(self.scaling, BLUR if one.method == "lrp" else 0, one.method)
        caption = f"{self.detector}: {one.caption}.\n{words}."
        write_with(self.folder / f"{name}.npy", _raw(one.relevance))
        signed = self.scaling == "signed"
        figures.save_overlay(self.folder, name, one.pixels, pixels, signed=signed, caption=caption)
        if self.several:
            self.waiting.setdefault(one.path, []).append(one)
        return {"file": f"{name}.npy", "drawn_as_1": unit}

    def finish(self) -> None:
        """Draw the panels of the images that have come since the last time."""
        for path, found in self.waiting.items():
            figure = methods_panel(found, self.detector, self.scaling)
            figures.save(figure, self.folder, f"{self.names[path]}-methods")
        self.waiting.clear()


def methods_panel(found: Sequence[Explanation], detector: str, scaling: str = SCALING) -> Any:
    """Return the figure of one image by all of its methods."""
    first = found[0]
    words = scaling_words(scaling, 0, "lrp")
    title = f"{detector}: decided {first.decision} (p = {first.probability:.2g})"
    return figures.plot_methods(
        first.pixels,
        {one.method: drawn(one, scaling)[0] for one in found},
        signed=scaling == "signed",
        scaling=f"{words}, each map for itself",
        title=f"{title}; shown: evidence for {first.target_name}, logit {first.logit:.3g}",
    )


def _one_size(result: Explanations) -> bool:
    return len({one.pixels.shape for one in result.found[: ROWS * 8]}) == 1


def _raw(values: np.ndarray) -> Write:
    def write(path: Path) -> None:
        with path.open("wb") as opened:
            np.save(opened, values)

    return write
