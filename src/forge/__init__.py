"""Photographs → fakes, by small real generator networks trained on photographs."""

from __future__ import annotations

from .audit import audit
from .families import FAMILIES, TRAINED, get_family
from .forge import Forged, forge
from .generators import (
    MARGIN,
    load_family,
    load_generator,
    member_files,
    resynthesise,
    save_generator,
)
from .planted import Trace, forge_planted, plant
from .train import ForgeTraining, train_generator

__all__ = [
    "FAMILIES",
    "MARGIN",
    "TRAINED",
    "ForgeTraining",
    "Forged",
    "Trace",
    "audit",
    "forge",
    "forge_planted",
    "get_family",
    "load_family",
    "load_generator",
    "member_files",
    "plant",
    "resynthesise",
    "save_generator",
    "train_generator",
]
