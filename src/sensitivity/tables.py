"""From logits under masks to the tables of ``dropout``: rows, summary, AP(k) curve."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from ..errors import UserError
from ..evaluation import (
    MACRO,
    accuracies,
    average_precision,
    calibrated_threshold,
    permutation_p,
    sequential_p,
    sigmoid,
)
from ..records import FAKE, REAL, FeatureMap, ImageSet
from .effect import effect
from .masks import BASELINE, ENSEMBLE, LAYER_MATCHED, MAGNITUDE_MATCHED, RANDOM, TOP, Mask

UNSEEN = "macro mean, unseen"  # all generators but the one the detector was trained on
CONTROLS = (RANDOM, LAYER_MATCHED, MAGNITUDE_MATCHED)
ENSEMBLE_DRAWS = 5  # as published
FALLS = ("fall_ap", "fake_evidence", "separation")  # what top maps are compared in
TRAINING_THRESHOLD = 0.5  # of the family that the detector was trained on, as published

COLUMNS = (
    "generator",
    "mask",
    "draw",
    "k",
    "ap",
    "real_accuracy",
    "fake_accuracy",
    "threshold",
    "mean_logit_real",
    "mean_logit_fake",
    "threshold_rule",
    "accuracy",
    "accuracy_05",
    "real_accuracy_05",
    "fake_accuracy_05",
    "held_out_threshold",
    "real_accuracy_held_out",
    "fake_accuracy_held_out",
    "change_ap",
    "change_mean_logit_real",
    "change_mean_logit_fake",
    "n_real",
    "n_fake",
    "n_maps",
    "shared_with_top_k",
)
AVERAGED = (
    "ap",
    "accuracy",
    "real_accuracy",
    "fake_accuracy",
    "accuracy_05",
    "real_accuracy_05",
    "fake_accuracy_05",
    "real_accuracy_held_out",
    "fake_accuracy_held_out",
    "mean_logit_real",
    "mean_logit_fake",
    "change_ap",
    "change_mean_logit_real",
    "change_mean_logit_fake",
)
SPREAD = (
    "ap",
    "real_accuracy",
    "fake_accuracy",
    "change_mean_logit_real",
    "change_mean_logit_fake",
)


def generator_rows(
    generator: str,
    labels: np.ndarray,
    logits: np.ndarray,
    masks: Sequence[Mask],
    threshold: float,
    threshold_rule: str,
    held_out_threshold: float = float("nan"),
    *,
    ensemble: bool = True,
) -> pd.DataFrame:
    """Return the rows of one generator, columns COLUMNS: one a mask and draw, and the ensemble.

    labels: (N,); logits: (masks, N), finite; ``masks`` starts with the baseline.
    AP and accuracies are those of sigmoid scores, fractions of 1; changes are masked − baseline.
    """
    if masks[0].name != BASELINE:
        raise ValueError("the first mask must be the baseline")
    n_real, n_fake = int((labels == 0).sum()), int((labels == 1).sum())
    rows: list[dict[str, object]] = []

    def add(mask: Mask, name: str, draw: int, scores: np.ndarray, own: np.ndarray) -> None:
        calibrated = accuracies(labels, scores, threshold)
        half = accuracies(labels, scores, 0.5)
        row: dict[str, object] = dict.fromkeys(COLUMNS, np.nan)
        row |= {
            "generator": generator,
            "mask": name,
            "draw": draw,
            "k": mask.k,
            "ap": average_precision(labels, scores),
            "real_accuracy": calibrated.real_accuracy,
            "fake_accuracy": calibrated.fake_accuracy,
            "threshold": threshold,
            "mean_logit_real": own[..., labels == 0].mean(),
            "mean_logit_fake": own[..., labels == 1].mean(),
            "threshold_rule": threshold_rule,
            "accuracy": calibrated.accuracy,
            "accuracy_05": half.accuracy,
            "real_accuracy_05": half.real_accuracy,
            "fake_accuracy_05": half.fake_accuracy,
            "held_out_threshold": held_out_threshold,
            "n_real": n_real,
            "n_fake": n_fake,
            "n_maps": len(mask.feature_maps),
            "shared_with_top_k": mask.shared_with_top_k,
        }
        if np.isfinite(held_out_threshold):
            held_out = accuracies(labels, scores, held_out_threshold)
            row["real_accuracy_held_out"] = held_out.real_accuracy
            row["fake_accuracy_held_out"] = held_out.fake_accuracy
        rows.append(row)

    for mask, own in zip(masks, logits, strict=True):
        add(mask, mask.name, mask.draw, sigmoid(own), own)
    drawn = [i for i, mask in enumerate(masks) if mask.name == RANDOM][:ENSEMBLE_DRAWS]
    if drawn and ensemble:
        # The published random-k: one AP of the scores averaged over five draws.
        add(masks[drawn[0]], ENSEMBLE, 0, sigmoid(logits[drawn]).mean(axis=0), logits[drawn])
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    for column in ("ap", "mean_logit_real", "mean_logit_fake"):
        table[f"change_{column}"] = table[column] - table[column].iloc[0]
    return table


def rows_of(
    images: ImageSet,
    masks: Sequence[Mask],
    logits: np.ndarray,
    training_family: str | None,
    held_out_threshold: float = float("nan"),
    *,
    ensemble: bool = True,
) -> pd.DataFrame:
    """Return the rows of all generators, see :func:`generator_rows`; logits: (masks, images).

    Raises:
        UserError: no real or no fake image of a generator could be used.
    """
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


def macros(generators: Iterable[str], training_family: str | None) -> dict[str, list[str]]:
    """Return the generators that each macro mean is taken over; a single generator has none."""
    names = list(generators)
    groups = {MACRO: names} if len(names) > 1 else {}
    unseen = [name for name in names if name != training_family]
    if training_family in names and unseen:
        groups[UNSEEN] = unseen
    return groups


def with_macro(table: pd.DataFrame, training_family: str | None = None) -> pd.DataFrame:
    """Return the table with the mean over generators of every mask and draw below it.

    'macro mean' weighs all generators alike; 'macro mean, unseen' leaves the training family out
    (only where it is named and others are there). A single generator gets no macro mean.
    """
    groups = macros(dict.fromkeys(table["generator"]), training_family)
    keys = ["mask", "draw", "k"]
    parts = [table]
    for name, members in groups.items():
        chosen = table[table["generator"].isin(members)]
        mean = chosen.groupby(keys, sort=False)[list(AVERAGED)].mean().reset_index()
        parts.append(mean.assign(generator=name))
    return pd.concat(parts, ignore_index=True)


def spoken_of(generators: Iterable[str]) -> str:
    """Return the most general row there is: unseen generators, else all, else the first."""
    names = list(dict.fromkeys(generators))
    return next((name for name in (UNSEEN, MACRO) if name in names), names[0])


def summarise(
    table: pd.DataFrame, training_family: str | None = None, most: int | None = None
) -> pd.DataFrame:
    """Return one row a generator and mask: means over draws, spread, effect and p-values.

    table: columns COLUMNS. In the result: draws; the mean of every number; ``_sd`` (n − 1),
    ``_min`` and ``_max`` over draws of AP, accuracies and logit changes; ``fall_ap_points``, the
    fall of AP against the baseline in points of 100; ``effect``, what moved, in words.
    In the rows of the random controls, the permutation p-value of the top k against their
    draws: ``p_fall_ap``; ``p_fake_evidence`` (fall of the fakes' mean logit); ``p_separation``
    (fall of the fakes' minus fall of the reals' mean logit). All are one-sided: is the top k's
    fall larger than that of random maps?
    most: of draws that were made until their answer was clear; see
        :func:`forensift.evaluation.sequential_p`.
    """
    whole = with_macro(table, training_family)
    rows = []
    for generator, own in whole.groupby("generator", sort=False):
        base = own[own["mask"] == BASELINE].iloc[0]
        top = own[own["mask"] == TOP]
        for mask, drawn in own.groupby("mask", sort=False):
            row: dict[str, object] = {"generator": generator, "mask": mask}
            row |= {"k": int(drawn["k"].iloc[0]), "draws": len(drawn)}
            row |= {name: drawn[name].mean() for name in AVERAGED}
            for name in SPREAD:
                row[f"{name}_sd"] = drawn[name].std(ddof=1) if len(drawn) > 1 else np.nan
                row[f"{name}_min"], row[f"{name}_max"] = drawn[name].min(), drawn[name].max()
            row["fall_ap_points"] = -100 * drawn["change_ap"].mean()
            row["effect"] = effect(
                float(base["mean_logit_fake"] - base["mean_logit_real"]),
                float(drawn["change_mean_logit_real"].mean()),
                float(drawn["change_mean_logit_fake"].mean()),
            )
            for name, values in falls(drawn).items():
                row[f"p_{name}"] = np.nan
                if mask in CONTROLS and len(top):
                    observed = falls(top)[name][0]
                    p = sequential_p(observed, values, most) if most else None
                    row[f"p_{name}"] = permutation_p(observed, values) if p is None else p
            rows.append(row)
    return pd.DataFrame(rows)


def curve_table(table: pd.DataFrame, training_family: str | None = None) -> pd.DataFrame:
    """Return AP(k): generator, mask, k, draws, means over draws, and lowest and highest AP.

    table: columns COLUMNS with rows of several k. The baseline is the row k = 0.
    """
    whole = with_macro(table, training_family)
    grouped = whole.groupby(["generator", "mask", "k"], sort=False)
    found = grouped[list(AVERAGED)].mean()
    found.insert(0, "draws", grouped.size())
    found.insert(2, "ap_low", grouped["ap"].min())
    found.insert(3, "ap_high", grouped["ap"].max())
    return found.reset_index()


def dropped_table(masks: Sequence[Mask], omega: Mapping[FeatureMap, float]) -> pd.DataFrame:
    """Return which feature maps each mask held, one a row, with its ω (NaN if unranked)."""
    rows = [
        (mask.name, mask.draw, mask.k, str(one), one.layer, one.channel, omega.get(one, np.nan))
        for mask in masks
        for one in mask.feature_maps
    ]
    names = ["mask", "draw", "k", "feature_map", "layer", "channel", "omega"]
    return pd.DataFrame(rows, columns=names)


def falls(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return what the top maps are compared in (``FALLS``), a number a row."""
    fake = -rows["change_mean_logit_fake"].to_numpy()
    real = -rows["change_mean_logit_real"].to_numpy()
    return dict(zip(FALLS, (-rows["change_ap"].to_numpy(), fake, fake - real), strict=True))
