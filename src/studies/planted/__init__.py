"""Ground truth for explanations: traces of known place and kind, and whether they are found."""

from __future__ import annotations

from .localisation import ATTRIBUTIONS
from .page import draw_planted, write_planted_page
from .study import PlantedStudy, default_traces, planted_study
from .verdicts import Verdict, verdicts

__all__ = [
    "ATTRIBUTIONS",
    "PlantedStudy",
    "Verdict",
    "default_traces",
    "draw_planted",
    "planted_study",
    "verdicts",
    "write_planted_page",
]
