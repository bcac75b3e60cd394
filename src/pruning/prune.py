"""Dissect, prune, fit the last layer anew, and certify what that has changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Unpack, get_args

import numpy as np
import pandas as pd

from ..ablation import Ablation, ablation, pixels_of, put
from ..data import require_both_classes
from ..data.conditions import CLEAN, parse_conditions
from ..data.photos import photograph_names
from ..detectors import Detector, head
from ..errors import UserError
from ..records import ImageSet, Ranking, Result, Skipped
from ..sweep import How, Pass, sweep
from .certificate import PRUNED, REFITTED, UNFITTED, WHOLE, certificate
from .choose import (
    Reference,
    Version,
    by_inputs,
    by_ranking,
    input_versions,
    inputs_table,
    maps_table,
)
from .heads import Fit
from .looks import Judge, JudgedLook, LastInputLook, last_input
from .stored import last_layer, stored

Method = Literal["ranking", "dear-corvi", "dear-rajan", "gaintseva"]
METHODS: tuple[Method, ...] = get_args(Method)
VALUES = ("mean-real", "mean", "zero")  # constants, which weights can hold
PROCESSING = ("jpeg-75", "blur-1", "resize-0.5")


@dataclass(frozen=True, eq=False, repr=False)
class Pruning(Result):
    """A pruned detector, and its certificate.

    certificate, differences: see :func:`forensift.pruning.certificate.certificate`.
    pruned: one row a unit that was pruned: unit, score (what chose it), constant (what it holds;
        NaN for inputs of the last layer, whose bias takes it up).
    fits: one row a last layer that was fitted: detector, draw, strength (C), loss (cross-validated,
        nats), images, photographs.
    scores: detector, draw, condition, path, label, generator, class, logit, score.
    detector: the pruned detector, a copy; skipped: images that could not be used.
    """

    certificate: pd.DataFrame
    differences: pd.DataFrame
    pruned: pd.DataFrame
    fits: pd.DataFrame
    scores: pd.DataFrame
    detector: Detector
    skipped: tuple[Skipped, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def prune(
    detector: Detector,
    images: ImageSet,
    refit: ImageSet,
    method: Method = "ranking",
    *,
    ranking: Ranking | None = None,
    k: int | None = None,
    value: str = "mean-real",
    draws: int = 5,
    conditions: Sequence[str] = PROCESSING,
    refit_conditions: Sequence[str] = (CLEAN,),
    **how: Unpack[How],
) -> Pruning:
    """Prune a copy of a detector, fit its last layer anew on ``refit``, and test it on ``images``.

    method: what is pruned. 'ranking': the top ``k`` feature maps of ``ranking``, which then hold
        ``value`` ('mean-real', 'mean' over all of refit, or 'zero'). Of the inputs of the last
        linear layer: 'dear-corvi' and 'dear-rajan' both ends of the regional activation discrepancy
        (the middle 60 % and 40 % stay, as published), 'gaintseva' those whose removal helps on
        other generators' images, one after the other.
    draws: as many random units in the same layers, each with its last layer fitted anew.
    conditions: what is done to the test images beside clean; refit_conditions: to those that layers
        are fitted on (published DEAR: JPEG, blur and more at random).

    Raises:
        UserError: unknown words, a ranking or k that is missing, sets without reals or fakes, a
            network that cannot be pruned so, or see :func:`forensift.sweep`.
    """
    _checked(detector, images, method, ranking, k, value, draws)
    seed, maps = how.get("seed", 0), method == "ranking"
    tested = [one.name for one in parse_conditions(conditions)]
    fitted = [one.name for one in parse_conditions(refit_conditions)]
    place = ablation(detector, refit, value if maps else "zero", **how)  # type: ignore[arg-type]
    versions: list[Version] = []
    if ranking is not None and k is not None:
        versions = by_ranking(place, ranking, k, draws, seed)
    look = LastInputLook(place, [(), *(one.maps for one in versions)], fitted)
    done = sweep(refit, [look], what="fitting", **how)
    reference = Reference(look, done.used, seed)
    alone = Version(REFITTED)
    fits = {alone: reference.fit(alone)}
    facts: dict[str, Any] = {"k": k, "value": value}
    size = len(fits[alone].layer.weights)
    if ranking is not None:
        table = maps_table(versions[0].maps, ranking, place)
    else:
        chosen, facts = by_inputs(place, refit, method, reference, fits[alone], how)
        versions = input_versions(size, list(chosen), draws, seed)
        table = inputs_table(chosen, place, size)
    fits |= {one: reference.fit(one) for one in versions}
    scores, tried = _judged(place, images, fits, tested, how)
    copy = _copied(place, versions[0], fits[versions[0]], done.used, seed)
    levels, differences = certificate(scores, seed=seed)
    same = set(photograph_names([one.path for one in tried.used])) & set(reference.photographs)
    facts |= {
        "detector": detector.name,
        "method": method,
        "units": "feature maps" if maps else f"inputs of {head(detector.network)}",
        "pruned": len(table),
        "of": len(detector.feature_maps) if maps else size,
        "draws": draws,
        "conditions": tested,
        "refit_conditions": fitted,
        "test_set_sha256": images.hash(),
        "refit_set_sha256": refit.hash(),
        "shared_photographs": len(same),
        "seed": seed,
    }
    skipped, rows = (*done.skipped, *tried.skipped), _fits_table(fits, reference)
    return Pruning(levels, differences, table, rows, scores, copy, skipped, facts)


def _checked(
    detector: Detector,
    images: ImageSet,
    method: str,
    ranking: Ranking | None,
    k: int | None,
    value: str,
    draws: int,
) -> None:
    require_both_classes(images)
    last_layer(detector, detector.network)
    if method not in METHODS or value not in VALUES:
        raise UserError(
            f"method {method!r} with value {value!r}: choose of {', '.join(METHODS)} and of "
            f"{', '.join(VALUES)}"
        )
    if method == "ranking" and (ranking is None or k is None):
        raise UserError("method ranking prunes the top k of a ranking: give ranking and k")
    if method != "ranking" and (ranking is not None or k is not None):
        raise UserError(f"method {method} chooses by itself: leave ranking and k out")
    if draws < 0:
        raise UserError(f"{draws} draws: 0 or more")
    if ranking is not None:
        unknown = set(ranking.feature_maps()) - set(detector.feature_maps)
        if unknown:
            raise UserError(f"{detector.name} has no feature map {min(unknown)}")


def _judged(
    place: Ablation,
    images: ImageSet,
    fits: Mapping[Version, Fit],
    conditions: Sequence[str],
    how: How,
) -> tuple[pd.DataFrame, Pass]:
    """Return the scores of the whole detector and of every version, and the pass."""
    judges = {(WHOLE, 0): Judge()}
    judges |= {(one.name, one.draw): Judge(one.maps, own.layer) for one, own in fits.items()}
    if maps := next((one.maps for one in fits if one.name == PRUNED), ()):
        judges[UNFITTED, 0] = Judge(maps)
    look = JudgedLook(place, list(judges.values()), conditions)
    done = sweep(images, [look], what="testing", **how)
    require_both_classes(done.used)
    return look.table(done.used, list(judges)), done


def _copied(place: Ablation, version: Version, own: Fit, images: ImageSet, seed: int) -> Detector:
    """Return the pruned detector.

    Raises:
        UserError: its weights cannot hold what was measured.
    """
    detector = place.detector
    pixels = pixels_of(detector, images, images.entries[:1], seed)
    constants = place.constants_of(version.maps) if version.maps else None
    copy = stored(detector, version.maps, constants, own.layer, pixels)
    with put(detector.network, version.maps, constants):
        wanted = own.layer.logits(last_input(detector, pixels)[1])
    found = copy.logits(pixels).double().numpy()
    if not np.allclose(found, wanted, rtol=1e-3, atol=1e-3):
        raise UserError(
            f"{copy.name}: its weights cannot hold the pruned network (they give a logit of "
            f"{found[0]:.3f}, the network without the units {wanted[0]:.3f})"
        )
    return copy


def _fits_table(fits: Mapping[Version, Fit], reference: Reference) -> pd.DataFrame:
    images, photographs = len(reference.images), len(set(reference.photographs))
    rows = [
        (version.name, version.draw, own.strength, own.loss, images, photographs)
        for version, own in fits.items()
    ]
    columns = ["detector", "draw", "strength", "loss", "images", "photographs"]
    return pd.DataFrame(rows, columns=columns)
