"""One pass over an image set feeds many mergeable statistics."""

from __future__ import annotations

from .exact import ExactSum
from .partials import Partials
from .statistics import Statistic
from .sweep import SHARD, Progress, sweep

__all__ = ["SHARD", "ExactSum", "Partials", "Progress", "Statistic", "sweep"]
