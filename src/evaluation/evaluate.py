"""How well a detector tells fakes from reals, generator by generator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Unpack

import pandas as pd

from ..data import jpeg_equaliser, require_both_classes
from ..detectors import Detector
from ..records import ImageSet, Result, Skipped
from ..sweep import How, Pass, sweep
from .intervals import Cluster
from .operating import reliability
from .scores import ScoreLook
from .table import THRESHOLD, measured


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation(Result):
    """How well a detector does: ``table``, see :func:`metrics`, of ``scores``, see :func:`score`.

    curves: ROC and precision against recall; reliability: shares of fakes along the probability;
    images: what was scored, whose files the worst mistakes are drawn from;
    skipped: the images that could not be used; facts: what decided the numbers.
    """

    table: pd.DataFrame
    scores: pd.DataFrame
    curves: pd.DataFrame
    reliability: pd.DataFrame
    images: ImageSet
    skipped: tuple[Skipped, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def evaluate(
    detector: Detector,
    images: ImageSet,
    *,
    cluster: Cluster = "photograph",
    equalise_jpeg: str = "none",
    **how: Unpack[How],
) -> Evaluation:
    """Score every image, and measure every generator; see :func:`metrics`.

    cluster: what intervals draw, see :func:`clusters_of`; equalise_jpeg: see
    :func:`forensift.data.jpeg_equaliser`.

    Raises:
        UserError: a generator without reals or fakes, or see :func:`forensift.sweep`.
    """
    require_both_classes(images)
    seed = how.get("seed", 0)
    equaliser = jpeg_equaliser(images, equalise_jpeg, seed=seed)
    look = ScoreLook(detector)
    done = sweep(images, [look], what="scoring", transform=equaliser, **how)
    found = evaluation_of(look, done, cluster=cluster, seed=seed)
    files = {"equalise_jpeg": equaliser.facts if equaliser is not None else {"mode": "none"}}
    return replace(found, facts={**found.facts, **files})


def evaluation_of(
    look: ScoreLook,
    done: Pass,
    *,
    cluster: Cluster = "photograph",
    seed: int = 0,
) -> Evaluation:
    """Return the evaluation of what a pass has shown."""
    scores = look.table(done.used)
    table, curves = measured(scores, cluster=cluster, seed=seed)
    facts = {
        "detector": look.detector.name,
        "used": len(done.used),
        "skipped": len(done.skipped),
        "seed": seed,
        "threshold": THRESHOLD,
        "intervals": {"confidence": 0.95, "cluster": cluster},
    }
    reliable = reliability(scores, cluster, seed=seed)
    return Evaluation(table, scores, curves, reliable, done.used, done.skipped, facts)
