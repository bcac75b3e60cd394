"""FF-RS: which feature maps hold the relevance of a detector's decisions."""

from __future__ import annotations

from .compare import (
    count_by_layer,
    fitting,
    layer_shares,
    layer_sums,
    overlap,
    top,
)
from .omega import OmegaStatistic, descending, relevance_shares
from .published import load_ranking, save_ranking, set_of
from .rank import Label, OmegaLook, Rankings, Start, rank, rankings
