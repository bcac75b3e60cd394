"""Does a map lie where the trace was planted? Shares, pointing game, intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from ...detectors.detector import Detector
from ...detectors.precision import full_float32
from ...evaluation import cluster_mean
from ...lrp import LRP
from ...rng import keyed

RESAMPLES = 2000
METHODS = ("lrp", "gradient", "random")
CHUNK = 32


def method_maps(
    detector: Detector,
    pixels: torch.Tensor,
    image_ids: Sequence[str],
    seed: int = 0,
    composite: str = "beta0",
) -> dict[str, np.ndarray]:
    """Return the maps float64 (N, H, W) of METHODS for uint8 images (N, 3, H, W).

    lrp: relevance of the logit by the rules of ``composite``, summed over colour, signed.
    gradient: sum over colour of the absolute gradient of the logit. random: uniform noise, keyed by
    seed and image.
    """
    batch = detector.preset.normalise(pixels.to(detector.device))
    relevance = LRP(detector, composite=composite)
    found: dict[str, list[np.ndarray]] = {"lrp": [], "gradient": []}
    for part in batch.split(CHUNK):
        found["lrp"].append(_arrays(relevance(part, layers=()).pixels))
        leaf = part.clone().requires_grad_(True)
        # Asked for the input's gradient alone, so that the network's parameters get none.
        with full_float32():
            (slope,) = torch.autograd.grad(detector.decide(detector.network(leaf)).sum(), leaf)
        found["gradient"].append(_arrays(slope.abs()))
    maps = {name: np.concatenate(parts) for name, parts in found.items()}
    maps["random"] = np.stack([keyed(seed, one).random(pixels.shape[2:]) for one in image_ids])
    return maps


def in_box(maps: np.ndarray, boxes: np.ndarray) -> pd.DataFrame:
    """Return how much of each map lies in its image's box.

    maps: (N, H, W), signed; boxes: int (N, 4), left, top, right, bottom in pixels.
    In the result, one row a map: share (of the positive values, 0 … 1; NaN without any), hit
    (whether the largest value lies inside: the pointing game), area (the box's share of the map),
    and other_share, other_hit: the same for the box of the next image, which tells a map that
    finds the trace from one that always looks at the same place.
    """
    inside = np.zeros(maps.shape, dtype=bool)
    for mask, (left, top, right, bottom) in zip(inside, boxes, strict=True):
        mask[top:bottom, left:right] = True
    positive = np.maximum(maps, 0)
    total = positive.sum(axis=(1, 2))
    largest = maps.reshape(len(maps), -1).argmax(axis=1)
    rows = np.arange(len(maps))
    table = pd.DataFrame({"area": inside.mean(axis=(1, 2))})
    for prefix, masks in (("", inside), ("other_", np.roll(inside, 1, axis=0))):
        covered = (positive * masks).sum(axis=(1, 2))
        share = np.divide(covered, total, out=np.full(len(maps), np.nan), where=total > 0)
        table[f"{prefix}share"] = share
        table[f"{prefix}hit"] = masks.reshape(len(maps), -1)[rows, largest].astype(float)
    return table


def localisation_table(
    per_image: Mapping[str, pd.DataFrame], clusters: np.ndarray, seed: int = 0
) -> pd.DataFrame:
    """Return one row a method: the means of :func:`in_box` with 95 % intervals.

    per_image: method → table of :func:`in_box`; clusters: the photographs, as its rows.
    """
    rows = []
    for name, table in per_image.items():
        row: dict[str, object] = {"method": name, "images": len(table)}
        row["area"] = table["area"].mean()
        for column in ("share", "hit", "other_share", "other_hit"):
            mean, low, high = cluster_mean(
                table[column].to_numpy(), clusters, resamples=RESAMPLES, seed=seed
            )
            row |= {column: mean, f"{column}_low": low, f"{column}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)


def _arrays(values: torch.Tensor | None) -> np.ndarray:
    assert values is not None
    return values.detach().double().sum(dim=1).cpu().numpy()
