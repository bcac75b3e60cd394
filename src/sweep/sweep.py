"""The one loop over image batches: each image is decoded once and feeds every look."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np

from ..data import Batch, JpegEqualiser, batches, check_skipped
from ..data.batching import Transform
from ..detectors.building import digest
from ..records import ImageSet, Skipped
from .look import Look
from .partials import Partials
from .passes import Passes
from .repeats import first_alike
from .statistics import Rows, Statistic

Progress = Callable[[str, float, int], None]  # what is done, images done, of how many

SHARD = 128  # images between two partial results
BATCH_SIZE = 32


class How(TypedDict, total=False):
    """How images are gone over; what every verb that does so takes.

    batch_size: images at a time, at most: fewer go together where memory asks for it; changes
        results to the network's float32 rounding only (about 1e-6 of a relevance).
    seed: of everything random, together with each image's id.
    max_skipped: largest share of images that cannot be used, 0 … 1, to go on with.
    skipped: a list that gets those images, also before an error.
    progress: told what is being done, how many images are done, and of how many.
    partials: a folder for finished parts; resume: use those that an interrupted run left there.
    """

    batch_size: int
    seed: int
    max_skipped: float
    skipped: list[Skipped]
    progress: Progress
    partials: Path
    resume: bool


def untold(how: How) -> How:
    """Return ``how`` for one pass of many: nothing told, listed or kept of it alone."""
    kept: Any = {key: how[key] for key in ("batch_size", "seed", "max_skipped") if key in how}
    return kept  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Pass:
    """What a sweep went through.

    used: images that every look could use; skipped: the others; decoded: files read;
    networks: batches of images that went through the whole network, in images.
    """

    used: ImageSet
    skipped: tuple[Skipped, ...]
    decoded: int
    networks: int


def sweep(
    images: ImageSet,
    looks: Sequence[Look],
    *,
    what: str = "looking",
    transform: Transform | JpegEqualiser | None = None,
    shard_size: int = SHARD,
    **how: Unpack[How],
) -> Pass:
    """Go through ``images`` once and leave in each look's statistic what they showed.

    what: names the pass, in progress bars and for its partial results; transform: see
    :func:`forensift.data.batches`.

    Images of the same bytes and label are decoded and seen once, unless a preset is random or the
    transform treats them differently; their rows are handed on for each. The merge is exact, so
    results do not depend on shards, nor on how often the run was interrupted.

    Raises:
        UserError: too many images cannot be used: unreadable, of a size that a network cannot
            take, or too large for the memory there is.
    """
    seed, size = how.get("seed", 0), how.get("batch_size", BATCH_SIZE)
    told = how.get("progress") or (lambda what, done, total: None)
    lost = _Lost(images)
    once, copies = _once(images, looks, transform)
    shards = [once.entries[first : first + shard_size] for first in range(0, len(once), shard_size)]
    partials = _partials(images, looks, what, transform, shard_size, how)
    done = 0.0

    def through(own: float) -> None:
        told(what, done + own / passes.number, len(once))

    passes = Passes(looks, size, through)
    for number, entries in enumerate(shards):
        shard = ImageSet(images.root, entries, images.layout)
        pieces: list[Statistic] = [look.statistic.empty() for look in looks]
        kept = partials.read(number) if partials else None
        missed: list[Skipped] = []
        if kept is not None and len(kept[0]) == len(pieces):
            states, missed = kept
            pieces = [piece.from_state(one) for piece, one in zip(pieces, states, strict=True)]
        else:
            told(what, done, len(once))
            for batch in batches(
                shard,
                [look.detector.preset for look in looks],
                size,
                seed=seed,
                skipped=missed,
                transform=transform,
                conditions=passes.conditions,
                most=passes.most,
            ):
                for part, rows in passes.run(batch, missed):
                    _update(looks, pieces, part, rows, copies, images)
                done += len(batch) / passes.number
                told(what, done, len(once))
            if partials:
                partials.write(number, [piece.state() for piece in pieces], missed)
        for look, piece in zip(looks, pieces, strict=True):
            look.statistic.merge(piece)
        lost.add(missed, copies)
        done = float(min(len(once), (number + 1) * shard_size))
        told(what, done, len(once))
    skipped = lost.skipped()
    if "skipped" in how:
        how["skipped"].extend(skipped)
    check_skipped(skipped, len(images), how.get("max_skipped", 0.01))
    return Pass(lost.used(), skipped, len(once), passes.networks)


class _Lost:
    """The images that could not be used, in the set's order, copies included."""

    def __init__(self, images: ImageSet) -> None:
        self.images = images
        self.reasons: dict[str, str] = {}

    def add(self, missed: Sequence[Skipped], copies: Mapping[str, Sequence[int]]) -> None:
        by_path = {str(self.images.entries[rows[0]].path): rows for rows in copies.values()}
        for one in missed:
            for row in by_path[str(one.path)]:
                entry = self.images.entries[row]
                self.reasons.setdefault(self.images.image_id(entry), one.reason)

    def skipped(self) -> tuple[Skipped, ...]:
        return tuple(
            Skipped(entry.path, self.reasons[self.images.image_id(entry)])
            for entry in self.images
            if self.images.image_id(entry) in self.reasons
        )

    def used(self) -> ImageSet:
        kept = (one for one in self.images if self.images.image_id(one) not in self.reasons)
        return ImageSet(self.images.root, tuple(kept), self.images.layout)


def _once(
    images: ImageSet, looks: Sequence[Look], transform: Transform | JpegEqualiser | None
) -> tuple[ImageSet, dict[str, list[int]]]:
    """Return the images that differ, and for the id of each the places of all that are like it."""
    alone = any(look.alone or look.detector.preset.random for look in looks)
    if isinstance(transform, JpegEqualiser):
        kinds = transform.kinds
        same_as = first_alike(images, lambda entry: kinds.get(images.image_id(entry)))
    else:
        alone |= transform is not None
        same_as = np.arange(len(images)) if alone else first_alike(images)
    if alone:
        same_as = np.arange(len(images))
    copies: dict[str, list[int]] = {}
    for place, first in enumerate(same_as):
        copies.setdefault(images.image_id(images.entries[first]), []).append(place)
    firsts = tuple(images.entries[rows[0]] for rows in copies.values())
    return ImageSet(images.root, firsts, images.layout), copies


def _update(
    looks: Sequence[Look],
    pieces: Sequence[Statistic],
    batch: Batch,
    rows: Mapping[int, Rows],
    copies: Mapping[str, Sequence[int]],
    images: ImageSet,
) -> None:
    """Hand the rows of a batch, repeated for all copies of its images, to the statistics."""
    places = [(row, place) for row, one in enumerate(batch.ids) for place in copies[one]]
    for at, found in rows.items():
        own = [both for both in places if looks[at].wants(images.entries[both[1]])]
        if not own:
            continue
        source = [row for row, _ in own]
        entries = tuple(images.entries[place] for _, place in own)
        ids = tuple(images.image_id(entry) for entry in entries)
        whole = Batch(batch.pixels[source], entries, ids, batch.condition, batch.shape)
        pieces[at].update(whole, {name: values[source] for name, values in found.items()})


def _partials(
    images: ImageSet,
    looks: Sequence[Look],
    what: str,
    transform: Transform | JpegEqualiser | None,
    shard_size: int,
    how: How,
) -> Partials | None:
    if "partials" not in how:
        return None
    # The numbers themselves: a network may have been altered since its weights were read.
    networks = {id(look.detector.network): look.detector.network for look in looks}
    states = {place: digest(network) for place, network in networks.items()}
    plan = {
        "image_set": images.hash(),
        "seed": how.get("seed", 0),
        "batch_size": how.get("batch_size", BATCH_SIZE),
        "shard_size": shard_size,
        "transform": getattr(transform, "facts", None),
        "looks": [
            {
                "kind": type(look).__name__,
                "detector": look.detector.name,
                "weights": states[id(look.detector.network)],
                "preset": repr(look.detector.preset),
                "device": look.detector.device.type,
                "colours": look.colours,
                "conditions": look.conditions,
                **look.facts,
            }
            for look in looks
        ],
    }
    return Partials(how["partials"], what, plan, resume=how.get("resume", False))
