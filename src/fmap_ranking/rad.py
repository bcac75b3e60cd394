"""By RAD (DEAR, arXiv 2606.10309): how much more a map answers inside a mask than outside."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from ..data import Batch
from ..detectors import observed
from ..records import FAKE, ImageEntry
from ..sweep import Look, Rows, Seen
from .masks import Masks, load_masks
from .question import Question
from .scores import ScoreStatistic

RAD = "rad"


class RadLook(Look):
    """Mean activation inside − outside of what was generated, of every map of each masked fake.

    A place of a map counts as inside by the share of its pixels that are. A fake whose mask holds
    all or nothing of what the preset leaves has no such difference, and is left out.
    """

    statistic: ScoreStatistic

    def __init__(self, question: Question) -> None:
        self.question = question
        self.masks: Masks = load_masks(question.images, question.ways.get("masks"))
        detector = question.detector
        facts = {"masks": sorted((key, str(one)) for key, one in self.masks.of.items())}
        statistic = ScoreStatistic(detector.feature_maps, (RAD,), question.groups)
        super().__init__(detector, statistic, colours=(), facts=facts)

    def wants(self, entry: ImageEntry) -> bool:
        """Say whether the image is a fake with a mask."""
        return entry.label == FAKE and self.question.images.image_id(entry) in self.masks.of

    def observe(self, batch: Batch, seen: Mapping[str, Seen]) -> Rows:
        """Return the differences (N, M), float64; NaN without an inside or an outside."""
        found = np.full((len(batch), len(self.detector.feature_maps)), np.nan)
        seed = self.question.how.get("seed", 0)
        wanted = [row for row, one in enumerate(batch.entries) if self.wants(one)]
        inside = [
            self.masks.inside(batch.entries[row], batch.ids[row], self.detector.preset, seed)
            for row in wanted
        ]
        both = [0 < one.mean() < 1 for one in inside]
        rows = [row for row, has in zip(wanted, both, strict=True) if has]
        if rows:
            weights = np.stack([one for one, has in zip(inside, both, strict=True) if has])
            found[rows] = self._differences(batch.pixels[rows], torch.from_numpy(weights)[:, None])
        return {RAD: found}

    def probe(self, batch: Batch, seen: Mapping[str, Seen]) -> object:
        """Run the whole network once, with the left half of the image as its mask."""
        weights = torch.zeros(len(batch), 1, *batch.pixels.shape[2:])
        weights[..., : weights.shape[-1] // 2] = 1
        return self._differences(batch.pixels, weights)

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
    inside, outside = part.to(maps.device), 1 - part.to(maps.device)
    whole = maps.double()
    means = [
        (whole * one).sum(dim=(2, 3)) / one.sum(dim=(2, 3)).clamp(min=1e-12)
        for one in (inside, outside)
    ]
    return (means[0] - means[1]).cpu()
