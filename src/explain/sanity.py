"""Does an explanation depend on what the network has learnt? (Adebayo et al. 2018)"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr
from torch import nn

from ..lrp.copies import private_copy

WEIGHTED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def randomised(
    network: nn.Module, share: float, batch: torch.Tensor, seed: int = 0
) -> tuple[nn.Module, int]:
    """Return a private copy whose last layers are random, and how many layers that is.

    share: of the convolutions and linear layers, counted from the output, at least one; 1 is all.
    Weights and biases are drawn from a normal distribution with the layer's own mean and standard
    deviation; the scales and shifts of the BatchNorms from there on are shuffled, and their
    statistics measured anew on ``batch`` (N, 3, H, W), normalised, as activations would otherwise
    vanish or explode and every method would look as if it had noticed.
    """
    twin = private_copy(network)
    modules = [m for m in twin.modules() if isinstance(m, (*WEIGHTED, *NORMS))]
    weighted = [place for place, m in enumerate(modules) if isinstance(m, WEIGHTED)]
    number = max(1, math.ceil(share * len(weighted)))
    redrawn = modules[weighted[-number] :]
    rng = torch.Generator().manual_seed(seed)
    norms = []
    with torch.no_grad():
        for module in redrawn:
            for parameter in module.parameters(recurse=False):
                old = parameter.detach().cpu()
                if isinstance(module, NORMS):
                    new = old[torch.randperm(len(old), generator=rng)]
                elif old.numel() > 1:
                    new = torch.randn(old.shape, generator=rng, dtype=old.dtype)
                    new = new * old.std() + old.mean()
                else:
                    new = old
                parameter.copy_(new)
            if isinstance(module, NORMS) and module.track_running_stats:
                norms.append((module, module.momentum))
                module.momentum = 1.0
                module.train()
        if norms:
            twin(batch)
    for module, momentum in norms:
        module.momentum = momentum
        module.eval()
    return twin, number


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Return Spearman's ρ of the positive parts of two maps (H, W); NaN where one is constant."""
    one, other = np.maximum(one, 0).ravel(), np.maximum(other, 0).ravel()
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return math.nan
    return float(spearmanr(one, other).statistic)


def top_overlap(one: np.ndarray, other: np.ndarray, share: float = 0.05) -> float:
    """Return the Jaccard index of the top ``share`` of two maps' pixels; NaN for a constant map.

    Two unrelated maps have about share / (2 − share): 0.026 at 5 %.
    """
    if np.ptp(np.maximum(one, 0)) == 0 or np.ptp(np.maximum(other, 0)) == 0:
        return math.nan
    count = max(1, round(share * one.size))
    tops = [set(np.argsort(-m, axis=None, kind="stable")[:count].tolist()) for m in (one, other)]
    return len(tops[0] & tops[1]) / len(tops[0] | tops[1])


def structural_similarity(one: np.ndarray, other: np.ndarray) -> float:
    """Return the mean SSIM (Wang et al. 2004) of the positive parts of two maps (H, W).

    Each is divided by its maximum; Gaussian window of 1.5 pixels, range 1. NaN where one is empty.
    """
    x, y = (np.maximum(m, 0).astype(np.float64) for m in (one, other))
    if x.max() == 0 or y.max() == 0:
        return math.nan
    x, y = x / x.max(), y / y.max()
    c1, c2 = 0.01**2, 0.03**2

    def mean(values: np.ndarray) -> np.ndarray:
        return gaussian_filter(values, 1.5, truncate=3.5)

    mx, my = mean(x), mean(y)
    vx, vy, vxy = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    top = (2 * mx * my + c1) * (2 * vxy + c2)
    return float((top / ((mx * mx + my * my + c1) * (vx + vy + c2))).mean())
