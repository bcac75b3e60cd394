"""Feature-map dropout: what a detector still knows without the feature maps of the highest ω."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Unpack

import numpy as np
import pandas as pd

from ..data import require_both_classes
from ..detectors.detector import Detector
from ..errors import UserError
from ..evaluation import calibrated_threshold, score, sigmoid
from ..fmap_ranking import fitting, top
from ..records import FAKE, REAL, ImageSet, Ranking, Result, Skipped
from ..sweep import How
from .magnitudes import magnitudes, nearest
from .masks import (
    Mask,
    baseline,
    layer_matched_random_k,
    low_k,
    lowest_non_zero,
    magnitude_matched_random_k,
    random_k,
    top_k,
)
from .scoring import masked_scores
from .tables import curve_table, dropped_table, generator_rows, summarise

GRID = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4)  # of k: where the AP(k) curve is computed
NEAR = 50  # maps of the most similar strength that a magnitude-matched one is drawn from
TRAINING_THRESHOLD = 0.5  # of the family that the detector was trained on, as published


class Controls(How, total=False):
    """How feature-map dropout is controlled, and how images are gone over.

    draws: of random-k and of layer-matched random-k, by default 20.
    ks: further k of the AP(k) curve, by default k/8 … 4k up to half of the maps; () for no curve.
    band_draws: random draws at each of these k, by default 5.
    magnitude_matched: also draw maps that respond about as strongly as the top k, whatever their
        layer: one more pass over the images, and as many draws.
    """

    draws: int
    ks: Sequence[int] | None
    band_draws: int
    magnitude_matched: bool


@dataclass(frozen=True, eq=False, repr=False)
class DropoutResult(Result):
    """What dropping feature maps did.

    table: one row a generator, mask and draw (``dropout.csv``; columns in ``tables.COLUMNS``).
    summary: one row a generator and mask, macro means included; see :func:`summarise`.
    curve: AP(k); see :func:`curve_table`. Empty where no grid was asked for.
    masks: the masks of the table; ``masks[0]`` is the baseline.
    logits: float64 (masks, images), images in the set's order; NaN where one could not be used.
    skipped: the images that could not be used, with the reason.
    facts: k, draws, seed, training family and what else decided the numbers.
    """

    table: pd.DataFrame
    summary: pd.DataFrame
    curve: pd.DataFrame
    masks: tuple[Mask, ...]
    logits: np.ndarray
    images: ImageSet
    ranking: Ranking
    skipped: tuple[Skipped, ...] = ()
    facts: Mapping[str, object] = field(default_factory=dict)

    def dropped(self) -> pd.DataFrame:
        """Return which feature maps each mask held (``dropped.csv``)."""
        omega = dict(zip(self.ranking.feature_maps(), self.ranking.scores, strict=True))
        return dropped_table(self.masks, omega)

    def scores(self) -> pd.DataFrame:
        """Return every logit there is: path, label, generator, mask, draw, logit."""
        entries = self.images.entries
        frame = pd.DataFrame(
            {
                "path": [self.images.image_id(entry) for entry in entries],
                "label": [entry.label for entry in entries],
                "generator": [entry.generator for entry in entries],
            }
        )
        parts = [
            frame.assign(mask=mask.name, draw=mask.draw, logit=row)
            for mask, row in zip(self.masks, self.logits, strict=True)
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
    """Zero the top k feature maps and, beside it, the controls, and measure every generator.

    images: generators that each hold reals and fakes. ranking: of the fakes, as published.
    k: how many maps are dropped (114 for ResNet-50, 27 for EfficientNet-B0 as published).
    training_family: the generator that the detector was trained on; its threshold is 0.5 and it is
        left out of the mean over unseen generators.
    held_out: images of neither training nor test, or the threshold that :func:`held_out_threshold`
        calibrated on them; it gives the columns ``…_held_out``.
    how: see :class:`Controls`.

    Masks: baseline, top-k, low-k, lowest-non-zero, random-k and random-k-layer-matched, each drawn
    without replacement from outside the top k, and random-k-ensemble (the published figure: AP of
    the scores averaged over five draws). Accuracies are taken at the threshold that is best for
    the un-dropped model on the same generator's images (published, so optimistic), and at 0.5.

    Raises:
        UserError: the ranking is of reals or does not fit the detector; k or draws out of range; a
            generator without reals or fakes; or see :func:`forensift.sweep`.
    """
    draws, band_draws = how.pop("draws", 20), how.pop("band_draws", 5)
    ks, matched = how.pop("ks", None), how.pop("magnitude_matched", False)
    on: How = how  # type: ignore[assignment]
    seed = on.get("seed", 0)
    detector = fitting(ranking, detector)
    _check_options(draws, band_draws, images, training_family)
    masks = _masks(detector, ranking, k, draws, seed)
    if matched:
        strengths = magnitudes(detector, images, **on)
        masks += _magnitude_matched(detector, ranking, k, draws, seed, strengths)
    whole = len(detector.feature_maps)
    grid = default_grid(k, whole, len(ranking)) if ks is None else sorted(set(ks))
    curve_masks = _curve_masks(detector, ranking, grid, band_draws, seed)
    if isinstance(held_out, ImageSet):
        held_out = held_out_threshold(detector, held_out, **on)
    threshold = float("nan") if held_out is None else held_out
    every = [*masks, *curve_masks]
    logits, done = masked_scores(detector, images, [one.feature_maps for one in every], **on)
    own = logits[: len(masks)]
    table = _rows(images, masks, own, training_family, threshold)
    curve = pd.DataFrame()
    if curve_masks:
        along = [0, *range(len(masks), len(every))]
        chosen = [every[i] for i in along]
        rows = _rows(images, chosen, logits[along], training_family, threshold, ensemble=False)
        curve = curve_table(rows, training_family)
    facts: dict[str, object] = {
        "detector": detector.name,
        "k": k,
        "feature_maps": whole,
        "draws": draws,
        "magnitude_matched": matched,
        "ks": list(grid),
        "band_draws": band_draws,
        "seed": seed,
        "site": "conv",
        "value": "zero",
        "training_family": training_family,
        "held_out_threshold": held_out,
        "ranking_start": ranking.start,
    }
    summary = summarise(table, training_family)
    return DropoutResult(
        table, summary, curve, tuple(masks), own, images, ranking, done.skipped, facts
    )


def default_grid(k: int, feature_maps: int, ranked: int) -> list[int]:
    """Return the k of the AP(k) curve: k/8 … 4k, where random maps outside the top k suffice."""
    most = min(feature_maps // 2, ranked)
    return sorted({max(1, round(k * share)) for share in GRID if round(k * share) <= most})


def _masks(detector: Detector, ranking: Ranking, k: int, draws: int, seed: int) -> list[Mask]:
    first = top(ranking, k)
    maps = detector.feature_maps
    return [
        baseline(),
        top_k(ranking, k),
        *(random_k(maps, first, k, draw, seed) for draw in range(draws)),
        *(layer_matched_random_k(maps, first, draw, seed) for draw in range(draws)),
        low_k(ranking, k),
        lowest_non_zero(ranking, k),
    ]


def _magnitude_matched(
    detector: Detector, ranking: Ranking, k: int, draws: int, seed: int, strengths: np.ndarray
) -> list[Mask]:
    first = top(ranking, k)
    taken = set(first)
    # Up to k of a map's neighbours may be top-k maps themselves.
    near = nearest(detector.feature_maps, strengths, k + NEAR, of=taken)
    free = {one: [other for other in near[one] if other not in taken][:NEAR] for one in first}
    return [magnitude_matched_random_k(free, first, draw, seed) for draw in range(draws)]


def _curve_masks(
    detector: Detector, ranking: Ranking, grid: Sequence[int], draws: int, seed: int
) -> list[Mask]:
    masks: list[Mask] = []
    for k in grid:
        # The draws at the table's own k are the table's masks, which are scored once.
        masks.append(top_k(ranking, k))
        first = masks[-1].feature_maps
        for draw in range(draws):
            masks.append(random_k(detector.feature_maps, first, k, draw, seed))
            masks.append(layer_matched_random_k(detector.feature_maps, first, draw, seed))
    return masks


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
    draws: int, band_draws: int, images: ImageSet, training_family: str | None
) -> None:
    if draws < 1 or band_draws < 0:
        raise UserError(f"{draws} draws, {band_draws} band draws: at least 1 and 0 are needed")
    require_both_classes(images)
    if training_family is not None and training_family not in images.generators:
        raise UserError(
            f"training family {training_family!r} is none of the generators "
            f"{', '.join(images.generators)}"
        )
