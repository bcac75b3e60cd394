"""Rows of the transfer matrix: what the top maps of every generator are to one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from ..errors import UserError
from ..evaluation import (
    Cluster,
    bootstrap,
    calibrated_threshold,
    change_interval,
    clusters_of,
    sigmoid,
)
from ..fmap_ranking import OmegaStatistic
from ..records import FAKE, REAL, ImageSet
from .effect import effect
from .masks import BASELINE, Mask, baseline
from .tables import generator_rows

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


def pair_rows(
    generator: str,
    images: ImageSet,
    masks: Mapping[str, Sequence[Mask]],
    logits: np.ndarray,
    statistics: Mapping[str, OmegaStatistic],
    cluster: Cluster,
    resamples: int,
    seed: int,
) -> pd.DataFrame:
    """Return the column of one generator B: a row for each generator A that was ranked.

    masks: of each A, its top k and then its draws; logits: (1 + masks, images), the whole network's
    first, in the order of ``masks``.

    Raises:
        UserError: no real or no fake image of B could be used.
    """
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
        low, high = change_interval(
            "ap", -float(top["change_ap"]), drawn[0] - drawn[1 + len(found)], labels, clusters
        )
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
