"""Kernel densities of spatial maxima: what the published histograms draw."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import gaussian_kde

from .maxima import Maxima

POINTS = 200
CUT = 3  # bandwidths that a curve reaches beyond the outermost values
NO_SPREAD = 1e-5  # of a map's largest value in any mode: float32 rounding, and no density


def densities(found: Maxima) -> pd.DataFrame:
    """Return Gaussian kernel densities (Scott's bandwidth, as seaborn draws them).

    Columns generator, feature_map, mode, x (activation), density (1 / activation): 200 rows a
    curve. Where all maxima are equal (to 1e-5 of the map's largest) there is no density: one row,
    with their median and NaN.
    """
    generators = np.array([entry.generator for entry in found.images], dtype=object)
    names, curves = [], []
    for generator in found.images.generators:
        values = found.maxima[generators == generator].astype(np.float64)
        for column, feature_map in enumerate(found.feature_maps):
            scale = float(np.abs(values[:, :, column]).max())
            for place, mode in enumerate(found.modes):
                names.append((generator, str(feature_map), mode))
                curves.append(density(values[:, place, column], scale))
    heads = pd.DataFrame(names, columns=["generator", "feature_map", "mode"])
    table = heads.loc[heads.index.repeat([len(x) for x, _ in curves])].reset_index(drop=True)
    x, y = (np.concatenate(one) for one in zip(*curves, strict=True))
    return table.assign(x=x, density=y)


def density(sample: np.ndarray, scale: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return where and how dense one sample (N,) is; one point and NaN if it has no spread.

    scale: the size of values that a spread is small against, if the sample's own are smaller.
    """
    scale = max(scale, float(np.abs(sample).max()))
    if len(sample) < 2 or float(np.std(sample)) <= NO_SPREAD * scale:
        return np.array([np.median(sample)]), np.array([np.nan])
    kernel = gaussian_kde(sample)
    reach = CUT * float(np.sqrt(kernel.covariance[0, 0]))
    x = np.linspace(sample.min() - reach, sample.max() + reach, POINTS)
    return x, kernel(x)
