"""Metrics over resamples of images, or of whole clusters of images that depend on one another."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..rng import keyed
from .metrics import checked

RESAMPLES = 1000
_CHUNK = 4_000_000  # weights held at a time
DRAWN = ("accuracy", "real_accuracy", "fake_accuracy", "ap", "auc")


def bootstrap(
    labels: np.ndarray,
    scores: np.ndarray,
    *,
    threshold: float = 0.5,
    resamples: int = RESAMPLES,
    seed: int = 0,
    key: str = "",
    clusters: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Return the metrics DRAWN of scores (N,) over resamples, each (resamples,).

    Of several rows of scores (S, N), each (S, resamples): every row sees the same draws, so that
    what the images have in common cancels in a difference.

    Reals and fakes are drawn apart, with replacement, so that their numbers stay (stratified).
    Where images depend on one another (crops of one photograph, frames of one film), give
    ``clusters`` (N,), any names: then whole clusters are drawn, and a resample that happens to
    hold no real or no fake gives NaN.

    key: names the generator; the draws are a function of the seed and the key, or of the seed and
    the clusters' names, so that generators made from the same photographs draw the same ones.
    What the draws cannot show, :func:`forensift.evaluation.metric_interval` adds.
    """
    rows = np.atleast_2d(scores)
    labels = checked(labels, rows[0], where=key)[0]
    is_fake = labels.astype(np.float64)
    right = ((rows > threshold) == (labels == 1)).astype(np.float64).T  # (N, S)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in DRAWN}
    for weights in resample_weights(
        labels, clusters=clusters, key=key, resamples=resamples, seed=seed
    ):
        n_fake, n_real = (weights @ is_fake)[:, None], (weights @ (1 - is_fake))[:, None]
        fakes_right = weights @ (right * is_fake[:, None])
        reals_right = weights @ (right * (1 - is_fake[:, None]))
        with np.errstate(invalid="ignore", divide="ignore"):
            parts["accuracy"].append((fakes_right + reals_right) / (n_fake + n_real))
            parts["real_accuracy"].append(reals_right / n_real)
            parts["fake_accuracy"].append(fakes_right / n_fake)
        precisions = [weighted_average_precision(labels, row, weights) for row in rows]
        parts["ap"].append(np.stack(precisions, axis=1))
        parts["auc"].append(np.stack([weighted_roc_auc(labels, r, weights) for r in rows], 1))
    drawn = {name: np.concatenate(values).T for name, values in parts.items()}
    return drawn if np.ndim(scores) > 1 else {name: values[0] for name, values in drawn.items()}


def weighted_average_precision(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return the average precision under each row of ``weights`` (B, N) ≥ 0, as (B,).

    Equal scores are one step of the curve, as in scikit-learn. NaN without any fake or any real.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    # The last image of each group of equal scores closes one step.
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    weights = weights[:, order]
    flagged = np.cumsum(weights, axis=1)[:, last]
    weights = weights * labels[order]
    hits = np.cumsum(weights, axis=1)[:, last]
    n_fake, n_all = hits[:, -1], flagged[:, -1]
    precision = np.divide(hits, flagged, out=np.zeros_like(hits), where=flagged > 0)
    gained = np.diff(hits, axis=1, prepend=0.0)
    defined = (n_fake > 0) & (n_fake < n_all)
    total = (gained * precision).sum(axis=1)
    return np.divide(total, n_fake, out=np.full(len(total), np.nan), where=defined)


def weighted_roc_auc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the area under the ROC curve under each row of ``weights`` (B, N) ≥ 0, as (B,).

    Ties count half. NaN without any fake or any real.
    """
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # of each group of ties
    weights, fake = weights[:, order], labels[order] == 1
    reals = np.cumsum(np.where(fake, 0.0, weights), axis=1)[:, last]
    fakes = np.diff(np.cumsum(np.where(fake, weights, 0.0), axis=1)[:, last], axis=1, prepend=0.0)
    below = (reals + np.concatenate([np.zeros((len(reals), 1)), reals[:, :-1]], axis=1)) / 2
    pairs = fakes.sum(axis=1) * reals[:, -1]
    return np.divide(
        (fakes * below).sum(axis=1), pairs, out=np.full(len(pairs), np.nan), where=pairs > 0
    )


def resample_weights(
    labels: np.ndarray,
    *,
    clusters: np.ndarray | None = None,
    key: str = "",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Iterator[np.ndarray]:
    """Yield how often each image is drawn, (rows, N), until ``resamples`` rows are made.

    What is drawn, and what ``key`` and ``clusters`` do to it: see :func:`bootstrap`. labels: (N,),
    the strata where there are no clusters.
    """
    drawn_by = key if clusters is None else "\n".join(sorted(map(str, set(clusters))))
    rng = keyed("bootstrap", seed, drawn_by)
    n = len(labels)
    if clusters is None:
        strata = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    else:
        names, cluster_of = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
        strata, n = [np.arange(len(names))], len(names)
    step = max(1, _CHUNK // len(labels))
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        counts = np.zeros((rows, n))
        for row in counts:  # drawn row by row, so that the chunk size changes no draw
            for members in strata:
                drawn = members[rng.integers(0, len(members), len(members))]
                row += np.bincount(drawn, minlength=n)
        yield counts if clusters is None else counts[:, cluster_of]
