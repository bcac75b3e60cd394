"""Scores of a detector, and metrics with intervals."""

from .conditions import CONDITIONS, parse_conditions
from .evaluate import COLUMNS, MACRO, THRESHOLD, evaluate
from .format_audit import FormatAudit, format_audit
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
from .robustness import ROBUSTNESS, Robustness, robustness, robustness_table
from .scores import score

__all__ = [
    "COLUMNS",
    "CONDITIONS",
    "MACRO",
    "ROBUSTNESS",
    "THRESHOLD",
    "Accuracies",
    "FormatAudit",
    "Robustness",
    "accuracies",
    "average_precision",
    "bootstrap",
    "calibrated_threshold",
    "checked",
    "equal_error_rate",
    "evaluate",
    "format_audit",
    "parse_conditions",
    "percentile_interval",
    "robustness",
    "robustness_table",
    "roc_auc",
    "score",
    "sigmoid",
    "weighted_average_precision",
    "wilson",
]
