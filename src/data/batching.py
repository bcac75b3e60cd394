"""Batches of equal-sized images from an image set of mixed sizes, without squashing any."""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from PIL import Image

from ..errors import UserError
from ..records import ImageSet, Skipped
from .decode import UnreadableImage, read_image
from .kept import active
from .presets import Preset

Transform = Callable[[Image.Image, str], Image.Image]

Item = TypeVar("Item")
Result = TypeVar("Result")

THREADS = 2
AHEAD = 8  # images decoded before they are asked for
WAITING_BYTES = 256 * 2**20  # where all sizes differ, batches go out early and memory stays flat


@dataclass(frozen=True)
class Batch:
    """Images of one size.

    pixels: uint8 (N, 3, H, W), RGB, 0 … 255, not normalised.
    indices: int64 (N,), positions in the image set's entries.
    """

    pixels: torch.Tensor
    indices: np.ndarray


def batches(
    images: ImageSet,
    preset: Preset,
    batch_size: int,
    *,
    seed: int = 0,
    skipped: list[Skipped],
    transform: Transform | None = None,
) -> Iterator[Batch]:
    """Yield every readable image of the set once, in batches of one size each.

    Images are decoded in the set's order; each size collects its own batch, which is emitted when
    full, or when the images waiting take too much memory and it is the largest of them; what is
    left at the end is emitted in the order in which the sizes appeared. The pixels of an image
    depend on its file, the preset, the seed and its id only. Inside a ``keep_pixels`` block a file
    that another stage has asked for with the same geometry is not decoded again.

    skipped: images that cannot be read are appended, with the reason, in the set's order.
    transform: applied to the RGB image and its id before the preset's geometry.

    Raises:
        UserError: batch_size is below 1.
    """
    if batch_size < 1:
        raise UserError(f"batch size {batch_size}: must be 1 or more")

    kept = active() if transform is None else None

    def decode(index: int) -> np.ndarray | Skipped:
        entry = images.entries[index]
        key = images.image_id(entry)

        def read() -> np.ndarray | Skipped:
            try:
                image = read_image(entry.path)
            except UnreadableImage as error:
                return Skipped(entry.path, error.reason)
            if transform is not None:
                image = transform(image, key)
            return np.array(preset.geometry(image, key, seed))

        return read() if kept is None else kept.get(entry.path, preset, key, seed, read)

    waiting: dict[tuple[int, ...], list[tuple[int, np.ndarray]]] = {}
    held = 0
    for index, decoded in enumerate(_ahead(decode, range(len(images)))):
        if isinstance(decoded, Skipped):
            skipped.append(decoded)
            continue
        bucket = waiting.setdefault(decoded.shape, [])
        bucket.append((index, decoded))
        held += decoded.nbytes
        shape = decoded.shape
        if len(bucket) < batch_size:
            if held <= WAITING_BYTES:
                continue
            shape = max(waiting, key=lambda one: len(waiting[one]) * math.prod(one))
        full = waiting.pop(shape)
        held -= len(full) * math.prod(shape)  # one byte a value
        yield _batch(full)
    for bucket in waiting.values():
        yield _batch(bucket)


def content(image: torch.Tensor) -> bytes:
    """Return a digest of decoded pixels (3, H, W): equal images need the network only once."""
    digest = hashlib.sha256(str(tuple(image.shape)).encode())
    digest.update(image.numpy().tobytes())
    return digest.digest()


def check_skipped(skipped: Sequence[Skipped], total: int, max_skipped: float = 0.01) -> None:
    """Refuse to go on with too many unreadable images.

    total: images asked for; max_skipped: largest share allowed, 0 … 1.

    Raises:
        UserError: the share is larger, or nothing at all could be read.
    """
    if not skipped:
        return
    if len(skipped) > max_skipped * total or len(skipped) == total:
        first = skipped[0]
        mend = "" if len(skipped) == total else "; remove them or allow more with --max-skipped"
        raise UserError(
            f"{len(skipped)} of {total} images cannot be read "
            f"({len(skipped) / total:.1%}, allowed {max_skipped:.1%}), "
            f"first {first.path}: {first.reason}{mend}"
        )


def _batch(bucket: list[tuple[int, np.ndarray]]) -> Batch:
    stacked = np.stack([array for _, array in bucket]).transpose(0, 3, 1, 2)
    pixels = torch.from_numpy(np.ascontiguousarray(stacked))
    return Batch(pixels, np.array([index for index, _ in bucket], dtype=np.int64))


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
