"""Scores of a detector, and metrics with intervals."""

from ..data.conditions import CONDITIONS, parse_conditions
from .evaluate import Evaluation, evaluate, evaluation_of
from .format_audit import FormatAudit, format_audit
from .intervals import (
    MACRO,
    Cluster,
    change_interval,
    cluster_mean,
    clusters_of,
    jackknife_interval,
    left_out,
    macro_interval,
    macro_mean,
    metric_interval,
    percentile_interval,
    widened,
    wilson,
)
from .loose import (
    Agreement,
    LooseScores,
    agreement,
    folder_summary,
    labelled_files,
    loose_sizes,
    score_loose,
)
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
from .operating import FALSE_ALARMS, OPERATING, needed_reals
from .pixel_audit import pixel_audit
from .resampling import bootstrap, weighted_average_precision, weighted_roc_auc
from .robustness import ROBUSTNESS, Robustness, robustness, robustness_table
from .scores import ScoreLook, score
from .significance import (
    LEVEL,
    answered,
    benjamini_hochberg,
    draws_needed,
    holm,
    permutation_p,
    sequential_p,
)
from .spectra import Spectra, SpectraLook, spectra, spectra_of
from .survey import Found, survey
from .table import COLUMNS, THRESHOLD, measured, metrics
