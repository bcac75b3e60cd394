"""Optimal ablation: the constants under which a network without some maps changes least.

Li and Janson 2024 (NeurIPS, arXiv 2409.09951), §2: what is lost under the best constant is what
the maps are needed for; what another constant loses beyond that is its own damage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ..data import Batch
from ..data.photos import photograph_names
from ..detectors import Detector
from ..detectors.precision import full_float32
from ..errors import UserError
from ..records import FeatureMap, ImageSet
from ..rng import keyed
from ..sweep import How, Look, PerImage, Rows, Seen, sweep, untold
from .put import put

STEPS = 6  # Gauss–Newton steps, each a pass over the reference
HALVINGS = 4  # of a step that does not help
RIDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # of which two halves of the photographs choose


def learnt(
    detector: Detector,
    images: ImageSet,
    feature_maps: Sequence[FeatureMap],
    start: Mapping[str, Tensor],
    scale: Mapping[str, Tensor],
    how: How,
) -> dict[str, Tensor]:
    """Return constants (width, d) by layer, those of ``feature_maps`` learnt, the others as given.

    Least is mean (L − L₀)² over the images, L the logit with the constants in the maps' place and
    L₀ without, and a ridge on the moves in units of ``scale``, each map's deviation over images.
    How strong a ridge, two halves of the photographs decide, each judged by the other.

    Raises:
        UserError: fewer than four images.
    """
    if len(images) < 4:
        raise UserError(f"{images.root}: optimal constants take at least four images")
    spots = Spots(feature_maps, start)
    spread = np.maximum(spots.of(scale), 1e-6 * (1 + np.abs(spots.of(start))))
    names = photograph_names([entry.path for entry in images])
    folds = _halves(names, how.get("seed", 0))
    plain, _ = _pass(detector, images, spots, None, how)
    point = spots.of(start)
    change, slopes = _pass(detector, images, spots, point, how, plain)
    ridge = _ridge(change, slopes * spread, folds[~np.isnan(plain)])
    origin, at = point.copy(), _objective(change, 0.0, ridge)
    for _ in range(STEPS):
        moved = (point - origin) / spread
        step = _step(change, slopes * spread, moved, ridge)
        for halving in range(HALVINGS):
            tried = point + spread * step * 0.5**halving
            new_change, new_slopes = _pass(detector, images, spots, tried, how, plain)
            new_at = _objective(new_change, float((((tried - origin) / spread) ** 2).sum()), ridge)
            if new_at < at:
                break
        else:
            break
        gained, point, change, slopes, at = at - new_at, tried, new_change, new_slopes, new_at
        if gained < 1e-3 * at:
            break
    return spots.put_into(start, point)


class Spots:
    """Where the numbers of chosen feature maps stand in constants by layer."""

    def __init__(self, feature_maps: Sequence[FeatureMap], like: Mapping[str, Tensor]) -> None:
        self.channels: dict[str, list[int]] = {}
        for one in feature_maps:
            self.channels.setdefault(one.layer, []).append(one.channel)
        self.feature_maps = list(feature_maps)
        self.like = like

    def of(self, constants: Mapping[str, Tensor]) -> np.ndarray:
        """Return the chosen maps' numbers, float64 (K,), layer by layer."""
        parts = [constants[layer][rows].reshape(-1) for layer, rows in self.channels.items()]
        return torch.cat(parts).double().cpu().numpy()

    def put_into(self, constants: Mapping[str, Tensor], numbers: np.ndarray) -> dict[str, Tensor]:
        """Return the constants with the chosen maps' numbers replaced."""
        found, first = dict(constants), 0
        for layer, rows in self.channels.items():
            whole = constants[layer].clone()
            size = whole[rows].numel()
            own = torch.from_numpy(numbers[first : first + size]).to(whole)
            whole[rows] = own.reshape(whole[rows].shape)
            found[layer], first = whole, first + size
        return found

    def rows_of(self, gradients: Mapping[str, Tensor]) -> np.ndarray:
        """Return (N, K) of gradients (N, width, d) by layer."""
        parts = [gradients[layer][:, rows].flatten(1) for layer, rows in self.channels.items()]
        return torch.cat(parts, dim=1).double().cpu().numpy()


class SlopesLook(Look):
    """Logits with constants in the place of maps, and their slopes in these constants."""

    statistic: PerImage

    def __init__(self, detector: Detector, spots: Spots, point: np.ndarray | None) -> None:
        self.spots = spots
        self.constants = None if point is None else spots.put_into(spots.like, point)
        facts = {"maps": list(map(str, spots.feature_maps))}
        if point is not None:
            facts["point"] = point.tolist()
        super().__init__(detector, PerImage(), colours=(), facts=facts)

    @full_float32()
    def observe(self, batch: Batch, seen: Mapping[str, Seen]) -> Rows:
        """Return the logits (N,) and slopes (N, K); without constants the plain logits alone."""
        if self.constants is None:
            return {"logit": self.detector.logits(batch.pixels).double().numpy()}
        pixels = self.detector.normalised(batch.pixels)
        own = {
            layer: self.constants[layer].to(pixels).expand(len(pixels), -1, -1).clone()
            .requires_grad_(True)
            for layer in self.spots.channels
        }  # fmt: skip
        network = self.detector.network
        with torch.enable_grad(), put(network, self.spots.feature_maps, own):
            logits = self.detector.decide(network(pixels).reshape(len(pixels), -1))
            gradients = torch.autograd.grad(logits.sum(), list(own.values()), allow_unused=True)
        known = {
            layer: torch.zeros_like(given) if one is None else one
            for (layer, given), one in zip(own.items(), gradients, strict=True)
        }
        logit = logits.detach().double().cpu().numpy()
        return {"logit": logit, "slopes": self.spots.rows_of(known)}


def _pass(
    detector: Detector,
    images: ImageSet,
    spots: Spots,
    point: np.ndarray | None,
    how: How,
    plain: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return logits, or their change against the plain ones, (N,) and slopes (N, K)."""
    look = SlopesLook(detector, spots, point)
    sweep(images, [look], what="learning constants", **untold(how))
    ids = [images.image_id(entry) for entry in images]
    logits = look.statistic.of(ids, "logit")
    if plain is None:
        return logits, np.zeros((len(logits), 0))
    known = ~np.isnan(plain)
    return (logits - plain)[known], look.statistic.of(ids, "slopes")[known]


def _objective(change: np.ndarray, moved: float, ridge: float) -> float:
    return float((change**2).mean() + ridge * moved / len(change))


def _step(change: np.ndarray, slopes: np.ndarray, moved: np.ndarray, ridge: float) -> np.ndarray:
    """Return the move that is best for the linearised logits, (K,), in units of the spread."""
    normal = slopes.T @ slopes + ridge * np.eye(slopes.shape[1])
    return np.asarray(np.linalg.solve(normal, -(slopes.T @ change) - ridge * moved))


def _ridge(change: np.ndarray, slopes: np.ndarray, folds: np.ndarray) -> float:
    """Return the ridge whose step, learnt on one half, serves the other half best."""
    unit = max(float(change.var() + change.mean() ** 2), 1e-12)
    losses = []
    for ridge in RIDGES:
        loss = 0.0
        for fold in (0, 1):
            own, other = folds != fold, folds == fold
            step = _step(change[own], slopes[own], np.zeros(slopes.shape[1]), ridge * unit)
            loss += float(((change[other] + slopes[other] @ step) ** 2).sum())
        losses.append(loss)
    return RIDGES[int(np.argmin(losses))] * unit


def _halves(names: np.ndarray, seed: int) -> np.ndarray:
    """Return 0 or 1 for each image; crops of one photograph stand together."""
    order = sorted(set(names), key=lambda name: keyed("halves", seed, name).random())
    side = {name: place % 2 for place, name in enumerate(order)}
    return np.array([side[name] for name in names])
