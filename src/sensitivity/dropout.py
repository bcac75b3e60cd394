"""Feature-map dropout: what a detector still knows without the feature maps of the highest ω."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Unpack

import numpy as np
import pandas as pd

from ..ablation import Means, Pairs, Site, Value, ablation, pairs_of
from ..data import require_both_classes
from ..detectors.detector import Detector
from ..errors import UserError
from ..evaluation import Cluster, calibrated_threshold, score
from ..fmap_ranking import fitting
from ..records import ImageSet, Ranking, Result, Skipped
from ..sweep import How
from .choice import Choice, default_grid, near_of
from .draws import AUTO, MAX_DRAWS, Under, first_draws, score_all
from .gap import Ground, area_table, gap_table, ground, spoofing_table
from .masks import Mask
from .scoring import masked_scores
from .tables import curve_table, dropped_table, rows_of, summarise


class Controls(How, total=False):
    """What stands in the place of maps, how that is controlled, and how images are gone over.

    value: what stands there, 'zero' by default (published), or several, one after another: see
        :func:`forensift.ablation.ablation`; also for site, reference and pairs.
    draws: of random-k and of layer-matched random-k, by default 20 (3 where constants are learnt);
        'auto' draws each until its numbers are answered, see
        :func:`forensift.evaluation.sequential_p`, at most max_draws times, by default 199.
    ks: further k of the curves, by default k/8 … 4k up to half of the maps; () for no curve.
    band_draws: random draws at each of these k, by default 5 (1 where constants are learnt).
    magnitude_matched: also draw maps that respond about as strongly as the top k, whatever their
        layer: one more pass over the images, and as many draws.
    cluster: what the intervals of ``gap`` leave out, see :func:`forensift.evaluation.metrics`.
    """

    value: Value | Sequence[Value]
    site: Site
    reference: ImageSet | Means | None
    pairs: Pairs | None
    draws: int | Literal["auto"] | None
    max_draws: int
    ks: Sequence[int] | None
    band_draws: int | None
    magnitude_matched: bool
    cluster: Cluster


@dataclass(frozen=True, eq=False, repr=False)
class DropoutResult(Result):
    """What taking feature maps away did.

    table: one row a generator, mask, draw and value (``dropout.csv``; columns in
        ``tables.COLUMNS``, and value).
    summary: one row a generator, mask and value, macro means included; see :func:`summarise`.
    curve: AP(k); see :func:`curve_table`. Empty where no grid was asked for.
    gap: how much of what tells fakes from reals went, with intervals by photograph; see
        :func:`gap_table`. gap_curve: the same along k; gap_area: the area under it, see
        :func:`area_table`. spoofing: see :func:`spoofing_table`; empty unless zero and optimal
        were both asked for.
    masks: the masks of the table; ``masks[0]`` is the baseline. in_place: the value of each.
    logits: float64 (masks, images), images in the set's order; NaN where one could not be used.
    skipped: the images that could not be used, with the reason.
    facts: k, values, draws, seed, training family and what else decided the numbers.
    """

    table: pd.DataFrame
    summary: pd.DataFrame
    curve: pd.DataFrame
    gap: pd.DataFrame
    gap_curve: pd.DataFrame
    gap_area: pd.DataFrame
    spoofing: pd.DataFrame
    masks: tuple[Mask, ...]
    in_place: tuple[Value, ...]
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
            for mask, value, row in zip(self.masks, self.in_place, self.logits, strict=True)
        ]
        return pd.concat(parts, ignore_index=True).dropna(subset=["logit"]).reset_index(drop=True)


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
    given: dict[str, Any] = dict(how)
    instead = {key: given.pop(key) for key in ("site", "reference", "pairs") if key in given}
    draws: Any = given.pop("draws", None)
    values = _values_of(given.pop("value", "zero"))
    band, ks, matched = (given.pop(key, None) for key in ("band_draws", "ks", "magnitude_matched"))
    most, cluster = given.pop("max_draws", MAX_DRAWS), given.pop("cluster", "photograph")
    on: How = given  # type: ignore[assignment]
    detector = fitting(ranking, detector)
    _check_options(values, draws, band, images, training_family)
    near = near_of(detector, images, ranking, k, **on) if matched else None
    choice = Choice(detector, ranking, k, on.get("seed", 0), near)
    grid = default_grid(k, len(detector.feature_maps), len(ranking)) if ks is None else ks
    every = []
    for one in values:
        first, at_each = first_draws(one, draws, band)
        first = min(first, most) if draws == AUTO else first
        masks = choice.masks(dict.fromkeys(choice.controls, first))
        put = ablation(detector, images, one, **instead, **on)
        along = choice.along(sorted(set(grid)), at_each)
        every.append(Under(put, masks, along, most if draws == AUTO else None))
    if isinstance(held_out, ImageSet):
        held_out = held_out_threshold(detector, held_out, **on)
    skipped = score_all(detector, images, choice, every, training_family, **on)
    pairs = instead.get("pairs") or pairs_of(images)
    beside = _photographs(detector, images, pairs, every[0].logits[0], on)
    against = ground(images, every[0].logits[0], beside, cluster, training_family)
    facts = {
        "draws": draws or first_draws(values[0], None, None)[0],
        "max_draws": most if draws == AUTO else None,
        "magnitude_matched": bool(matched),
        "ks": sorted(set(grid)),
        "band_draws": first_draws(values[0], None, band)[1],
        "cluster": cluster,
        "training_family": training_family,
        "held_out_threshold": held_out,
    }
    return DropoutResult(
        **_tables(images, every, training_family, held_out, against),
        masks=tuple(mask for under in every for mask in under.masks),
        in_place=tuple(under.ablation.value for under in every for _ in under.masks),
        logits=np.concatenate([under.logits for under in every]),
        images=images,
        ranking=ranking,
        skipped=skipped,
        facts=_facts(choice, every) | facts,
    )


def _facts(choice: Choice, every: Sequence[Under]) -> dict[str, object]:
    """Return what was taken away, and what stood in its place."""
    facts: dict[str, object] = {}
    for under in reversed(every):
        facts |= dict(under.ablation.facts)
    return facts | {
        "detector": choice.detector.name,
        "k": choice.k,
        "feature_maps": len(choice.detector.feature_maps),
        "ranked": len(choice.ranking),
        "ranking_by": choice.ranking.by,
        "ranking_start": choice.ranking.start,
        "seed": choice.seed,
        "site": every[0].ablation.site,
        "value": ",".join(under.ablation.value for under in every),
    }


def _values_of(value: Value | Sequence[Value]) -> list[Value]:
    return [value] if isinstance(value, str) else list(value)  # type: ignore[list-item]


def _tables(
    images: ImageSet,
    every: Sequence[Under],
    training_family: str | None,
    threshold: float | None,
    against: Ground,
) -> dict[str, pd.DataFrame]:
    """Return the tables of a result by name, one value below the other."""
    parts: dict[str, list[pd.DataFrame]] = {}
    held_out = np.nan if threshold is None else threshold
    for under in every:
        value, along, logits = under.ablation.value, under.curve_masks, under.curve_logits
        rows = rows_of(images, under.masks, under.logits, training_family, held_out)
        found = {
            "table": rows,
            "summary": summarise(rows, training_family, under.most),
            "gap": gap_table(against, under.masks, under.logits),
            "gap_curve": gap_table(against, along, logits),
            "gap_area": area_table(against, along, logits),
            "curve": pd.DataFrame(),
        }
        if along:
            masks, whole = [under.masks[0], *along], np.concatenate([under.logits[:1], logits])
            rows = rows_of(images, masks, whole, training_family, held_out, ensemble=False)
            found["curve"] = curve_table(rows, training_family)
        for name, one in found.items():
            parts.setdefault(name, []).append(one.assign(value=value) if len(one) else one)
    both = {under.ablation.value: (under.masks, under.logits) for under in every}
    spoofing = (
        spoofing_table(against, both["zero"], both["optimal"])
        if {"zero", "optimal"} <= set(both)
        else pd.DataFrame()
    )
    whole_of = {name: pd.concat(own, ignore_index=True) for name, own in parts.items()}
    return whole_of | {"spoofing": spoofing}


def _photographs(
    detector: Detector, images: ImageSet, pairs: Pairs, plain: np.ndarray, on: How
) -> dict[str, float]:
    """Return for the id of each fake the whole network's logit of its photograph."""
    logits = {entry.path: one for entry, one in zip(images.entries, plain, strict=True)}
    others = dict.fromkeys(one for one in pairs.values() if one.path not in logits)
    if others:
        beside = ImageSet(images.root, tuple(others), images.layout)
        found, _ = masked_scores(detector, beside, [()], what="photographs of fakes", **on)
        logits |= {entry.path: one for entry, one in zip(others, found[0], strict=True)}
    return {key: float(logits[photograph.path]) for key, photograph in pairs.items()}


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
    draws: int | str | None,
    band_draws: int | None,
    images: ImageSet,
    training_family: str | None,
) -> None:
    if (draws != AUTO and int(1 if draws is None else draws) < 1) or (band_draws or 0) < 0:
        raise UserError(
            f"{draws} draws, {band_draws} band draws: at least 1 (or auto) and 0 are needed"
        )
    if not values or len(set(values)) < len(values):
        raise UserError(f"value {','.join(values)!r}: give one or several, each once")
    require_both_classes(images)
    if training_family is not None and training_family not in images.generators:
        raise UserError(
            f"training family {training_family!r} is none of the generators "
            f"{', '.join(images.generators)}"
        )
