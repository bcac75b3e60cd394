"""Numbers for a detector's scores: labels 0 real, 1 fake; scores 0 … 1, fake where strictly above.

Every function takes ``labels`` (N,) and ``scores`` (N,) and refuses NaN scores, and a missing
class where the number would have no meaning.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from ..errors import UserError


@dataclass(frozen=True)
class Accuracies:
    """Shares of right decisions, 0 … 1: over all images, over the reals, over the fakes."""

    accuracy: float
    real_accuracy: float
    fake_accuracy: float


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(−logit)) in float64.

    In float32 every logit above 16.7 would give exactly 1, and AP would see ties.
    """
    logits = np.asarray(logits, dtype=np.float64)
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1.0, small) / (1.0 + small)


def checked(
    labels: np.ndarray, scores: np.ndarray, *, where: str = ""
) -> tuple[np.ndarray, np.ndarray]:
    """Return labels as int64 and scores as float64, both (N,), with both classes present.

    where: named in the message, e.g. a generator.

    Raises:
        UserError: unequal lengths, labels other than 0 and 1, NaN scores, or one class missing.
    """
    name = f"{where}: " if where else ""
    found = np.asarray(labels)
    values = np.asarray(scores, dtype=np.float64)
    if found.ndim != 1 or found.shape != values.shape:
        raise UserError(f"{name}{found.shape} labels do not fit {values.shape} scores")
    if not np.isin(found, (0, 1)).all():
        raise UserError(f"{name}labels must be 0 (real) or 1 (fake)")
    if np.isnan(values).any():
        raise UserError(f"{name}{np.isnan(values).sum()} of {len(values)} scores are NaN")
    for label, kind in ((0, "real"), (1, "fake")):
        if not (found == label).any():
            raise UserError(f"{name}no {kind} images among {len(found)} scores")
    return found.astype(np.int64), values


def average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the average precision of "fake", as scikit-learn defines it (no interpolation)."""
    return float(average_precision_score(*checked(labels, scores)))


def roc_auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the area under the ROC curve; ties count half."""
    return float(roc_auc_score(*checked(labels, scores)))


def equal_error_rate(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return where the false-positive rate equals the miss rate, interpolated on the ROC curve."""
    false_positives, hits, _ = roc_curve(*checked(labels, scores), drop_intermediate=False)
    gap = false_positives - (1 - hits)  # rises from −1 to 1
    after = int(np.argmax(gap >= 0))
    before = after - 1
    share = -gap[before] / (gap[after] - gap[before])
    step = false_positives[after] - false_positives[before]
    return float(false_positives[before] + share * step)


def accuracies(labels: np.ndarray, scores: np.ndarray, threshold: float = 0.5) -> Accuracies:
    """Return the accuracies where a score strictly greater than ``threshold`` means fake."""
    labels, scores = checked(labels, scores)
    right = (scores > threshold) == (labels == 1)
    return Accuracies(
        float(right.mean()), float(right[labels == 0].mean()), float(right[labels == 1].mean())
    )


def calibrated_threshold(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return a threshold at the ROC point of the largest √(TPR · (1 − FPR)).

    Of equal points the one with the highest scores is taken. A ROC point means "at least this
    score is fake", while decisions here are "strictly greater": the value returned lies half-way
    to the next lower score (or just below, if there is none), so that it makes exactly that point.
    """
    labels, scores = checked(labels, scores)
    false_positives, hits, at = roc_curve(labels, scores, drop_intermediate=False)
    best = int(np.argmax(np.sqrt(hits * (1 - false_positives))))
    if best == 0:  # no point is better than calling everything real
        return float(scores.max())
    high = float(at[best])
    below = scores[scores < high]
    if not len(below):
        return float(np.nextafter(high, -np.inf))
    low = float(below.max())
    middle = low + (high - low) / 2
    return middle if middle < high else low  # neighbouring floats have nothing between
