"""What feature maps can be ranked by, beside ω: the registry of other scores.

A high score says of every one of them that without the map evidence for fake should be gone.

========================  ==========================================================================
omega, omega-width        share of its layer's relevance by LRP; times the layer's width
contrast                  mean activation on fakes − on their photographs
gradient-activation       attribution patching: gradient at the fake × (map − the photograph's map)
eap-ig                    the same with the mean gradient between photograph and fake
conductance               the gradient times the map's own change, all along that path
rad                       mean activation inside − outside of what was generated
single                    what of the gap between fakes and reals the map takes away, alone
pursuit                   the same, each map given those chosen before it
========================  ==========================================================================

Where no fake has its photograph, contrast is the difference of the means of fakes and reals,
gradient-activation puts the mean over the reals in the map's place, and paths begin at neutral
grey. All activations are outputs of convolutions, before BatchNorm, as everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..errors import UserError
from ..sweep import Look
from .contrast import CONTRAST, ContrastLook
from .path import CONDUCTANCE, EAP_IG, GRADIENT, PathLook
from .published import RANKINGS
from .pursuit import MAPS, pursuit
from .question import Found, Question
from .rad import RAD, RadLook
from .single import SINGLE, single


def _pursuit(question: Question) -> Found:
    found = pursuit(
        question.detector, question.images, maps=question.ways.get("maps", MAPS),
        layers=question.ways.get("layers") or (), pairs=question.pairs, **question.how,
    )  # fmt: skip
    return Found(found.ranking)


# Those that are seen in one pass over the images, shared with all others asked for.
LOOKS: Mapping[str, Callable[[Question, Sequence[str]], Look]] = {
    CONTRAST: lambda question, names: ContrastLook(question),
    GRADIENT: PathLook,
    EAP_IG: PathLook,
    CONDUCTANCE: PathLook,
    RAD: lambda question, names: RadLook(question),
}
# Those that go over the images as often as they need.
OTHERS: Mapping[str, Callable[[Question], Found]] = {SINGLE: single, "pursuit": _pursuit}


def checked_names(by: Sequence[str]) -> list[str]:
    """Return the names, each once.

    Raises:
        UserError: one that nothing is ranked by, or none.
    """
    names = list(dict.fromkeys(by))
    for name in names:
        if name not in RANKINGS:
            raise UserError(f"by {name!r}: choose of {', '.join(RANKINGS)}")
    if not names:
        raise UserError(f"by: choose of {', '.join(RANKINGS)}")
    return names


def looks_of(question: Question, names: Sequence[str]) -> dict[str, Look]:
    """Return one look for all names that share it, by the first of them."""
    together: dict[object, list[str]] = {}
    for name in names:
        if name in LOOKS:
            together.setdefault(LOOKS[name], []).append(name)
    return {own[0]: LOOKS[own[0]](question, own) for own in together.values()}


def others(names: Sequence[str]) -> dict[str, Callable[[Question], Found]]:
    """Return what makes the rankings that need passes of their own."""
    return {name: OTHERS[name] for name in names if name in OTHERS}
