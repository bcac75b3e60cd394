"""The whole study on the embedded default, and its pages."""

from __future__ import annotations

from .demo import DETECTORS, Demo, Scale, demo

__all__ = ["DETECTORS", "Demo", "Scale", "demo"]
