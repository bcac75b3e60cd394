"""Images that were forged."""

from __future__ import annotations

from ..data import scan
from ..forge import Forged
from .view import Shown, View

CAPTION = "how well a trivial property separates real from fake: AUC, 0.5 is chance; 95 % intervals"


def view(result: Forged) -> View:
    """Return what was made, and what else gives it away, where that was asked."""
    said = f"{result.pairs} pairs a family in {result.folder}: {', '.join(result.families)}"
    facts = {**result.facts, "image_set_sha256": scan(result.folder).hash()}
    if result.audit is None:
        return View("Forged images", said, {}, facts=facts)
    rows = result.audit.map(lambda one: f"{one:.3f}" if isinstance(one, float) else one)
    tables, shown = {"audit": result.audit}, Shown(CAPTION, rows, keys=2)
    return View("Forged images", said, tables, (shown,), facts=facts)
