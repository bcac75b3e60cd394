"""FF-RS ω: the mean share of a layer's relevance that a feature map holds (T-FF, Algorithm 1)."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from ..data import Batch
from ..records import FAKE, FeatureMap, Ranking
from ..sweep import ExactSum, Rows

BUCKETS = 20  # groups of images, by their ids, that the rank interval is resampled from
RESAMPLES = 200
INTERVAL = (2.5, 97.5)  # percentiles of the resampled ranks

WRONG, NOT_CONFIDENT, NOT_FINITE = "wrong prediction", "not confident", "logit not finite"


def relevance_shares(relevance: torch.Tensor) -> torch.Tensor:
    """Return r (N, C), float64 on the CPU: each feature map's share of its layer's relevance.

    relevance: R (N, C, h, w) of one layer, signed.
    r = Σ_hw max(0, R) / Σ_chw |R|, between 0 and 1; 0 where a layer received no relevance at all.
    """
    exact = relevance.detach().double()
    positive = exact.clamp(min=0).sum(dim=(2, 3))
    absolute = exact.abs().sum(dim=(1, 2, 3))
    # Padding the denominator with 1 where it is 0 gives 0 / 1 and no NaN.
    shares = positive / torch.where(absolute > 0, absolute, 1.0)[:, None]
    return shares.cpu()


class OmegaStatistic:
    """ω of every feature map over the images predicted right and confidently; mergeable.

    min_confidence: smallest probability that the detector must give to the image's true class:
        0.9 is the published p ≥ 0.90 for fakes and p ≤ 0.10 for reals.

    Holds, per feature map, Σr in 20 buckets of images and Σr², both exact, and the number of images
    used and left out by reason: O(feature maps), whatever the number of images.
    """

    def __init__(
        self, feature_maps: Sequence[FeatureMap], label: int = FAKE, min_confidence: float = 0.9
    ) -> None:
        self.feature_maps = tuple(feature_maps)
        self.label = label
        self.min_confidence = min_confidence
        shape = (len(self.feature_maps),)
        self.sums = [ExactSum(shape) for _ in range(BUCKETS)]
        self.squares = ExactSum(shape)
        self.left_out: Counter[str] = Counter()

    @property
    def used(self) -> int:
        """The number of images in the mean."""
        return self.squares.count

    @property
    def counts(self) -> dict[str, int]:
        """Images used, and left out by reason."""
        reasons = (WRONG, NOT_CONFIDENT, NOT_FINITE)
        return {"used": self.used, **{reason: self.left_out[reason] for reason in reasons}}

    def empty(self) -> OmegaStatistic:
        """Return a statistic of the same kind that has seen nothing."""
        return OmegaStatistic(self.feature_maps, self.label, self.min_confidence)

    def update(self, batch: Batch, rows: Rows) -> None:
        """Take in one batch: judge each image, then add the shares of those that count.

        rows: ``logit`` (N,), float64; ``share``: r, float64 (N, M), feature maps in network order.
        """
        logits = rows["logit"]
        if (batch.labels != self.label).any():
            raise ValueError(f"this statistic takes images of label {self.label} only")
        toward = logits if self.label == FAKE else -logits
        # p ≥ c in logits, where nothing saturates.
        confident = toward >= np.log(self.min_confidence / (1 - self.min_confidence))
        finite = np.isfinite(logits)
        # A logit of exactly 0 is p = 0.5, which is decided as real.
        right = finite & ((toward > 0) | ((toward == 0) & (self.label != FAKE)))
        self.left_out[NOT_FINITE] += int((~finite).sum())
        self.left_out[WRONG] += int((finite & ~right).sum())
        self.left_out[NOT_CONFIDENT] += int((right & ~confident).sum())
        kept = np.flatnonzero(right & confident)
        self.squares.add(rows["share"][kept] ** 2)
        for row in kept:
            bucket = _bucket(batch.ids[row])
            self.sums[bucket].add(rows["share"][row : row + 1])

    def merge(self, other: OmegaStatistic) -> None:
        """Take in what ``other`` has seen."""
        if (other.feature_maps, other.label) != (self.feature_maps, self.label):
            raise ValueError("only statistics of the same feature maps and label can be merged")
        for mine, others in zip(self.sums, other.sums, strict=True):
            mine.merge(others)
        self.squares.merge(other.squares)
        self.left_out.update(other.left_out)

    def state(self) -> dict[str, np.ndarray]:
        """Return the sums and the counts as plain integer arrays."""
        reasons = (WRONG, NOT_CONFIDENT, NOT_FINITE)
        return {
            "sums": np.stack([one.words for one in self.sums]),
            "sizes": np.array([one.count for one in self.sums]),
            "squares": self.squares.words.copy(),
            "left_out": np.array([self.left_out[reason] for reason in reasons]),
        }

    def from_state(self, state: Mapping[str, np.ndarray]) -> OmegaStatistic:
        """Return a statistic of the same kind that holds ``state``."""
        found = self.empty()
        for one, words, size in zip(found.sums, state["sums"], state["sizes"], strict=True):
            one.words, one.count = words.astype(np.int64), int(size)
        found.squares.words = state["squares"].astype(np.int64)
        found.squares.count = int(state["sizes"].sum())
        for reason, number in zip(
            (WRONG, NOT_CONFIDENT, NOT_FINITE), state["left_out"], strict=True
        ):
            found.left_out[reason] = int(number)
        return found

    def result(self) -> Ranking:
        """Return the ranking: ω with its standard error, ω × width and the rank interval.

        standard_error is s / √n (n − 1 in s), NaN below two images. rank_low … rank_high is the
        95 % percentile interval of the rank (1 = highest ω) when the buckets of images are
        resampled with replacement, NaN where fewer than two buckets hold images.

        Raises:
            ValueError: no image was used.
        """
        n = self.used
        if n == 0:
            raise ValueError("no image was used")
        total = self.squares.empty_like()
        for one in self.sums:
            total.merge(one)
        omega = total.value() / n
        table = ranking_table(self.feature_maps, omega)
        if n > 1:
            variance = (self.squares.value() - n * omega**2) / (n - 1)
            # Where all images agree, rounding may leave a little below nothing.
            error = np.sqrt(np.maximum(variance, 0) / n)
            table["standard_error"] = error[table.index.to_numpy()]
        low, high = self._rank_interval()
        table["rank_low"] = low[table.index.to_numpy()]
        table["rank_high"] = high[table.index.to_numpy()]
        return Ranking(table.reset_index(drop=True), self.label, counts=self.counts)

    def buckets(self) -> tuple[np.ndarray, np.ndarray]:
        """Return Σr (B, M), feature maps in network order, and the images (B,) of each bucket.

        Only buckets that hold images: resampling them with replacement resamples the images.
        """
        held = [one for one in self.sums if one.count]
        empty = np.zeros((0, len(self.feature_maps)))
        sums = np.stack([one.value() for one in held]) if held else empty
        return sums, np.array([one.count for one in held], dtype=np.int64)

    def _rank_interval(self) -> tuple[np.ndarray, np.ndarray]:
        held = [one for one in self.sums if one.count]
        unknown = np.full(len(self.feature_maps), np.nan)
        if len(held) < 2:
            return unknown, unknown
        sums = np.stack([one.value() for one in held])
        rng = np.random.default_rng(0)  # the same resamples on every run
        weights = rng.multinomial(len(held), np.full(len(held), 1 / len(held)), size=RESAMPLES)
        ranks = np.empty((RESAMPLES, len(self.feature_maps)), dtype=np.int32)
        positions = np.arange(1, len(self.feature_maps) + 1)
        for resample, weight in enumerate(weights):
            # The number of images of a resample scales all ω alike, so it leaves ranks alone.
            ranks[resample, descending(weight @ sums)] = positions
        low, high = np.percentile(ranks, INTERVAL, axis=0)
        return low, high


def descending(omega: np.ndarray) -> np.ndarray:
    """Return the order of falling ω; equal values keep the order they come in (the network's)."""
    return np.argsort(-omega, kind="stable")


def ranking_table(
    feature_maps: Sequence[FeatureMap], scores: np.ndarray, by: str = "omega"
) -> pd.DataFrame:
    """Return the table of a :class:`Ranking` in falling scores; its index is the input's place.

    by: what the scores are. standard_error, rank_low and rank_high are NaN until somebody knows
    them.
    """
    order = descending(scores)
    chosen = [feature_maps[i] for i in order]
    width = np.array([one.width for one in chosen], dtype=np.int64)
    omega = by == "omega"
    return pd.DataFrame(
        {
            "layer": [one.layer for one in chosen],
            "channel": np.array([one.channel for one in chosen], dtype=np.int64),
            "width": width,
            "omega" if omega else "score": scores[order],
            "standard_error": np.nan,
            **({"omega_width": scores[order] * width} if omega else {}),
            "rank_low": np.nan,
            "rank_high": np.nan,
        },
        index=order,
    )


def _bucket(image_id: str) -> int:
    digest = hashlib.sha256(image_id.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") % BUCKETS
