"""Feature-map dropout: what a detector still knows without the feature maps of the highest ω."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Unpack

import numpy as np
import pandas as pd

from ..ablation import Ablation, Means, Pairs, Site, Value, ablation
from ..data import require_both_classes
from ..detectors.detector import Detector
from ..errors import UserError
from ..evaluation import calibrated_threshold, score, sigmoid
from ..fmap_ranking import fitting
from ..records import FAKE, REAL, ImageSet, Ranking, Result, Skipped
from ..sweep import How, Pass
from .choice import Choice, default_grid, near_of
from .masks import Mask
from .scoring import scores_under
from .tables import curve_table, dropped_table, generator_rows, summarise

DRAWS, BAND_DRAWS = 20, 5
LEARNT_DRAWS = 3  # of controls whose constants are learnt for each draw, unless draws are given
TRAINING_THRESHOLD = 0.5  # of the family that the detector was trained on, as published


class Controls(How, total=False):
    """What stands in the place of maps, how that is controlled, and how images are gone over.

    value: what stands there, 'zero' by default (published), or several, one after another: see
        :func:`forensift.ablation.ablation`; also for site, reference and pairs.
    draws: of random-k and of layer-matched random-k, by default 20 (3 where constants are learnt).
    ks: further k of the curves, by default k/8 … 4k up to half of the maps; () for no curve.
    band_draws: random draws at each of these k, by default 5 (1 where constants are learnt).
    magnitude_matched: also draw maps that respond about as strongly as the top k, whatever their
        layer: one more pass over the images, and as many draws.
    """

    value: Value | Sequence[Value]
    site: Site
    reference: ImageSet | Means | None
    pairs: Pairs | None
    draws: int | None
    ks: Sequence[int] | None
    band_draws: int | None
    magnitude_matched: bool


@dataclass(frozen=True, eq=False, repr=False)
class DropoutResult(Result):
    """What taking feature maps away did.

    table: one row a generator, mask, draw and value (``dropout.csv``; columns in
        ``tables.COLUMNS``, and value).
    summary: one row a generator, mask and value, macro means included; see :func:`summarise`.
    curve: AP(k); see :func:`curve_table`. Empty where no grid was asked for.
    masks: the masks of the table; ``masks[0]`` is the baseline. values: what stood in their place.
    logits: float64 (masks, images), images in the set's order; NaN where one could not be used.
    skipped: the images that could not be used, with the reason.
    facts: k, values, draws, seed, training family and what else decided the numbers.
    """

    table: pd.DataFrame
    summary: pd.DataFrame
    curve: pd.DataFrame
    masks: tuple[Mask, ...]
    values: tuple[Value, ...]
    logits: np.ndarray
    images: ImageSet
    ranking: Ranking
    skipped: tuple[Skipped, ...] = ()
    facts: Mapping[str, object] = field(default_factory=dict)

    def dropped(self) -> pd.DataFrame:
        """Return which feature maps each mask held (``dropped.csv``)."""
        omega = dict(zip(self.ranking.feature_maps(), self.ranking.scores, strict=True))
        return dropped_table(list(dict.fromkeys(self.masks)), omega)

    def scores(self) -> pd.DataFrame:
        """Return every logit there is: path, label, generator, mask, draw, logit, value."""
        entries = self.images.entries
        frame = pd.DataFrame(
            {
                "path": [self.images.image_id(entry) for entry in entries],
                "label": [entry.label for entry in entries],
                "generator": [entry.generator for entry in entries],
            }
        )
        parts = [
            frame.assign(mask=mask.name, draw=mask.draw, logit=row, value=value)
            for mask, value, row in zip(self.masks, self.values, self.logits, strict=True)
        ]
        return pd.concat(parts, ignore_index=True).dropna(subset=["logit"]).reset_index(drop=True)


@dataclass(eq=False)
class _Under:
    """One value: what stands in the maps' place, which masks are scored, and their logits."""

    ablation: Ablation
    masks: list[Mask]
    curve_masks: list[Mask]
    logits: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    curve_logits: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))


def dropout(
    detector: Detector,
    images: ImageSet,
    ranking: Ranking,
    k: int,
    *,
    training_family: str | None = None,
    held_out: ImageSet | float | None = None,
    **how: Unpack[Controls],
) -> DropoutResult:
    """Take the top k feature maps away and, beside them, the controls, and measure every generator.

    images: generators that each hold reals and fakes. ranking: of the fakes, as published.
    k: how many maps are dropped (114 for ResNet-50, 27 for EfficientNet-B0 as published).
    training_family: the generator that the detector was trained on; its threshold is 0.5 and it is
        left out of the mean over unseen generators.
    held_out: images of neither training nor test, or the threshold that :func:`held_out_threshold`
        calibrated on them; it gives the columns ``…_held_out``.
    how: see :class:`Controls`; ``value`` is what stands in the maps' place, zero as published.

    Masks: baseline, top-k, low-k, lowest-non-zero, random-k and random-k-layer-matched, each drawn
    without replacement from outside the top k, and random-k-ensemble (the published figure: AP of
    the scores averaged over five draws). All have the same value in their place. A ranking of some
    of the maps has no low-k. Accuracies are taken at the threshold that is best for
    the un-dropped model on the same generator's images (published, so optimistic), and at 0.5.

    Raises:
        UserError: the ranking is of reals or does not fit the detector; k or draws out of range; a
            generator without reals or fakes; a value without what it needs, see
            :func:`forensift.ablation.ablation`; or see :func:`forensift.sweep`.
    """
    value, asked_draws = how.pop("value", "zero"), how.pop("draws", None)
    values: tuple[Value, ...] = (value,) if isinstance(value, str) else tuple(value)
    instead = {key: how.pop(key) for key in ("site", "reference", "pairs") if key in how}
    asked_band, ks = how.pop("band_draws", None), how.pop("ks", None)
    matched = how.pop("magnitude_matched", False)
    on: How = how  # type: ignore[assignment]
    seed = on.get("seed", 0)
    detector = fitting(ranking, detector)
    _check_options(values, asked_draws, asked_band, images, training_family)
    near = near_of(detector, images, ranking, k, **on) if matched else None
    choice = Choice(detector, ranking, k, seed, near)
    whole = len(detector.feature_maps)
    grid = default_grid(k, whole, len(ranking)) if ks is None else sorted(set(ks))
    every = []
    for one in values:
        learnt = one == "optimal"
        draws = asked_draws or (LEARNT_DRAWS if learnt else DRAWS)
        band = (1 if learnt else BAND_DRAWS) if asked_band is None else asked_band
        masks = choice.masks(dict.fromkeys(choice.controls, draws))
        put = ablation(detector, images, one, **instead, **on)  # type: ignore[misc, arg-type]
        every.append(_Under(put, masks, choice.along(grid, band)))
    if isinstance(held_out, ImageSet):
        held_out = held_out_threshold(detector, held_out, **on)
    done = _score(detector, images, every, on)
    tables = _tables(images, every, training_family, np.nan if held_out is None else held_out)
    facts: dict[str, object] = {
        "detector": detector.name,
        "k": k,
        "feature_maps": whole,
        "ranked": len(ranking),
        "ranking_by": ranking.by,
        "draws": asked_draws or (LEARNT_DRAWS if values == ("optimal",) else DRAWS),
        "magnitude_matched": matched,
        "ks": list(grid),
        "band_draws": BAND_DRAWS if asked_band is None else asked_band,
        "seed": seed,
        "site": every[0].ablation.site,
        "value": ",".join(values),
        "training_family": training_family,
        "held_out_threshold": held_out,
        "ranking_start": ranking.start,
    }
    for under in every:
        facts |= {key: fact for key, fact in under.ablation.facts.items() if key not in facts}
    return DropoutResult(
        *tables,
        tuple(mask for under in every for mask in under.masks),
        tuple(under.ablation.value for under in every for _ in under.masks),
        np.concatenate([under.logits for under in every]),
        images,
        ranking,
        done.skipped,
        facts,
    )


def _tables(
    images: ImageSet, every: Sequence[_Under], training_family: str | None, threshold: float
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return table, summary and curve, one value below the other."""
    parts: tuple[list[pd.DataFrame], ...] = ([], [], [])
    for under in every:
        value = under.ablation.value
        rows = _rows(images, under.masks, under.logits, training_family, threshold)
        parts[0].append(rows.assign(value=value))
        parts[1].append(summarise(rows, training_family).assign(value=value))
        if under.curve_masks:
            chosen = [under.masks[0], *under.curve_masks]
            logits = np.concatenate([under.logits[:1], under.curve_logits])
            rows = _rows(images, chosen, logits, training_family, threshold, ensemble=False)
            parts[2].append(curve_table(rows, training_family).assign(value=value))
    table, summary, curve = (
        pd.concat(own, ignore_index=True) if own else pd.DataFrame() for own in parts
    )
    return table, summary, curve


def _score(detector: Detector, images: ImageSet, every: Sequence[_Under], on: How) -> Pass:
    """Score all masks under all values in one pass."""
    jobs = [
        (under.ablation, [one.feature_maps for one in (*under.masks, *under.curve_masks)])
        for under in every
    ]
    logits, done = scores_under(detector, images, jobs, **on)
    for under, own in zip(every, logits, strict=True):
        under.logits, under.curve_logits = np.split(own, [len(under.masks)])
    return done


def _rows(
    images: ImageSet,
    masks: Sequence[Mask],
    logits: np.ndarray,
    training_family: str | None,
    held_out_threshold: float,
    ensemble: bool = True,
) -> pd.DataFrame:
    labels = np.array([entry.label for entry in images])
    names = np.array([entry.generator for entry in images], dtype=object)
    read = ~np.isnan(logits[0])
    parts = []
    for generator in images.generators:
        chosen = read & (names == generator)
        for label, kind in ((REAL, "real"), (FAKE, "fake")):
            if not (labels[chosen] == label).any():
                raise UserError(f"generator {generator}: no {kind} image could be read")
        if generator == training_family:
            threshold, rule = TRAINING_THRESHOLD, "0.5, training family"
        else:
            threshold = calibrated_threshold(labels[chosen], sigmoid(logits[0, chosen]))
            rule = "calibrated on these images, nothing dropped"
        parts.append(
            generator_rows(
                generator,
                labels[chosen],
                logits[:, chosen],
                masks,
                threshold,
                rule,
                held_out_threshold,
                ensemble=ensemble,
            )
        )
    return pd.concat(parts, ignore_index=True)


def held_out_threshold(detector: Detector, images: ImageSet, **how: Unpack[How]) -> float:
    """Return the threshold that suits the whole network best on these images.

    Raises:
        UserError: the images hold no reals or no fakes.
    """
    scores = score(detector, images, **how)
    if scores["label"].nunique() < 2:
        raise UserError(f"{images.root}: held-out images must hold reals and fakes")
    return calibrated_threshold(scores["label"].to_numpy(), scores["score"].to_numpy())


def _check_options(
    values: Sequence[Value],
    draws: int | None,
    band_draws: int | None,
    images: ImageSet,
    training_family: str | None,
) -> None:
    if (draws is not None and draws < 1) or (band_draws is not None and band_draws < 0):
        raise UserError(f"{draws} draws, {band_draws} band draws: at least 1 and 0 are needed")
    if not values or len(set(values)) < len(values):
        raise UserError(f"value {','.join(values)!r}: give one or several, each once")
    require_both_classes(images)
    if training_family is not None and training_family not in images.generators:
        raise UserError(
            f"training family {training_family!r} is none of the generators "
            f"{', '.join(images.generators)}"
        )
