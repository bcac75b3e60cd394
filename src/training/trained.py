"""What a training is when it is over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ..records import Result


@dataclass(frozen=True, repr=False)
class Trained(Result):
    """A detector or generator that was trained.

    weights: the file; histories: by the name of their file; best: the epoch that was kept, which
    ``what`` says, and ``measured`` what it measures; facts: for the manifest.
    """

    name: str
    weights: Path
    histories: Mapping[str, pd.DataFrame]
    best: Mapping[str, float]
    settings: Any
    what: str
    measured: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """How long all its trainings took."""
        return sum(float(one["seconds"].iloc[-1]) for one in self.histories.values() if len(one))
