"""Where a detector puts reals and fakes: t-SNE, and neighbours in feature space."""

from __future__ import annotations

import pandas as pd

from .. import figures
from ..embedding import ALL, CHANNELS, Embedding
from .text import percent
from .view import Draw, Shown, View

CAPTION = (
    "Each point is an image, placed so that images a detector holds alike are near one another. "
    "Only who is near whom means something: not the axes, nor how far groups are apart. Circles "
    "are reals, triangles fakes; in panels of one generator each, the others' images are grey."
)


def view(result: Embedding) -> View:
    """Return a picture a kind of features, and what does not hang on the picture."""
    drawn: dict[str, Draw] = {}
    for quality in result.quality.to_dict("records"):
        kind = str(quality["kind"])
        own = result.table[result.table["kind"] == kind]
        drawn[f"tsne-{kind}"] = _drawing(result, own, quality, "generator")
        if len(set(own["class"])) > 1:
            drawn[f"tsne-{kind}-class"] = _drawing(result, own, quality, "class")
    tables = {
        "embedding": result.table,
        "quality": result.quality,
        "neighbours": result.neighbours,
    }
    shown = Shown(
        "percent of images whose nearest neighbours, in feature space, are of their kind; [ ] 95 % "
        f"intervals over {result.neighbours['intervals_over'].iloc[-1]}",
        rows(result.neighbours),
        keys=2,
    )
    facts = {**result.facts, "tsne": result.quality.to_dict("records")}
    captions = dict.fromkeys(drawn, CAPTION)
    told = said(result)
    return View("Where images stand", told, tables, (shown,), drawn, facts=facts, captions=captions)


def rows(neighbours: pd.DataFrame) -> pd.DataFrame:
    """Return nearest-neighbour accuracy and silhouette, a row a kind of features and generator."""
    return pd.DataFrame(
        [
            {
                "features": str(row["kind"]),
                "generator": str(row["generator"]),
                "images": f"{row['n_real']} + {row['n_fake']}",
                "right": percent(row, "knn_accuracy"),
                "chance": f"{100 * row['chance']:.0f}",
                "silhouette": ""
                if row["silhouette"] != row["silhouette"]
                else f"{row['silhouette']:.2f}",
            }
            for row in neighbours.to_dict("records")
        ]
    )


def said(result: Embedding) -> str:
    """Say how well neighbours tell reals from fakes, and how true the picture is."""
    parts = []
    for quality in result.quality.to_dict("records"):
        own = result.neighbours[result.neighbours["kind"] == quality["kind"]]
        row = (own[own["generator"] == ALL] if len(own) > 1 else own).iloc[0]
        parts.append(
            f"By {quality['kind']} features {100 * row['knn_accuracy']:.0f} % of the images have "
            f"neighbours of their own kind (chance {100 * row['chance']:.0f}); the picture keeps "
            f"neighbourhoods with a trustworthiness of {quality['trustworthiness']:.2f}."
        )
    return " ".join(parts)


def _drawing(result: Embedding, own: pd.DataFrame, quality: dict, by: str) -> Draw:
    kind = f"top {result.facts['k']} feature maps, weighted by ω"
    which = kind if quality["kind"] == CHANNELS else f"{quality['kind']} features"
    row = result.neighbours[result.neighbours["kind"] == quality["kind"]]
    row = (row[row["generator"] == ALL] if len(row) > 1 else row).iloc[0]
    title = (
        f"{result.facts['detector']}: by {which} {100 * row['knn_accuracy']:.0f} % of images have "
        f"neighbours of their own kind (chance {100 * row['chance']:.0f})"
    )
    if not figures.one_panel(own, by):
        return lambda: figures.plot_embedding(own, quality, by=by, title=title)
    return lambda ax=None: figures.plot_embedding(own, quality, by=by, title=title, ax=ax)
