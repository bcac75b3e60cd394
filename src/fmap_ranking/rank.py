"""Rank a detector's feature maps by ω over an image set, in one streaming pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Unpack, get_args

import numpy as np
import torch

from ..data import Batch, Preset
from ..detectors import Detector, named_preset
from ..errors import UserError
from ..lrp import LRP
from ..records import FAKE, REAL, ImageEntry, ImageSet, Ranking, Result, Skipped
from ..sweep import How, Look, Rows, Seen, sweep
from .omega import OmegaStatistic, relevance_shares

Start = Literal["predicted", "published"]
Label = Literal["fake", "real"]

KINDS = {REAL: "real", FAKE: "fake"}


class OmegaLook(Look):
    """ω of every feature map over the images of one label, by LRP.

    layers: the convolutions that the logits depend on; the maps of any other have no share.
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
        }
        statistic = OmegaStatistic(detector.feature_maps, label, min_confidence)
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

    def ranking(self, images: ImageSet, **facts: Any) -> Ranking:
        """Return the ranking of what a pass over ``images`` has shown.

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
        found = self.statistic.result()
        return replace(found, start=self.start, counts=counts, facts=whole)


def rank(
    detector: Detector,
    images: ImageSet,
    *,
    label: Label | int = "fake",
    start: Start = "predicted",
    min_confidence: float = 0.9,
    composite: str = "beta0",
    preset: Preset | str | None = None,
    **how: Unpack[How],
) -> Ranking:
    """Return the feature maps in falling ω (FF-RS; spec: T-FF, Algorithm 1).

    images: of any labels; those of ``label`` ('fake' or 1, 'real' or 0) are ranked on.
    start: the relevance that LRP starts from at the logit.
        'predicted': +1 for every image, at the only logit or, where there are
        several classes, at the largest. Each rule divides by its own output, so whatever made the
        logit what it is, positive or negative, is positive relevance: evidence for the decision.
        'published': −1 on reals ("explain −f"), +1 on fakes. On reals this negates everything, so
        their positive relevance, and with it ω, is the minority evidence against the decision.
        Fakes are the same under both.
    min_confidence: the least probability of the true class, 0.5 … 1; the published 0.9 means
        p ≥ 0.90 for fakes and p ≤ 0.10 for reals.
    composite: the rules of LRP, see :mod:`forensift.lrp.composites`; ω under any but the published
        'beta0' is another ranking.
    preset: the preprocessing, the detector's own by default; published rankings used 'tff-ffrs'.

    Maps of convolutions that the logits do not depend on have ω 0; facts["not_used"] names these.
    Memory is O(feature maps): per image only the M shares are computed, and summed.

    Raises:
        UserError: no image of that label, none predicted right and confidently, an option out of
            its range, or see :func:`forensift.sweep`.
    """
    kind: Any = KINDS.get(label, label) if isinstance(label, int) else label
    if preset is not None:
        preset = named_preset(preset) if isinstance(preset, str) else preset
        detector = detector.with_preset(preset)
    found = rankings(
        detector, images, labels=(kind,), start=start, min_confidence=min_confidence,
        composite=composite, **how,
    )  # fmt: skip
    return found.of[kind]


@dataclass(frozen=True, eq=False, repr=False)
class Rankings(Result):
    """ω on fakes, on reals, or on both.

    of: by 'fake' and 'real'; missing: why there is none of a label asked for, in words;
    name: of the image set, in file names.
    """

    of: Mapping[str, Ranking]
    missing: Mapping[str, str]
    name: str
    skipped: tuple[Skipped, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def rankings(
    detector: Detector,
    images: ImageSet,
    *,
    labels: Sequence[Label] = ("fake", "real"),
    start: Start = "predicted",
    min_confidence: float = 0.9,
    composite: str = "beta0",
    name: str = "",
    **how: Unpack[How],
) -> Rankings:
    """Rank on the fakes and on the reals of a set, in one pass; see :func:`rank`.

    name: of the set, by default that of its folder. A label of which no image counts is missing,
    and said to be.

    Raises:
        UserError: images of a label are not there, none of any label could be used, or as
            :func:`rank`.
    """
    kinds = {kind: number for number, kind in KINDS.items()}
    for kind in labels:
        if kind not in kinds:
            raise UserError(f"label {kind!r}: choose fake or real")
        if not len(images.only(label=kinds[kind])):
            raise UserError(f"{images.root}: holds no {kind} images to rank on")
    looks = {
        kind: OmegaLook(
            detector, kinds[kind], start=start, min_confidence=min_confidence, composite=composite
        )
        for kind in labels
    }
    wanted = {kinds[kind] for kind in labels}
    # A label's images come together, so that no batch holds images that nobody wants.
    entries = sorted((one for one in images if one.label in wanted), key=lambda one: -one.label)
    chosen = ImageSet(images.root, tuple(entries), images.layout)
    done = sweep(chosen, list(looks.values()), what="ranking", **how)
    found: dict[str, Ranking] = {}
    missing: dict[str, str] = {}
    counts: dict[str, dict[str, int]] = {}
    for kind, look in looks.items():
        used = len(done.used.only(label=kinds[kind]))
        unusable = len(chosen.only(label=kinds[kind])) - used
        counts[kind] = {**look.statistic.counts, "unusable": unusable}
        try:
            ranking = look.ranking(images, seed=how.get("seed", 0), used=used)
            found[kind] = replace(ranking, counts=counts[kind])
        except UserError as error:
            missing[kind] = str(error)
    if not found:
        raise UserError("; ".join(missing.values()))
    facts = {
        "detector": detector.name,
        "counts": counts,
        "missing": missing,
        "start": start,
        "min_confidence": min_confidence,
        "composite": next(iter(looks.values())).facts["composite"],
        "feature_maps": len(detector.feature_maps),
    }
    name = name or images.root.resolve().name or "images"
    return Rankings(found, missing, name, done.skipped, facts)


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
