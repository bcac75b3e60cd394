"""Transfer matrix: feature maps ranked on one generator, dropped on another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Unpack

import numpy as np
import pandas as pd

from ..data import Batch, require_both_classes
from ..detectors.detector import Detector
from ..errors import UserError
from ..evaluation import Cluster
from ..fmap_ranking import OmegaLook, OmegaStatistic
from ..records import FAKE, REAL, ImageEntry, ImageSet, Ranking, Result, Skipped
from ..rng import digest
from ..sweep import How, Rows, sweep
from .agreement import RESAMPLES, agreement_table, transferability_table
from .masks import Mask, layer_matched_random_k, top_k
from .scoring import masked_scores
from .transfer_tables import pair_rows

FEW = 20  # images used: with fewer, one image moves a ranking by much, and that is said


@dataclass(frozen=True, eq=False, repr=False)
class Transfer(Result):
    """What ω of one generator means to another.

    table: one row an ordered pair (``transfer.csv``), columns ``transfer_tables.COLUMNS``:
        ranked_on (A), dropped_on (B); falls in points of 100 against the whole network on the same
        images of B, the interval of AP's by bootstrap of B's photographs or images, as
        ``intervals_over`` says; ``_matched``: the mean over draws of as many random maps of the
        layers of A's top k; accuracies at the threshold that suits the whole network best on B's
        images (published, optimistic) and, ``_05``, at 0.5; effect, what moved, in words.
    agreement: see :func:`agreement_table`. transferability: see :func:`transferability_table`.
    rankings: by generator. notes: what a reader must know: generators that could not be ranked, or
        were on few images. skipped: images that could not be used.
    facts: how ranking and dropping images were told apart, counts, and what decided the numbers.
    """

    table: pd.DataFrame
    agreement: pd.DataFrame
    transferability: pd.DataFrame
    rankings: dict[str, Ranking]
    notes: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    facts: dict[str, object] = field(default_factory=dict)

    def matrix(self, column: str = "fall_ap_points") -> pd.DataFrame:
        """Return one column of the table as a matrix: ranked on A down, dropped on B across."""
        rows = list(dict.fromkeys(self.table["ranked_on"]))
        columns = list(dict.fromkeys(self.table["dropped_on"]))
        return self.table.pivot_table(
            index="ranked_on", columns="dropped_on", values=column, dropna=False
        ).reindex(index=rows, columns=columns)


class _ByGenerator:
    """ω of each generator's fakes, as one mergeable statistic."""

    def __init__(self, of: Mapping[str, OmegaStatistic]) -> None:
        self.of = dict(of)

    def empty(self) -> _ByGenerator:
        return _ByGenerator({name: one.empty() for name, one in self.of.items()})

    def update(self, batch: Batch, rows: Rows) -> None:
        names = [entry.generator for entry in batch.entries]
        for name in dict.fromkeys(names):
            own = [row for row, generator in enumerate(names) if generator == name]
            self.of[name].update(batch.take(own), {key: all_[own] for key, all_ in rows.items()})

    def merge(self, other: _ByGenerator) -> None:
        for name, one in self.of.items():
            one.merge(other.of[name])

    def state(self) -> dict[str, np.ndarray]:
        states = {name: one.state() for name, one in self.of.items()}
        return {
            f"{name}\t{key}": value for name, own in states.items() for key, value in own.items()
        }

    def from_state(self, state: Mapping[str, np.ndarray]) -> _ByGenerator:
        found = {}
        for name, one in self.of.items():
            head = f"{name}\t"
            own = {k.removeprefix(head): v for k, v in state.items() if k.startswith(head)}
            found[name] = one.from_state(own)
        return _ByGenerator(found)

    def result(self) -> dict[str, OmegaStatistic]:
        return self.of


def transfer(
    detector: Detector,
    images: ImageSet,
    k: int,
    *,
    rank_images: ImageSet | None = None,
    min_confidence: float = 0.9,
    composite: str = "beta0",
    draws: int = 5,
    resamples: int = RESAMPLES,
    cluster: Cluster = "photograph",
    training_family: str | None = None,
    **how: Unpack[How],
) -> Transfer:
    """Rank ω on each generator's fakes, drop its top k on every generator, and compare the ranks.

    One pass ranks, one drops. images: generators that each hold reals and fakes.
    rank_images: the set to rank on; its generators are the rows of the matrix. By default
        ``images`` are halved by file name, so that a name is on one side for every generator and
        for real and fake alike: fakes of one half are ranked on, the other half is dropped on.
    k: how many maps are dropped. min_confidence, composite: as for :func:`forensift.rank`.
    draws: of the layer-matched random control of each generator's top k.
    cluster: what the intervals of the falls draw, see :func:`forensift.evaluation.metrics`.
    resamples: of the intervals.
    training_family: the generator that the detector was trained on, which the sentence sets apart.

    Raises:
        UserError: k out of range, a generator without reals or fakes, halves that hold none, no
            generator that could be ranked, or see :func:`forensift.sweep`.
    """
    require_both_classes(images)
    seed = how.get("seed", 0)
    if draws < 0 or resamples < 1:
        raise UserError(f"{draws} draws, {resamples} resamples: at least 0 and 1 are needed")
    if not 1 <= k <= len(detector.feature_maps):
        raise UserError(f"k = {k}: {detector.name} has {len(detector.feature_maps)} feature maps")
    ranked_on, dropped_on = halves(images, seed) if rank_images is None else (rank_images, images)
    look = OmegaLook(detector, FAKE, min_confidence=min_confidence, composite=composite)
    every, missed = _statistics(look, ranked_on, how)
    statistics = {name: one for name, one in every.items() if one.used}
    notes = _notes(ranked_on, every)
    if not statistics:
        raise UserError(f"{ranked_on.root}: no generator could be ranked: {'; '.join(notes)}")
    rankings = {name: one.result() for name, one in statistics.items()}
    masks = _masks(detector, rankings, k, draws, seed)
    sets = [mask.feature_maps for own_masks in masks.values() for mask in own_masks]
    logits, done = masked_scores(detector, dropped_on, [(), *sets], **how)
    parts = [
        pair_rows(generator, dropped_on, masks, logits, statistics, cluster, resamples, seed)
        for generator in dropped_on.generators
    ]
    order = {name: place for place, name in enumerate(rankings)}
    table = pd.concat(parts, ignore_index=True)
    table = table.sort_values("ranked_on", key=lambda names: names.map(order), kind="stable")
    facts: dict[str, object] = {
        "detector": detector.name,
        "k": k,
        "feature_maps": len(detector.feature_maps),
        "ranking_images": "halves of the images" if rank_images is None else "another set",
        "rank_set_sha256": ranked_on.hash(),
        "drop_set_sha256": dropped_on.hash(),
        "used": {name: one.counts for name, one in statistics.items()},
        "min_confidence": min_confidence,
        "composite": look.facts["composite"],
        "draws": draws,
        "resamples": resamples,
        "cluster": cluster,
        "seed": seed,
        "training_family": training_family,
        "notes": notes,
    }
    return Transfer(
        table.reset_index(drop=True),
        agreement_table(statistics, k, resamples=resamples, seed=seed),
        transferability_table(statistics, k),
        rankings,
        tuple(notes),
        (*missed, *done.skipped),
        facts,
    )


def _statistics(
    look: OmegaLook, images: ImageSet, how: How
) -> tuple[dict[str, OmegaStatistic], tuple[Skipped, ...]]:
    """Return ω of each generator's fakes, and the images that could not be used."""
    fakes = images.only(label=FAKE)
    grouped = _ByGenerator({name: look.statistic.empty() for name in fakes.generators})
    look.statistic = grouped  # type: ignore[assignment]
    done = sweep(fakes, [look], what="ranking every generator", **how)
    return grouped.result(), done.skipped


def _notes(images: ImageSet, statistics: Mapping[str, OmegaStatistic]) -> list[str]:
    """Return what a reader must know of each row: why it is missing, or on how little it rests."""
    notes = []
    for name in images.generators:
        one = statistics.get(name)
        if one is None:
            notes.append(f"{name}: no fakes to rank on; its row is missing")
        elif not one.used:
            notes.append(f"{name}: {_why(one)}; its row is missing")
        elif one.used < FEW:
            notes.append(
                f"{name}: ω from {one.used} fakes ({_why(one)}), fewer than {FEW}: read its row "
                "with care"
            )
    return notes


def halves(images: ImageSet, seed: int = 0) -> tuple[ImageSet, ImageSet]:
    """Return two sets that share no file name, of about half the names each, keyed by the name.

    Pairs (a photograph and its fake) and the fakes that several generators made of one photograph
    have one name, so they are on the same side.

    Raises:
        UserError: a half lacks a generator's fakes or, the second, its reals.
    """
    names = sorted(
        {entry.path.name for entry in images}, key=lambda name: digest(seed, "halves", name)
    )
    first = set(names[: len(names) // 2])
    sides: tuple[list[ImageEntry], list[ImageEntry]] = ([], [])
    for entry in images:
        sides[entry.path.name not in first].append(entry)
    one, other = (ImageSet(images.root, tuple(side), images.layout) for side in sides)
    for generator in images.generators:
        lacking = not len(one.only(label=FAKE, generator=generator)) or any(
            not len(other.only(label=label, generator=generator)) for label in (REAL, FAKE)
        )
        if lacking:
            raise UserError(
                f"{images.root}: {generator} holds too few images to halve; give another set to "
                "rank on (rank_images)"
            )
    return one, other


def _masks(
    detector: Detector, rankings: dict[str, Ranking], k: int, draws: int, seed: int
) -> dict[str, list[Mask]]:
    """Return for each generator its top k and the layer-matched draws around it."""
    found = {}
    for generator, ranking in rankings.items():
        first = top_k(ranking, k)
        matched = [
            layer_matched_random_k(detector.feature_maps, first.feature_maps, draw, seed)
            for draw in range(draws)
        ]
        found[generator] = [first, *matched]
    return found


def _why(statistic: OmegaStatistic) -> str:
    left_out = [f"{n} {reason}" for reason, n in statistic.counts.items() if reason != "used" and n]
    return ", ".join(left_out) or "none left out"
