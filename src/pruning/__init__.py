"""A detector without chosen feature maps, its last layer fitted anew, and what that is worth."""

from __future__ import annotations

from .bias import BiasUnits, bias_units
from .heads import Fit, LastLayer, fit
from .prune import METHODS, Method, Pruning, prune
from .stored import stored
