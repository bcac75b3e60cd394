"""Two experiments of dropping feature maps: the published one, and one chosen for its effect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Unpack

import pandas as pd

from ..ablation import Means, load_means
from ..detectors import Detector
from ..errors import UserError
from ..fmap_ranking import load_ranking, shipped_ranking
from ..records import ImageSet, Ranking
from ..sensitivity import BASELINE, LAYER_MATCHED, TOP, DropoutResult, dropout
from ..sensitivity.dropout import Controls
from .world import TRAINING_FAMILY

PUBLISHED, CAUSAL = "published", "causal"
# k of the published experiment: as published; of NPR, where none is, 40 of its 5,056 maps.
ZEROED = {"resnet50": 114, "efficientnet-b0": 27, "npr": 40}
LEAST_FOUND, LEAST_RIGHT, MOST_MOVED, LEFT = 0.05, 0.95, 1 / 3, 2 / 3  # what is asked
MAX_DRAWS = 59  # of the control: the fewest by which p ≤ 0.05 can hold, corrected for three numbers


@dataclass(frozen=True, eq=False)
class Arm:
    """One experiment: which maps, how many, and what stands in their place.

    reference: the means that the value needs; None for zero.
    """

    name: str
    ranking: Ranking
    k: int
    value: str
    reference: Means | None = None


def arms(detector: Detector) -> list[Arm]:
    """Return the two experiments of a detector whose weights and rankings are shipped.

    Raises:
        UserError: a ranking, its means or the choice beside it is missing.
    """
    omega = load_ranking(shipped_ranking(detector.name))
    pursued = shipped_ranking(detector.name, "pursuit")
    listed = pursued.parent / "choice.csv"
    if not listed.is_file():
        raise UserError(f"{listed} is missing: it says which value and k were chosen")
    choice = pd.read_csv(listed)
    taken = choice[choice["taken"]].iloc[0]
    means = load_means(
        pursued.with_name(pursued.name.replace("-pursuit.csv", "-means.parquet")), detector
    )
    return [
        Arm(PUBLISHED, omega, ZEROED[detector.name], "zero"),
        Arm(CAUSAL, load_ranking(pursued), int(taken["k"]), str(taken["value"]), means),
    ]


def experiment(
    detector: Detector,
    images: ImageSet,
    arm: Arm,
    *,
    held_out: float | None = None,
    **how: Unpack[Controls],
) -> DropoutResult:
    """Run one experiment; held_out: a threshold; how: controls and images, see ``dropout``."""
    family = TRAINING_FAMILY if TRAINING_FAMILY in images.generators else None
    found: Any = {**how, "value": arm.value, "reference": arm.reference, "held_out": held_out}
    return dropout(detector, images, arm.ranking, arm.k, training_family=family, **found)


def asked_of(gap: pd.DataFrame, k: int, where: str) -> list[tuple[str, str, str, str]]:
    """Return what is asked of the causal experiment: what, asked, measured (percent), met.

    gap: its ``gap.csv``; where: the generator or mean that is asked about.
    """
    own = gap[gap["generator"] == where].set_index("mask")
    top, before = own.loc[TOP], own.loc[BASELINE, "fake_accuracy_05"]
    lines = [
        (f"fakes found without {k} maps (of {100 * before:.1f})", "≤ 5",
         top["fake_accuracy_05"], top["fake_accuracy_05"] <= LEAST_FOUND),
        ("reals right", "≥ 95", top["real_accuracy_05"], top["real_accuracy_05"] >= LEAST_RIGHT),
    ]  # fmt: skip
    share = abs(top["change_real_of_fake"])
    moved = "reals' mean logit moves, of the fakes' move"
    lines.append((moved, "≤ 33", share, share <= MOST_MOVED))
    if LAYER_MATCHED in own.index:
        left = own.loc[LAYER_MATCHED, "fake_accuracy_05"] / before
        lines.append(("found fakes that matched maps leave", "≥ 67", left, left >= LEFT))
    return [
        (what, asked, f"{100 * value:.1f}", "yes" if met else "no")
        for what, asked, value, met in lines
    ]
