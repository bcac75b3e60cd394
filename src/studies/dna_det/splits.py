"""The worlds of the source attribution study: which networks, which photographs, which image sets.

DNA-Det's question (Yang et al. 2022, §5): trained on one network an architecture, does a detector
name the architecture of networks that were trained with another seed or loss, fine-tuned, or
trained on other photographs? Here an architecture is a family of the forge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from ...data.photos import Split
from ...errors import UserError
from ...forge import family_of
from ...training.variants import Variant, get_variant, variant_name

FAMILIES = ("progan-like", "dcgan-like", "pixelshuffle-like", "stylegan2-like")
PER_FAMILY = ("seed-2", "loss-hinge", "finetune", "photos")
# Four networks of one family that differ by nothing but the seed: the fingerprints' other question.
ONE_FAMILY, SEEDS = FAMILIES[0], ("seed-2", "seed-3", "seed-4", "seed-5")

CLOSED = ("closed/train", "closed/validation", "closed/test")
CROSS = ("cross_seed", "cross_loss", "cross_finetune", "cross_dataset")
WEIGHTS = ("weights/train", "weights/test")
REAL = "real"


@dataclass(frozen=True)
class Sizes:
    """How much is made: pairs a network in each kind of set, pixels a side, training steps.

    steps: of every network, None for each variant's own number (``variant_settings``).
    """

    train: int = 720
    validation: int = 60
    test: int = 75
    side: int = 128
    steps: int | None = None

    def of(self, name: str) -> tuple[Split, int]:
        """Return the photographs and the pairs a network of a set."""
        part = name.rpartition("/")[2]
        split = part if part in ("train", "validation") else "test"
        return cast(Split, split), getattr(self, split)


def planned() -> list[tuple[str, Variant]]:
    """Return every network to train, family and variant; the closed set uses the shipped ones."""
    found = [(family, name) for name in PER_FAMILY for family in FAMILIES]
    found += [(ONE_FAMILY, name) for name in SEEDS if (ONE_FAMILY, name) not in found]
    return [(family, get_variant(name)) for family, name in found]


def generators_of(name: str) -> list[str]:
    """Return the generators of a set, as the forge calls them.

    Raises:
        UserError: no such set.
    """
    if name in CLOSED:
        return list(FAMILIES)
    if name in WEIGHTS:
        return [variant_name(ONE_FAMILY, one) for one in SEEDS]
    settings = {get_variant(one).setting: one for one in PER_FAMILY}
    if name not in settings:
        raise UserError(f"no set {name!r}; there are {', '.join((*CLOSED, *CROSS, *WEIGHTS))}")
    return [variant_name(family, settings[name]) for family in FAMILIES]


def classes_of(generators: list[str]) -> dict[str, str]:
    """Return the class that each generator's fakes count as: its family."""
    return {name: family_of(name) for name in generators}
