"""Photographs → fakes, by small real generator networks trained on photographs."""

from __future__ import annotations

from .families import FAMILIES, SEPARATOR, TRAINED, family_of, get_family
from .forge import Forged, forge
from .generators import (
    MARGIN,
    facts_of,
    load_critic,
    load_family,
    load_generator,
    member_files,
    psnr_crops,
    psnr_of,
    resynthesise,
    save_critic,
    save_generator,
    shipped_path,
)
from .planted import Trace, forge_planted, plant
