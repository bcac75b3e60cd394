"""Recipes: how each detector is trained."""

from __future__ import annotations

from .recipes import RECIPES, Recipe, get_recipe
from .settle import settle_norms, settled
from .train import Settings, train

__all__ = ["RECIPES", "Recipe", "Settings", "get_recipe", "settle_norms", "settled", "train"]
