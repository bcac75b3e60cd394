"""The whole study on the embedded default, and its pages."""

from __future__ import annotations

from ..stages import Scale
from .demo import DETECTORS, Demo, demo
from .robust import ColourRobust
