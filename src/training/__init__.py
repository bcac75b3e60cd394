"""How each detector and each generator is trained: recipes, and one loop for all of them."""

from __future__ import annotations

from .engine import Task, run
from .recipes import RECIPES
from .settings import changed
from .tasks import TRAININGS, get_recipe, get_training, train
from .trained import Trained
