"""Are reals and fakes apart in feature space? Numbers to put beside a t-SNE picture."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..evaluation import cluster_mean, wilson
from ..records import FAKE, REAL

NEIGHBOURS = 5
MOST_COMPARED = 4000  # images of the silhouette, which is quadratic in time


def separation(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    clusters: np.ndarray | None = None,
    neighbours: int = NEIGHBOURS,
    seed: int = 0,
) -> dict[str, Any]:
    """Return how well reals and fakes are apart in features (N, D), Euclidean.

    knn_accuracy: share of images whose label is that of most of their nearest neighbours, the
    image itself left out, with a 95 % interval: Wilson's, or with ``clusters`` (N,), names of what
    images belong to, one that redraws these (:func:`cluster_mean`); neighbours: how many, made
    odd, and fewer where there are too few images; chance: the larger label's share. silhouette:
    −1 … 1, the mean over images (at most 4,000, drawn by the seed). NaN where one label is missing
    or there are fewer than four images.
    """
    from sklearn.metrics import silhouette_score
    from sklearn.neighbors import NearestNeighbors

    n_real, n_fake = int((labels == REAL).sum()), int((labels == FAKE).sum())
    number = n_real + n_fake
    used = min(neighbours, number - 1)
    used -= (used + 1) % 2
    found: dict[str, Any] = {
        "n_real": n_real,
        "n_fake": n_fake,
        "neighbours": max(used, 0),
        "knn_accuracy": np.nan,
        "knn_accuracy_low": np.nan,
        "knn_accuracy_high": np.nan,
        "chance": max(n_real, n_fake) / number if number else np.nan,
        "silhouette": np.nan,
    }
    if number < 4 or not n_real or not n_fake:
        return found
    values = np.asarray(features, dtype=np.float64)
    # Without an argument kneighbors leaves the point itself out.
    nearest = NearestNeighbors(n_neighbors=used).fit(values).kneighbors(return_distance=False)
    voted = labels[nearest].mean(axis=1) > 0.5
    right = voted == (labels == FAKE)
    interval = (
        wilson(int(right.sum()), number)
        if clusters is None
        else cluster_mean(right, clusters, seed=seed)[1:]
    )
    found["knn_accuracy"] = right.mean()
    found["knn_accuracy_low"], found["knn_accuracy_high"] = interval
    drawn = MOST_COMPARED if number > MOST_COMPARED else None
    found["silhouette"] = float(
        silhouette_score(values, labels, sample_size=drawn, random_state=seed)
    )
    return found
