"""What dropping feature maps did, in words that follow from the numbers alone."""

from __future__ import annotations

STAYS = 0.15  # of the baseline's distance between the classes: a smaller move is no move
MINOR = 1 / 3  # of the other class's move: a smaller one is its by-product

# (fakes, reals) → what it means
MEANINGS = {
    ("falls", "stays"): "evidence for fake was removed",
    ("falls", "falls"): "both fell: the detector leans to real, whatever it sees",
    ("falls", "rises"): "the classes moved onto each other: the network was damaged",
    ("stays", "rises"): "reals came to look fake: the network was damaged, no evidence removed",
    ("rises", "rises"): "both rose: the network was damaged and leans to fake, whatever it sees",
    ("rises", "stays"): "fakes came to look more fake",
    ("stays", "falls"): "reals came to look more real",
    ("rises", "falls"): "the classes moved apart",
    ("stays", "stays"): "next to nothing changed",
}


def effect(separation: float, change_real: float, change_fake: float) -> str:
    """Return what happened to the classes, as one of ``MEANINGS``.

    separation: the baseline's mean logit on fakes minus that on reals, > 0 for any detector worth
        the name; change_real, change_fake: change of the mean logits (masked − baseline).

    A class stays where its mean logit moves by less than 15 % of the separation, or by less than
    a third of the other class's move. 'undecided' where the baseline does not separate.
    """
    if not separation > 0:
        return "undecided: the detector does not tell the classes apart to begin with"
    real, fake = change_real / separation, change_fake / separation
    return MEANINGS[_move(fake, real), _move(real, fake)]


def _move(change: float, other: float) -> str:
    if abs(change) < max(STAYS, MINOR * abs(other)):
        return "stays"
    return "rises" if change > 0 else "falls"
