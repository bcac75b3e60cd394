"""What the study of source attribution looks like, with the files as DNA-Det publishes them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ... import figures
from ...forge.forge import png
from ...views import Shown, View
from ...views.view import Draw, Write
from .cams import ClassMap
from .page import WORDS, accuracy_rows, study_said
from .study import Study


def view(study: Study) -> View:
    """Return accuracies by set; figures of accuracy, confusion, t-SNE and Grad-CAM."""
    tables = {
        "attribution": study.metrics,
        "predictions": study.predictions,
        "confusion": study.confusion,
        "differences": study.differences,
        "drops": study.drops,
    }
    whole = (study.metrics["metric"] == "accuracy") & (study.metrics["generator"] == "")
    drawn: dict[str, Draw] = {
        "accuracy": lambda: figures.plot_source_attribution(study.metrics[whole], WORDS)
    }
    for name, own in study.confusion.groupby("detector", sort=False):
        drawn[f"confusion-{_slug(str(name))}"] = _confusion(own, str(name))
    for name, embedding in study.embeddings.items():
        drawn[f"tsne-{_slug(name)}"] = _embedding(embedding, name)
    if study.embeddings:
        every = {name: (one.table, one.quality) for name, one in study.embeddings.items()}
        tables["embedding"] = pd.concat([t.assign(detector=n) for n, (t, _) in every.items()])
        tables["quality"] = pd.concat([q.assign(detector=n) for n, (_, q) in every.items()])
    files = _published(study)
    for name, maps in study.maps.items():
        for crop in dict.fromkeys(Path(one.path).name for one in maps):
            own_maps = [one for one in maps if Path(one.path).name == crop]
            drawn[f"gradcam-{_slug(name)}-{Path(crop).stem}"] = _maps(own_maps, name)
        for one in maps:
            files |= _pictures(one, name)
    caption = "accuracy in percent; [ ] 95 % intervals drawn by photograph"
    shown = Shown(caption, accuracy_rows(study.metrics, study.differences))
    said = study_said(study.metrics, study.differences, study.drops)
    title = "Which family made it?"
    return View(title, said, tables, (shown,), drawn, files, study.facts)


def _published(study: Study) -> dict[str, Write]:
    """Return ``NAME/SET/annotations.txt`` and ``pred/result.txt``: path TAB class number."""
    files: dict[str, Write] = {}
    for (name, one), own in study.predictions.groupby(["detector", "set"], sort=False):
        number = {label: at for at, label in enumerate(study.classes[str(name)])}
        for column, file in (("truth", "annotations.txt"), ("predicted", "pred/result.txt")):
            pairs = zip(own["path"], own[column], strict=True)
            text = "".join(f"{path}\t{number[label]}\n" for path, label in pairs)
            files[f"{_slug(str(name))}/{one}/{file}"] = _bytes(text.encode())
    return files


def _pictures(one: ClassMap, name: str) -> dict[str, Write]:
    pictures: dict[str, np.ndarray] = {
        "inputs": one.pixels.transpose(1, 2, 0),
        "cam": figures.class_overlay(one.pixels, one.heat),
        "heatmap": figures.heat_colours(one.heat),
    }
    stem, folder = Path(one.path).stem, f"{_slug(name)}/{one.set}/gradcam"
    return {
        f"{folder}/{stem}_{kind}_{one.truth}_{one.predicted}.png": _bytes(png(picture))
        for kind, picture in pictures.items()
    }


def _confusion(own: pd.DataFrame, name: str) -> Draw:
    return lambda: figures.plot_confusions(own, WORDS, title=name)


def _embedding(embedding: object, name: str) -> Draw:
    quality = embedding.quality.iloc[0].to_dict()  # type: ignore[attr-defined]
    title = f"{name}, pooled features"
    return lambda: figures.plot_world_embedding(embedding.table, quality, WORDS, title=title)  # type: ignore[attr-defined]


def _maps(maps: Sequence[ClassMap], name: str) -> Draw:
    cells = {
        (one.truth, one.set): (
            one.pixels,
            one.heat,
            f"{one.predicted} {100 * one.probability:.0f} %",
            one.predicted == one.truth,
        )
        for one in maps
    }
    rows = list(dict.fromkeys(one.truth for one in maps))
    columns = list(dict.fromkeys(one.set for one in maps))
    title = f"{name}: where it looks for its answer"
    return lambda: figures.plot_class_maps(cells, rows, columns, titles=WORDS, title=title)


def _bytes(content: bytes) -> Write:
    return lambda path: path.write_bytes(content)


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-").lower()
