"""ScoreLook of a detector, and metrics with intervals."""

from ..data.conditions import CONDITIONS, parse_conditions
from .evaluate import (
    COLUMNS,
    MACRO,
    THRESHOLD,
    Cluster,
    Evaluation,
    clusters_of,
    evaluate,
    evaluation_of,
    metrics,
)
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
from .scores import ScoreLook, score

__all__ = [
    "COLUMNS",
    "CONDITIONS",
    "MACRO",
    "ROBUSTNESS",
    "THRESHOLD",
    "Accuracies",
    "Cluster",
    "Evaluation",
    "FormatAudit",
    "Robustness",
    "ScoreLook",
    "accuracies",
    "average_precision",
    "bootstrap",
    "calibrated_threshold",
    "checked",
    "clusters_of",
    "equal_error_rate",
    "evaluate",
    "evaluation_of",
    "format_audit",
    "metrics",
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
