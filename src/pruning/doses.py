"""How far every feature map moves when photographs are compressed or resized, dose by dose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student

from ..data import Batch
from ..data.conditions import CLEAN, parse_conditions
from ..data.photos import photograph_names
from ..detectors import Detector, observed
from ..errors import UserError
from ..evaluation import benjamini_hochberg
from ..fmap_ranking.buckets import BUCKETS, Buckets
from ..records import ImageEntry, ImageSet
from ..sweep import RGB, Look, Rows, Seen, SignedSum

BIASES = {"jpeg": "JPEG", "down": "shrinking", "up": "enlarging"}


@dataclass(frozen=True)
class Ladder:
    """Doses of one bias, from none (``clean``) to the most, as names of conditions."""

    bias: str
    conditions: tuple[str, ...]

    @property
    def steps(self) -> int:
        """How many steps there are from none to the most."""
        return len(self.conditions) - 1

    @property
    def contrast(self) -> np.ndarray:
        """What makes the slope of a straight line through the doses, by step."""
        centred = np.arange(len(self.conditions)) - self.steps / 2
        return np.asarray(centred / (centred**2).sum())


def ladders(jpeg: Sequence[int], factors: Sequence[float]) -> tuple[Ladder, ...]:
    """Return the ladders: JPEG by falling quality, resizing below 1 and above 1 apart.

    Raises:
        UserError: a quality or factor out of range, or a ladder of a single dose.
    """
    doses = {
        "jpeg": [f"jpeg-{one}" for one in sorted(set(jpeg), reverse=True)],
        "down": [f"resize-{one:g}" for one in sorted(set(factors), reverse=True) if one < 1],
        "up": [f"resize-{one:g}" for one in sorted(set(factors)) if one > 1],
    }
    for bias, names in doses.items():
        if len(names) == 1:
            raise UserError(f"{BIASES[bias]}: {names[0]} alone says no trend; give two doses")
    found = [
        Ladder(bias, tuple(one.name for one in parse_conditions(names)))
        for bias, names in doses.items()
        if names
    ]
    if not found:
        raise UserError("no doses: give JPEG qualities or factors of size other than 1")
    return tuple(found)


class DoseStatistic:
    """Sums of each map's mean by dose, and of each image's slopes by group of photographs.

    Exact and mergeable; O(maps × (doses + biases × 20 groups)) memory.
    groups: image id → group; all that shows one photograph is of one.
    """

    def __init__(self, maps: int, every: Sequence[Ladder], groups: Mapping[str, int]) -> None:
        self.maps, self.ladders, self.groups = maps, tuple(every), groups
        self.names = list(dict.fromkeys(name for one in every for name in one.conditions))
        self.sums = {name: SignedSum((maps,)) for name in self.names}
        self.squares = SignedSum((maps,), 2.0**40)
        self.slopes = {one.bias: Buckets(SignedSum((maps,))) for one in every}

    def empty(self) -> DoseStatistic:
        """Return a statistic of the same kind that has seen nothing."""
        return DoseStatistic(self.maps, self.ladders, self.groups)

    def update(self, batch: Batch, rows: Rows) -> None:
        """Take in one batch under one condition: means (N, M)."""
        means = rows["mean"]
        self.sums[batch.condition].add(means)
        if batch.condition == CLEAN:
            self.squares.add(means**2)
        places = np.array([self.groups[one] for one in batch.ids])
        for ladder in self.ladders:
            if batch.condition in ladder.conditions:
                weight = ladder.contrast[ladder.conditions.index(batch.condition)]
                for place in sorted(set(places)):
                    self.slopes[ladder.bias].add(int(place), weight * means[places == place])

    def merge(self, other: DoseStatistic) -> None:
        """Take in what ``other`` has seen."""
        for name, one in self.sums.items():
            one.merge(other.sums[name])
        self.squares.merge(other.squares)
        for bias, buckets in self.slopes.items():
            buckets.merge(other.slopes[bias])

    def state(self) -> dict[str, np.ndarray]:
        """Return the sums as plain arrays."""
        found = {f"dose.{name}": one.state() for name, one in self.sums.items()}
        found |= {"counts": np.array([one.count for one in self.sums.values()])}
        found |= {"squares": self.squares.state()}
        for bias, buckets in self.slopes.items():
            found |= buckets.state(f"{bias}.")
        return found

    def from_state(self, state: Mapping[str, np.ndarray]) -> DoseStatistic:
        """Return a statistic of the same kind that holds ``state``."""
        found = self.empty()
        counts = dict(zip(self.names, map(int, state["counts"]), strict=True))
        for name, one in self.sums.items():
            found.sums[name] = one.from_state(state[f"dose.{name}"], counts[name])
        found.squares = self.squares.from_state(state["squares"], counts[CLEAN])
        for bias, buckets in self.slopes.items():
            found.slopes[bias] = buckets.from_state(state, f"{bias}.")
        return found

    def result(self) -> dict[str, np.ndarray]:
        """Return the mean (M,) of each map at each dose, by condition."""
        return {name: one.value() / max(1, one.count) for name, one in self.sums.items()}

    def spread(self) -> np.ndarray:
        """Return the standard deviation (M,) of each map's mean over clean images."""
        one = self.sums[CLEAN]
        n = max(1, one.count)
        variance = self.squares.value() / n - (one.value() / n) ** 2
        return np.sqrt(np.maximum(variance, 0))

    def responses(self, ladder: Ladder, confidence: float = 0.95) -> dict[str, np.ndarray]:
        """Return how each map answers to a bias, arrays (M,).

        response: the slope over the doses, from none to the most, in standard deviations of the map
        over clean images; low, high: its interval; p: of no slope, two-sided; q: p adjusted over
        all maps (Benjamini and Hochberg); monotone: the rank correlation of the mean map with the
        dose; score: the end of the interval next to 0, as a distance from it: 0 where it holds 0.

        The slope is a mean over groups of photographs; its standard error is that of a ratio of
        sums over groups, with Student's t for their number (p is NaN for fewer than two).

        Raises:
            UserError: some images could not be used at every dose.
        """
        counts = {name: self.sums[name].count for name in ladder.conditions}
        if len(set(counts.values())) > 1:
            few = min(counts, key=counts.__getitem__)
            raise UserError(
                f"{max(counts.values()) - counts[few]} images could not be used under {few}; leave "
                "that dose out"
            )
        sums, sizes = self.slopes[ladder.bias].held()
        slope, error = _ratio(sums, sizes / len(ladder.conditions))
        spread = self.spread()
        clean = self.sums[CLEAN].value() / max(1, self.sums[CLEAN].count)
        live = spread > 1e-9 * (1e-6 + np.abs(clean))
        scale = np.where(live, ladder.steps / np.where(live, spread, 1.0), 0.0)
        freedom = max(1, len(sizes) - 1)
        sure = live & (error > 0)
        t = np.where(sure, np.abs(slope) / np.where(sure, error, 1.0), 0.0)
        p = np.where(live, np.where(sure, 2 * student.sf(t, freedom), 1.0), np.nan)
        response, half = slope * scale, student.ppf(0.5 + confidence / 2, freedom) * error * scale
        half = np.where(np.isnan(error), np.inf, half)
        p = np.where(np.isnan(error), np.nan, p)
        return {
            "response": response,
            "low": response - half,
            "high": response + half,
            "p": p,
            "q": benjamini_hochberg(p),
            "monotone": self._monotone(ladder),
            "score": np.maximum(np.abs(response) - half, 0.0),
        }

    def _monotone(self, ladder: Ladder) -> np.ndarray:
        means = self.result()
        curves = np.stack([means[name] for name in ladder.conditions])
        ranks = curves.argsort(axis=0, kind="stable").argsort(axis=0, kind="stable")
        centred = np.arange(len(curves)) - ladder.steps / 2
        moved = curves.max(axis=0) > curves.min(axis=0)
        correlation = centred @ (ranks - ladder.steps / 2) / (centred**2).sum()
        return np.where(moved, correlation, 0.0)


def _ratio(sums: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Σ sums / Σ sizes (M,) of groups (B, M), and its standard error, NaN for one group."""
    total = sizes.sum()
    ratio = sums.sum(axis=0) / total
    groups = len(sizes)
    if groups < 2:
        return ratio, np.full(len(ratio), np.nan)
    left = sums - ratio * sizes[:, None]
    return ratio, np.sqrt(groups / (groups - 1) * (left**2).sum(axis=0)) / total


class DoseLook(Look):
    """The mean over space of every feature map, under every dose."""

    statistic: DoseStatistic

    def __init__(self, detector: Detector, images: ImageSet, every: Sequence[Ladder]) -> None:
        """images: the ones that count."""
        self.only = set(images)
        groups = groups_of(images)
        statistic = DoseStatistic(len(detector.feature_maps), every, groups)
        facts = {
            "ladders": [[one.bias, *one.conditions] for one in every],
            "maps": list(detector.layers.items()),
            "groups": sorted(groups.items()),
        }
        super().__init__(detector, statistic, conditions=statistic.names, facts=facts)

    def wants(self, entry: ImageEntry) -> bool:
        """Say whether the image counts."""
        return entry in self.only

    @contextmanager
    def watch(self) -> Iterator[Mapping[str, Any]]:
        """Return a block that keeps each layer's means."""
        with observed(self.detector.network, self.detector.layers, _means) as found:
            yield found

    def observe(self, batch: Batch, seen: Mapping[str, Seen]) -> Rows:
        """Return the means (N, M), float64."""
        caught = seen[RGB].caught
        return {"mean": torch.cat([caught[one] for one in self.detector.layers], dim=1).numpy()}


def groups_of(images: ImageSet) -> dict[str, int]:
    """Return the group of each image, by id: 20 at most, photographs dealt out in their order."""
    names = photograph_names([one.path for one in images])
    places = {name: place % BUCKETS for place, name in enumerate(sorted(set(names)))}
    return {images.image_id(one): places[name] for one, name in zip(images, names, strict=True)}


def _means(layer: str, maps: torch.Tensor) -> torch.Tensor:
    return maps.detach().double().mean(dim=(2, 3)).cpu()
