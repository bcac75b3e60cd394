"""The same family trained again: another seed, another loss, fine-tuned, on other photographs.

The cross-settings of DNA-Det (Yang et al. 2022, §5.1): an architecture's traces should survive
them, a single network's fingerprint should not. Each variant has a seed of its own, so that no
decoder starts from what the shipped one started from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..errors import UserError
from ..forge import SEPARATOR, shipped_path
from .generators import GeneratorSettings


@dataclass(frozen=True)
class Variant:
    """What sets a variant apart from the shipped network of its family.

    photos: the photographs it is trained on, a name that ``forge-train --photos`` knows;
    fine_tuned: whether it starts from the shipped weights; steps: 0 for the family's own number;
    setting: which cross-test it belongs to.
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


@dataclass(frozen=True)
class Regime:
    """How variants are trained: settings, and where families differ, steps and learning rates.

    hinge: weight of the hinge loss; encoder: whether a variant that is not fine-tuned starts with
    the shipped encoder, which stands in for the latent that a real generator draws: the decoder,
    which leaves the traces, starts anew all the same.
    """

    settings: GeneratorSettings
    steps: Mapping[str, int]
    rates: Mapping[str, float]
    hinge: float
    encoder: bool


REGIMES = {
    # Half a minute of one core from nothing to 26 dB and more: visibly coarser than the shipped
    # networks, so that a detector which knows those meets another quality beside other weights.
    "quick": Regime(
        GeneratorSettings(steps=800, batch_size=4, learning_rate=3e-3, warm_up=0.7),
        steps={"dcgan-like": 1200, "stylegan2-like": 400},
        rates={},
        hinge=0.1,
        encoder=False,
    ),
    # A minute of one core to the shipped networks' quality. L1 alone comes first: with the texture
    # loss from the start, so short a training settles for the right amount of wrong detail.
    "matched": Regime(
        GeneratorSettings(
            steps=800, batch_size=8, learning_rate=2e-3, warm_up=0.6, texture_late=True
        ),
        steps={"dcgan-like": 1000, "stylegan2-like": 400},
        rates={"progan-like": 5e-4},  # at more, pixel norm keeps its details flat for long
        hinge=0.03,
        encoder=True,
    ),
}
REGIME = "matched"

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


def get_regime(name: str) -> Regime:
    """Return the regime of that name.

    Raises:
        UserError: there is none; the message lists those there are.
    """
    if name not in REGIMES:
        raise UserError(f"no regime {name!r} of training variants; there are {', '.join(REGIMES)}")
    return REGIMES[name]


def variant_settings(family: str, variant: Variant, regime: str = REGIME) -> GeneratorSettings:
    """Return how a variant of a family is trained."""
    chosen = get_regime(regime)
    rate = chosen.rates.get(family, chosen.settings.learning_rate)
    steps = variant.steps or chosen.steps.get(family, chosen.settings.steps)
    settings = replace(
        chosen.settings, steps=steps, seed=variant.seed, loss=variant.loss, learning_rate=rate
    )
    if variant.loss == "hinge":
        settings = replace(settings, adversarial=chosen.hinge)
    # A network that is trained already needs no warm-up, and smaller steps.
    if variant.fine_tuned:
        settings = replace(settings, warm_up=0.1, learning_rate=min(rate, 1e-3))
    if variant.fine_tuned or chosen.encoder:
        start = str(shipped_path(family))
        settings = replace(settings, start=start, encoder_only=not variant.fine_tuned)
    return settings
