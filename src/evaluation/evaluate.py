"""How well a detector tells fakes from reals."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .intervals import Cluster
from .table import metrics


def evaluate(
    scores: pd.DataFrame, *, cluster: Cluster | np.ndarray = "photograph", seed: int = 0
) -> pd.DataFrame:
    """Return every generator's :func:`metrics`."""
    return metrics(scores, cluster=cluster, seed=seed)
