"""Which inputs of the last layer to leave out: by regions of an image, or greedily.

DEAR (Kim et al. 2026, arXiv 2606.10309) scores the channels that the last layer pools by their
regional activation discrepancy, and prunes both ends. Gaintseva et al. (2024, arXiv 2406.15035)
remove components of the embedding one by one while that helps on other generators' images.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..ablation import Pairs, pairs_of, pixels_of
from ..data import Batch
from ..detectors import Detector, head, observed
from ..errors import UserError
from ..fmap_ranking.rad import inside_outside, region
from ..records import FAKE, ImageEntry, ImageSet
from ..rng import keyed
from ..sweep import How, Look, Rows, Seen, SignedSum, sweep
from .heads import Scaled, check, folds_of, regression_of

DEAR = {"dear-corvi": 0.6, "dear-rajan": 0.4}  # published: the share that is kept, the middle
JUDGED = 4096  # images at most that greedy removal is judged on
GAIN = 1e-5  # nats: what a removal must gain to go on


def extremes(scores: np.ndarray, kept: float) -> np.ndarray:
    """Return the places of both ends of ``scores`` (D,) that leave the middle share ``kept``.

    As many from each end, rounded down (as published), the highest first.
    """
    number = int(len(scores) * (1 - kept) / 2 + 1e-9)
    order = np.argsort(-scores, kind="stable")
    return np.concatenate([order[:number], order[len(order) - number :][::-1]])


def regional(detector: Detector, images: ImageSet, how: How) -> tuple[np.ndarray, int]:
    """Return the regional activation discrepancy (D,) of what the last layer pools, and the pairs.

    Mean of a channel inside a region less its mean outside, where the region of a photograph holds
    its fake's pixels; mean over the pairs. Published are regions inpainted by Stable Diffusion 1.5;
    here they come from the fakes that the set pairs with its photographs.

    Raises:
        UserError: no pairs, or the last layer's input is no mean of maps.
    """
    pairs = pairs_of(images)
    if not pairs:
        raise UserError(
            f"{images.root}: no fake has its photograph beside it (a real of the same generator "
            "with the same file name), so that no image holds pixels of both; take method ranking"
        )
    look = RegionalLook(detector, images, pairs, how.get("seed", 0))
    sweep(images, [look], what="regions", **how)
    return look.statistic.result(), look.statistic.total.count


class RegionalLook(Look):
    """The difference of each pooled channel inside and outside a region that is a fake's."""

    statistic: _Mean

    def __init__(self, detector: Detector, images: ImageSet, pairs: Pairs, seed: int) -> None:
        self.images, self.pairs, self.seed = images, pairs, seed
        first = next(entry for entry in images if images.image_id(entry) in pairs)
        pixels = pixels_of(detector, images, [first], seed)
        self.pooled, width = pooled_by(detector, pixels)
        super().__init__(detector, _Mean(width), colours=(), facts={"maps": self.pooled})
        self.alone = True  # equal bytes have regions of their own

    def wants(self, entry: ImageEntry) -> bool:
        """Say whether the image is a fake with a photograph."""
        return entry.label == FAKE and self.images.image_id(entry) in self.pairs

    def observe(self, batch: Batch, seen: Mapping[str, Seen]) -> Rows:
        """Return differences (N, D); those of images that do not count are not used."""
        rows = [place for place, one in enumerate(batch.ids) if one in self.pairs]
        found = np.zeros((len(batch), self.statistic.width))
        if not rows:
            return {"difference": found}
        fakes = batch.pixels[rows]
        entries = [self.pairs[batch.ids[row]] for row in rows]
        photographs = pixels_of(self.detector, self.images, entries, self.seed)
        if photographs.shape != fakes.shape:
            raise UserError(f"{entries[0].path}: another size than its fake's; take a preset that "
                            "crops")  # fmt: skip
        height, width = fakes.shape[2:]
        regions = torch.stack([region(batch.ids[row], height, width, self.seed) for row in rows])[
            :, None
        ]
        mixed = torch.where(regions, fakes, photographs)
        name, inputs = self.pooled
        with observed(self.detector.network, [name], _kept, inputs=inputs) as last:
            self.detector.outputs(mixed)
        found[rows] = inside_outside(last[name], regions).numpy()
        return {"difference": found}


class _Mean:
    """The mean of rows (N, width), mergeable and exact."""

    def __init__(self, width: int) -> None:
        self.width, self.total = width, SignedSum((width,))

    def empty(self) -> _Mean:
        return _Mean(self.width)

    def update(self, batch: Batch, rows: Rows) -> None:
        self.total.add(rows["difference"])

    def merge(self, other: _Mean) -> None:
        self.total.merge(other.total)

    def state(self) -> dict[str, np.ndarray]:
        return {"total": self.total.state(), "count": np.array(self.total.count)}

    def from_state(self, state: Mapping[str, np.ndarray]) -> _Mean:
        found = self.empty()
        found.total = self.total.from_state(state["total"], int(state["count"]))
        return found

    def result(self) -> np.ndarray:
        return self.total.value() / max(1, self.total.count)


def pooled_by(detector: Detector, pixels: Tensor) -> tuple[tuple[str, bool], int]:
    """Return the module whose maps' mean is the last layer's input, whether they enter it, and D.

    pixels: uint8 (1, 3, H, W), sent through the network.

    Raises:
        UserError: there is none: the last layer reads something else.
    """
    network = detector.network
    last = head(network)
    seen: list[tuple[str, bool, Tensor]] = []
    calls: dict[str, int] = {}

    def means(value: Any) -> Tensor | None:
        maps = isinstance(value, Tensor) and value.dim() == 4
        return value.detach().double().mean(dim=(2, 3)) if maps else None

    def hook(name: str) -> Any:
        def after(module: nn.Module, args: Any, output: Any) -> None:
            calls[name] = calls.get(name, 0) + 1
            for inputs, value in ((True, args[0] if args else None), (False, output)):
                found = means(value)
                if found is not None:
                    seen.append((name, inputs, found))

        return after

    with ExitStack() as hooks:
        for name, module in network.named_modules():
            if name:
                hooks.callback(module.register_forward_hook(hook(name)).remove)
        kept = hooks.enter_context(observed(network, [last], _kept, inputs=True))
        detector.outputs(pixels)
    wanted = kept[last].double().flatten(1)
    close = 1e-4 * float(wanted.abs().max() + 1e-6)
    for name, inputs, found in seen:
        same = found.shape == wanted.shape and bool(((found - wanted).abs() < close).all())
        if same and calls[name] == 1:
            return (name, inputs), wanted.shape[1]
    raise UserError(
        f"{detector.name}: what goes into {last} is no mean of maps over the image, so it has no "
        "inside and outside of a region; take method ranking or gaintseva"
    )


def harmful(
    features: np.ndarray,
    labels: np.ndarray,
    photographs: np.ndarray,
    generators: np.ndarray,
    strength: float,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the inputs that greedy removal takes, first first, and the loss after each, from none.

    A regression is fitted on each generator's images of two thirds of the photographs, and judged
    on the other generators' images of the other third (of a single generator, on its own). The next
    input to go is the one whose weights, set to zero, lower that loss most; it ends where none
    does, or half of them are gone. strength: C of the regressions, see
    :func:`forensift.pruning.fit`.
    """
    scaled, folds = Scaled(features), folds_of(photographs, seed, most=3)
    check(labels, folds)
    names = sorted(set(generators))
    parts, logits, signs, shares = [], [], [], []
    for name in names:
        for fold in range(folds.max() + 1):
            own = np.flatnonzero((generators == name) & (folds != fold))
            judged = ((generators != name) if len(names) > 1 else True) & (folds == fold)
            rows = np.flatnonzero(judged)
            if len(set(labels[own])) < 2 or len(set(labels[rows])) < 2:
                continue
            weights, bias = regression_of(scaled, own, labels, strength)
            parts.append(scaled.values[rows] * weights)
            logits.append(scaled.values[rows] @ weights + bias)
            fakes = labels[rows] == FAKE
            signs.append(np.where(fakes, -1.0, 1.0))
            shares.append(np.where(fakes, 0.5 / fakes.sum(), 0.5 / (~fakes).sum()))
    if not parts:
        raise UserError("too few reals and fakes to remove inputs greedily")
    chosen = keyed("judged", seed).permutation(sum(map(len, logits)))[:JUDGED]
    share = np.concatenate(shares)[chosen]
    return _greedy(np.concatenate(parts)[chosen], np.concatenate(logits)[chosen],
                   np.concatenate(signs)[chosen], share / share.sum())  # fmt: skip


def _greedy(
    parts: np.ndarray, logits: np.ndarray, signs: np.ndarray, shares: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return which columns of the logits' ``parts`` (M, D) to take away, and the losses."""
    removed: list[int] = []
    losses = [float(shares @ np.logaddexp(0, signs * logits))]
    live = np.abs(parts).max(axis=0) > 0
    while len(removed) < parts.shape[1] // 2:
        columns = np.flatnonzero(live)
        if not len(columns):
            break
        without = shares @ np.logaddexp(0, signs[:, None] * (logits[:, None] - parts[:, columns]))
        best = int(without.argmin())
        if losses[-1] - without[best] < GAIN:
            break
        place = int(columns[best])
        removed.append(place)
        losses.append(float(without[best]))
        logits, live[place] = logits - parts[:, place], False
    return np.array(removed, dtype=int), np.array(losses)


def _kept(layer: str, value: Tensor) -> Tensor:
    return value.detach().float().cpu()
