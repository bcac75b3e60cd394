"""Gradient images that were written."""

from __future__ import annotations

from ..training.gradients import Gradients
from .view import View


def view(result: Gradients) -> View:
    """Return how many images were written, and by which critic."""
    critic = result.facts["critic_name"]
    said = f"{result.written} gradient images of {critic} written, {result.kept} were there."
    return View("Gradient images", said, {}, facts=result.facts)
