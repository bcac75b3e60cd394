"""Which maps pursuit may pick, what stands in their place and how many: chosen before any test.

Pursuit sees pairs of the training photographs, the choice pairs of the validation photographs, all
of the family that the detector was trained on. No other family and no test photograph has a say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pandas as pd

from ... import views
from ...ablation import Means, ablation, means
from ...detectors import Detector, load_detector
from ...fmap_ranking import save_ranking, top
from ...fmap_ranking.pursuit import Pursued, pursuit
from ...records import FAKE, ImageSet, Ranking, Result
from ...sensitivity import layer_matched_random_k
from ...sensitivity.scoring import masked_scores
from ...sweep import How
from ...views import Shown, View
from ...views.text import number
from ...views.view import Write
from ..world import TRAINING_FAMILY, forged

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
PAIRS = {"train": 36, "validation": 48}


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
        tables = {"choice": self.table, "path": self._paths()}
        files: dict[str, Write] = {
            f"{TRAINING_FAMILY}-pursuit.csv": lambda path: save_ranking(self.ranking, path, 6),
            f"{TRAINING_FAMILY}-means.parquet": self.means.save,
        }
        title = f"{self.detector}: chosen on validation photographs"
        return View(title, said, tables, (shown,), files=files, facts=self.facts)

    def _paths(self) -> pd.DataFrame:
        """Return how each pursuit went, one below the other."""
        parts = [one.path.assign(layers=name) for name, one in self.pursued.items()]
        return pd.concat(parts, ignore_index=True)


@dataclass(frozen=True, eq=False, repr=False)
class Choices(Result):
    """What was chosen for each detector; saved in the folder of its name."""

    of: Mapping[str, Choice]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def view(self) -> View:
        """Return the tables one below the other."""
        tables = [one.table.assign(detector=name) for name, one in self.of.items()]
        said = " ".join(one.said for one in self.of.values())
        shown = [Shown(name, _rows(one.table), 3) for name, one in self.of.items()]
        whole = {"choices": pd.concat(tables, ignore_index=True)}
        return View("Chosen on validation photographs", said, whole, shown, facts=self.facts)


def choices(
    folder: Path,
    detectors: Sequence[str],
    *,
    side: int = 128,
    device: str = "cpu",
    **how: Unpack[How],
) -> Choices:
    """Choose for each detector, on pairs forged from training and validation photographs.

    Each result is saved to ``folder``/DETECTOR as soon as it is there.

    Raises:
        UserError: ``folder`` holds other crops.
    """
    seed, family = how.get("seed", 0), (TRAINING_FAMILY,)
    images = folder / "images"
    train = forged(images / "train", "train", family, PAIRS["train"], side, seed)
    validation = forged(
        images / "validation", "validation", family, PAIRS["validation"], side, seed
    )
    found = {}
    for name in detectors:
        detector = load_detector(name, device=device)
        found[name] = choose(
            detector, train, validation, candidates=CANDIDATES[name], ks=KS[name], **how
        )
        views.save(found[name], folder / name)
    sets = {"train": train.hash(), "validation": validation.hash()}
    return Choices(found, {"image_set_sha256": sets, "seed": seed, "pairs": PAIRS})


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
    facts = {"detector": detector.name, "by": "pursuit", "draws": draws}
    chosen = table[table["taken"]].iloc[0]
    facts |= dict(pursued[chosen["layers"]].ranking.facts)
    facts["taken"] = {name: chosen[name].item() if hasattr(chosen[name], "item") else chosen[name]
                      for name in ("layers", "value", "k")}  # fmt: skip
    return Choice(detector.name, table, pursued, reference, facts)


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
