"""Where images lie for a detector: t-SNE of two kinds of features, with numbers beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Unpack

import numpy as np
import pandas as pd

from ..detectors import Detector
from ..errors import UserError
from ..evaluation import Cluster, clusters_of
from ..fmap_ranking import fitting, top
from ..records import ImageEntry, ImageSet, Ranking, Result, Skipped
from ..rng import keyed
from ..sweep import How, Pass, sweep
from .features import CHANNELS, PENULTIMATE, FeatureLook, Pooling, weighted
from .neighbours import NEIGHBOURS, separation
from .tsne import get_settings, project

PER_GROUP = 200
ALL = "all"  # generators together


@dataclass(frozen=True, eq=False, repr=False)
class Embedding(Result):
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
    skipped: tuple[Skipped, ...] = ()


def embed(
    detector: Detector,
    images: ImageSet,
    *,
    ranking: Ranking | None = None,
    k: int | None = None,
    pooling: Pooling = "max",
    per_group: int | None = PER_GROUP,
    settings: str = "default",
    perplexity: float | None = None,
    neighbours: int = NEIGHBOURS,
    cluster: Cluster = "photograph",
    **how: Unpack[How],
) -> Embedding:
    """Return the t-SNE of the penultimate features and, with a ranking, of ω-weighted channels.

    One pass over the images feeds both. Images of equal pixels and label (reals that several
    generators share) count once.

    ranking, k: the feature maps of :func:`weighted`, the top k; pooling: 'max' or 'mean' over space
        of their convolution outputs.
    per_group: most images of one generator and label, drawn by the seed and the images' ids; None
        takes all. ``facts`` says how many there were.
    settings: 'default' (PCA start, perplexity 30 or what the images allow) or 'dna-det'
        (perplexity 15, random start, learning rate 200); perplexity: instead of theirs.
    neighbours: of the nearest-neighbour accuracy; cluster: what its interval draws, see
        :func:`forensift.evaluation.metrics`.

    Raises:
        UserError: a ranking without k or of another network, an option out of range, too few images
            for the perplexity, or see :func:`forensift.sweep`.
    """
    get_settings(settings)
    if neighbours < 1:
        raise UserError("neighbours must be 1 or more")
    seed = how.get("seed", 0)
    chosen = drawn(images, per_group, seed)
    if not len(chosen):
        raise UserError(f"{images.root}: holds no images")
    look = feature_look(detector, chosen, ranking, k, pooling)
    done = sweep(chosen, [look], what="reading features", **how)
    return embedding_of(
        look, done, ranking, settings=settings, perplexity=perplexity, neighbours=neighbours,
        cluster=cluster, seed=seed, facts={"images": len(images), "per_group": per_group},
    )  # fmt: skip


def feature_look(
    detector: Detector,
    images: ImageSet,
    ranking: Ranking | None = None,
    k: int | None = None,
    pooling: Pooling = "max",
) -> FeatureLook:
    """Return the look at both kinds of features of ``images``; see :func:`embed`.

    Raises:
        UserError: a ranking without k, or of another network.
    """
    if (ranking is None) != (k is None):
        raise UserError("the omega-weighted features need both a ranking and k")
    if ranking is None or k is None:
        return FeatureLook(detector, (), pooling, images)
    detector = fitting(ranking, detector)
    return FeatureLook(detector, top(ranking, k), pooling, images)


def embedding_of(
    look: FeatureLook,
    done: Pass,
    ranking: Ranking | None = None,
    *,
    settings: str = "default",
    perplexity: float | None = None,
    neighbours: int = NEIGHBOURS,
    cluster: Cluster = "photograph",
    seed: int = 0,
    facts: Mapping[str, Any] | None = None,
) -> Embedding:
    """Return the embedding of what a pass has shown; see :func:`embed`.

    ranking: whose top maps the look took, None where it took none.
    """
    entries = {done.used.image_id(one): one for one in done.used if look.wants(one)}
    ids = tuple(sorted(entries))  # the points' order does not hang on the set's
    order = [entries[image_id] for image_id in ids]
    labels = np.array([entry.label for entry in order], dtype=np.int64)
    contents = look.statistic.of(ids, "content")
    # Of images with the same pixels the first stands for all: one point, one vote.
    first_of: dict[tuple[str, int], int] = {}
    keys = [(str(one), int(label)) for one, label in zip(contents, labels, strict=True)]
    alike = np.array([first_of.setdefault(key, row) for row, key in enumerate(keys)])
    once, where = np.unique(alike, return_inverse=True)
    kinds = {PENULTIMATE: look.statistic.of(ids, "penultimate").astype(np.float64)}
    channels = look.statistic.of(ids, "channels")
    k = channels.shape[1]
    if ranking is not None:
        omega = ranking.scores[:k]
        # Copies are left out of mean and spread as they are of the picture.
        kinds[CHANNELS] = weighted(channels[once], omega)[where]
    tables, quality, apart = [], [], []
    for kind, values in kinds.items():
        projection = project(values[once], settings=settings, perplexity=perplexity, seed=seed)
        tables.append(_table(ids, order, kind, projection.points[where]))
        quality.append({"kind": kind, **projection.facts})
        apart += _apart(values, labels, order, alike, kind, neighbours, cluster, seed)
    whole = {
        "detector": look.detector.name,
        "used": len(order),
        "images_that_differ": len(once),
        "k": k or None,
        "pooling": look.pooling if k else None,
        "preset": look.detector.preset.name,
        "seed": seed,
        **(facts or {}),
    }
    return Embedding(
        pd.concat(tables, ignore_index=True),
        pd.DataFrame(quality),
        pd.DataFrame(apart),
        kinds,
        whole,
        done.skipped,
    )


def drawn(images: ImageSet, per_group: int | None, seed: int) -> ImageSet:
    """Return at most ``per_group`` images of each generator and label, in the set's order.

    Each image draws a number from the seed and its file's name; the smallest are kept. So reals of
    one name, that several generators often share, are kept or left together.
    """
    if per_group is None:
        return images
    if per_group < 1:
        raise UserError(f"per_group {per_group}: must be 1 or more")
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
