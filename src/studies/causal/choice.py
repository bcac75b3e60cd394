"""Which maps pursuit may pick, what stands in their place and how many: chosen before any test.

Pursuit sees pairs of the training photographs, the choice pairs of the validation photographs, all
of the family that the detector was trained on. No other family and no test photograph has a say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Unpack

import numpy as np
import pandas as pd

from ...ablation import Means, ablation, means
from ...detectors import Detector
from ...fmap_ranking import top
from ...fmap_ranking.pursuit import Pursued, pursuit
from ...records import FAKE, ImageSet, Ranking, Result
from ...sensitivity import layer_matched_random_k
from ...sensitivity.scoring import masked_scores
from ...sweep import How
from ...views import Shown, View
from ...views.text import number

# Detector → name → patterns of the layers that maps are picked from. The first layers of a network
# are narrow, so that random maps of them damage it too and nothing can be compared.
CANDIDATES: dict[str, dict[str, tuple[str, ...]]] = {
    "resnet50": {"all layers": (), "layers 2 to 4": ("layer[234]*",)},
    "efficientnet-b0": {
        "all layers": (),
        "blocks 3 to 15": ("_blocks.[3-9].*", "_blocks.1?.*", "_conv_head"),
    },
    "npr": {"all layers": (), "layer 2": ("layer2*",)},
}
KS = {"resnet50": (114,), "efficientnet-b0": (27, 50, 80, 100), "npr": (40, 90)}
VALUES = ("mean-real", "zero")
DEPTH = 2  # pursuit picks this many times the largest k
DRAWS = 10


@dataclass(frozen=True, eq=False, repr=False)
class Choice(Result):
    """What was tried on validation photographs, and which of it is taken.

    table: one row a candidate, value and k: layers, value, k; of the top k the share of the gap
        removed, found fakes, right reals and real_share (the reals' mean move over the fakes'); of
        as many random maps of the same layers, means over draws, matched_gap_removed and
        matched_found; margin (gap removed − matched) and taken.
    """

    detector: str
    table: pd.DataFrame
    pursued: Mapping[str, Pursued]
    means: Means
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def taken(self) -> dict[str, Any]:
        """The row that is taken."""
        return dict(self.table[self.table["taken"]].iloc[0])

    @property
    def ranking(self) -> Ranking:
        """The ranking of the row that is taken."""
        return self.pursued[self.taken["layers"]].ranking

    def view(self) -> View:
        """Return the table and what is taken."""
        row = self.taken
        said = (
            f"Taken for {self.detector}: pursuit in {row['layers']}, {row['value']} in the place "
            f"of {row['k']} maps: {100 * row['gap_removed']:.0f} % of the gap removed on validation"
            f" photographs, {100 * row['matched_gap_removed']:.0f} % by random maps of the same "
            "layers."
        )
        shown = Shown("percent; validation photographs, the training family", _rows(self.table), 3)
        tables = {"choice": self.table}
        for name, one in self.pursued.items():
            tables[f"path_{name.replace(' ', '_')}"] = one.path
        title = f"{self.detector}: chosen on validation photographs"
        return View(title, said, tables, (shown,), facts=self.facts)


def choose(
    detector: Detector,
    train: ImageSet,
    validation: ImageSet,
    *,
    candidates: Mapping[str, Sequence[str]],
    ks: Sequence[int],
    draws: int = DRAWS,
    **how: Unpack[How],
) -> Choice:
    """Return the candidate, value and k of the widest margin over random maps of the same layers.

    Among rows with at most 5 % of the fakes found, 95 % of the reals right and a real_share of at
    most a third, where there are any. The means over reals are those of the validation photographs.

    Raises:
        UserError: see :func:`forensift.fmap_ranking.pursuit.pursuit`.
    """
    reference = means(detector, validation, **how)
    labels = np.array([entry.label for entry in validation])
    pursued, rows = {}, []
    for name, layers in candidates.items():
        one = pursuit(
            detector, train, maps=DEPTH * max(ks), layers=layers, reference=reference, **how
        )
        pursued[name] = one
        for value in VALUES:
            put = ablation(detector, validation, value, reference=reference, **how)  # type: ignore[arg-type]
            for k in (k for k in ks if k <= len(one.ranking)):
                first = top(one.ranking, k)
                drawn = [
                    layer_matched_random_k(detector.feature_maps, first, draw, how.get("seed", 0))
                    for draw in range(draws)
                ]
                masks = [(), first, *(mask.feature_maps for mask in drawn)]
                logits, _ = masked_scores(detector, validation, masks, ablation=put, **how)
                rows.append({"layers": name, "value": value, "k": k, **_row(labels, logits)})
    table = pd.DataFrame(rows)
    good = (table["found"] <= 0.05) & (table["right"] >= 0.95) & (table["real_share"] <= 1 / 3)
    among = table[good] if good.any() else table
    table["taken"] = table.index == among["margin"].idxmax()
    return Choice(detector.name, table, pursued, reference, {"detector": detector.name})


def _row(labels: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """Return the numbers of a candidate; logits (masks, N): nothing, the top k, the draws."""
    fakes, reals = logits[:, labels == FAKE], logits[:, labels != FAKE]
    gap = fakes.mean(axis=1) - reals.mean(axis=1)
    removed = 1 - gap / gap[0]
    moves = (reals - reals[0]).mean(axis=1), (fakes - fakes[0]).mean(axis=1)
    return {
        "gap_removed": removed[1],
        "found": (fakes[1] > 0).mean(),
        "right": (reals[1] <= 0).mean(),
        "real_share": abs(moves[0][1] / moves[1][1]),
        "matched_gap_removed": removed[2:].mean(),
        "matched_found": (fakes[2:] > 0).mean(),
        "margin": removed[1] - removed[2:].mean(),
    }


def _rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows for people."""
    shown = {
        "gap removed": "gap_removed", "fakes found": "found", "reals right": "right",
        "reals' move, of fakes'": "real_share", "matched: gap removed": "matched_gap_removed",
        "matched: fakes found": "matched_found",
    }  # fmt: skip
    return pd.DataFrame(
        {
            "layers": table["layers"],
            "value": table["value"],
            "k": table["k"].astype(str),
            **{name: [number(100 * one) for one in table[key]] for name, key in shown.items()},
            "taken": np.where(table["taken"], "yes", ""),
        }
    )
