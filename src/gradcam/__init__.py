"""Attribution in pixels: Grad-CAM, guided back-propagation, and all methods under one call."""

from .attribution import Attribution
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
from .files import image_files, output_names
from .guided import Gradient, GuidedBackprop

__all__ = [
    "METHODS",
    "Attribution",
    "Explanation",
    "GradCAM",
    "Gradient",
    "GuidedBackprop",
    "GuidedGradCAM",
    "attributor",
    "default_layer",
    "explain",
    "explanations",
    "image_files",
    "named_target",
    "output_names",
    "pixel_map",
]
