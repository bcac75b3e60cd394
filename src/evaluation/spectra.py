"""Average spectra and noise residuals of reals and fakes, and the periodic traces in them.

Up-sampling layers leave periodic traces, which are peaks of the mean spectrum (Zhang et al. 2019,
Frank et al. 2020), best seen in the residual of a denoiser (Marra et al. 2019, Corvi et al. 2023).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self, Unpack

import numpy as np
import pandas as pd
from PIL import Image
from scipy.ndimage import median_filter
from scipy.stats import t as student
from torch import nn

from ..data import Batch, require_both_classes
from ..data.presets import Preset
from ..detectors import Detector, WeightsOrigin
from ..errors import UserError
from ..records import FAKE, REAL, ImageSet, Result, Skipped
from ..sweep import How, Look, Rows, Seen, sweep
from ..sweep.exact import SignedSum
from .intervals import Cluster, clusters_of
from .significance import LEVEL, holm

KINDS = ("image", "residual")
LABELS = {REAL: "real", FAKE: "fake"}
LARGEST, SMALLEST = 256, 32  # pixels of the square that is looked at
LUMA = np.array([0.299, 0.587, 0.114])
FLOOR = (1 / 255) ** 2 / 12  # variance of rounding to 8 bits: below it nothing is known
PERIODS = (2, 3, 4, 8)  # pixels
AROUND, INSIDE = 5, 1  # bins to each side that a peak is held against, and that belong to it


@dataclass(frozen=True, eq=False, repr=False)
class Spectra(Result):
    """Mean log spectra of images and of their noise residuals, by generator and label.

    mean: (generator, label) → log10 power, float64 (2, S, S/2 + 1): image and residual, as
        ``numpy.fft.rfft2`` orders frequencies; white noise of variance v has power v.
    radial: generator, label, kind, frequency (cycles a pixel), power, low, high, n.
    peaks: one row a generator and frequency of a period of 2, 3, 4 or 8 pixels: how far the
        residual's power stands above its surroundings, fakes, reals, difference with its interval,
        p and p_holm (over the periods of one generator), found.
    """

    mean: Mapping[tuple[str, int], np.ndarray]
    radial: pd.DataFrame
    peaks: pd.DataFrame
    skipped: tuple[Skipped, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def spectra(
    images: ImageSet, *, size: int | None = None, cluster: Cluster = "photograph",
    **how: Unpack[How],
) -> Spectra:  # fmt: skip
    """Return mean spectra of the central squares of all images, at native resolution.

    size: their side in pixels, even; by default the largest that all images hold, at most 256.
    Smaller images are left out. cluster: what intervals and tests take as one, see
    :func:`clusters_of`.

    Raises:
        UserError: no generator with reals and fakes, a size out of range, or too many images that
            cannot be used.
    """
    require_both_classes(images)
    sides = {images.image_id(one): _side(one.path) for one in images}
    known = [side for side in sides.values() if side]
    side = min([LARGEST, *known]) // 2 * 2 if size is None else size
    if side < SMALLEST or side % 2:
        raise UserError(
            f"size {side}: spectra take squares of an even side of {SMALLEST} pixels or more; the "
            f"smallest image has {min(known, default=0)}"
        )
    kept = tuple(one for one in images if not 0 < sides[images.image_id(one)] < side)
    small = [
        Skipped(one.path, f"smaller than {side} pixels")
        for one in images
        if 0 < sides[images.image_id(one)] < side
    ]
    how.get("skipped", []).extend(small)
    chosen = ImageSet(images.root, kept, images.layout)
    require_both_classes(chosen)
    look = SpectraLook(side)
    done = sweep(chosen, [look], what="spectra", **how)
    found = spectra_of(look, done.used, cluster)
    return Spectra(found.mean, found.radial, found.peaks, (*small, *done.skipped), found.facts)


def spectra_of(look: SpectraLook, used: ImageSet, cluster: Cluster = "photograph") -> Spectra:
    """Return the spectra of what a pass has shown."""
    statistic = look.statistic
    facts = [
        (used.image_id(one), one.generator, one.label, one.class_name)
        for one in used
        if used.image_id(one) in statistic.rows
    ]
    table = pd.DataFrame(facts, columns=["path", "generator", "label", "class"])
    units, over = clusters_of(table, cluster)
    table["unit"] = table["path"] if units is None else units
    profiles = np.stack([statistic.rows[one][0] for one in table["path"]])
    heights = np.stack([statistic.rows[one][1] for one in table["path"]])
    radial, peaks = [], []
    for (generator, label), own in table.groupby(["generator", "label"]):
        radial.append(_radial(str(generator), int(label), own, profiles[own.index], look.side))
    for generator, own in table.groupby("generator"):
        peaks.append(_peaks(str(generator), own, heights[own.index]))
    every = pd.concat(peaks, ignore_index=True)
    every["found"] = (every["p_holm"] <= LEVEL) & (every["difference"] > 0)
    told = {"size": look.side, "used": len(table), "intervals_over": over, "denoiser": "median 3x3"}
    return Spectra(statistic.result(), pd.concat(radial, ignore_index=True), every, facts=told)


class SpectraLook(Look):
    """The spectrum of each image's luma and of its residual; no network is run.

    side: of the central square that is looked at, in pixels.
    """

    statistic: SpectraStatistic

    def __init__(self, side: int) -> None:
        nothing = WeightsOrigin("none", "", "bare")
        preset = Preset(f"native-{side}", crop=side)
        detector = Detector("pixels", nn.Identity(), preset, (), nothing)
        super().__init__(detector, SpectraStatistic(side), colours=(), facts={"side": side})
        self.side = side
        window = np.hanning(side + 1)[:-1]
        self.window = window[:, None] * window
        self.ring = rings(side)

    def observe(self, batch: Batch, seen: Mapping[str, Seen]) -> Rows:
        """Return log10 power (N, 2, S, S/2 + 1), its mean over rings (N, 2, R), and heights."""
        luma = np.tensordot(batch.pixels.numpy() / 255.0, LUMA, axes=([1], [0]))
        power = np.stack([self._power(one) for one in luma])
        flat = power.reshape(len(power), 2, -1)
        count = np.bincount(self.ring.ravel())
        means = [
            [np.bincount(self.ring.ravel(), kind)[1 : self.side // 2 + 1] for kind in one]
            for one in flat
        ]
        profiles = np.array(means) / count[1 : self.side // 2 + 1]
        heights = np.stack([heights_at(one[1], self.side) for one in power])
        return {"power": power, "profile": profiles, "height": heights}

    def _power(self, luma: np.ndarray) -> np.ndarray:
        residual = luma - median_filter(luma, size=3, mode="reflect")
        found = []
        for values in (luma - luma.mean(), residual):
            spectrum = np.abs(np.fft.rfft2(values * self.window)) ** 2
            found.append(np.log10(spectrum / (self.window**2).sum() + FLOOR))
        return np.stack(found)


class SpectraStatistic:
    """Exact sums of spectra by generator and label, and each image's few numbers."""

    def __init__(self, side: int) -> None:
        self.side = side
        self.sums: dict[tuple[str, int], SignedSum] = {}
        self.rows: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def empty(self) -> Self:
        """Return a statistic of the same kind that has seen nothing."""
        return type(self)(self.side)

    def _sum(self, key: tuple[str, int]) -> SignedSum:
        if key not in self.sums:
            self.sums[key] = SignedSum((2, self.side, self.side // 2 + 1), most=2.0**8)
        return self.sums[key]

    def update(self, batch: Batch, rows: Rows) -> None:
        """Take in the rows of one batch."""
        for place, (entry, one) in enumerate(zip(batch.entries, batch.ids, strict=True)):
            self._sum((entry.generator, entry.label)).add(rows["power"][place][None])
            self.rows[one] = (rows["profile"][place].copy(), rows["height"][place].copy())

    def merge(self, other: Self) -> None:
        """Take in what ``other`` has seen."""
        for key, one in other.sums.items():
            self._sum(key).merge(one)
        self.rows.update(other.rows)

    def state(self) -> dict[str, np.ndarray]:
        """Return sums and rows as plain arrays, in the order of their keys."""
        keys, ids = sorted(self.sums), sorted(self.rows)
        arrays = {f"sum.{place}": self.sums[key].state() for place, key in enumerate(keys)}
        arrays["generators"] = np.array([key[0] for key in keys], dtype=np.str_)
        arrays["labels"] = np.array([key[1] for key in keys], dtype=np.int64)
        arrays["counts"] = np.array([self.sums[key].count for key in keys], dtype=np.int64)
        arrays["ids"] = np.array(ids, dtype=np.str_)
        if ids:
            for name, part in (("profile", 0), ("height", 1)):
                arrays[name] = np.stack([self.rows[one][part] for one in ids])
        return arrays

    def from_state(self, state: Mapping[str, np.ndarray]) -> Self:
        """Return a statistic of the same kind that holds ``state``."""
        found = self.empty()
        keys = zip(state["generators"], state["labels"], state["counts"], strict=True)
        for place, (generator, label, count) in enumerate(keys):
            key = (str(generator), int(label))
            found.sums[key] = found._sum(key).from_state(state[f"sum.{place}"], int(count))
        for place, one in enumerate(state["ids"]):
            found.rows[str(one)] = (state["profile"][place], state["height"][place])
        return found

    def result(self) -> dict[tuple[str, int], np.ndarray]:
        """Return the mean log10 power by generator and label."""
        return {key: self.sums[key].value() / self.sums[key].count for key in sorted(self.sums)}


def rings(side: int) -> np.ndarray:
    """Return the ring of every frequency of ``rfft2``: the distance from 0 in bins, rounded."""
    down, across = np.fft.fftfreq(side) * side, np.arange(side // 2 + 1)
    return np.rint(np.hypot(down[:, None], across)).astype(int)


def candidates() -> list[tuple[float, float]]:
    """Return the frequencies (down, across), in cycles a pixel, of the PERIODS, half a plane."""
    found = set()
    for period in PERIODS:
        for down in range(period):
            for across in range(period // 2 + 1):
                fy = down / period if down <= period / 2 else down / period - 1
                fx = across / period
                if fx in (0.0, 0.5):
                    fy = abs(fy)  # the other half is its mirror image
                found.add((round(fy, 6), round(fx, 6)))
    return sorted(found - {(0.0, 0.0)}, key=lambda one: (math.hypot(*one), one))


def heights_at(power: np.ndarray, side: int) -> np.ndarray:
    """Return how far log10 power stands above its surroundings at each of the candidates.

    power: (S, S/2 + 1). The highest of the bin and its neighbours, which share a frequency between
    two bins, against the median of the 11 × 11 bins about it without these.
    """
    # The whole plane, so that surroundings go on over its edges.
    whole = np.empty((side, side))
    whole[:, : side // 2 + 1] = power
    mirrored = power[:, 1 : side // 2][:, ::-1]
    whole[:, side // 2 + 1 :] = np.roll(mirrored[::-1], 1, axis=0)
    offsets = np.arange(-AROUND, AROUND + 1)
    inside = (np.abs(offsets)[:, None] <= INSIDE) & (np.abs(offsets) <= INSIDE)
    found = []
    for fy, fx in candidates():
        down, across = round(fy * side), round(fx * side)
        patch = whole[np.ix_((down + offsets) % side, (across + offsets) % side)]
        found.append(patch[inside].max() - np.median(patch[~inside]))
    return np.array(found)


def _side(path: Any) -> int:
    try:
        with Image.open(path) as image:
            return min(image.size)
    except (OSError, Image.DecompressionBombError):
        return 0  # the sweep says what is wrong with it


def _radial(
    generator: str, label: int, own: pd.DataFrame, profiles: np.ndarray, side: int
) -> pd.DataFrame:
    means = _unit_means(own, profiles.reshape(len(own), -1))
    low, high = _interval(profiles.reshape(len(own), -1).mean(axis=0), means)
    frequency = np.arange(1, side // 2 + 1) / side
    return pd.DataFrame(
        {
            "generator": generator,
            "label": LABELS[label],
            "kind": np.repeat(KINDS, side // 2),
            "frequency": np.tile(frequency, 2),
            "power": profiles.reshape(len(own), -1).mean(axis=0),
            "low": low,
            "high": high,
            "n": len(own),
        }
    )


def _peaks(generator: str, own: pd.DataFrame, heights: np.ndarray) -> pd.DataFrame:
    """Return each candidate's height, fakes against reals: pairs of photographs where all are."""
    of = {}
    for label in LABELS:
        rows = (own["label"] == label).to_numpy()
        of[label] = (heights[rows].mean(axis=0), _unit_means(own[rows], heights[rows]))
    difference = of[FAKE][0] - of[REAL][0]
    fakes, reals = of[FAKE][1], of[REAL][1]
    if set(fakes.index) == set(reals.index):
        pairs = (fakes - reals.loc[fakes.index]).to_numpy()
        error, free = pairs.std(axis=0, ddof=1) / math.sqrt(len(pairs)), len(pairs) - 1.0
    else:  # Welch's
        parts = [one.to_numpy().var(axis=0, ddof=1) / len(one) for one in (fakes, reals)]
        error = np.sqrt(parts[0] + parts[1])
        with np.errstate(invalid="ignore", divide="ignore"):
            free = error**4 / (
                parts[0] ** 2 / (len(fakes) - 1) + parts[1] ** 2 / (len(reals) - 1)
            )  # fmt: skip
    with np.errstate(invalid="ignore", divide="ignore"):
        p = 2 * student.sf(np.abs(difference / error), free)
        half = student.ppf(0.975, free) * error
    at = np.array(candidates())
    return pd.DataFrame(
        {
            "generator": generator,
            "down": at[:, 0],
            "across": at[:, 1],
            "period": 1 / np.abs(at).max(axis=1),
            "height_fake": of[FAKE][0],
            "height_real": of[REAL][0],
            "difference": difference,
            "low": difference - half,
            "high": difference + half,
            "p": (known := np.where(np.isfinite(p), p, 1.0)),
            "p_holm": holm(known),
        }
    )


def _unit_means(own: pd.DataFrame, values: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(values, index=own["unit"].to_numpy()).groupby(level=0).mean()


def _interval(mean: np.ndarray, units: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return Student's 95 % interval over units, about the mean of all images."""
    if len(units) < 2:
        return np.full(len(mean), np.nan), np.full(len(mean), np.nan)
    spread = units.to_numpy().std(axis=0, ddof=1)
    half = student.ppf(0.975, len(units) - 1) * spread / math.sqrt(len(units))
    return mean - half, mean + half
