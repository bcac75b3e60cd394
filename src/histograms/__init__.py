"""Spatial maxima of feature maps with and without colour, and the tests on them."""

from __future__ import annotations

from .colour_tests import CRITERIA, colour_tests, percentages
from .density import densities
from .maxima import Maxima, MaximaObserver, first_instances, maxima
from .median_test import MedianTestResult, median_test

__all__ = [
    "CRITERIA",
    "Maxima",
    "MaximaObserver",
    "MedianTestResult",
    "colour_tests",
    "densities",
    "first_instances",
    "maxima",
    "median_test",
    "percentages",
]
