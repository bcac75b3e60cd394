"""Several scores of the same images under the same bootstrap draws, so that they compare."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath

import numpy as np

from ..data.photos import photograph_name
from .intervals import RESAMPLES, resample_weights, weighted_average_precision
from .metrics import checked

DRAWN = ("accuracy", "real_accuracy", "fake_accuracy", "ap", "auc")


def photograph_names(paths: Iterable[str]) -> np.ndarray:
    """Return the photograph of each image: its file name without a final -NUMBER.

    Where that leaves one or two names for everything the number is no crop's, and each file name
    stands for a photograph of its own. Equal names in different folders are one photograph.
    """
    stems = [PurePath(path).stem for path in paths]
    names = [photograph_name(stem) for stem in stems]
    return np.array(names if len(set(names)) > 2 else stems, dtype=str)


def paired_draws(
    labels: np.ndarray,
    scores: np.ndarray,
    clusters: np.ndarray,
    *,
    threshold: float = 0.5,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Return the metrics DRAWN of each row of scores (S, N) over resamples, each (S, resamples).

    labels: (N,), 0 real, 1 fake; clusters: (N,) names, drawn whole and with replacement. Every row
    sees the same draws, those of :func:`forensift.evaluation.bootstrap` with these clusters; a draw
    without reals or without fakes gives NaN.
    """
    labels = checked(labels, scores[0])[0]
    is_fake = labels.astype(np.float64)
    right = ((scores > threshold) == (labels == 1)).astype(np.float64).T  # (N, S)
    found: dict[str, list[np.ndarray]] = {name: [] for name in DRAWN}
    for weights in resample_weights(labels, clusters=clusters, resamples=resamples, seed=seed):
        n_fake, n_real = (weights @ is_fake)[:, None], (weights @ (1 - is_fake))[:, None]
        fakes_right = weights @ (right * is_fake[:, None])
        reals_right = weights @ (right * (1 - is_fake[:, None]))
        with np.errstate(invalid="ignore", divide="ignore"):
            found["accuracy"].append((fakes_right + reals_right) / (n_fake + n_real))
            found["real_accuracy"].append(reals_right / n_real)
            found["fake_accuracy"].append(fakes_right / n_fake)
        precisions = [weighted_average_precision(labels, row, weights) for row in scores]
        found["ap"].append(np.stack(precisions, axis=1))
        found["auc"].append(np.stack([weighted_roc_auc(labels, r, weights) for r in scores], 1))
    return {name: np.concatenate(parts).T for name, parts in found.items()}


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
