"""The same family trained again: another seed, another loss, fine-tuned, on other photographs.

The cross-settings of DNA-Det (Yang et al. 2022, §5.1): an architecture's traces should survive
them, a single network's fingerprint should not. Each variant has a seed of its own, so that none
is helped by starting from the weights that the shipped network started from.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ..errors import UserError
from .families import SEPARATOR
from .train import ForgeTraining


@dataclass(frozen=True)
class Variant:
    """What sets a variant apart from the shipped network of its family.

    photos: the photographs it is trained on, a name that ``forge-train --photos`` knows;
    from_shipped: whether it starts from the shipped weights; steps: 0 for the family's own number;
    setting: which cross-test it belongs to.
    """

    name: str
    setting: str
    seed: int
    loss: str = "least-squares"
    photos: str = "train"
    from_shipped: bool = False
    steps: int = 0


VARIANTS = (
    Variant("seed-2", "cross_seed", 2),
    Variant("loss-hinge", "cross_loss", 11, loss="hinge"),
    Variant("loss-l1", "cross_loss", 12, loss="none"),
    # The validation photographs: no shipped network was trained on them.
    Variant("finetune", "cross_finetune", 13, photos="validation", from_shipped=True, steps=200),
    # No interiors, which are two thirds of what the shipped networks were trained on.
    Variant("photos", "cross_dataset", 14, photos="train-others"),
)

# A minute or two of one core: small batches, and a critic, which takes most of a step, only in the
# second half. Shorter trainings reach 26 dB too, but leave blocks that the shipped networks do not.
QUICK = ForgeTraining(steps=2000, batch_size=4, learning_rate=3e-3, warm_up=0.5)
# Transposed and sub-pixel convolutions learn the colours late; modulated ones are there at once.
STEPS = {"dcgan-like": 3000, "pixelshuffle-like": 2400, "stylegan2-like": 1200}
HINGE = 0.03  # weight of the hinge loss, whose push does not fade as the fakes get better

_SEEDED = re.compile(r"seed-(\d+)")


def get_variant(name: str) -> Variant:
    """Return the variant of that name; ``seed-N`` is one for any N.

    Raises:
        UserError: there is none; the message lists those there are.
    """
    for variant in VARIANTS:
        if variant.name == name:
            return variant
    seeded = _SEEDED.fullmatch(name)
    if seeded:
        return Variant(name, "cross_seed", int(seeded[1]))
    known = ", ".join(variant.name for variant in VARIANTS)
    raise UserError(f"no variant {name!r}; there are {known} and seed-N")


def variant_name(family: str, variant: str) -> str:
    """Return the generator's name, ``<family>--<variant>``, which its file bears too."""
    return f"{family}{SEPARATOR}{variant}"


def variant_settings(family: str, variant: Variant) -> ForgeTraining:
    """Return how a variant of a family is trained."""
    steps = variant.steps or STEPS.get(family, QUICK.steps)
    settings = replace(QUICK, steps=steps, seed=variant.seed, loss=variant.loss)
    if variant.loss == "hinge":
        settings = replace(settings, adversarial=HINGE)
    # A network that is trained already needs no warm-up, and smaller steps.
    return replace(settings, warm_up=0.1, learning_rate=1e-3) if variant.from_shipped else settings
