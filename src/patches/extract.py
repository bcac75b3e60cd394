"""LRP-max patches (T-FF, Fig. 1): what the forensic feature maps look at, cut out of images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Unpack

import numpy as np
import pandas as pd
import torch

from ..detectors import Detector
from ..errors import UserError
from ..fmap_ranking import fitting, top
from ..lrp import LRP
from ..records import FAKE, FeatureMap, ImageEntry, ImageSet, Ranking, Result, Skipped
from ..sweep import BATCH_SIZE, How, Pass, PixelLook, sweep
from .patch import PERCENTILE, Patch, bounding_box, heat
from .topn import Peak, PeakLook, TopImages

COLUMNS = (
    "rank", "feature_map", "omega", "place", "path", "generator", "maximum", "y", "x",
    "start", "start_y", "start_x", "top", "left", "height", "width", "share_of_relevance",
    "share_of_image", "reach_height", "reach_width", "note",
)  # fmt: skip

NOT_POSITIVE = "no position of the map is positive"
NO_RELEVANCE = "no positive relevance reaches the pixels"
NO_AREA = "the published box holds no pixel"


@dataclass(frozen=True, eq=False, repr=False)
class Patches(Result):
    """The patches of the top k feature maps, in rank order, each map's best image first.

    feature_maps: the k maps; n: how many images each has at most; facts: what a manifest says.
    """

    patches: tuple[Patch, ...]
    feature_maps: tuple[FeatureMap, ...]
    n: int
    facts: Mapping[str, Any] = field(default_factory=dict)
    skipped: tuple[Skipped, ...] = ()

    @property
    def table(self) -> pd.DataFrame:
        """One row a patch; see :class:`Patch`. Box columns are NaN where there is none."""
        ranks = {feature_map: rank for rank, feature_map in enumerate(self.feature_maps, 1)}
        rows = []
        for one in self.patches:
            box = (one.box.top, one.box.left, one.box.height, one.box.width) if one.box else ()
            reach = (one.reach.height, one.reach.width) if one.reach else ()
            named = (ranks[one.feature_map], str(one.feature_map), one.omega, one.place, one.image)
            plain = (one.generator, one.maximum, one.y, one.x)
            folded = (one.start, one.start_y, one.start_x)
            shares = (one.share_of_relevance, one.share_of_image)
            where = (*(box or (np.nan,) * 4), *shares, *(reach or (np.nan,) * 2))
            rows.append((*named, *plain, *folded, *where, one.note))
        table = pd.DataFrame(rows, columns=list(COLUMNS))
        whole = ["top", "left", "height", "width", "reach_height", "reach_width"]
        return table.astype(dict.fromkeys(whole, "Int64"))

    def of(self, feature_map: FeatureMap) -> tuple[Patch, ...]:
        """Return one map's patches, best image first."""
        return tuple(one for one in self.patches if one.feature_map == feature_map)


@dataclass(frozen=True, eq=False, repr=False)
class Collages(Result):
    """The patches of several generators, by name; facts: what a manifest says of each."""

    of: Mapping[str, Patches]
    facts: Mapping[str, Any] = field(default_factory=dict)
    skipped: tuple[Skipped, ...] = ()


@dataclass(frozen=True)
class _Job:
    feature_map: FeatureMap
    place: int
    peak: Peak


def patches(
    detector: Detector,
    images: ImageSet,
    ranking: Ranking,
    k: int,
    n: int = 5,
    *,
    generator: str | None = None,
    percentile: float = PERCENTILE,
    published_edge: bool = False,
    composite: str = "beta0",
    **how: Unpack[How],
) -> Patches:
    """Return the LRP-max patches of the top k feature maps on the fakes of ``images``.

    One pass finds each map's n fakes with the largest maximum of the convolution output. Then, for
    each of these, relevance 1 starts at the (folded) map's largest value and is carried to the
    pixels; their positive relevance, summed over colour, is cut at its percentile, and the box
    around what is above is cropped out of the image.

    generator: of the fakes, all by default; published_edge: see :func:`bounding_box`; composite:
    the rules of LRP.

    Raises:
        UserError: no such fakes, a ranking of another network, k or n or the percentile out of
            range, or too many unreadable images.
    """
    names: tuple[str | None, ...] = (generator,)
    cut = {"percentile": percentile, "published_edge": published_edge, "composite": composite}
    (found,) = _found(detector, images, ranking, k, n, names, cut, how)
    return found


def collages(
    detector: Detector,
    images: ImageSet,
    ranking: Ranking,
    k: int,
    n: int = 5,
    *,
    generators: Sequence[str] = (),
    percentile: float = PERCENTILE,
    published_edge: bool = False,
    composite: str = "beta0",
    **how: Unpack[How],
) -> Collages:
    """Return the patches of each generator's fakes, of all by default; see :func:`patches`.

    One pass finds the images of all.
    """
    names = tuple(generators) or images.only(label=FAKE).generators or (None,)
    cut = {"percentile": percentile, "published_edge": published_edge, "composite": composite}
    parts = _found(detector, images, ranking, k, n, names, cut, how)
    of = {str(one.facts["generator"]): one for one in parts}
    facts = {
        "detector": detector.name,
        "used": sum(one.facts["used"] for one in parts),
        "composite": parts[0].facts["composite"],
        "collages": {name: dict(one.facts) for name, one in of.items()},
    }
    return Collages(of, facts, parts[0].skipped)


def _found(
    detector: Detector,
    images: ImageSet,
    ranking: Ranking,
    k: int,
    n: int,
    generators: Sequence[str | None],
    cut: Mapping[str, Any],
    how: How,
) -> list[Patches]:
    if n < 1:
        raise UserError(f"n = {n}: at least one patch a feature map")
    if not 0 <= cut["percentile"] < 100:
        raise UserError(f"percentile {cut['percentile']:g}: must be 0 or more and below 100")
    feature_maps = top(ranking, k)
    detector = fitting(ranking, detector)
    looks = [PeakLook(detector, feature_maps, n, one) for one in dict.fromkeys(generators)]
    for look in looks:
        if not any(map(look.wants, images)):
            whose = f" of {look.generator!r}; generators: {', '.join(images.generators)}"
            raise UserError(f"{images.root}: holds no fakes" + (whose if look.generator else ""))
    chosen = tuple(one for one in images if any(look.wants(one) for look in looks))
    fakes = ImageSet(images.root, chosen, images.layout)
    done = sweep(fakes, looks, what="finding images", **how)
    return [patches_of(look, done, ranking, **cut, **how) for look in looks]


def patches_of(
    look: PeakLook,
    done: Pass,
    ranking: Ranking,
    *,
    percentile: float = PERCENTILE,
    published_edge: bool = False,
    composite: str = "beta0",
    **how: Unpack[How],
) -> Patches:
    """Return the patches of the images that a pass has found; see :func:`patches`."""
    best = look.statistic
    used = ImageSet(done.used.root, tuple(filter(look.wants, done.used)), done.used.layout)
    found = cut(
        look.detector, used, ranking, best,
        percentile=percentile, published_edge=published_edge, composite=composite, **how,
    )  # fmt: skip
    facts = {
        "detector": look.detector.name,
        "generator": look.generator or "all",
        "image_set": used.hash(),
        "used": best.seen,
        "k": len(best.feature_maps),
        "n": best.n,
        "percentile": percentile,
        "box": "published: last row and column left out" if published_edge else "inclusive",
        "preset": look.detector.preset.name,
        "composite": composite,
        "seed": how.get("seed", 0),
        "maxima_not_finite": best.not_finite,
        "without_patch": sum(one.crop is None for one in found),
    }
    return Patches(found, best.feature_maps, best.n, facts, done.skipped)


def cut(
    detector: Detector,
    images: ImageSet,
    ranking: Ranking,
    best: TopImages,
    *,
    percentile: float = PERCENTILE,
    published_edge: bool = False,
    composite: str = "beta0",
    lrp: LRP | None = None,
    **how: Unpack[How],
) -> tuple[Patch, ...]:
    """Return the patches of lists that a pass over ``images`` has found, in the lists' order.

    Listed images that ``best.pixels`` holds are not read again; those it does not are read once.
    lrp: one that is ready, of the detector, instead of one of the composite.
    """
    entries = {images.image_id(entry): entry for entry in images}
    omega = dict(zip(ranking.feature_maps(), ranking.scores, strict=True))
    jobs = [
        _Job(feature_map, place, peak)
        for feature_map, peaks in best.result().items()
        for place, peak in enumerate(peaks, 1)
    ]
    batch_size, told = how.get("batch_size", BATCH_SIZE), how.get("progress")
    lrp = LRP(detector, composite=composite) if lrp is None else lrp
    found: dict[tuple[FeatureMap, int], Patch] = {}
    for pixels in _pixels(detector, images, entries, best, batch_size, how.get("seed", 0)):
        for group in _groups([job for job in jobs if job.peak.image_id in pixels], pixels):
            for rows in (group[i : i + batch_size] for i in range(0, len(group), batch_size)):
                stacked = np.stack([pixels[job.peak.image_id] for job in rows])
                batch = detector.preset.normalise(torch.from_numpy(stacked).to(lrp.device))
                channels = [job.feature_map.channel for job in rows]
                layer = rows[0].feature_map.layer
                # The copy of the network may be float64; presets give float32.
                seen = lrp.from_feature_map(batch.to(lrp.dtype), layer, channels)
                starts = seen.maxima.double().cpu().numpy()
                positions, relevance = seen.positions.cpu().numpy(), seen.pixels.cpu().numpy()
                for row, job in enumerate(rows):
                    found[job.feature_map, job.place] = _patch(
                        job, omega[job.feature_map], entries[job.peak.image_id], stacked[row],
                        relevance[row], float(starts[row]), positions[row], percentile,
                        published_edge,
                    )  # fmt: skip
                if told:
                    told("cutting patches", len(found), len(jobs))
    return tuple(found[job.feature_map, job.place] for job in jobs)


def _patch(
    job: _Job,
    omega: float,
    entry: ImageEntry,
    pixels: np.ndarray,
    relevance: np.ndarray,
    start: float,
    position: np.ndarray,
    percentile: float,
    published_edge: bool,
) -> Patch:
    values = heat(relevance)
    box = bounding_box(values, percentile, published_edge=published_edge) if start > 0 else None
    if start <= 0:
        note = NOT_POSITIVE
    elif not values.any():
        note = NO_RELEVANCE
    else:
        note = "" if box else NO_AREA
    inside = float(box.cut(values).sum() / values.sum()) if box else np.nan
    return Patch(
        feature_map=job.feature_map,
        omega=omega,
        place=job.place,
        image=job.peak.image_id,
        path=entry.path,
        generator=entry.generator,
        maximum=job.peak.value,
        y=job.peak.y,
        x=job.peak.x,
        start=start,
        start_y=int(position[0]),
        start_x=int(position[1]),
        box=box,
        share_of_relevance=inside,
        share_of_image=box.height * box.width / values.size if box else np.nan,
        reach=bounding_box((relevance != 0).any(axis=0).astype(float), 0.0),
        crop=box.cut(pixels.transpose(1, 2, 0)) if box else None,
        note=note,
    )


def _groups(jobs: Sequence[_Job], pixels: Mapping[str, np.ndarray]) -> Iterator[list[_Job]]:
    """Yield jobs that can share a batch: of one layer, on images of one size."""
    groups: dict[tuple[Any, ...], list[_Job]] = {}
    for job in jobs:
        key = job.feature_map.layer, pixels[job.peak.image_id].shape
        groups.setdefault(key, []).append(job)
    yield from groups.values()


def _pixels(
    detector: Detector,
    images: ImageSet,
    entries: Mapping[str, ImageEntry],
    best: TopImages,
    batch_size: int,
    seed: int,
) -> Iterator[dict[str, np.ndarray]]:
    """Yield the listed images, uint8 (3, H, W) by id: those kept, then those to be read again."""
    if best.pixels:
        yield best.pixels
    again = tuple(entries[one] for one in sorted(best.listed() - set(best.pixels)))
    rest = ImageSet(images.root, again, images.layout)
    if not again:
        return
    look = PixelLook(detector)
    how: How = {"batch_size": batch_size, "seed": seed, "max_skipped": 0.0}
    sweep(rest, [look], what="reading images again", **how)
    yield {image_id: row["pixels"] for (_, image_id), row in look.statistic.rows.items()}
