"""A training that is over."""

from __future__ import annotations

import pandas as pd

from ..training import Trained
from .view import Shown, View


def view(result: Trained) -> View:
    """Return the histories, and what the epoch that was kept measures."""
    best = {key: f"{value:.4g}" for key, value in result.best.items()}
    shown = Shown(result.what, pd.DataFrame([best]))
    said = f"{result.name}: {result.what}: {result.measured}; weights in {result.weights}"
    title = f"{result.name} trained"
    return View(title, said, result.histories, (shown,), facts=result.facts)
