"""Gradient images that were written."""

from __future__ import annotations

from ..training.gradients import Gradients
from .view import View


def view(result: Gradients) -> View:
    """Return how many images were written, and by which critic."""
    said = (
        f"{result.written} gradient images of {result.facts['critic_name']} written, {result.kept} were "
        "there."
    )
    return View("Gradient images", said, {}, facts=result.facts)
