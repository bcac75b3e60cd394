"""t-SNE with all that is needed to repeat it, and to judge it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UserError

NEIGHBOURS = 5  # of the trustworthiness
FEWEST = 5  # images
MOST_COMPARED = 4000  # rows that trustworthiness, which is quadratic in memory, is computed on


@dataclass(frozen=True)
class Settings:
    """How t-SNE is run. ``perplexity`` None: 30, or (N − 1) / 3 where there are fewer than 91."""

    name: str
    perplexity: float | None = None
    init: str = "pca"
    learning_rate: float | str = "auto"
    early_exaggeration: float = 12.0
    iterations: int = 1000


SETTINGS = {
    one.name: one
    for one in (
        Settings("default"),
        # DNA-Det draws with the package MulticoreTSNE, whose defaults these are but for 15.
        Settings("dna-det", perplexity=15, init="random", learning_rate=200.0),
    )
}


@dataclass(frozen=True)
class Projection:
    """points: (N, 2); facts: the settings used, KL divergence, trustworthiness, and N."""

    points: np.ndarray
    facts: Mapping[str, Any]


def project(
    features: np.ndarray,
    *,
    settings: str = "default",
    perplexity: float | None = None,
    seed: int = 0,
) -> Projection:
    """Return the t-SNE of features (N, D), Euclidean, Barnes–Hut, to two dimensions.

    perplexity: instead of the settings'. Trustworthiness (0 … 1, 1 means that neighbours in the
    picture are neighbours in the features) is on 5 neighbours and at most 4,000 rows drawn by the
    seed. Runs on one thread, so that a seed gives the same picture on any number of cores.

    Raises:
        UserError: unknown settings, fewer than five images, a perplexity that they are too few for
            (3 · perplexity > N − 1), features that are not finite or the same in every image.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    chosen = get_settings(settings)
    values = np.asarray(features, dtype=np.float64)
    number, dimensions = values.shape
    if number < FEWEST:
        raise UserError(f"t-SNE needs {FEWEST} images that differ or more; got {number}")
    if not np.isfinite(values).all():
        raise UserError("t-SNE: a feature is not finite; the network overflows on these images")
    if not (values.std(axis=0) > 0).any():
        raise UserError("t-SNE: every image has the same features, so there is nothing to draw")
    asked = perplexity if perplexity is not None else chosen.perplexity
    used = check_perplexity(asked, number)
    # PCA needs two dimensions to start from.
    init = chosen.init if dimensions > 1 else "random"
    with threadpool_limits(limits=1):
        tsne = TSNE(
            n_components=2,
            perplexity=used,
            init=init,
            learning_rate=chosen.learning_rate,
            early_exaggeration=chosen.early_exaggeration,
            max_iter=chosen.iterations,
            random_state=seed,
        )
        points = tsne.fit_transform(values).astype(np.float64)
        neighbours, trust = _trustworthiness(values, points, seed)
    facts = {
        "settings": chosen.name,
        "images": number,
        "dimensions": dimensions,
        "seed": seed,
        "perplexity": used,
        "perplexity_asked": asked,
        "init": init,
        "learning_rate": float(tsne.learning_rate_),
        "early_exaggeration": chosen.early_exaggeration,
        "iterations": int(tsne.n_iter_) + 1,
        "kl_divergence": float(tsne.kl_divergence_),
        "trustworthiness": trust,
        "trustworthiness_neighbours": neighbours,
    }
    return Projection(points, facts)


def get_settings(name: str) -> Settings:
    """Return the settings of that name.

    Raises:
        UserError: there are none.
    """
    if name not in SETTINGS:
        raise UserError(f"no settings {name!r}; there are {', '.join(SETTINGS)}")
    return SETTINGS[name]


def check_perplexity(asked: float | None, images: int) -> float:
    """Return the perplexity to use: what was asked, or 30 as far as the images allow.

    Raises:
        UserError: it is below 1, or above (images − 1) / 3, where its neighbours run out.
    """
    most = (images - 1) / 3
    if asked is None:
        return min(30.0, most)
    if not 1 <= asked <= most:
        raise UserError(
            f"perplexity {asked:g}: {images} images that differ allow 1 … {most:.4g}; "
            "lower --perplexity or give more images"
        )
    return float(asked)


def _trustworthiness(features: np.ndarray, points: np.ndarray, seed: int) -> tuple[int, float]:
    from sklearn.manifold import trustworthiness

    if len(features) > MOST_COMPARED:
        drawn = np.random.default_rng(seed).choice(len(features), MOST_COMPARED, replace=False)
        features, points = features[drawn], points[drawn]
    neighbours = min(NEIGHBOURS, (len(features) - 1) // 2)
    return neighbours, float(trustworthiness(features, points, n_neighbors=neighbours))
