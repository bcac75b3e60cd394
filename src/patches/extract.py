"""LRP-max patches (T-FF, Fig. 1): what the forensic feature maps look at, cut out of images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..data import Preset, batches, check_skipped
from ..detectors import Detector
from ..errors import UserError
from ..fmap_ranking import check_ranking_fits, top
from ..lrp import LRP
from ..records import FAKE, FeatureMap, ImageEntry, ImageSet, Ranking, Skipped
from ..sweep import Progress, sweep
from .patch import PERCENTILE, Patch, bounding_box, heat
from .topn import Peak, PeakObserver, TopImages

COLUMNS = (
    "rank", "feature_map", "omega", "place", "path", "generator", "maximum", "y", "x",
    "start", "start_y", "start_x", "top", "left", "height", "width", "share_of_relevance",
    "share_of_image", "reach_height", "reach_width", "note",
)  # fmt: skip

NOT_POSITIVE = "no position of the map is positive"
NO_RELEVANCE = "no positive relevance reaches the pixels"
NO_AREA = "the published box holds no pixel"


@dataclass(frozen=True)
class Patches:
    """The patches of the top k feature maps, in rank order, each map's best image first.

    feature_maps: the k maps; n: how many images each has at most; facts: what a manifest says.
    """

    patches: tuple[Patch, ...]
    feature_maps: tuple[FeatureMap, ...]
    n: int
    facts: Mapping[str, Any] = field(default_factory=dict)

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
    preset: Preset | None = None,
    batch_size: int = 16,
    seed: int = 0,
    max_skipped: float = 0.01,
    skipped: list[Skipped] | None = None,
    progress: Progress | None = None,
) -> Patches:
    """Return the LRP-max patches of the top k feature maps on the fakes of ``images``.

    One pass finds each map's n fakes with the largest maximum of the convolution output. Then, for
    each of these, relevance 1 starts at the (folded) map's largest value and is carried to the
    pixels; their positive relevance, summed over colour, is cut at its percentile, and the box
    around what is above is cropped out of the image.

    generator: of the fakes, all by default; published_edge: see :func:`bounding_box`.
    progress: called with numbers that sum to the images that can be read plus the patches.
    preset, batch_size, seed, max_skipped, skipped: as for :func:`forensift.rank`.

    Raises:
        UserError: no such fakes, a ranking of another network, k or n or the percentile out of
            range, or too many unreadable images.
    """
    if n < 1:
        raise UserError(f"n = {n}: at least one patch a feature map")
    if not 0 <= percentile < 100:
        raise UserError(f"percentile {percentile:g}: must be 0 or more and below 100")
    feature_maps = top(ranking, k)
    check_ranking_fits(ranking, detector)
    chosen = images.only(label=FAKE, generator=generator)
    if not len(chosen):
        whose = f" of {generator!r}; generators: {', '.join(images.generators)}"
        raise UserError(f"{images.root}: holds no fakes" + (whose if generator else ""))
    if preset is not None:
        detector = detector.with_preset(preset)
    best = TopImages(feature_maps, n)
    missed: list[Skipped] = []
    sweep(
        chosen, detector.preset, PeakObserver(detector, feature_maps), [best],
        batch_size=batch_size, seed=seed, progress=progress, skipped=missed,
    )  # fmt: skip
    if skipped is not None:
        skipped.extend(missed)
    check_skipped(missed, len(chosen), max_skipped)
    facts = {
        "generator": generator or "all",
        "image_set": chosen.hash(),
        "images": best.seen,
        "k": k,
        "n": n,
        "percentile": percentile,
        "box": "published: last row and column left out" if published_edge else "inclusive",
        "preset": detector.preset.name,
        "seed": seed,
        "maxima_not_finite": best.not_finite,
    }
    found = cut(
        detector, chosen, ranking, best, percentile=percentile, published_edge=published_edge,
        batch_size=batch_size, seed=seed, progress=progress,
    )  # fmt: skip
    facts["without_patch"] = sum(one.crop is None for one in found)
    return Patches(found, tuple(feature_maps), n, facts)


def cut(
    detector: Detector,
    images: ImageSet,
    ranking: Ranking,
    best: TopImages,
    *,
    percentile: float = PERCENTILE,
    published_edge: bool = False,
    batch_size: int = 16,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Patch, ...]:
    """Return the patches of lists that a pass over ``images`` has found, in the lists' order.

    Listed images that ``best.pixels`` holds are not read again; those it does not are read once.
    """
    entries = {images.image_id(entry): entry for entry in images}
    omega = dict(zip(ranking.feature_maps(), ranking.table["omega"].astype(float), strict=True))
    jobs = [
        _Job(feature_map, place, peak)
        for feature_map, peaks in best.result().items()
        for place, peak in enumerate(peaks, 1)
    ]
    lrp = LRP(detector)
    found: dict[tuple[FeatureMap, int], Patch] = {}
    for pixels in _pixels(detector, images, entries, best, batch_size, seed):
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
                if progress:
                    progress(len(rows))
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
    missed: list[Skipped] = []
    for batch in batches(rest, detector.preset, batch_size, seed=seed, skipped=missed):
        ids = [rest.image_id(rest.entries[i]) for i in batch.indices]
        yield dict(zip(ids, batch.pixels.numpy(), strict=True))
    if missed:
        raise UserError(f"{missed[0].path}: could be read at first and now not: {missed[0].reason}")
