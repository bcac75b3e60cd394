"""Layer-wise relevance propagation, written once for any architecture."""

from .canonise import IMAGENET_BOX, pixel_range
from .lrp import LRP, FeatureMapRelevance, Relevance
from .report import CanonisationError, LayerWithoutRule, Report
