"""The last linear layer, fitted anew: logistic regression on what goes into it."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from ..errors import UserError
from ..records import FAKE, REAL
from ..rng import keyed

STRENGTHS = 10.0 ** np.arange(-6, 3)  # C: how little the weights are held back
FOLDS = 5


@dataclass(frozen=True, eq=False)
class LastLayer:
    """logit = features · weights + bias: weights (D,), 0 for an input that is left out."""

    weights: np.ndarray
    bias: float

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Return the logits (N,) of features (N, D), float64."""
        return features.astype(np.float64) @ self.weights + self.bias

    def digest(self) -> str:
        """Return the SHA-256 of its numbers."""
        numbers = np.append(self.weights, self.bias).astype("<f8")
        return hashlib.sha256(numbers.tobytes()).hexdigest()


@dataclass(frozen=True, eq=False)
class Fit:
    """A last layer, and how it was come by.

    strength: C of the logistic regression; loss: its cross-validated logistic loss, both classes
    alike, in nats; losses: of each of STRENGTHS.
    """

    layer: LastLayer
    strength: float
    loss: float
    losses: tuple[float, ...]


def fit(
    features: np.ndarray,
    labels: np.ndarray,
    photographs: Sequence[str] | np.ndarray,
    *,
    without: Sequence[int] | np.ndarray = (),
    seed: int = 0,
) -> Fit:
    """Fit logit = features · w + b by logistic regression with an L2 penalty.

    features: (N, D), what goes into the last layer; photographs: (N,), what each image shows;
    without: inputs that get no weight.
    Inputs are standardised over the N rows, both classes weigh alike. Of STRENGTHS that of the
    least loss over five folds is taken; images of one photograph are in one fold.

    Raises:
        UserError: one class is missing, or fewer than two photographs.
    """
    scaled = Scaled(features, without)
    folds = folds_of(photographs, seed)
    check(labels, folds)
    losses = []
    for strength in STRENGTHS:
        logits = np.full(len(labels), np.nan)
        for fold in range(folds.max() + 1):
            out = folds == fold
            if len(set(labels[~out])) == 2:
                weights, bias = _regression(scaled.rotated[~out], labels[~out], strength)
                logits[out] = scaled.rotated[out] @ weights + bias
        losses.append(loss(logits, labels))
    best = int(np.nanargmin(losses))
    weights, bias = _regression(scaled.rotated, labels, float(STRENGTHS[best]))
    return Fit(scaled.layer(weights, bias), float(STRENGTHS[best]), losses[best], tuple(losses))


class Scaled:
    """Features standardised over their rows, and turned so that there are no more than rows.

    A penalty on the weights' length does not change when the features are turned, so that the
    regression is the same, and quicker where there are more features than images.
    rotated: (N, min(N, D)).
    """

    def __init__(self, features: np.ndarray, without: Sequence[int] | np.ndarray = ()) -> None:
        values = features.astype(np.float64)
        self.mean, spread = values.mean(axis=0), values.std(axis=0)
        live = spread > 1e-9 * (1 + np.abs(self.mean))
        live[np.asarray(without, dtype=int)] = False
        self.inverse = np.where(live, 1 / np.where(live, spread, 1.0), 0.0)
        self.values = (values - self.mean) * self.inverse
        self.turn: np.ndarray | None = None
        if values.shape[1] > values.shape[0]:
            left, lengths, self.turn = np.linalg.svd(self.values, full_matrices=False)
            self.rotated = left * lengths
        else:
            self.rotated = self.values

    def standardised(self, weights: np.ndarray) -> np.ndarray:
        """Return weights on ``rotated`` as weights on ``values``."""
        return weights if self.turn is None else weights @ self.turn

    def layer(self, weights: np.ndarray, bias: float) -> LastLayer:
        """Return weights on ``rotated`` as weights on the features themselves."""
        own = self.standardised(weights) * self.inverse
        return LastLayer(own, bias - float(own @ self.mean))


def regression_of(
    scaled: Scaled, rows: np.ndarray, labels: np.ndarray, strength: float
) -> tuple[np.ndarray, float]:
    """Return weights (D,) on the standardised features, and bias, fitted on ``rows`` alone."""
    weights, bias = _regression(scaled.rotated[rows], labels[rows], strength)
    return scaled.standardised(weights), bias


def loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the logistic loss, the mean of both classes' means; NaN logits are left out."""
    each = np.logaddexp(0, np.where(labels == FAKE, -logits, logits))
    return float(np.mean([np.nanmean(each[labels == label]) for label in (REAL, FAKE)]))


def folds_of(photographs: Sequence[str] | np.ndarray, seed: int, most: int = FOLDS) -> np.ndarray:
    """Return which fold each image is in (N,): all of a photograph are in one."""
    names, place = np.unique(np.asarray(photographs, dtype=str), return_inverse=True)
    order = keyed("folds", seed, "\n".join(names)).permutation(len(names))
    return np.asarray(order[place] % min(most, len(names)))


def check(labels: np.ndarray, folds: np.ndarray) -> None:
    """Refuse what nothing can be fitted on.

    Raises:
        UserError: one class is missing, or fewer than two photographs.
    """
    if len(set(labels)) < 2:
        raise UserError("the last layer is fitted on reals and fakes; refit holds one of them only")
    if folds.max() < 1:
        raise UserError(
            "the last layer is fitted on two photographs or more; refit holds crops of one"
        )


def _regression(
    values: np.ndarray, labels: np.ndarray, strength: float
) -> tuple[np.ndarray, float]:
    model = LogisticRegression(
        C=strength, class_weight="balanced", solver="newton-cholesky", max_iter=200
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(values, labels)
    return model.coef_[0], float(model.intercept_[0])
