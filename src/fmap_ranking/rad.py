"""By RAD (DEAR, arXiv 2606.10309): how much more a map answers inside a region than outside.

The region is where a generator was at work: a mask of the fake, or, of a fake and its photograph, a
rectangle of the fake put into the photograph.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from ..ablation import pixels_of
from ..data import Batch
from ..detectors import observed
from ..errors import UserError
from ..records import FAKE, ImageEntry
from ..rng import keyed
from ..sweep import Look, Rows, Seen
from .masks import TRUTH, Masks, load_masks
from .question import Question
from .scores import ScoreStatistic

RAD = "rad"
SIDES = (0.25, 0.75)  # of a drawn rectangle, as shares of the image's


class RadLook(Look):
    """Mean activation inside − outside of what was generated, of every map.

    A place of a map counts as inside by the share of its pixels that are. Without masks the images
    are photographs with a rectangle of their fakes in them, drawn anew for every pair. A fake whose
    mask holds all or nothing of what the preset leaves has no such difference, and is left out.
    """

    statistic: ScoreStatistic

    def __init__(self, question: Question) -> None:
        self.question, detector = question, question.detector
        self.masks: Masks | None = None
        given, images = question.ways.get("masks"), question.images
        if given or (images.root / TRUTH).is_file() or not question.pairs:
            self.masks = load_masks(images, given)
        masks = self.masks.of if self.masks else {}
        facts = {
            "regions": "masks" if masks else "rectangles of fakes in their photographs",
            "masks": sorted((key, str(one)) for key, one in masks.items()),
            **question.facts,
        }
        statistic = ScoreStatistic(detector.feature_maps, (RAD,), question.groups)
        super().__init__(detector, statistic, colours=(), facts=facts)
        self.alone = True  # equal bytes may have regions of their own

    def wants(self, entry: ImageEntry) -> bool:
        """Say whether the image is a fake with a mask, or with its photograph."""
        known = self.question.pairs if self.masks is None else self.masks.of
        return entry.label == FAKE and self.question.images.image_id(entry) in known

    def observe(self, batch: Batch, seen: Mapping[str, Seen]) -> Rows:
        """Return the differences (N, M), float64; NaN without an inside or an outside."""
        found = np.full((len(batch), len(self.detector.feature_maps)), np.nan)
        wanted = [row for row, one in enumerate(batch.entries) if self.wants(one)]
        inside = {row: self._inside(batch, row) for row in wanted}
        rows = [row for row in wanted if 0 < inside[row].mean() < 1]
        if rows:
            weights = torch.stack([inside[row] for row in rows])[:, None]
            found[rows] = self._differences(self._pixels(batch.take(rows), weights), weights)
        return {RAD: found}

    def probe(self, batch: Batch, seen: Mapping[str, Seen]) -> object:
        """Run the whole network once, with the left half of the image as its region."""
        weights = torch.zeros(len(batch), 1, *batch.pixels.shape[2:])
        weights[..., : weights.shape[-1] // 2] = 1
        return self._differences(batch.pixels, weights)

    def _inside(self, batch: Batch, row: int) -> Tensor:
        seed = self.question.how.get("seed", 0)
        if self.masks is None:
            height, width = batch.pixels.shape[2:]
            return region(batch.ids[row], height, width, seed).float()
        preset = self.detector.preset
        return self.masks.inside(batch.entries[row], batch.ids[row], preset, seed)

    def _pixels(self, batch: Batch, weights: Tensor) -> Tensor:
        """Return the fakes, or their photographs with the region of the fake in them."""
        if self.masks is not None:
            return batch.pixels
        question = self.question
        entries = [question.pairs[one] for one in batch.ids]
        others = pixels_of(self.detector, question.images, entries, question.how.get("seed", 0))
        if others.shape != batch.pixels.shape:
            raise UserError(
                f"{entries[0].path}: another size than its fake's; take a preset that crops"
            )
        return torch.where(weights > 0, batch.pixels, others)

    def _differences(self, pixels: Tensor, weights: Tensor) -> np.ndarray:
        def take(layer: str, maps: Tensor) -> Tensor:
            return inside_outside(maps.detach(), weights)

        with observed(self.detector.network, self.detector.layers, take) as found:
            self.detector.outputs(pixels)
        return torch.cat([found[layer] for layer in self.detector.layers], dim=1).numpy()


def inside_outside(maps: Tensor, weights: Tensor) -> Tensor:
    """Return mean inside − mean outside of maps (N, C, h, w): (N, C), float64 on the CPU.

    weights: the share of each pixel of the image that is inside, (N, 1, H, W). Of a module that is
    called several times its calls lie side by side, each over the whole image.
    """
    height, width = maps.shape[2:]
    calls = max(1, round(width * weights.shape[2] / (height * weights.shape[3])))
    calls = calls if width % calls == 0 else 1
    part = adaptive_avg_pool2d(weights.double(), (height, width // calls)).repeat(1, 1, 1, calls)
    inside, whole = part.to(maps.device), maps.double()
    means = [(whole * one).sum(dim=(2, 3)) / one.sum(dim=(2, 3)) for one in (inside, 1 - inside)]
    return (means[0] - means[1]).cpu()


def region(image_id: str, height: int, width: int, seed: int) -> Tensor:
    """Return a random rectangle as bool (height, width), keyed by the image."""
    rng = keyed("region", seed, image_id)
    found = torch.zeros(height, width, dtype=torch.bool)
    spans = []
    for size in (height, width):
        length = max(1, round(size * rng.uniform(*SIDES)))
        start = int(rng.integers(0, size - length + 1))
        spans.append(slice(start, start + length))
    found[spans[0], spans[1]] = True
    return found
