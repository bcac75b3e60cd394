"""Two experiments on the same test images: the published dropout, and one chosen for its effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Unpack

import pandas as pd

from ... import views
from ...detectors import Detector, load_detector
from ...evaluation import MACRO
from ...forge import TRAINED
from ...records import ImageSet, Result
from ...sensitivity import LAYER_MATCHED, UNSEEN, DropoutResult, dropout
from ...sweep import How
from ..arms import MAX_DRAWS, Arm, arms, experiment
from ..world import TRAINING_FAMILY, forged


@dataclass(frozen=True, eq=False, repr=False)
class Causal(Result):
    """Both experiments of every detector.

    of: (detector, arm) → what was measured. damage: detector → the published maps under zero and
    under learnt constants, for the share of damage.
    """

    of: Mapping[tuple[str, str], DropoutResult]
    damage: Mapping[str, DropoutResult]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def gaps(self) -> pd.DataFrame:
        """What went of the gap, all detectors and arms: detector, arm, then ``gap.csv``."""
        return self._joined({key: one.gap for key, one in self.of.items()})

    @property
    def curves(self) -> pd.DataFrame:
        """The same along k: detector, arm, then ``gap_curve.csv``."""
        return self._joined({key: one.gap_curve for key, one in self.of.items()})

    @property
    def detectors(self) -> list[str]:
        """The detectors, in the order asked for."""
        return list(dict.fromkeys(name for name, _ in self.of))

    @property
    def where(self) -> str:
        """The mean over unseen generators, else over all, else the only generator."""
        names = list(self.gaps["generator"])
        return next((one for one in (UNSEEN, MACRO) if one in names), names[0])

    def row(self, detector: str, arm: str, mask: str) -> dict[str, Any]:
        """Return one row of :attr:`gaps`, of :attr:`where`."""
        table = self.of[detector, arm].gap
        chosen = table[(table["generator"] == self.where) & (table["mask"] == mask)]
        return dict(chosen.iloc[0])

    def view(self) -> Any:
        """Return the study as tables, a figure, sentences and a page."""
        from .page import view

        return view(self)

    def _joined(self, tables: Mapping[tuple[str, str], pd.DataFrame]) -> pd.DataFrame:
        parts = []
        for (detector, arm), table in tables.items():
            heads = {"detector": detector, "arm": arm}
            parts.append(table.assign(**heads)[[*heads, *table.columns]])
        return pd.concat(parts, ignore_index=True)


def causal(
    folder: Path,
    detectors: Sequence[str],
    *,
    pairs: int = 15,
    side: int = 128,
    draws: int | Literal["auto"] = 20,
    device: str = "cpu",
    **how: Unpack[How],
) -> Causal:
    """Run both experiments of each detector on fresh crops of the test photographs.

    pairs: real and fake of each family; draws: of the random controls. Each experiment is saved to
    ``folder``/DETECTOR/ARM as soon as it is there.

    Raises:
        UserError: ``folder`` holds other crops; or see :func:`arms`.
    """
    seed = how.get("seed", 0)
    test = forged(folder / "images" / "test", "test", TRAINED, pairs, side, seed)
    validation = forged(
        folder / "images" / "validation", "validation", (TRAINING_FAMILY,), 48, side, seed
    )
    found: dict[tuple[str, str], DropoutResult] = {}
    damage: dict[str, DropoutResult] = {}
    for name in detectors:
        detector = load_detector(name, device=device)
        published, own = arms(detector)
        for arm in (published, own):
            found[name, arm.name] = experiment(
                detector, test, arm, draws=draws, max_draws=MAX_DRAWS, band_draws=2,
                controls=(LAYER_MATCHED,), **how,
            )  # fmt: skip
            views.save(found[name, arm.name], folder / name / arm.name)
        damage[name] = _damage(detector, test, validation, published, how)
        views.save(damage[name], folder / name / "damage")
    sets = {"test": test.hash(), "validation": validation.hash()}
    facts = {"pairs": pairs, "side": side, "seed": seed, "image_set_sha256": sets}
    return Causal(found, damage, facts)


def _damage(
    detector: Detector, test: ImageSet, validation: ImageSet, arm: Arm, how: How
) -> DropoutResult:
    """Drop the published maps under zero and under constants learnt on validation photographs.

    Only the top maps: constants are learnt for each set of maps, a pass a step.
    """
    first = replace(arm.ranking, table=arm.ranking.table.head(arm.k))
    return dropout(
        detector, test, first, arm.k, value=("zero", "optimal"), reference=validation,
        controls=(), ks=(), training_family=TRAINING_FAMILY, **how,
    )  # fmt: skip
