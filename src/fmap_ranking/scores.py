"""Scores of feature maps that are means over fakes, or over fakes less reals, with their errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data import Batch
from ..errors import UserError
from ..records import FAKE, REAL, FeatureMap, Ranking
from ..sweep import Rows, SignedSum
from .buckets import BUCKETS, Buckets, Scores, rank_interval, with_errors
from .omega import NOT_FINITE, OmegaStatistic, ranking_table

MOST = 2.0**40  # beyond which no score is summed: the resolution is 2^-56


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores of all feature maps, in network order, as a function of which photographs were drawn.

    score: how often each group of photographs is drawn (BUCKETS,) → (M,); groups: those that hold
    images; used: fakes behind the scores.
    """

    score: Scores
    groups: tuple[int, ...]
    used: int

    @property
    def value(self) -> np.ndarray:
        """The scores (M,) on all images."""
        return self.score(np.ones(BUCKETS))

    def drawn(self, weights: np.ndarray) -> np.ndarray:
        """Return the scores (M,) where the held groups are drawn ``weights`` times."""
        whole = np.zeros(BUCKETS)
        whole[list(self.groups)] = weights
        return self.score(whole)

    def error(self) -> np.ndarray:
        """Return the standard errors (M,): the jackknife over groups; NaN below two."""
        n = len(self.groups)
        unknown = np.full(len(self.value), np.nan)
        if n < 2:
            return unknown
        left = np.stack([self.drawn(1.0 - np.eye(n)[at]) for at in range(n)])
        return np.sqrt((n - 1) / n * ((left - left.mean(axis=0)) ** 2).sum(axis=0))

    def ranking(
        self, feature_maps: Sequence[FeatureMap], by: str, counts: Mapping[str, int],
        facts: Mapping[str, Any], **columns: np.ndarray,
    ) -> Ranking:  # fmt: skip
        """Return the ranking by these scores; columns: more of its table, maps in network order.

        The standard error is the jackknife's over up to 20 groups of photographs; rank_low …
        rank_high is the 95 % percentile interval of the rank when the groups are redrawn.

        Raises:
            UserError: no image was used.
        """
        value = self.value
        if not self.used or np.isnan(value).any():
            told = ", ".join(f"{n} {what}" for what, n in counts.items())
            raise UserError(f"no image could be used to rank by {by} ({told})")
        low, high = rank_interval(self.drawn, len(self.groups), len(feature_maps))
        table = with_errors(
            ranking_table(feature_maps, value, by),
            standard_error=self.error(), rank_low=low, rank_high=high, **columns,
        )  # fmt: skip
        return Ranking(table, FAKE, counts=counts, facts=facts, by=by)


class ScoreStatistic:
    """Means of rows (M,) over the fakes, and over the reals where there are any, by name.

    groups: image id → group of its photograph; times: image id → how often it counts, once where
    it is not named. Holds exact sums in 20 groups: O(feature maps), whatever the number of images.
    """

    def __init__(
        self,
        feature_maps: Sequence[FeatureMap],
        names: Sequence[str],
        groups: Mapping[str, int],
        times: Mapping[str, int] | None = None,
    ) -> None:
        self.feature_maps, self.names = tuple(feature_maps), tuple(names)
        self.groups, self.times = groups, times or {}
        empty = SignedSum((len(self.feature_maps),), MOST)
        self.of = {(name, label): Buckets(empty) for name in self.names for label in (FAKE, REAL)}
        self.left_out: Counter[str] = Counter()

    @property
    def counts(self) -> dict[str, int]:
        """Fakes used, reals beside them, and images left out."""
        fakes, reals = (self.of[self.names[0], label].count for label in (FAKE, REAL))
        return {"used": fakes, "reals": reals, NOT_FINITE: self.left_out[NOT_FINITE]}

    def empty(self) -> ScoreStatistic:
        """Return a statistic of the same kind that has seen nothing."""
        return ScoreStatistic(self.feature_maps, self.names, self.groups, self.times)

    def update(self, batch: Batch, rows: Rows) -> None:
        """Take in one batch: rows of each name, (N, M), maps in network order."""
        finite = np.all([np.isfinite(rows[name]).all(axis=1) for name in self.names], axis=0)
        self.left_out[NOT_FINITE] += int((~finite).sum())
        for row in np.flatnonzero(finite):
            own = batch.ids[row]
            times = self.times.get(own, 1)
            for name in self.names:
                repeated = np.repeat(rows[name][row : row + 1], times, axis=0)
                self.of[name, batch.entries[row].label].add(self.groups[own], repeated)

    def merge(self, other: ScoreStatistic) -> None:
        """Take in what ``other`` has seen."""
        for key, one in self.of.items():
            one.merge(other.of[key])
        self.left_out.update(other.left_out)

    def state(self) -> dict[str, np.ndarray]:
        """Return the sums and counts as plain integer arrays."""
        found = {"left_out": np.array(self.left_out[NOT_FINITE])}
        for (name, label), one in self.of.items():
            found |= one.state(f"{name}/{label}/")
        return found

    def from_state(self, state: Mapping[str, np.ndarray]) -> ScoreStatistic:
        """Return a statistic of the same kind that holds ``state``."""
        found = self.empty()
        found.left_out[NOT_FINITE] = int(state["left_out"])
        found.of = {
            (name, label): one.from_state(state, f"{name}/{label}/")
            for (name, label), one in self.of.items()
        }
        return found

    def result(self) -> dict[str, Scored]:
        """Return the scores by name."""
        return {name: self.scored(name) for name in self.names}

    def scored(self, name: str) -> Scored:
        """Return the scores of a name: the mean over fakes, less that over reals if any came."""
        fakes, reals = self.of[name, FAKE], self.of[name, REAL]
        groups = tuple(sorted(fakes.places | reals.places))
        if not reals.count:
            return Scored(fakes.means(), groups, fakes.count)
        of_fakes, of_reals = fakes.means(), reals.means()
        return Scored(lambda drawn: of_fakes(drawn) - of_reals(drawn), groups, fakes.count)


def scored_omega(statistic: OmegaStatistic, by: str = "omega") -> Scored:
    """Return ω, or ω × width, as a function of which groups of images were drawn."""
    omega, scale = statistic.sums.means(), statistic.scale(by)
    groups = tuple(sorted(statistic.sums.places))
    return Scored(lambda drawn: omega(drawn) * scale, groups, statistic.used)
