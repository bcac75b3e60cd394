"""FF-RS ω: the mean share of a layer's relevance that a feature map holds (T-FF, Algorithm 1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from ..data import Batch
from ..records import FAKE, FeatureMap, Ranking
from ..sweep import ExactSum, Rows
from .buckets import Buckets, bucket_of, descending, rank_interval, with_errors

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
    groups: image id → the bucket that it is resampled with; by its id itself where there are none.

    Holds, per feature map, Σr in 20 buckets of images and Σr², both exact, and the number of images
    used and left out by reason: O(feature maps), whatever the number of images.
    """

    def __init__(
        self,
        feature_maps: Sequence[FeatureMap],
        label: int = FAKE,
        min_confidence: float = 0.9,
        groups: Mapping[str, int] | None = None,
    ) -> None:
        self.feature_maps = tuple(feature_maps)
        self.label = label
        self.min_confidence = min_confidence
        self.groups = groups or {}
        self.sums = Buckets(ExactSum((len(self.feature_maps),)))
        self.squares = ExactSum((len(self.feature_maps),))
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
        return OmegaStatistic(self.feature_maps, self.label, self.min_confidence, self.groups)

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
            own = batch.ids[row]
            bucket = self.groups[own] if self.groups else bucket_of(own)
            self.sums.add(bucket, rows["share"][row : row + 1])

    def merge(self, other: OmegaStatistic) -> None:
        """Take in what ``other`` has seen."""
        if (other.feature_maps, other.label) != (self.feature_maps, self.label):
            raise ValueError("only statistics of the same feature maps and label can be merged")
        self.sums.merge(other.sums)
        self.squares.merge(other.squares)
        self.left_out.update(other.left_out)

    def state(self) -> dict[str, np.ndarray]:
        """Return the sums and the counts as plain integer arrays."""
        reasons = (WRONG, NOT_CONFIDENT, NOT_FINITE)
        return {
            **self.sums.state(),
            "squares": self.squares.state(),
            "left_out": np.array([self.left_out[reason] for reason in reasons]),
        }

    def from_state(self, state: Mapping[str, np.ndarray]) -> OmegaStatistic:
        """Return a statistic of the same kind that holds ``state``."""
        found = self.empty()
        found.sums = self.sums.from_state(state)
        found.squares = self.squares.from_state(state["squares"], found.sums.count)
        for reason, number in zip(
            (WRONG, NOT_CONFIDENT, NOT_FINITE), state["left_out"], strict=True
        ):
            found.left_out[reason] = int(number)
        return found

    def result(self, by: str = "omega") -> Ranking:
        """Return the ranking: ω with its standard error, ω × width and the rank interval.

        by: 'omega', or 'omega-width' to rank by ω × width, which makes up for a narrow layer's
        larger shares.

        standard_error is s / √n (n − 1 in s), NaN below two images. rank_low … rank_high is the
        95 % percentile interval of the rank (1 = highest ω) when the buckets of images are
        resampled with replacement, NaN where fewer than two buckets hold images.

        Raises:
            ValueError: no image was used.
        """
        n = self.used
        if n == 0:
            raise ValueError("no image was used")
        omega, scale = self.sums.total() / n, self.scale(by)
        error = np.full(len(omega), np.nan)
        if n > 1:
            variance = (self.squares.value() - n * omega**2) / (n - 1)
            # Where all images agree, rounding may leave a little below nothing.
            error = np.sqrt(np.maximum(variance, 0) / n)
        sums, counts = self.buckets()
        # The number of images of a resample scales all ω alike, so it leaves ranks alone.
        low, high = rank_interval(lambda drawn: drawn @ sums * scale, len(counts), len(omega))
        table = with_errors(
            ranking_table(self.feature_maps, omega * scale, by),
            standard_error=error * scale, rank_low=low, rank_high=high,
        )  # fmt: skip
        return Ranking(table, self.label, counts=self.counts, by=by)

    def scale(self, by: str) -> np.ndarray:
        """Return what ω is multiplied by, (M,): the layer's width, or 1."""
        widths = np.array([one.width for one in self.feature_maps], dtype=np.float64)
        return widths if by == "omega-width" else np.ones_like(widths)

    def buckets(self) -> tuple[np.ndarray, np.ndarray]:
        """Return Σr (B, M), feature maps in network order, and the images (B,) of each bucket.

        Only buckets that hold images: resampling them with replacement resamples the images.
        """
        return self.sums.held()


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
