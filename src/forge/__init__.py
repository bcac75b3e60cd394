"""Photographs → fakes, by small real generator networks trained on photographs."""

from __future__ import annotations

from .families import FAMILIES, SEPARATOR, TRAINED, family_of, get_family
from .forge import Forged, forge
from .generators import (
    MARGIN,
    load_critic,
    load_family,
    load_generator,
    member_files,
    resynthesise,
    save_critic,
    save_generator,
    shipped_path,
)
from .planted import Trace, forge_planted, plant
from .saving import facts_of, train_and_save
from .train import ForgeTraining, Trained, psnr, psnr_crops, psnr_of, train_generator
from .variants import (
    REGIME,
    REGIMES,
    VARIANTS,
    Variant,
    get_regime,
    get_variant,
    variant_name,
    variant_settings,
)

__all__ = [
    "FAMILIES",
    "MARGIN",
    "REGIME",
    "REGIMES",
    "SEPARATOR",
    "TRAINED",
    "VARIANTS",
    "ForgeTraining",
    "Forged",
    "Trace",
    "Trained",
    "Variant",
    "facts_of",
    "family_of",
    "forge",
    "forge_planted",
    "get_family",
    "get_regime",
    "get_variant",
    "load_critic",
    "load_family",
    "load_generator",
    "member_files",
    "plant",
    "psnr",
    "psnr_crops",
    "psnr_of",
    "resynthesise",
    "save_critic",
    "save_generator",
    "shipped_path",
    "train_and_save",
    "train_generator",
    "variant_name",
    "variant_settings",
]
