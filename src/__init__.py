"""forensift: which feature maps does a detector of generated images look at?

The verbs of the command line are here as functions (``scan``, ``load_detector``, ``evaluate``,
``LRP`` …). They are imported when first used, so that ``import forensift`` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .torchvision_guard import install

install()

_WHERE = {
    "Detector": ".detectors",
    "FeatureMap": ".records",
    "LRP": ".lrp",
    "Preset": ".data",
    "Relevance": ".lrp",
    "ImageSet": ".records",
    "UserError": ".errors",
    "colour": ".sensitivity",
    "dropout": ".sensitivity",
    "embed": ".embedding",
    "evaluate": ".evaluation",
    "explain": ".explain",
    "faithfulness": ".explain",
    "get_preset": ".data",
    "load_detector": ".detectors",
    "load_ranking": ".fmap_ranking",
    "median_test": ".histograms",
    "own_detector": ".detectors",
    "photographs": ".data",
    "rank": ".fmap_ranking",
    "robustness": ".evaluation",
    "scan": ".data",
    "score": ".evaluation",
    "train": ".training",
    "transfer": ".sensitivity",
}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(_WHERE[name], __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
