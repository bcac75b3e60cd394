"""Does a map lie where the trace was planted? The methods' maps, and their intervals."""

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
