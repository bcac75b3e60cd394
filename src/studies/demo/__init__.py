"""The whole study on the embedded default, and its pages."""

from __future__ import annotations

from .demo import DETECTORS, Demo, Scale, demo
from .robust import ColourRobust
