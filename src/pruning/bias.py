"""Bias units: feature maps that answer to JPEG or resizing by dose, and what AP they carry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Unpack

import numpy as np
import pandas as pd

from ..ablation import Ablation, ablation
from ..data import require_both_classes
from ..data.conditions import CLEAN
from ..detectors import Detector
from ..errors import UserError
from ..evaluation import LEVEL
from ..fmap_ranking.omega import ranking_table
from ..records import REAL, FeatureMap, ImageSet, Ranking, Result, Skipped
from ..sensitivity import layer_matched_random_k, top_k
from ..sweep import How, sweep
from .certificate import WHOLE, certificate
from .doses import DoseLook, Ladder, ladders
from .looks import Judge, JudgedLook

WITHOUT, MATCHED = "without bias units", "without others of their layers"
JPEG = (95, 85, 75, 60, 45, 30)
FACTORS = (0.84, 0.71, 0.59, 0.5, 1.19, 1.41, 1.68, 2.0)  # quarter octaves, down and up
SHOWN = 5  # maps of each bias whose curves are kept


@dataclass(frozen=True, eq=False, repr=False)
class BiasUnits(Result):
    """Which feature maps answer to a bias by dose, and what they carry.

    table: one row a bias (jpeg, down, up) and feature map: bias, feature_map, layer, channel,
        response, low, high, p, q, monotone, score, the highest score first; see
        :meth:`forensift.pruning.doses.DoseStatistic.responses`.
    curves: bias, feature_map, step, condition, moved: from clean, in standard deviations over clean
        images; of the first maps of each bias, and of all maps the 5, 50 and 95 % points.
    levels, carried: AP and accuracies with and without the first ``k`` maps of each bias, clean and
        under its largest dose; see :func:`forensift.pruning.certificate.certificate`; and bias, k.
    rankings: by bias. skipped: images that could not be used.
    """

    table: pd.DataFrame
    curves: pd.DataFrame
    levels: pd.DataFrame
    carried: pd.DataFrame
    rankings: Mapping[str, Ranking]
    skipped: tuple[Skipped, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def bias_units(
    detector: Detector,
    images: ImageSet,
    k: int = 20,
    *,
    jpeg: Sequence[int] = JPEG,
    factors: Sequence[float] = FACTORS,
    draws: int = 5,
    **how: Unpack[How],
) -> BiasUnits:
    """Find the feature maps that answer to JPEG and resizing, and what AP they carry.

    Every real of ``images`` is compressed and resized, dose by dose: jpeg, qualities; factors, of
    both sides, below 1 (down) and above (up). Then the first ``k`` maps of each bias, as many as
    answer for certain (q ≤ 0.05) at most, hold their mean over the reals, beside ``draws`` random
    choices of as many others of their layers.

    Raises:
        UserError: doses out of range, no reals or no fakes, k or draws below 1 and 0, images that
            could not be used at every dose, or see :func:`forensift.sweep`.
    """
    if k < 1 or draws < 0:
        raise UserError(f"k = {k}, {draws} draws: at least 1 and 0 are needed")
    require_both_classes(images)
    every = ladders(jpeg, factors)
    reals, seed = images.only(label=REAL), how.get("seed", 0)
    look = DoseLook(detector, reals, every)
    done = sweep(reals, [look], what="doses", **how)
    maps = detector.feature_maps
    answers = {one.bias: look.statistic.responses(one) for one in every}
    rankings = {bias: _ranking(maps, own, images) for bias, own in answers.items()}
    table = pd.concat([_table(bias, maps, own) for bias, own in answers.items()], ignore_index=True)
    curves = pd.concat([_curves(one, look, rankings[one.bias]) for one in every], ignore_index=True)
    place = ablation(detector, images, "mean-real", **how)
    levels, carried, skipped = [], [], list(done.skipped)
    sure = {bias: int((own["q"] <= LEVEL).sum()) for bias, own in answers.items()}
    for one in every:
        number = min(k, sure[one.bias], len(maps) // 2)
        if number:
            both, lost = _carried(place, images, one, rankings[one.bias], number, draws, how)
            levels.append(both[0].assign(bias=one.bias, k=number))
            carried.append(both[1].assign(bias=one.bias, k=number))
            skipped += lost
    facts = {
        "detector": detector.name,
        "feature_maps": len(maps),
        "k": k,
        "sure": sure,
        "ladders": {one.bias: list(one.conditions) for one in every},
        "reals": look.statistic.sums[CLEAN].count,
        "groups": len(set(look.statistic.groups.values())),
        "level": LEVEL,
        "value": "mean-real",
        "draws": draws,
        "image_set_sha256": images.hash(),
        "seed": seed,
    }
    missed = tuple(dict.fromkeys(skipped))
    return BiasUnits(table, curves, _joined(levels), _joined(carried), rankings, missed, facts)


def _joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _ranking(
    maps: Sequence[FeatureMap], own: Mapping[str, np.ndarray], images: ImageSet
) -> Ranking:
    found = ranking_table(maps, own["score"], "bias").reset_index(drop=True)
    return Ranking(found, REAL, counts={"used": len(images)}, by="bias")


def _table(bias: str, maps: Sequence[FeatureMap], own: Mapping[str, np.ndarray]) -> pd.DataFrame:
    heads = {
        "bias": bias,
        "feature_map": [str(one) for one in maps],
        "layer": [one.layer for one in maps],
        "channel": [one.channel for one in maps],
    }
    return pd.DataFrame(heads | dict(own)).sort_values("score", ascending=False, kind="stable")


def _curves(ladder: Ladder, look: DoseLook, ranking: Ranking) -> pd.DataFrame:
    """Return how far maps have moved from clean at each dose, in deviations over clean images."""
    means, spread = look.statistic.result(), look.statistic.spread()
    live = spread > 0
    moved = np.stack([means[name] - means[CLEAN] for name in ladder.conditions])
    moved = np.where(live, moved / np.where(live, spread, 1.0), 0.0)
    places = {one: place for place, one in enumerate(look.detector.feature_maps)}
    lines = {str(one): moved[:, places[one]] for one in ranking.feature_maps(slice(0, SHOWN))}
    lines |= {f"{share} % of all maps": np.percentile(moved, share, axis=1)
              for share in (5, 50, 95)}  # fmt: skip
    return pd.DataFrame(
        [
            (ladder.bias, name, step, condition, line[step])
            for name, line in lines.items()
            for step, condition in enumerate(ladder.conditions)
        ],
        columns=["bias", "feature_map", "step", "condition", "moved"],
    )


def _carried(
    place: Ablation,
    images: ImageSet,
    ladder: Ladder,
    ranking: Ranking,
    k: int,
    draws: int,
    how: How,
) -> tuple[tuple[pd.DataFrame, pd.DataFrame], tuple[Skipped, ...]]:
    """Return levels and differences without the top k, clean and under the largest dose."""
    chosen, seed = top_k(ranking, k).feature_maps, how.get("seed", 0)
    every = place.detector.feature_maps
    versions = {(WHOLE, 0): Judge(), (WITHOUT, 0): Judge(chosen)}
    for draw in range(draws):
        drawn = layer_matched_random_k(every, chosen, draw, seed)
        versions[MATCHED, draw] = Judge(drawn.feature_maps)
    look = JudgedLook(place, list(versions.values()), (CLEAN, ladder.conditions[-1]))
    done = sweep(images, [look], what=f"without {ladder.bias}", **how)
    require_both_classes(done.used)
    scores = look.table(done.used, list(versions))
    return certificate(scores, WITHOUT, (WHOLE, MATCHED), seed=seed), done.skipped
