"""Sums of images in groups: what standard errors and rank intervals are resampled from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from ..data.photos import photograph_names
from ..records import ImageEntry, ImageSet
from ..sweep import ExactSum

BUCKETS = 20  # groups of images that the rank interval is resampled from
RESAMPLES = 200
INTERVAL = (2.5, 97.5)  # percentiles of the resampled ranks

Scores = Callable[[np.ndarray], np.ndarray]  # how often each bucket is drawn (BUCKETS,) → (M,)


class Buckets:
    """Sums of rows (M,) in 20 groups of images, exact and mergeable; O(M) memory.

    empty: the sum of nothing, (M,), whose like each group gets when it is first added to.
    """

    def __init__(self, empty: ExactSum) -> None:
        self.nothing = empty
        self.sums: dict[int, ExactSum] = {}

    @property
    def count(self) -> int:
        """How many rows were added."""
        return sum(one.count for one in self.sums.values())

    def add(self, bucket: int, rows: np.ndarray) -> None:
        """Add rows (N, M) to a group."""
        if bucket not in self.sums:
            self.sums[bucket] = self.nothing.empty_like()
        self.sums[bucket].add(rows)

    def merge(self, other: Buckets) -> None:
        """Add another's groups to these."""
        for bucket, one in other.sums.items():
            if bucket not in self.sums:
                self.sums[bucket] = self.nothing.empty_like()
            self.sums[bucket].merge(one)

    def state(self, head: str = "") -> dict[str, np.ndarray]:
        """Return the groups that hold rows as plain arrays, their names led by ``head``."""
        held = sorted(self.sums)
        shape = (0, *self.nothing.words.shape)
        words = [self.sums[one].state() for one in held]
        return {
            f"{head}places": np.array(held, dtype=np.int64),
            f"{head}sums": np.stack(words) if held else np.zeros(shape, dtype=np.int64),
            f"{head}sizes": np.array([self.sums[one].count for one in held], dtype=np.int64),
        }

    def from_state(self, state: Mapping[str, np.ndarray], head: str = "") -> Buckets:
        """Return groups of the same kind that hold ``state``."""
        found = Buckets(self.nothing)
        own = (state[f"{head}{name}"] for name in ("places", "sums", "sizes"))
        for place, words, size in zip(*own, strict=True):
            found.sums[int(place)] = self.nothing.from_state(words, int(size))
        return found

    def total(self) -> np.ndarray:
        """Return the sum (M,) of all rows, float64."""
        whole = self.nothing.empty_like()
        for one in self.sums.values():
            whole.merge(one)
        return whole.value()

    def held(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the sums (B, M) and rows (B,) of the groups that hold any, in their order."""
        held = [self.sums[one] for one in sorted(self.sums) if self.sums[one].count]
        sums = [one.value() for one in held]
        empty = np.zeros((0, self.nothing.words.shape[1]))
        return np.stack(sums) if held else empty, np.array([one.count for one in held], dtype=int)

    def means(self) -> Scores:
        """Return what makes the mean row (M,) of draws of the groups; NaN where none is drawn."""
        sums, counts = self.held()
        places = sorted(self.places)

        def mean(weights: np.ndarray) -> np.ndarray:
            own = weights[places]
            n = own @ counts if len(places) else 0
            return np.asarray(own @ sums / n) if n else np.full(sums.shape[1], np.nan)

        return mean

    @property
    def places(self) -> set[int]:
        """The groups that hold rows."""
        return {place for place, one in self.sums.items() if one.count}


def bucket_of(key: str) -> int:
    """Return the group, 0 … 19, of an image's id or a photograph's name."""
    digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") % BUCKETS


def buckets_by_photograph(images: ImageSet, others: tuple[ImageEntry, ...] = ()) -> dict[str, int]:
    """Return id → group: all that is made of one photograph, crops and fakes, is of one group."""
    entries = (*images, *others)
    names = photograph_names([one.path for one in entries])
    return {images.image_id(one): bucket_of(name) for one, name in zip(entries, names, strict=True)}


def descending(scores: np.ndarray) -> np.ndarray:
    """Return the order of falling scores; equal values keep the order they come in."""
    return np.argsort(-scores, kind="stable")


def redraws(held: int) -> np.ndarray:
    """Return how often each of ``held`` groups is drawn, (RESAMPLES, held): the same every run."""
    rng = np.random.default_rng(0)
    return rng.multinomial(held, np.full(held, 1 / held), size=RESAMPLES)


def rank_interval(scores: Scores, held: int, maps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the 95 % percentile interval of each map's rank, 1 the highest, groups redrawn.

    scores: how often each of the ``held`` groups is drawn → (M,). NaN below two groups; a draw
    without any score is left out.
    """
    unknown = np.full(maps, np.nan)
    if held < 2:
        return unknown, unknown
    ranks = []
    positions = np.arange(1, maps + 1, dtype=np.int32)
    for weights in redraws(held):
        drawn = scores(weights)
        if not np.isnan(drawn).any():
            ranks.append(np.empty(maps, dtype=np.int32))
            ranks[-1][descending(drawn)] = positions
    if not ranks:
        return unknown, unknown
    low, high = np.percentile(np.stack(ranks), INTERVAL, axis=0)
    return low, high


def with_errors(table: pd.DataFrame, **columns: np.ndarray) -> pd.DataFrame:
    """Return a ranking's table with these columns, of maps in network order, put in its order."""
    order = table.index.to_numpy()
    found = table.assign(**{name: values[order] for name, values in columns.items()})
    return found.reset_index(drop=True)
