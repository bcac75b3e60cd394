"""Heat maps of images by any method, and tests of the methods."""

from __future__ import annotations

from .cam import GradCAM, GuidedGradCAM, default_layer
from .explain import Explanation, Explanations, explain
from .faithfulness import Faithfulness, faithfulness
from .guided import Gradient, GuidedBackprop
from .listing import MethodList, list_methods
from .methods import METHODS, Method, explainer, named_methods, pixel_map
from .target import RawExplanation, named_target
