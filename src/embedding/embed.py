"""Where images lie for a detector: t-SNE of two kinds of features, with numbers beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ..data import Preset, check_skipped
from ..detectors import Detector
from ..errors import UserError
from ..evaluation import Cluster, clusters_of
from ..fmap_ranking import check_ranking_fits, top
from ..records import ImageEntry, ImageSet, Ranking, Skipped
from ..rng import keyed
from ..sweep import Progress, sweep
from .features import (
    CHANNELS,
    PENULTIMATE,
    FeatureObserver,
    Features,
    FeatureStatistic,
    Pooling,
    weighted,
)
from .neighbours import NEIGHBOURS, separation
from .tsne import get_settings, project

PER_GROUP = 200
ALL = "all"  # generators together


@dataclass(frozen=True)
class Embedding:
    """Points of a t-SNE, how good it is, and how far apart reals and fakes are without it.

    table: one row an image and kind of features (penultimate, omega-weighted): path (the image's
        id), label, generator, class, kind, x, y. Images of equal pixels share a point.
    quality: one row a kind: images (that differ), dimensions, perplexity, kl_divergence,
        trustworthiness and the settings; see :func:`project`.
    neighbours: one row a kind and generator ('all' for all together): knn_accuracy, silhouette and
        their company in *feature* space; see :func:`separation`.
    features: the vectors (N, D) by kind, rows as the table's of that kind.
    """

    table: pd.DataFrame
    quality: pd.DataFrame
    neighbours: pd.DataFrame
    features: Mapping[str, np.ndarray]
    facts: Mapping[str, Any] = field(default_factory=dict)


def embed(
    detector: Detector,
    images: ImageSet,
    *,
    ranking: Ranking | None = None,
    k: int | None = None,
    pooling: Pooling = "max",
    settings: str = "default",
    perplexity: float | None = None,
    neighbours: int = NEIGHBOURS,
    per_group: int | None = PER_GROUP,
    cluster: Cluster = "photograph",
    preset: Preset | None = None,
    batch_size: int = 16,
    seed: int = 0,
    max_skipped: float = 0.01,
    skipped: list[Skipped] | None = None,
    progress: Progress | None = None,
) -> Embedding:
    """Return the t-SNE of the penultimate features and, with a ranking, of ω-weighted channels.

    One pass over the images feeds both. Images of equal pixels and label (reals that several
    generators share) count once.

    ranking, k: the feature maps of :func:`weighted`, the top k; pooling: 'max' or 'mean' over space
        of their convolution outputs.
    settings: 'default' (PCA start, perplexity 30 or what the images allow) or 'dna-det'
        (perplexity 15, random start, learning rate 200); perplexity: instead of theirs.
    neighbours: of the nearest-neighbour accuracy; cluster: what its interval draws, see
        :func:`forensift.evaluate`.
    per_group: most images of one generator and label, drawn by the seed and the images' ids; None
        takes all. ``facts`` says how many there were.
    preset, batch_size, seed, max_skipped, skipped, progress: as for :func:`forensift.rank`;
        progress's numbers sum to ``drawn`` images.

    Raises:
        UserError: a ranking without k or of another network, an option out of range, too many
            unreadable images, or too few for the perplexity.
    """
    get_settings(settings)
    if (ranking is None) != (k is None):
        raise UserError("the omega-weighted features need both a ranking and k")
    if neighbours < 1 or (per_group is not None and per_group < 1):
        raise UserError("neighbours and images per group must be 1 or more")
    feature_maps = top(ranking, k) if ranking is not None and k is not None else []
    if ranking is not None:
        check_ranking_fits(ranking, detector)
    if preset is not None:
        detector = detector.with_preset(preset)
    chosen = drawn(images, per_group, seed)
    if not len(chosen):
        raise UserError(f"{images.root}: holds no images")
    statistic = FeatureStatistic()
    missed: list[Skipped] = []
    sweep(
        chosen, detector.preset, FeatureObserver(detector, feature_maps, pooling), [statistic],
        batch_size=batch_size, seed=seed, progress=progress, skipped=missed,
    )  # fmt: skip
    if skipped is not None:
        skipped.extend(missed)
    check_skipped(missed, len(chosen), max_skipped)
    omega = None
    if ranking is not None:
        omega = ranking.table["omega"].to_numpy(dtype=np.float64)[:k]
    found = placed(
        statistic.result(), chosen, omega,
        settings=settings, perplexity=perplexity, neighbours=neighbours, cluster=cluster, seed=seed,
    )  # fmt: skip
    facts = {
        "images": len(images),
        "drawn": len(chosen),
        "per_group": per_group,
        "image_set": chosen.hash(),
        "k": k,
        "pooling": pooling if feature_maps else None,
        "preset": detector.preset.name,
        "seed": seed,
        **found.facts,
    }
    return Embedding(found.table, found.quality, found.neighbours, found.features, facts)


def placed(
    features: Features,
    images: ImageSet,
    omega: np.ndarray | None = None,
    *,
    settings: str = "default",
    perplexity: float | None = None,
    neighbours: int = NEIGHBOURS,
    cluster: Cluster = "photograph",
    seed: int = 0,
) -> Embedding:
    """Return the embedding of features that a pass over ``images`` has found; see :func:`embed`.

    omega: of the feature maps in ``features.channels``, None where there are none.
    """
    entries = {images.image_id(entry): entry for entry in images}
    order = [entries[image_id] for image_id in features.image_ids]
    labels = np.array([entry.label for entry in order], dtype=np.int64)
    first_of: dict[tuple[str, int], int] = {}
    alike = np.array(
        [
            first_of.setdefault((content, int(label)), row)
            for row, (content, label) in enumerate(zip(features.contents, labels, strict=True))
        ],
        dtype=np.int64,
    )
    once, where = np.unique(alike, return_inverse=True)
    kinds = {PENULTIMATE: features.penultimate.astype(np.float64)}
    if omega is not None:
        # Copies are left out of mean and spread as they are of the picture.
        kinds[CHANNELS] = weighted(features.channels[once], omega)[where]
    tables, quality, apart = [], [], []
    for kind, values in kinds.items():
        projection = project(values[once], settings=settings, perplexity=perplexity, seed=seed)
        tables.append(_table(features.image_ids, order, kind, projection.points[where]))
        quality.append({"kind": kind, **projection.facts})
        apart += _apart(values, labels, order, alike, kind, neighbours, cluster, seed)
    return Embedding(
        pd.concat(tables, ignore_index=True),
        pd.DataFrame(quality),
        pd.DataFrame(apart),
        kinds,
        {"images_that_differ": len(once)},
    )


def drawn(images: ImageSet, per_group: int | None, seed: int) -> ImageSet:
    """Return at most ``per_group`` images of each generator and label, in the set's order.

    Each image draws a number from the seed and its file's name; the smallest are kept. So reals of
    one name, that several generators often share, are kept or left together.
    """
    if per_group is None:
        return images
    groups: dict[tuple[str, int], list[tuple[float, str, int]]] = {}
    for index, entry in enumerate(images):
        number = float(keyed(seed, entry.path.name).random())
        group = groups.setdefault((entry.generator, entry.label), [])
        group.append((number, images.image_id(entry), index))
    kept = sorted(row[2] for rows in groups.values() for row in sorted(rows)[:per_group])
    return ImageSet(images.root, tuple(images.entries[i] for i in kept), images.layout)


def _table(
    ids: tuple[str, ...], order: list[ImageEntry], kind: str, points: np.ndarray
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "path": list(ids),
            "label": [entry.label for entry in order],
            "generator": [entry.generator for entry in order],
            "class": [entry.class_name for entry in order],
            "kind": kind,
            "x": points[:, 0],
            "y": points[:, 1],
        }
    )


def _apart(
    values: np.ndarray,
    labels: np.ndarray,
    order: list[ImageEntry],
    alike: np.ndarray,
    kind: str,
    neighbours: int,
    cluster: Cluster,
    seed: int,
) -> list[dict[str, Any]]:
    generators = np.array([entry.generator for entry in order], dtype=object)
    groups = [(name, np.flatnonzero(generators == name)) for name in sorted(set(generators))]
    if len(groups) > 1:
        groups.append((ALL, np.arange(len(order))))
    # A copy would be its own nearest neighbour.
    rows = [(name, own[np.unique(alike[own], return_index=True)[1]]) for name, own in groups]
    images = pd.DataFrame(
        {"path": [str(one.path) for one in order], "class": [one.class_name for one in order]}
    )
    found = []
    for name, own in rows:
        clusters, over = clusters_of(images.iloc[own], cluster)
        apart = separation(
            values[own], labels[own], clusters=clusters, neighbours=neighbours, seed=seed
        )
        found.append({"kind": kind, "generator": name, **apart, "intervals_over": over})
    return found
