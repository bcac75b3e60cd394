"""ω of every feature map over the images of one label, as a look of a sweep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import torch

from ..data import Batch
from ..detectors import Detector
from ..errors import UserError
from ..lrp import LRP
from ..records import FAKE, REAL, ImageEntry, ImageSet, Ranking
from ..sweep import Look, Rows, Seen
from .omega import OmegaStatistic, relevance_shares

Start = Literal["predicted", "published"]

KINDS = {REAL: "real", FAKE: "fake"}


class OmegaLook(Look):
    """ω of every feature map over the images of one label, by LRP.

    layers: the convolutions that the logits depend on; the maps of any other have no share.
    groups: see :class:`OmegaStatistic`.
    """

    statistic: OmegaStatistic

    def __init__(
        self,
        detector: Detector,
        label: int = FAKE,
        *,
        start: Start = "predicted",
        min_confidence: float = 0.9,
        composite: str = "beta0",
        groups: Mapping[str, int] | None = None,
    ) -> None:
        start = check_options(start, min_confidence)
        if start == "published" and detector.classes:
            raise UserError(
                f"{detector.name} has {len(detector.classes)} classes: the published start needs "
                "one logit; use start predicted"
            )
        self.start, self.label, self.min_confidence = start, label, min_confidence
        self.lrp = LRP(detector, composite=composite)
        if not detector.feature_maps:
            raise UserError(
                f"{detector.name} has no feature maps to rank: it holds no torch.nn.Conv2d that "
                "makes any; write its convolutions as modules"
            )
        self.layers = [layer for layer in detector.layers if layer in self.lrp.layers]
        if not self.layers:
            raise UserError(
                f"{detector.name}: its logits depend on none of the convolutions "
                f"{', '.join(detector.layers)}"
            )
        facts = {
            "label": KINDS[label],
            "start": start,
            "min_confidence": min_confidence,
            "composite": str(self.lrp.composite),
            "not_used": [layer for layer in detector.layers if layer not in self.layers],
            **({"groups": "photographs"} if groups else {}),
        }
        statistic = OmegaStatistic(detector.feature_maps, label, min_confidence, groups)
        super().__init__(detector, statistic, colours=(), facts=facts)

    def wants(self, entry: ImageEntry) -> bool:
        """Say whether the image is of the label that is ranked on."""
        return entry.label == self.label

    def observe(self, batch: Batch, seen: Mapping[str, Seen]) -> Rows:
        """Return the logits (N,) and the maps' shares of their layer's relevance (N, M)."""
        start = None  # +1 at the only logit, or at the largest
        if self.start == "published":
            signs = np.where(batch.labels == REAL, -1.0, 1.0)
            start = torch.tensor(signs, device=self.detector.device, dtype=torch.float32)[:, None]
        pixels = self.detector.preset.normalise(batch.pixels.to(self.detector.device))
        found = self.lrp(pixels, start=start, pixels=False, layers=self.layers, reduce=_reduce)
        logits = self.detector.decide(found.logits.detach().double()).cpu().numpy()
        shares = [
            found.feature_maps.get(layer, torch.zeros(len(pixels), width, dtype=torch.float64))
            for layer, width in self.detector.layers.items()
        ]
        return {"logit": logits, "share": torch.cat(shares, dim=1).numpy()}

    def ranking(self, images: ImageSet, by: str = "omega", **facts: Any) -> Ranking:
        """Return the ranking of what a pass over ``images`` has shown, by ω or ω × width.

        Raises:
            UserError: no image was used; the counts by reason are in the message.
        """
        detector, counts = self.detector, self.statistic.counts
        if not self.statistic.used:
            raise UserError(_nothing_used(detector, self.label, counts, self.min_confidence))
        whole = {
            "detector": detector.name,
            "weights": detector.weights.path,
            "weights_sha256": detector.weights.sha256,
            "image_set": images.only(label=self.label).hash(),
            **self.facts,
            "preset": detector.preset.name,
            **facts,
        }
        found = self.statistic.result(by)
        return replace(found, start=self.start, counts=counts, facts=whole)


def _reduce(layer: str, relevance: torch.Tensor) -> torch.Tensor:
    return relevance_shares(relevance)


def check_options(start: str, min_confidence: float) -> Start:
    """Return ``start``, one of the two, or refuse what is out of range.

    Raises:
        UserError: an unknown start, or a confidence outside 0.5 … 1.
    """
    if start not in get_args(Start):
        raise UserError(f"no start {start!r}; there are {', '.join(get_args(Start))}")
    if not 0.5 <= min_confidence < 1:
        raise UserError(f"min confidence {min_confidence}: must be 0.5 or more and below 1")
    return "published" if start == "published" else "predicted"


def _nothing_used(
    detector: Detector, label: int, counts: Mapping[str, int], min_confidence: float
) -> str:
    why = ", ".join(f"{n} {reason}" for reason, n in counts.items() if reason != "used" and n)
    return (
        f"{detector.name}: no {KINDS[label]} image is predicted right with p ≥ {min_confidence:g} "
        f"of its class ({why}); lower min_confidence or use a better detector"
    )
