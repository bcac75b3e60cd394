"""The one loop over image batches: each image is decoded once and feeds every look."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np
import torch

from ..data import Batch, JpegEqualiser, batches, check_skipped
from ..data.batching import Shape, Transform
from ..data.colour import recolour
from ..data.conditions import parse_condition
from ..detectors import Detector
from ..errors import UserError
from ..records import ImageEntry, ImageSet, Skipped
from .look import Look, Seen
from .memory import ALONE, ASSUMED, SHARE, Need, free_bytes, measured_need
from .partials import Partials
from .repeats import first_alike
from .statistics import Rows, Statistic

Progress = Callable[[str, int, int], None]  # what is done, images done, of how many

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
    passes, done = _Passes(looks, size), 0.0
    for number, entries in enumerate(shards):
        shard = ImageSet(images.root, entries, images.layout)
        pieces: list[Statistic] = [look.statistic.empty() for look in looks]
        kept = partials.read(number) if partials else None
        missed: list[Skipped] = []
        if kept is not None and len(kept[0]) == len(pieces):
            states, missed = kept
            pieces = [piece.from_state(one) for piece, one in zip(pieces, states, strict=True)]
        else:
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
                told(what, int(done), len(once))
            if partials:
                partials.write(number, [piece.state() for piece in pieces], missed)
        for look, piece in zip(looks, pieces, strict=True):
            look.statistic.merge(piece)
        lost.add(missed, copies)
        done = float(min(len(once), (number + 1) * shard_size))
        told(what, int(done), len(once))
    skipped = lost.skipped()
    if "skipped" in how:
        how["skipped"].extend(skipped)
    check_skipped(skipped, len(images), how.get("max_skipped", 0.01))
    return Pass(lost.used(), skipped, len(once), passes.networks)


class _Passes:
    """Runs the looks on batches, and knows how many images may go together."""

    def __init__(self, looks: Sequence[Look], batch_size: int) -> None:
        self.looks, self.batch_size = looks, batch_size
        self.networks = 0
        names = dict.fromkeys(name for look in looks for name in look.conditions)
        self.conditions = tuple(map(parse_condition, names))
        shapes = {look.detector.preset.shape_key() for look in looks}
        self.number = max(1, len(shapes) * len(names))  # batches that an image stands in
        self._needs: dict[Shape, Need] = {}

    def of(self, shape: Shape, condition: str) -> list[Look]:
        return [
            look
            for look in self.looks
            if look.detector.preset.shape_key() == shape and condition in look.conditions
        ]

    def most(self, shape: Shape, pixels: np.ndarray) -> int:
        """Return how many images of this size fit into memory; 0 where not even one does."""
        area = pixels.shape[0] * pixels.shape[1]
        devices = {look.detector.device for look in self.looks}
        free = min(free_bytes(device) for device in devices)
        if self.batch_size * area * ASSUMED <= SHARE * free:
            return self.batch_size
        if shape not in self._needs:
            self._needs[shape] = self._measured(shape, pixels)
        need = self._needs[shape]
        if need.of(area) > ALONE * free:
            return 0
        fit = (SHARE * free - need.constant) / max(1.0, need.pixel * area)
        return max(1, int(min(self.batch_size, fit)))

    def run(self, batch: Batch, missed: list[Skipped]) -> list[tuple[Batch, dict[int, Rows]]]:
        """Return what each look that takes this batch observed, by the look's place.

        Where memory runs out the batch goes in halves; images that a network cannot take at all go
        to ``missed``.
        """
        height, width = batch.pixels.shape[2:]
        size = f"{width} × {height} pixels"
        if not self.most(batch.shape, batch.pixels[0].permute(1, 2, 0).numpy()):
            need = self._needs[batch.shape].of(height * width) / 1e9
            reason = f"{size} take {need:.1f} GB of memory, which is not free: make it smaller"
        else:
            try:
                return [(batch, self._observe(batch))]
            except UserError:
                raise
            except (RuntimeError, ValueError) as error:
                if len(batch) > 1 and _out_of_memory(error):
                    half = len(batch) // 2
                    parts = (batch.take(range(half)), batch.take(range(half, len(batch))))
                    return [one for part in parts for one in self.run(part, missed)]
                names = ", ".join(dict.fromkeys(look.detector.name for look in self.looks))
                lines = str(error).strip().splitlines() or [type(error).__name__]
                reason = f"{names} cannot take {size}: {lines[0]}"
        missed.extend(Skipped(entry.path, reason) for entry in batch.entries)
        return []

    def _observe(self, batch: Batch, *, probe: bool = False) -> dict[int, Rows]:
        found: dict[int, Rows] = {}
        chosen = self.of(batch.shape, batch.condition)
        alike = {(id(look.detector.network), look.detector.preset): look for look in chosen}
        for key, first in alike.items():
            detector = first.detector
            own = [one for one in chosen if (id(one.detector.network), one.detector.preset) == key]
            wanted = [look for look in own if any(map(look.wants, batch.entries))] or own[:probe]
            seen = self._seen(detector, wanted, batch)
            for look in wanted:
                if probe:
                    look.probe(batch, seen[id(look)])
                else:
                    found[self.looks.index(look)] = look.observe(batch, seen[id(look)])
        return found

    def _seen(
        self, detector: Detector, looks: Sequence[Look], batch: Batch
    ) -> dict[int, dict[str, Seen]]:
        """Run the whole network once a colour mode that any of the looks asks for."""
        seen: dict[int, dict[str, Seen]] = {id(look): {} for look in looks}
        for colour in dict.fromkeys(name for look in looks for name in look.colours):
            own = [look for look in looks if colour in look.colours]
            with ExitStack() as hooks:
                caught = {id(look): hooks.enter_context(look.watch()) for look in own}
                outputs = detector.outputs(recolour(batch.pixels, colour))
            self.networks += len(batch)
            logits = detector.decide(outputs).double().numpy()
            for look in own:
                seen[id(look)][colour] = Seen(outputs, logits, dict(caught[id(look)]))
        return seen

    def _measured(self, shape: Shape, pixels: np.ndarray) -> Need:
        """Return the memory that the looks take, the most of all conditions."""
        image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]
        entry = ImageEntry(Path("probe"), 0, "")
        found = []
        for condition in self.conditions:

            def run(given: torch.Tensor, condition: str = condition.name) -> object:
                batch = Batch(given, (entry,), ("probe",), condition, shape)
                return self._observe(batch, probe=True)

            try:
                found.append(measured_need(run, image))
            except (RuntimeError, ValueError):  # it is said when the batch itself fails
                continue
        return max(found, key=lambda need: need.of(image[0, 0].numel()), default=Need(0, ASSUMED))


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
                "weights": look.detector.weights.sha256,
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


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
