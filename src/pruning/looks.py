"""What goes into the last layer of a detector, with and without feature maps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from ..ablation import Ablation
from ..data import Batch
from ..data.conditions import CLEAN
from ..detectors import Detector, head, observed
from ..errors import UserError
from ..evaluation import sigmoid
from ..records import FeatureMap, ImageSet
from ..sweep import Look, PerImage, Rows, Seen
from .heads import LastLayer

Maps = tuple[FeatureMap, ...]


class Judge(NamedTuple):
    """A detector without some feature maps, and with another last layer; its own where None."""

    feature_maps: Maps = ()
    layer: LastLayer | None = None


class _WithoutMaps(Look):
    """Runs a detector without each of several sets of feature maps."""

    statistic: PerImage

    def __init__(
        self,
        ablation: Ablation,
        masks: Sequence[Maps],
        conditions: Sequence[str],
        facts: Mapping[str, object],
        last: bool = True,
    ) -> None:
        """last: whether what goes into the last layer is wanted."""
        self.ablation = ablation
        self.jobs: dict[frozenset[FeatureMap], int] = {}
        self.job_of = [self.jobs.setdefault(frozenset(one), len(self.jobs)) for one in masks]
        self.head = head(ablation.detector.network) if last else ""
        told = {"masks": [sorted(map(str, one)) for one in self.jobs], **ablation.facts, **facts}
        super().__init__(
            ablation.detector, PerImage(), colours=(), conditions=conditions, facts=told
        )

    def passes(self, batch: Batch) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield logits (N,) and what goes into the last layer (N, D) without each set of maps."""
        for job in self.jobs:
            if not self.head:
                yield self.ablation.logits(batch, job), np.empty((len(batch), 0))
                continue
            with observed(self.detector.network, [self.head], _vectors, inputs=True) as last:
                logits = self.ablation.logits(batch, job)
            yield logits, _one_each(self.detector, last[self.head], len(batch))

    def probe(self, batch: Batch, seen: Mapping[str, Seen]) -> object:
        """Run the whole network once: no set takes more."""
        return self.detector.logits(batch.pixels)


class LastInputLook(_WithoutMaps):
    """What goes into the last layer, of every image, condition and set of feature maps.

    O(images × sets × D) memory: for the images that the layer is fitted on.
    """

    def __init__(
        self, ablation: Ablation, masks: Sequence[Maps], conditions: Sequence[str] = (CLEAN,)
    ) -> None:
        super().__init__(ablation, masks, conditions, {})

    def observe(self, batch: Batch, seen: Mapping[str, Seen]) -> Rows:
        """Return features (N, sets, D), float32."""
        return {"features": np.stack([one for _, one in self.passes(batch)], axis=1)}

    def features(self, images: ImageSet, maps: Maps) -> np.ndarray:
        """Return (conditions · N, D) for one set of maps, a condition after the other."""
        ids = [images.image_id(entry) for entry in images]
        parts = [self.statistic.of(ids, "features", one) for one in self.conditions]
        return np.concatenate(parts)[:, self.jobs[frozenset(maps)]]


class JudgedLook(_WithoutMaps):
    """The logits that several versions of one detector give."""

    def __init__(
        self, ablation: Ablation, judges: Sequence[Judge], conditions: Sequence[str]
    ) -> None:
        self.judges = judges
        layers = [one.layer for one in judges]
        facts = {"layers": [one.digest() if one else "its own" for one in layers]}
        masks = [one.feature_maps for one in judges]
        super().__init__(ablation, masks, conditions, facts, any(layers))

    def observe(self, batch: Batch, seen: Mapping[str, Seen]) -> Rows:
        """Return logits (N, judges), float64.

        Raises:
            UserError: one is not finite.
        """
        found = np.empty((len(batch), len(self.judges)))
        for job, (logits, features) in enumerate(self.passes(batch)):
            for place, judge in enumerate(self.judges):
                if self.job_of[place] == job:
                    found[:, place] = judge.layer.logits(features) if judge.layer else logits
        bad = np.argwhere(~np.isfinite(found))
        if len(bad):
            path = batch.entries[bad[0][0]].path
            raise UserError(f"{self.detector.name} gives a logit that is not finite for {path}")
        return {"logit": found}

    def table(self, images: ImageSet, names: Sequence[tuple[str, int]]) -> pd.DataFrame:
        """Return detector, draw, condition, path, label, generator, class, logit, score.

        names: of the judges, and their draw; images: that were all seen.
        """
        ids = [images.image_id(entry) for entry in images]
        facts = [(e.label, e.generator, e.class_name) for e in images]
        plain = pd.DataFrame(facts, columns=["label", "generator", "class"])
        plain.insert(0, "path", ids)
        parts = []
        for condition in self.conditions:
            every = self.statistic.of(ids, "logit", condition).T
            for (name, draw), logits in zip(names, every, strict=True):
                own = plain.assign(logit=logits, score=sigmoid(logits))
                heads = {"detector": name, "draw": draw, "condition": condition}
                parts.append(own.assign(**heads)[[*heads, *own.columns]])
        return pd.concat(parts, ignore_index=True)


def last_input(detector: Detector, pixels: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return the logits (N,) and what goes into the last layer (N, D) of a uint8 batch."""
    name = head(detector.network)
    with observed(detector.network, [name], _vectors, inputs=True) as last:
        logits = detector.logits(pixels).double().numpy()
    return logits, _one_each(detector, last[name], len(pixels))


def _one_each(detector: Detector, vectors: torch.Tensor, images: int) -> np.ndarray:
    if len(vectors) != images:
        raise UserError(
            f"{detector.name}: its last linear layer sees {len(vectors) / images:g} vectors of an "
            "image; only one that sees a single one is fitted anew"
        )
    return np.asarray(vectors.numpy())


def _vectors(layer: str, entering: torch.Tensor) -> torch.Tensor:
    return entering.detach().float().flatten(1).cpu()
