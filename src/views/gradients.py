"""Gradient images that were written."""

from __future__ import annotations

from ..errors import counted
from ..training.gradients import Gradients
from .view import View


def view(result: Gradients) -> View:
    """Return how many images were written, and by which critic."""
    critic = result.facts["critic_name"]
    said = f"{counted(result.written, 'gradient image')} of {critic} written, {result.kept} "
    said += "was there." if result.kept == 1 else "were there."
    return View("Gradient images", said, {}, facts=result.facts)
