"""forensift: which feature maps does a detector of generated images look at?

The verbs of the command line are here as functions::

    detector = ff.load_detector("resnet50")
    images   = ff.scan("CNN_synth_testset")
    ranking  = ff.rank(detector, images, label="fake")
    result   = ff.dropout(detector, images, ranking, k=114)
    result.said, result.tables["dropout"], result.plot(), result.save("results")

They are imported when first used, so that ``import forensift`` is quick.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .errors import UserError
from .torchvision_guard import install

if TYPE_CHECKING:
    from . import figures
    from .data import Preset, get_preset, photographs, scan
    from .data.colour import recolour
    from .detectors import Detector, load_detector, own_detector, with_units
    from .embedding import Embedding, embed
    from .evaluation import (
        Evaluation,
        Robustness,
        Spectra,
        evaluate,
        metrics,
        robustness,
        score,
        spectra,
    )
    from .explain import Faithfulness, explain, faithfulness
    from .fmap_ranking import load_ranking, rank, save_ranking
    from .forge import Trace, forge, forge_planted
    from .histograms import MedianTestResult, median_test
    from .lrp import LRP, Relevance
    from .patches import Patches, patches
    from .pruning import BiasUnits, Pruning, bias_units, prune
    from .records import FeatureMap, ImageSet, Ranking, Result
    from .report import report
    from .sensitivity import ColourResult, DropoutResult, Transfer, colour, dropout, transfer
    from .studies.own import study
    from .studies.planted import planted
    from .sweep import How, Look, sweep
    from .training import train

install()

_WHERE = {
    "BiasUnits": "pruning",
    "ColourResult": "sensitivity",
    "Detector": "detectors",
    "DropoutResult": "sensitivity",
    "Embedding": "embedding",
    "Evaluation": "evaluation",
    "Faithfulness": "explain",
    "FeatureMap": "records",
    "How": "sweep",
    "ImageSet": "records",
    "LRP": "lrp",
    "Look": "sweep",
    "MedianTestResult": "histograms",
    "Patches": "patches",
    "Preset": "data",
    "Pruning": "pruning",
    "Ranking": "records",
    "Relevance": "lrp",
    "Result": "records",
    "Robustness": "evaluation",
    "Spectra": "evaluation",
    "Trace": "forge",
    "Transfer": "sensitivity",
    "bias_units": "pruning",
    "colour": "sensitivity",
    "dropout": "sensitivity",
    "embed": "embedding",
    "evaluate": "evaluation",
    "explain": "explain",
    "faithfulness": "explain",
    "forge": "forge",
    "forge_planted": "forge",
    "get_preset": "data",
    "load_detector": "detectors",
    "load_ranking": "fmap_ranking",
    "median_test": "histograms",
    "metrics": "evaluation",
    "own_detector": "detectors",
    "patches": "patches",
    "photographs": "data",
    "planted": "studies.planted",
    "prune": "pruning",
    "rank": "fmap_ranking",
    "recolour": "data.colour",
    "report": "report",
    "robustness": "evaluation",
    "save_ranking": "fmap_ranking",
    "scan": "data",
    "score": "evaluation",
    "spectra": "evaluation",
    "study": "studies.own",
    "sweep": "sweep",
    "train": "training",
    "transfer": "sensitivity",
    "with_units": "detectors",
}

__all__ = sorted([*_WHERE, "UserError", "figures"])


class _Package(ModuleType):
    """A verb may have the name of the room that it lives in: the verb is what users mean."""

    def __setattr__(self, name: str, value: Any) -> None:
        # The import system sets every submodule as an attribute of its package.
        if not (name in _WHERE and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version(__name__)
    if name == "figures":
        return import_module(".figures", __name__)
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f".{_WHERE[name]}", __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
