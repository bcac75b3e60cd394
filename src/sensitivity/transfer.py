"""Transfer matrix: feature maps ranked on one generator, dropped on another."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from ..data import check_skipped, require_both_classes
from ..detectors.detector import Detector
from ..errors import UserError
from ..evaluation import (
    Cluster,
    bootstrap,
    calibrated_threshold,
    change_interval,
    clusters_of,
    sigmoid,
)
from ..fmap_ranking import OmegaStatistic, Start, rank
from ..records import FAKE, REAL, ImageEntry, ImageSet, Ranking, Skipped
from ..rng import digest
from ..sweep import Progress
from .agreement import RESAMPLES, agreement_table, transferability_table
from .effect import effect
from .masks import BASELINE, Mask, baseline, layer_matched_random_k, top_k
from .scoring import masked_scores
from .tables import generator_rows

FEW = 20  # images used: with fewer, one image moves a ranking by much, and that is said

COLUMNS = (
    "ranked_on",
    "dropped_on",
    "k",
    "ap",
    "baseline_ap",
    "fall_ap_points",
    "fall_ap_points_low",
    "fall_ap_points_high",
    "fall_ap_points_matched",
    "fall_real_accuracy_points",
    "fall_fake_accuracy_points",
    "fall_real_accuracy_05_points",
    "fall_fake_accuracy_05_points",
    "change_mean_logit_real",
    "change_mean_logit_fake",
    "change_mean_logit_real_matched",
    "change_mean_logit_fake_matched",
    "effect",
    "threshold",
    "n_real",
    "n_fake",
    "images_ranked_on",
    "intervals_over",
)


@dataclass(frozen=True)
class Transfer:
    """What ω of one generator means to another.

    table: one row an ordered pair (``transfer.csv``), columns COLUMNS: ranked_on (A), dropped_on
        (B); falls in points of 100 against the whole network on the same images of B, the interval
        of AP's by bootstrap of B's photographs or images, as ``intervals_over`` says; ``_matched``:
        the mean over draws of as many random maps of the layers of A's top k; accuracies at the
        threshold that suits the whole network best on B's images (published, optimistic) and,
        ``_05``, at 0.5; effect, what moved, in words.
    agreement: see :func:`agreement_table`. transferability: see :func:`transferability_table`.
    rankings: by generator. notes: what a reader must know: generators that could not be ranked, or
        were on few images. skipped: images that could not be read.
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


def transfer(
    detector: Detector,
    images: ImageSet,
    k: int,
    *,
    rank_images: ImageSet | None = None,
    min_confidence: float = 0.9,
    start: Start = "predicted",
    draws: int = 5,
    resamples: int = RESAMPLES,
    few: int = FEW,
    cluster: Cluster = "photograph",
    batch_size: int = 16,
    seed: int = 0,
    max_skipped: float = 0.01,
    skipped: list[Skipped] | None = None,
    progress: Progress | None = None,
) -> Transfer:
    """Rank ω on each generator's fakes, drop its top k on every generator, and compare the ranks.

    images: generators that each hold reals and fakes.
    rank_images: the set to rank on; its generators are the rows of the matrix. By default
        ``images`` are halved by file name, so that a name is on one side for every generator and
        for real and fake alike: fakes of one half are ranked on, the other half is dropped on.
    k: how many maps are dropped. min_confidence, start: as for :func:`forensift.rank`.
    draws: of the layer-matched random control of each generator's top k.
    cluster: what the intervals of the falls draw, see :func:`forensift.evaluation.metrics`.
    resamples: of the intervals. few: below this number of images used, a note says so.
    progress: called with numbers of images, ranked and then scored.

    Dropping decodes each image once, for all masks; equal masks are scored once.

    Raises:
        UserError: k out of range, a generator without reals or fakes, halves that hold none, too
            many unreadable images, or no generator that could be ranked.
    """
    require_both_classes(images)
    if draws < 0 or resamples < 1:
        raise UserError(f"{draws} draws, {resamples} resamples: at least 0 and 1 are needed")
    if not 1 <= k <= len(detector.feature_maps):
        raise UserError(f"k = {k}: {detector.name} has {len(detector.feature_maps)} feature maps")
    halved = rank_images is None
    ranked_on, dropped_on = halves(images, seed) if rank_images is None else (rank_images, images)
    missed: list[Skipped] = []
    statistics: dict[str, OmegaStatistic] = {}
    rankings: dict[str, Ranking] = {}
    notes: list[str] = []
    for generator in ranked_on.generators:
        own = ranked_on.only(label=FAKE, generator=generator)
        if not len(own):
            notes.append(f"{generator}: no fakes to rank on; its row is missing")
            continue
        kept: list[OmegaStatistic] = []
        try:
            rankings[generator] = rank(
                detector, own, start=start, min_confidence=min_confidence, batch_size=batch_size,
                seed=seed, max_skipped=max_skipped, skipped=missed, progress=progress, keep=kept,
            )  # fmt: skip
        except UserError:
            if not kept:  # not for want of confident images
                raise
            notes.append(f"{generator}: {_why(kept[0])}; its row is missing")
            continue
        statistics[generator] = kept[0]
        if kept[0].used < few:
            notes.append(
                f"{generator}: ω from {kept[0].used} fakes ({_why(kept[0])}), fewer than {few}: "
                "read its row with care"
            )
    if not rankings:
        raise UserError(f"{ranked_on.root}: no generator could be ranked: {'; '.join(notes)}")
    masks = _masks(detector, rankings, k, draws, seed)
    every = [mask for own_masks in masks.values() for mask in own_masks]
    logits = masked_scores(
        detector, dropped_on, [(), *(mask.feature_maps for mask in every)],
        batch_size=batch_size, seed=seed, skipped=missed, progress=progress,
    )  # fmt: skip
    if skipped is not None:
        skipped.extend(missed)
    check_skipped(missed, len(dropped_on) + len(ranked_on), max_skipped)
    table = pd.concat(
        [
            _rows(generator, dropped_on, masks, logits, statistics, cluster, resamples, seed)
            for generator in dropped_on.generators
        ],
        ignore_index=True,
    )
    order = {name: place for place, name in enumerate(rankings)}
    table = table.sort_values("ranked_on", key=lambda names: names.map(order), kind="stable")
    facts: dict[str, object] = {
        "k": k,
        "feature_maps": len(detector.feature_maps),
        "ranking_images": "halves of the images, by file name" if halved else "another set",
        "rank_set_sha256": ranked_on.hash(),
        "drop_set_sha256": dropped_on.hash(),
        "used": {name: one.counts for name, one in statistics.items()},
        "min_confidence": min_confidence,
        "start": start,
        "draws": draws,
        "resamples": resamples,
        "cluster": cluster,
        "seed": seed,
        "notes": notes,
    }
    return Transfer(
        table.reset_index(drop=True),
        agreement_table(statistics, k, resamples=resamples, seed=seed),
        transferability_table(statistics, k),
        rankings,
        tuple(notes),
        tuple(missed),
        facts,
    )


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


def _rows(
    generator: str,
    images: ImageSet,
    masks: dict[str, list[Mask]],
    logits: np.ndarray,
    statistics: dict[str, OmegaStatistic],
    cluster: Cluster,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """Return the column of one generator B: a row for each generator A that was ranked."""
    labels = np.array([entry.label for entry in images])
    names = np.array([entry.generator for entry in images], dtype=object)
    chosen = (names == generator) & ~np.isnan(logits[0])
    for label, kind in ((REAL, "real"), (FAKE, "fake")):
        if not (labels[chosen] == label).any():
            raise UserError(f"generator {generator}: no {kind} image could be read")
    own_images = pd.DataFrame(
        [(images.image_id(images.entries[at]), images.entries[at].class_name)
         for at in np.flatnonzero(chosen)],
        columns=["path", "class"],
    )  # fmt: skip
    clusters, over = clusters_of(own_images, cluster)
    labels, logits = labels[chosen], logits[:, chosen]
    threshold = calibrated_threshold(labels, sigmoid(logits[0]))
    # The same images are drawn for all masks, so that what they share cancels.
    tops = np.cumsum([1, *(len(own) for own in masks.values())])[:-1]
    drawn = bootstrap(
        labels, sigmoid(logits[[0, *tops]]), resamples=5 * resamples, seed=seed, key=generator,
        clusters=clusters,
    )["ap"]  # fmt: skip
    found: list[dict[str, object]] = []
    place = 1
    for ranked_on, own in masks.items():
        rows = np.arange(place, place + len(own))
        place += len(own)
        named = [baseline(), *(replace(mask, draw=at) for at, mask in enumerate(own))]
        table = generator_rows(
            generator, labels, logits[[0, *rows]], named, threshold, "calibrated", ensemble=False
        )
        base = table[table["mask"] == BASELINE].iloc[0]
        top, matched = table.iloc[1], table.iloc[2:]
        low, high = change_interval("ap", drawn[0] - drawn[1 + len(found)], labels, clusters)
        row: dict[str, object] = {
            "ranked_on": ranked_on,
            "dropped_on": generator,
            "k": int(top["k"]),
            "ap": top["ap"],
            "baseline_ap": base["ap"],
            "fall_ap_points": -100 * top["change_ap"],
            "fall_ap_points_low": 100 * low,
            "fall_ap_points_high": 100 * high,
            "fall_ap_points_matched": -100 * matched["change_ap"].mean(),
        }
        for key in ("real_accuracy", "fake_accuracy", "real_accuracy_05", "fake_accuracy_05"):
            row[f"fall_{key}_points"] = 100 * (base[key] - top[key])
        for key in ("change_mean_logit_real", "change_mean_logit_fake"):
            row[key], row[f"{key}_matched"] = top[key], matched[key].mean()
        row["effect"] = effect(
            float(base["mean_logit_fake"] - base["mean_logit_real"]),
            float(top["change_mean_logit_real"]),
            float(top["change_mean_logit_fake"]),
        )
        row |= {key: top[key] for key in ("threshold", "n_real", "n_fake")}
        row["images_ranked_on"] = statistics[ranked_on].used
        row["intervals_over"] = over
        found.append(row)
    return pd.DataFrame(found)[list(COLUMNS)]


def _why(statistic: OmegaStatistic) -> str:
    left_out = [f"{n} {reason}" for reason, n in statistic.counts.items() if reason != "used" and n]
    return ", ".join(left_out) or "none left out"
