"""Spatial maxima of feature maps with and without colour, and the tests on them."""

from __future__ import annotations

from .colour_tests import CRITERIA, colour_tests, percentages
from .density import densities
from .maxima import Maxima, MaximaLook, first_instances, maxima
from .median_test import MedianTestResult, fakes_of, median_of, median_test
