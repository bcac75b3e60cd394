"""Scores of a detector, and metrics with intervals."""

from .evaluate import COLUMNS, MACRO, THRESHOLD, evaluate
from .faithfulness import Faithfulness, faithfulness
from .intervals import bootstrap, percentile_interval, weighted_average_precision, wilson
from .metrics import (
    Accuracies,
    accuracies,
    average_precision,
    calibrated_threshold,
    checked,
    equal_error_rate,
    roc_auc,
    sigmoid,
)
from .scores import score

__all__ = [
    "COLUMNS",
    "MACRO",
    "THRESHOLD",
    "Accuracies",
    "Faithfulness",
    "accuracies",
    "average_precision",
    "bootstrap",
    "calibrated_threshold",
    "checked",
    "equal_error_rate",
    "evaluate",
    "faithfulness",
    "percentile_interval",
    "roc_auc",
    "score",
    "sigmoid",
    "weighted_average_precision",
    "wilson",
]
