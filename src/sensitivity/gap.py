"""How much of what tells fakes from reals went with a set of maps, with intervals by photograph.

L is a logit of 'fake' without the maps, L₀ that of the whole network. The gap removed is
1 − (mean L(f) − mean L(r)) / (mean L₀(f) − mean L₀(r)), f fakes and r reals: 1 where nothing is
left, below 0 where the classes moved apart, above 1 where they changed sides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..evaluation import (
    Cluster,
    clusters_of,
    jackknife_interval,
    left_out,
    sigmoid,
    weighted_average_precision,
    widened,
    wilson,
)
from ..evaluation.intervals import Interval, Scale
from ..records import FAKE, REAL, ImageSet
from .masks import Mask
from .tables import macros

# What is measured, and on which scale its interval is even.
MEASURES: dict[str, Scale] = {
    "gap_removed": "plain",
    "change_real_of_fake": "plain",
    "ap": "logit",
    "fake_accuracy_05": "plain",
    "real_accuracy_05": "plain",
    "residual": "plain",
    "real_correlation": "fisher",
}
Sums = dict[str, np.ndarray]  # name → (masks, 1 + J), whole and with each photograph left out


@dataclass(frozen=True, eq=False)
class Ground:
    """What every mask of an image set is measured against; images that could not be used are out.

    labels, generators, plain, photograph: (N,), plain the logits of the whole network, photograph
    that of the photograph that a fake was made from (NaN if unknown). weights: (1 + J, N), see
    :func:`forensift.evaluation.left_out`; over: what is left out, in a word.
    groups: each generator, and each macro mean, with the generators that it is of.
    """

    used: np.ndarray
    labels: np.ndarray
    generators: np.ndarray
    plain: np.ndarray
    photograph: np.ndarray
    weights: np.ndarray
    over: str
    groups: Mapping[str, Sequence[str]]


def ground(
    images: ImageSet,
    plain: np.ndarray,
    photograph: Mapping[str, float],
    cluster: Cluster,
    training_family: str | None = None,
) -> Ground:
    """Return what masks are measured against.

    plain: logits of the whole network (images,), NaN where one could not be used; photograph: id of
    a fake → the logit of its photograph.
    """
    used = np.flatnonzero(~np.isnan(plain))
    entries = [images.entries[at] for at in used]
    ids = [images.image_id(entry) for entry in entries]
    rows = pd.DataFrame({"path": ids, "class": [entry.class_name for entry in entries]})
    clusters, over = clusters_of(rows, cluster)
    names = images.generators
    return Ground(
        used,
        np.array([entry.label for entry in entries]),
        np.array([entry.generator for entry in entries], dtype=object),
        plain[used],
        np.array([photograph.get(one, np.nan) for one in ids]),
        left_out(np.array(ids) if clusters is None else clusters),
        over,
        {**{name: (name,) for name in names}, **macros(names, training_family)},
    )


def sums_of(on: Ground, logits: np.ndarray) -> dict[str, Sums]:
    """Return for each generator and macro mean what the measures are made of; see ``MEASURES``.

    logits: (masks, images of the set). A macro mean weighs generators alike; its gap is that of
    the mean logits, so that a generator with hardly a gap to lose does not decide it.
    """
    own = logits[:, on.used]
    alone = {name: _sums(on, own, name) for name, members in on.groups.items() if name in members}
    return {
        name: alone[name]
        if name in members
        else {
            key: np.mean([alone[one][key] for one in members], axis=0) for key in alone[members[0]]
        }
        for name, members in on.groups.items()
    }


def _sums(on: Ground, logits: np.ndarray, generator: str) -> Sums:
    chosen = on.generators == generator
    weights, labels, own = on.weights[:, chosen], on.labels[chosen], logits[:, chosen]
    plain, photograph = on.plain[chosen], on.photograph[chosen]
    fake, real = weights * (labels == FAKE), weights * (labels == REAL)
    paired = fake * ~np.isnan(photograph)
    known = np.nan_to_num(photograph)

    def mean(values: np.ndarray, by: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.atleast_2d(values) @ by.T / by.sum(axis=1)

    precision = [weighted_average_precision(labels, row, weights) for row in sigmoid(own)]
    return {
        "fake_moved": mean(own - plain, fake),
        "real_moved": mean(own - plain, real),
        "fake_before": mean(plain, fake).repeat(len(own), axis=0),
        "real_before": mean(plain, real).repeat(len(own), axis=0),
        "ap": np.stack(precision),
        "ap_before": weighted_average_precision(labels, sigmoid(plain), weights)[None].repeat(
            len(own), axis=0
        ),
        "fake_accuracy_05": mean(own > 0, fake),
        "real_accuracy_05": mean(own <= 0, real),
        "residual": mean(np.abs(own - known), paired),
        "residual_before": mean(np.abs(plain - known), paired).repeat(len(own), axis=0),
        "real_correlation": _correlation(own, plain, real, mean),
    }


def _correlation(
    own: np.ndarray, plain: np.ndarray, by: np.ndarray, mean: Callable[..., np.ndarray]
) -> np.ndarray:
    """Return the correlation of the reals' logits with their own under the whole network."""
    centre, before = own - mean(own, by)[:, :1], plain - mean(plain, by)[:, :1]
    (one, two), both = (mean(c, by) for c in (centre, before)), mean(centre * before, by)
    square, square_before = mean(centre**2, by) - one**2, mean(before**2, by) - two**2
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = np.sqrt(np.maximum(square, 0) * np.maximum(square_before, 0))
        # A network that says one thing of all reals has no correlation.
        flat = square <= 1e-12 * np.maximum(1, (own**2).max())
        return np.where(flat, np.nan, np.clip((both - one * two) / scale, -1, 1))


def measures_of(sums: Sums) -> Sums:
    """Return the measures of what :func:`sums_of` gave, and what else is told of."""
    before = sums["fake_before"] - sums["real_before"]
    fakes, reals = sums["fake_moved"], sums["real_moved"]
    none = np.full_like(fakes, np.nan)
    ratios = {
        "gap_removed": np.divide(reals - fakes, before, out=none.copy(), where=before != 0),
        "change_real_of_fake": np.divide(reals, fakes, out=none, where=fakes != 0),
    }
    return ratios | {key: sums[key] for key in MEASURES if key in sums} | {
        "fall_ap": sums["ap_before"] - sums["ap"], "residual_before": sums["residual_before"],
        "fake_moved": fakes,
    }  # fmt: skip


def over_draws(sums: Sums, masks: Sequence[Mask]) -> dict[tuple[str, int], Sums]:
    """Return the measures (1 + J,) of each mask's name and k, of sums that are means over draws."""
    places: dict[tuple[str, int], list[int]] = {}
    for at, mask in enumerate(masks):
        places.setdefault((mask.name, mask.k), []).append(at)
    return {
        key: measures_of({name: values[rows].mean(axis=0) for name, values in sums.items()})
        for key, rows in places.items()
    }


def interval_of(name: str, values: np.ndarray, present: np.ndarray) -> Interval:
    """Return the interval of one measure; present: (J,), the clusters that the generator has."""
    own, units = values[np.append(True, present)], int(present.sum())
    low, high = jackknife_interval(own, MEASURES.get(name, "plain"))
    if name.endswith("accuracy_05"):
        return widened(float(own[0]), (max(low, 0.0), min(high, 1.0)), units)
    if name == "ap" and own[0] > 1 - 1e-12:
        return min(low, wilson(units, units)[0]), 1.0
    return (max(low, 0.0) if name == "residual" else low), high


def gap_table(on: Ground, masks: Sequence[Mask], logits: np.ndarray) -> pd.DataFrame:
    """Return one row a generator, mask and k (``gap.csv``, ``gap_curve.csv``).

    masks, logits: as scored, the first the baseline. Columns: generator, mask, k, draws; then with
    ``_low`` and ``_high``: gap_removed; change_real_of_fake, the reals' mean change over the
    fakes', NaN where it is not clear that fakes moved; ap; fake_accuracy_05 and real_accuracy_05,
    found fakes and right reals at logit 0; residual, mean |L(f) − L₀(own photograph)| of fakes
    whose photograph is known, and residual_before, with nothing taken away; real_correlation, of
    the reals' L with their L₀. Then intervals_over, and units, how many of these. Controls are
    means over their draws; intervals leave out one photograph after another and say nothing of
    which maps were drawn.
    """
    rows = []
    counts = Counter((mask.name, mask.k) for mask in masks)
    for generator, sums in sums_of(on, logits).items() if masks else ():
        present = presence(on, generator)
        for (name, k), own in over_draws(sums, masks).items():
            row: dict[str, object] = {"generator": generator, "mask": name, "k": k}
            row["draws"] = counts[name, k]
            moved = interval_of("fake_moved", own["fake_moved"], present)
            if moved[0] <= 0 <= moved[1]:
                own["change_real_of_fake"] = np.full_like(own["fake_moved"], np.nan)
            for measure in MEASURES:
                low, high = interval_of(measure, own[measure], present)
                row |= {measure: own[measure][0], f"{measure}_low": low, f"{measure}_high": high}
                if measure == "residual":
                    row["residual_before"] = own["residual_before"][0]
            row |= {"intervals_over": on.over, "units": int(present.sum())}
            rows.append(row)
    return pd.DataFrame(rows)


def presence(on: Ground, generator: str) -> np.ndarray:
    """Return which of the clusters left out (J,) a generator or macro mean has images of."""
    chosen = np.isin(on.generators, list(on.groups[generator]))
    return (on.weights[1:, chosen] == 0).any(axis=1)


def area_table(on: Ground, masks: Sequence[Mask], logits: np.ndarray) -> pd.DataFrame:
    """Return the area under the gap removed along log k, over the range of k (``gap_area.csv``).

    That is the mean height of the curve where every doubling of k counts alike: generator, mask,
    k_from, k_to, area, area_low, area_high. Empty with fewer than two k.
    """
    rows = []
    for generator, sums in sums_of(on, logits).items() if masks else ():
        drawn = over_draws(sums, masks)
        present = presence(on, generator)
        for name in dict.fromkeys(mask.name for mask in masks if mask.k):
            grid = sorted(k for own, k in drawn if own == name)
            if len(grid) < 2:
                continue
            curve = np.stack([drawn[name, k]["gap_removed"] for k in grid])
            area = np.trapezoid(curve, np.log(grid), axis=0) / np.log(grid[-1] / grid[0])
            low, high = interval_of("gap_removed", area, present)
            rows.append((generator, name, grid[0], grid[-1], float(area[0]), low, high))
    names = ["generator", "mask", "k_from", "k_to", "area", "area_low", "area_high"]
    return pd.DataFrame(rows, columns=names)


def spoofing_table(
    on: Ground, zero: tuple[Sequence[Mask], np.ndarray], optimal: tuple[Sequence[Mask], np.ndarray]
) -> pd.DataFrame:
    """Return how much of what zero does is damage of zero itself (``spoofing.csv``).

    The spoofing share is (effect under zero − effect under learnt constants) / effect under zero
    (Li and Janson 2024): of the fall of AP, ``ap``, and of the gap removed, ``gap``; each with its
    interval. NaN where zero's own effect cannot be told from none. Columns: generator, mask, k,
    then effects and shares.
    """
    both = [sums_of(on, logits) for _, logits in (zero, optimal)]
    rows = []
    for generator in on.groups:
        first, second = (
            over_draws(sums[generator], masks)
            for sums, (masks, _) in zip(both, (zero, optimal), strict=True)
        )
        present = presence(on, generator)
        for (name, k), own in first.items():
            if not k or (name, k) not in second:
                continue
            row: dict[str, object] = {"generator": generator, "mask": name, "k": k}
            for short, measure in (("ap", "fall_ap"), ("gap", "gap_removed")):
                plain, learnt = own[measure], second[name, k][measure]
                row |= {f"{measure}_zero": plain[0], f"{measure}_optimal": learnt[0]}
                low, high = interval_of(measure, plain, present)
                share, ends = np.nan, (np.nan, np.nan)
                if low > 0 or high < 0:
                    shares = (plain - learnt) / plain
                    share, ends = float(shares[0]), interval_of("share", shares, present)
                row |= {f"spoofing_{short}": share}
                row |= {f"spoofing_{short}_low": ends[0], f"spoofing_{short}_high": ends[1]}
            rows.append(row)
    return pd.DataFrame(rows)
