"""Which feature maps matter to a detector: FF-RS ω, and other scores beside it."""

from __future__ import annotations

from .buckets import descending
from .compare import (
    PUBLISHED_K,
    count_by_layer,
    fitting,
    layer_shares,
    layer_sums,
    overlap,
    top,
    usual_k,
)
from .look import OmegaLook, Start
from .omega import OmegaStatistic, relevance_shares
from .published import load_ranking, save_ranking, set_of
from .rank import Label, Rankings, rank, rankings
