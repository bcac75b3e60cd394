"""One small file a family of generators; this list is all that a new one has to join."""

from __future__ import annotations

from ...errors import UserError
from . import (
    cyclegan_like,
    dcgan_like,
    ddpm_like,
    identity,
    ldm_like,
    pixelshuffle_like,
    progan_like,
    sngan_like,
    stylegan2_like,
)
from .family import Family

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        progan_like.FAMILY,
        dcgan_like.FAMILY,
        pixelshuffle_like.FAMILY,
        stylegan2_like.FAMILY,
        sngan_like.FAMILY,
        cyclegan_like.FAMILY,
        ddpm_like.FAMILY,
        ldm_like.FAMILY,
        identity.FAMILY,
    )
}

TRAINED = tuple(name for name, family in FAMILIES.items() if family.trained)
DIFFUSION = ("ddpm-like", "ldm-like")
SEPARATOR = "--"  # between a family and its variant: progan-like--seed-2


def family_of(name: str) -> str:
    """Return the family that a generator's name stands for: the part before ``--``."""
    return name.split(SEPARATOR, 1)[0]


def get_family(name: str) -> Family:
    """Return the family of that name, or of that variant's name.

    Raises:
        UserError: there is none; the message lists those there are.
    """
    if family_of(name) not in FAMILIES:
        raise UserError(f"no family of generators is called {name!r}; there are {list(FAMILIES)}")
    return FAMILIES[family_of(name)]
