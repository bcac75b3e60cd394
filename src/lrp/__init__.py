"""Layer-wise relevance propagation, written once for any architecture."""

from .canonise import IMAGENET_BOX, pixel_range
from .lrp import LRP, FeatureMapRelevance, Relevance
from .report import CanonisationError, LayerWithoutRule, Report

__all__ = [
    "IMAGENET_BOX",
    "LRP",
    "CanonisationError",
    "FeatureMapRelevance",
    "LayerWithoutRule",
    "Relevance",
    "Report",
    "pixel_range",
]
