"""Batches of equal-sized images from an image set of mixed sizes, without squashing any."""

from __future__ import annotations

import hashlib
import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from PIL import Image

from ..errors import UserError, counted
from ..records import ImageEntry, ImageSet, Skipped
from .conditions import CLEAN, Condition
from .decode import UnreadableImage, read_image
from .presets import Preset

Transform = Callable[[Image.Image, str], Image.Image]
Shape = tuple[object, ...]  # what a preset's geometry depends on: presets of one shape share pixels
Most = Callable[[Shape, np.ndarray], int]

Item = TypeVar("Item")
Result = TypeVar("Result")

THREADS = min(32, os.cpu_count() or 1)
AHEAD = 4 * THREADS  # images decoded before they are asked for
WAITING_BYTES = 256 * 2**20  # where all sizes differ, batches go out early and memory stays flat
_CLEAN = (Condition(CLEAN, CLEAN),)


@dataclass(frozen=True)
class Batch:
    """Images of one size.

    pixels: uint8 (N, 3, H, W), RGB, 0 … 255, not normalised; entries: the N images; ids: their ids
    in the set; condition: what was done to them before the preset; shape: of the preset.
    """

    pixels: torch.Tensor
    entries: tuple[ImageEntry, ...]
    ids: tuple[str, ...]
    condition: str = CLEAN
    shape: Shape = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def labels(self) -> np.ndarray:
        """Int64 (N,): 0 real, 1 fake."""
        return np.array([entry.label for entry in self.entries], dtype=np.int64)

    def take(self, rows: Sequence[int]) -> Batch:
        """Return the images of these rows, in that order."""
        entries, ids = (tuple(whole[row] for row in rows) for whole in (self.entries, self.ids))
        return Batch(self.pixels[list(rows)], entries, ids, self.condition, self.shape)  # type: ignore[arg-type]


@dataclass
class _Waiting:
    rows: list[tuple[ImageEntry, str, np.ndarray]] = field(default_factory=list)
    most: int = 1


def batches(
    images: ImageSet,
    presets: Preset | Sequence[Preset],
    batch_size: int,
    *,
    seed: int = 0,
    skipped: list[Skipped],
    transform: Transform | None = None,
    conditions: Sequence[Condition] = _CLEAN,
    most: Most | None = None,
) -> Iterator[Batch]:
    """Yield every readable image of the set, in batches of one size, condition and preset's shape.

    Images are decoded once, in the set's order, in threads ahead of what is asked for; each size
    collects its own batch, which is emitted when full, or when the images waiting take too much
    memory and it is the largest of them; what is left at the end is emitted in the order in which
    the sizes appeared. The pixels of an image depend on its file, the condition, the preset, the
    seed and its id only.

    presets: one, or several: those of equal geometry (:meth:`Preset.shape_key`) share a batch.
    skipped: images that cannot be read are appended, with the reason, in the set's order.
    transform: applied to the RGB image and its id before all else; conditions: each gives a batch
        of its own; most: returns the most images of a shape, like the pixels (H, W, 3), that may
        go together.

    Raises:
        UserError: batch_size is below 1.
    """
    if batch_size < 1:
        raise UserError(f"batch size {batch_size}: must be 1 or more")
    every = [presets] if isinstance(presets, Preset) else list(presets)
    shapes = {preset.shape_key(): preset for preset in every}

    def decode(entry: ImageEntry) -> Skipped | dict[tuple[str, Shape], np.ndarray]:
        key = images.image_id(entry)
        try:
            image = read_image(entry.path)
        except UnreadableImage as error:
            return Skipped(entry.path, error.reason)
        if transform is not None:
            image = transform(image, key)
        found = {}
        for condition in conditions:
            changed = condition(image)
            for shape, preset in shapes.items():
                found[condition.name, shape] = np.array(preset.geometry(changed, key, seed))
        return found

    waiting: dict[tuple[str, Shape, tuple[int, ...]], _Waiting] = {}
    held = 0
    for entry, decoded in zip(images.entries, _ahead(decode, images.entries), strict=True):
        if isinstance(decoded, Skipped):
            skipped.append(decoded)
            continue
        for (condition, shape), pixels in decoded.items():
            key = (condition, shape, pixels.shape)
            if key not in waiting:
                limit = batch_size if most is None else min(batch_size, most(shape, pixels))
                waiting[key] = _Waiting(most=max(1, limit))
            bucket = waiting[key]
            bucket.rows.append((entry, images.image_id(entry), pixels))
            held += pixels.nbytes
            if len(bucket.rows) < bucket.most:
                if held <= WAITING_BYTES:
                    continue
                key = max(waiting, key=lambda one: len(waiting[one].rows) * math.prod(one[2]))
            full = waiting.pop(key)
            held -= len(full.rows) * math.prod(key[2])  # one byte a value
            yield _batch(full, key)
    for key, bucket in waiting.items():
        yield _batch(bucket, key)


def content(image: torch.Tensor) -> bytes:
    """Return a digest of decoded pixels (3, H, W): equal images need the network only once."""
    digest = hashlib.sha256(str(tuple(image.shape)).encode())
    digest.update(image.numpy().tobytes())
    return digest.digest()


def check_skipped(skipped: Sequence[Skipped], total: int, max_skipped: float = 0.01) -> None:
    """Refuse to go on with too many images that could not be used.

    total: images asked for; max_skipped: largest share allowed, 0 … 1.

    Raises:
        UserError: the share is larger, or nothing at all could be used.
    """
    if not skipped:
        return
    if len(skipped) > max_skipped * total or len(skipped) == total:
        first = skipped[0]
        mend = "" if len(skipped) == total else "; remove them or raise max_skipped"
        raise UserError(
            f"{len(skipped)} of {counted(total, 'image')} cannot be used "
            f"({len(skipped) / total:.1%}, allowed {max_skipped:.1%}), "
            f"first {first.path}: {first.reason}{mend}"
        )


def _batch(bucket: _Waiting, key: tuple[str, Shape, tuple[int, ...]]) -> Batch:
    entries, ids, arrays = zip(*bucket.rows, strict=True)
    stacked = np.stack(arrays).transpose(0, 3, 1, 2)
    return Batch(torch.from_numpy(np.ascontiguousarray(stacked)), entries, ids, key[0], key[1])


def _ahead(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Yield ``work(item)`` in order, computing a bounded number of results ahead in threads."""
    with ThreadPoolExecutor(THREADS) as pool:
        rest = iter(items)
        pending: deque[Future[Result]] = deque(pool.submit(work, i) for i in islice(rest, AHEAD))
        try:
            while pending:
                result = pending.popleft().result()
                for item in islice(rest, 1):
                    pending.append(pool.submit(work, item))
                yield result
        finally:
            for future in pending:
                future.cancel()
