"""The same family trained again: another seed, another loss, fine-tuned, on other photographs.

The cross-settings of DNA-Det (Yang et al. 2022, §5.1): an architecture's traces should survive
them, a single network's fingerprint should not. Each variant has a seed of its own, so that no
decoder starts from what the shipped one started from. All but the fine-tuned start with the shipped
encoder, which stands in for the latent that a real generator draws: the decoder, which leaves the
traces, learns in a tenth of the time.
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
    fine_tuned: whether it starts from all the shipped weights, not from the encoder's; steps: 0 for
    the family's own number; setting: which cross-test it belongs to.
    """

    name: str
    setting: str
    seed: int
    loss: str = "least-squares"
    photos: str = "train"
    fine_tuned: bool = False
    steps: int = 0


VARIANTS = (
    Variant("seed-2", "cross_seed", 2),
    Variant("loss-hinge", "cross_loss", 11, loss="hinge"),
    Variant("loss-l1", "cross_loss", 12, loss="none"),
    # The validation photographs: no shipped network was trained on them.
    Variant("finetune", "cross_finetune", 13, photos="validation", fine_tuned=True, steps=200),
    # No interiors, which are two thirds of what the shipped networks were trained on.
    Variant("photos", "cross_dataset", 14, photos="train-others"),
)

# About a minute of one core. L1 alone comes first: with the texture loss from the start, trainings
# as short as these settle for the right amount of wrong detail.
QUICK = ForgeTraining(steps=800, batch_size=8, learning_rate=2e-3, warm_up=0.6, texture_late=True)
STEPS = {"dcgan-like": 1000, "stylegan2-like": 400}
RATES = {"progan-like": 5e-4}  # at a higher one pixel norm keeps its details flat for long
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
    rate = RATES.get(family, QUICK.learning_rate)
    settings = replace(QUICK, steps=steps, seed=variant.seed, loss=variant.loss, learning_rate=rate)
    if variant.loss == "hinge":
        settings = replace(settings, adversarial=HINGE)
    # A network that is trained already needs no warm-up, and smaller steps.
    if variant.fine_tuned:
        settings = replace(settings, warm_up=0.1, learning_rate=min(rate, 1e-3))
    return settings
