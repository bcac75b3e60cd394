"""Rank a detector's feature maps by ω over an image set, in one streaming pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from ..data import Batch, Preset, check_skipped
from ..detectors import Detector, named_preset
from ..errors import UserError
from ..lrp import LRP
from ..records import FAKE, REAL, ImageSet, Ranking, Skipped
from ..sweep import Partials, Progress, sweep
from .omega import OmegaStatistic, Relevances, relevance_shares

Start = Literal["predicted", "published"]

KINDS = {REAL: "real", FAKE: "fake"}


def rank(
    detector: Detector,
    images: ImageSet,
    *,
    label: int = FAKE,
    start: Start = "predicted",
    min_confidence: float = 0.9,
    preset: Preset | str | None = None,
    batch_size: int = 16,
    seed: int = 0,
    max_skipped: float = 0.01,
    skipped: list[Skipped] | None = None,
    partials: Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    keep: list[OmegaStatistic] | None = None,
) -> Ranking:
    """Return the feature maps in falling ω (FF-RS; spec: T-FF, Algorithm 1).

    images: of any labels; those of ``label`` (1 fake, 0 real) are ranked on.
    start: the relevance that LRP starts from at the logit.
        'predicted': +1 for every image, at the only logit or, where there are
        several classes, at the largest. Each rule divides by its own output, so whatever made the
        logit what it is, positive or negative, is positive relevance: evidence for the decision.
        'published': −1 on reals ("explain −f"), +1 on fakes. On reals this negates everything, so
        their positive relevance, and with it ω, is the minority evidence against the decision.
        Fakes are the same under both.
    min_confidence: the least probability of the true class, 0.5 … 1; the published 0.9 means
        p ≥ 0.90 for fakes and p ≤ 0.10 for reals.
    preset: the preprocessing, the detector's own by default; published rankings used 'tff-ffrs'.
    seed: of random presets, together with each image's id.
    max_skipped: largest share of unreadable images, 0 … 1; ``skipped`` gets them.
    partials: a folder for partial results; with ``resume`` the finished ones in it are used.
    keep: gets the statistic itself, for what is resampled from its buckets; also where no image
        was used.

    Maps of convolutions that the logit does not depend on have ω 0; facts["not_used"] names these.
    Memory is O(feature maps): per image only the M shares are computed, and summed.

    Raises:
        UserError: no feature maps, no image of that label, none predicted right and confidently (the counts by
            reason are in the message), too many unreadable, or an option out of its range.
    """
    check_options(start, min_confidence)
    chosen = images.only(label=label)
    if not len(chosen):
        raise UserError(f"{images.root}: holds no {KINDS[label]} images to rank on")
    preset = named_preset(preset) if isinstance(preset, str) else preset or detector.preset
    if not detector.feature_maps:
        raise UserError(
            f"{detector.name} has no feature maps to rank: it holds no torch.nn.Conv2d; write its "
            "convolutions as modules"
        )
    statistic = OmegaStatistic(detector.feature_maps, label, min_confidence)
    observer = _Observer(detector, preset, start)
    missed: list[Skipped] = []
    facts: dict[str, Any] = {
        "detector": detector.name,
        "weights": detector.weights.path,
        "weights_sha256": detector.weights.sha256,
        "image_set": chosen.hash(),
        "label": KINDS[label],
        "start": start,
        "min_confidence": min_confidence,
        "preset": preset.name,
        "seed": seed,
        "batch_size": batch_size,
        "not_used": [layer for layer in detector.layers if layer not in observer.layers],
    }
    kept = Partials(partials, facts, resume=resume) if partials else None
    sweep(
        chosen,
        preset,
        observer,
        [statistic],
        batch_size=batch_size,
        seed=seed,
        partials=kept,
        progress=progress,
        skipped=missed,
    )
    if skipped is not None:
        skipped.extend(missed)
    check_skipped(missed, len(chosen), max_skipped)
    if keep is not None:
        keep.append(statistic)
    counts = {**statistic.counts, "unreadable": len(missed)}
    if not statistic.used:
        raise UserError(_nothing_used(detector, label, counts, min_confidence))
    if kept:
        kept.clear()
    return replace(statistic.result(), start=start, counts=counts, facts=facts)


class _Observer:
    """Runs LRP on a decoded batch and keeps the shares of the feature maps alone.

    layers: those that the logit depends on; the maps of the others have no share.
    """

    def __init__(self, detector: Detector, preset: Preset, start: Start) -> None:
        if start == "published" and detector.classes:
            raise UserError(
                f"{detector.name} has {len(detector.classes)} classes: the published start needs "
                "one logit; use --start predicted"
            )
        self.lrp = LRP(detector.with_preset(preset))
        self.detector = detector
        self.layers = [layer for layer in detector.layers if layer in self.lrp.layers]
        self.preset, self.device, self.start = preset, detector.device, start

    def __call__(self, batch: Batch, images: ImageSet) -> Relevances:
        entries = [images.entries[i] for i in batch.indices]
        labels = np.array([entry.label for entry in entries])
        start = None  # +1 at the only logit, or at the largest
        if self.start == "published":
            signs = [-1.0 if label == REAL else 1.0 for label in labels]
            start = torch.tensor(signs, device=self.device)[:, None]
        pixels = self.preset.normalise(batch.pixels.to(self.device))
        found = self.lrp(pixels, start=start, pixels=False, layers=self.layers, reduce=_reduce)
        nothing = torch.zeros(len(pixels), max(self.detector.layers.values()), dtype=torch.float64)
        shares = [
            found.feature_maps.get(layer, nothing[:, :width])
            for layer, width in self.detector.layers.items()
        ]
        return Relevances(
            tuple(images.image_id(entry) for entry in entries),
            labels,
            self.detector.decide(found.logits.detach().double()).cpu().numpy(),
            torch.cat(shares, dim=1).numpy(),
        )


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
        f"of its class ({why}); lower --min-confidence or use a better detector"
    )
