"""What a result looks like: its tables, its figures, its sentence, wherever it is seen."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .html import html_of
from .pages import markdown_of
from .save import save
from .text import markdown, percent
from .view import Shown, View

# Which module says what a result of this class looks like; imported when one is there.
WHERE = {
    "Agreement": "score",
    "Forged": "forge",
    "Trained": "training",
    "Evaluation": "evaluation",
    "ColourResult": "colour",
    "DropoutResult": "dropout",
    "Embedding": "embedding",
    "Explanations": "explanation",
    "Faithfulness": "faithfulness",
    "Found": "scan",
    "Gradients": "gradients",
    "LooseScores": "score",
    "MedianTestResult": "median_test",
    "MethodList": "methods",
    "BiasUnits": "bias_units",
    "Collages": "patches",
    "Patches": "patches",
    "Pruning": "pruning",
    "Ranking": "ranking",
    "Rankings": "ranking",
    "Robustness": "robustness",
    "Spectra": "spectra",
    "Transfer": "transfer",
}


def view_of(result: Any) -> View:
    """Return what a result looks like; made once, since results do not change.

    Raises:
        TypeError: an object that is no result.
    """
    kept = vars(result)
    if "_made_view" not in kept:
        kept["_made_view"] = _made(result)  # a frozen record, whose fields stay as they are
    return kept["_made_view"]  # type: ignore[no-any-return]


def _made(result: Any) -> View:
    if hasattr(result, "view"):  # of a study, which stands below this room
        found = result.view()
    else:
        name = type(result).__name__
        if name not in WHERE:
            raise TypeError(f"{name} is no result")
        found = import_module(f".{WHERE[name]}", __name__).view(result)
    assert isinstance(found, View)
    return found
