"""What is measured on one planted trace: k, dropout, colour, localisation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from ...data.colour import recolour
from ...data.conditions import CLEAN
from ...data.photos import photograph_names
from ...detectors.detector import Detector
from ...errors import UserError
from ...evaluation import average_precision, bootstrap, metric_interval, sigmoid
from ...explain.localisation import in_box
from ...fmap_ranking import top
from ...histograms import median_test
from ...records import FAKE, REAL, ImageSet, Ranking
from ...sensitivity import BASELINE, LAYER_MATCHED, RANDOM, TOP, dropout
from ...sensitivity.scoring import masked_scores
from ...sweep import PixelLook, sweep
from .localisation import METHODS, localisation_table, method_maps

AIMS = ("decision", "order")  # what dropping k maps is to remove; see choice_of_k
BATCH = 64
BLIND = 0.05  # accuracy on fakes at or below which the detection counts as removed
SPARED = 0.05  # what the accuracy on reals may lose meanwhile
MIXED = 0.5  # AP at or below which the logits' order counts as lost: chance


def along_k(detector: Detector, images: ImageSet, ranking: Ranking) -> pd.DataFrame:
    """Return k, ap, real_accuracy, fake_accuracy (at 0.5) without the top k maps.

    k = 0 is the whole detector; the last k is half of the maps.
    """
    ks = list(range(1, len(detector.feature_maps) // 2 + 1))
    masks = [[], *(top(ranking, k) for k in ks)]
    logits, _ = masked_scores(detector, images, masks, batch_size=BATCH)
    labels = np.array([entry.label for entry in images])
    return pd.DataFrame(
        {
            "k": [0, *ks],
            "ap": [average_precision(labels, sigmoid(row)) for row in logits],
            "real_accuracy": (logits[:, labels == REAL] <= 0).mean(axis=1),
            "fake_accuracy": (logits[:, labels == FAKE] > 0).mean(axis=1),
        }
    )


def choice_of_k(table: pd.DataFrame) -> dict[str, int]:
    """Return k for each of AIMS from what :func:`along_k` gave on validation images.

    Both are among the k that cost the reals at most 5 points of accuracy (among all where none is
    of that kind). 'decision' is the smallest that leaves at most 5 % of the fakes found; 'order'
    the smallest that brings AP to chance as well, so that not even the order of the logits tells
    the classes apart. Where no k does, the one with the lowest accuracy on fakes, or AP, is taken.
    """
    spared = table["real_accuracy"] >= table["real_accuracy"].iloc[0] - SPARED
    allowed = table[spared & (table["k"] > 0)]
    allowed = allowed if len(allowed) else table[1:]
    blind = allowed[allowed["fake_accuracy"] <= BLIND]
    mixed = blind[blind["ap"] <= MIXED]
    return {
        "decision": int(table.loc[_first_or(blind, allowed["fake_accuracy"]), "k"]),
        "order": int(table.loc[_first_or(mixed, allowed["ap"]), "k"]),
    }


def _first_or(found: pd.DataFrame, otherwise: pd.Series) -> int:
    return int(found.index[0] if len(found) else otherwise.idxmin())


def dropped(
    detector: Detector, images: ImageSet, ranking: Ranking, k: int, draws: int, seed: int
) -> pd.DataFrame:
    """Return one row a mask: k, draws, AP, accuracies at 0.5, logits; controls as their means."""
    generator = images.generators[0]
    result = dropout(
        detector, images, ranking, k, draws=draws, ks=(), training_family=generator,
        batch_size=BATCH, seed=seed,
    )  # fmt: skip
    summary = result.summary.set_index("mask")
    labels = np.array([entry.label for entry in images])
    clusters = photograph_names(entry.path for entry in images)
    rows = []
    for mask in (BASELINE, TOP, RANDOM, LAYER_MATCHED):
        own = summary.loc[mask]
        row: dict[str, object] = {"mask": mask, "k": int(own["k"]), "draws": int(own["draws"])}
        names = ("ap", "real_accuracy", "fake_accuracy")
        row |= {name: own[name] for name in names}
        for key in ("mean_logit_real", "mean_logit_fake"):
            row[key] = own[key]
        single = mask in (BASELINE, TOP)
        drawn = {}
        if single:
            at = next(i for i, one in enumerate(result.masks) if one.name == mask)
            drawn = bootstrap(labels, sigmoid(result.logits[at]), seed=seed, clusters=clusters)
        for name in names:
            # One mask: over photographs. Random masks: over draws, lowest and highest.
            low, high = (
                metric_interval(name, own[name], drawn[name], labels, clusters)
                if single
                else (own[f"{name}_min"], own[f"{name}_max"])
            )
            row |= {f"{name}_low": low, f"{name}_high": high}
        row["effect"] = "" if mask == BASELINE else own["effect"]
        row["p_fake_evidence"] = own["p_fake_evidence"]
        rows.append(row)
    return pd.DataFrame(rows)


def colour_tests(
    detector: Detector, images: ImageSet, ranking: Ranking, k: int, seed: int
) -> pd.DataFrame:
    """Return the median test on the fakes and, as its control, on their twins without a trace."""
    fakes = images.only(label=FAKE)
    # The same crops before planting; called fakes because the test looks at no others.
    reals = tuple(replace(entry, label=FAKE) for entry in images.only(label=REAL))
    parts = []
    for name, chosen in (("fakes", fakes), ("twins", ImageSet(images.root, reals))):
        found = median_test(detector, chosen, ranking, k, batch_size=BATCH, seed=seed)
        parts.append(found.table.assign(images=name))
    return pd.concat(parts, ignore_index=True)


def localised(
    detector: Detector, images: ImageSet, truth: pd.DataFrame, seed: int, composite: str = "beta0"
) -> tuple[dict[str, np.ndarray], pd.DataFrame]:
    """Return the maps of the fakes by method, and how much of them lies in the boxes."""
    fakes = images.only(label=FAKE)
    ids = [images.image_id(entry) for entry in fakes]
    pixels = load_pixels(fakes, detector)
    maps = method_maps(detector, pixels, ids, seed, composite)
    boxes = truth.loc[ids, ["left", "top", "right", "bottom"]].to_numpy()
    per_image = {name: in_box(maps[name], boxes) for name in METHODS}
    return maps, localisation_table(per_image, photograph_names(ids), seed)


def load_pixels(images: ImageSet, detector: Detector, mode: str = "rgb") -> torch.Tensor:
    """Return a set of images of one size, uint8 (N, 3, H, W), in the set's order.

    Raises:
        UserError: the images differ in size, or one cannot be read.
    """
    look = PixelLook(detector)
    sweep(images, [look], what="reading", max_skipped=0.0, batch_size=BATCH)
    found = [look.statistic.rows[CLEAN, images.image_id(entry)]["pixels"] for entry in images]
    if len({one.shape for one in found}) != 1:
        raise UserError(f"{images.root}: images of several sizes")
    return recolour(torch.from_numpy(np.stack(found)), mode)
