"""Attribution in pixels: Grad-CAM, guided back-propagation, and all methods under one call."""

from .cam import GradCAM, GuidedGradCAM, default_layer
from .explain import (
    METHODS,
    Explanation,
    attributor,
    explain,
    explanations,
    named_target,
    pixel_map,
)
from .faithfulness import Faithfulness, faithfulness
from .files import image_files, output_names
from .guided import Gradient, GuidedBackprop
from .target import Attribution

__all__ = [
    "METHODS",
    "Attribution",
    "Explanation",
    "Faithfulness",
    "GradCAM",
    "Gradient",
    "GuidedBackprop",
    "GuidedGradCAM",
    "attributor",
    "default_layer",
    "explain",
    "explanations",
    "faithfulness",
    "image_files",
    "named_target",
    "output_names",
    "pixel_map",
]
