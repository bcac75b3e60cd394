"""Logits of many detectors under many conditions: one decode an image, one perturbation of each.

The set is cut into shards of images that depend on the set alone. A shard is decoded once; under
each condition its images are perturbed once, brought into the shape of each preset once (detectors
whose presets have the same geometry share it) and sent through each detector in batches that never
cross the shard. So the logits depend on nothing that was done before, and a run that was killed
goes on after the last condition of the last shard, to the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..data import JpegEqualiser, UnreadableImage, image_size, read_image
from ..detectors import Detector
from ..errors import UserError
from ..records import ImageSet, Skipped
from .conditions import Condition
from .kept_logits import KeptLogits, Pair, identity
from .scores import first_alike

SHARD_IMAGES = 128
SHARD_BYTES = 48 * 2**20  # decoded; the largest condition holds a few times as much
THREADS = 2
Shape = tuple[object, ...]  # what a preset's geometry depends on


@dataclass
class Perturbed:
    """What one pass found.

    logits: (detector, condition) → float64 (N,), in the set's order, NaN where unreadable;
    decoded: files decoded; perturbed: images perturbed, 'clean' not counted; passed: images that
    went through a network; at_hand: of the (detector, condition, image) asked for, those found
    in ``partial``; unique: images after byte-identical ones were put together.
    """

    logits: dict[Pair, np.ndarray]
    unique: int
    decoded: int = 0
    perturbed: int = 0
    passed: int = 0
    at_hand: int = 0
    skipped: list[Skipped] = field(default_factory=list)


def perturbed_logits(
    detectors: Mapping[str, Detector],
    images: ImageSet,
    conditions: Sequence[Condition],
    *,
    equaliser: JpegEqualiser | None = None,
    batch_size: int = 16,
    seed: int = 0,
    partial: Path | None = None,
    progress: Callable[[int], object] | None = None,
) -> Perturbed:
    """Return the logits of every readable image from every detector under every condition.

    Byte-identical files are treated once, unless a preset is random or the equaliser treats them
    differently. partial: a folder where finished parts are kept and looked for; what was made with
    other images, weights, options or versions is not taken. progress: is told how many of the
    images × detectors × conditions more are done.

    Raises:
        UserError: a logit that is not finite, or a network that cannot take images of a size.
    """
    random = any(detector.preset.random for detector in detectors.values())
    same_as = _alike(images, equaliser, random=random)
    firsts = np.unique(same_as)
    copies = np.bincount(same_as, minlength=len(images))
    wanted = [(name, one.name) for one in conditions for name in detectors]
    found = Perturbed({pair: np.full(len(images), np.nan) for pair in wanted}, len(firsts))
    kept = KeptLogits(partial, identity(images, equaliser, batch_size, seed), detectors)
    with ThreadPoolExecutor(THREADS) as pool:
        for number, shard in enumerate(_shards(images, firsts)):
            known = kept.load(number)
            told = int(copies[shard].sum())
            there = [pair for pair in wanted if pair in known]
            found.at_hand += len(there) * len(shard)
            if progress is not None and there:
                progress(len(there) * told)
            decoded: list[Image.Image | None] | None = None
            for condition in conditions:
                todo = [name for name in detectors if (name, condition.name) not in known]
                if not todo:
                    continue
                if decoded is None:
                    decoded = list(pool.map(_reader(images, equaliser), shard))
                    found.decoded += len(shard)
                chosen = {name: detectors[name] for name in todo}
                keys = [images.image_id(images.entries[index]) for index in shard]
                logits = _under(condition, decoded, keys, chosen, batch_size, seed, pool, progress)
                whole = sum(one is not None for one in decoded)
                found.perturbed += whole * (condition.kind != "clean")
                found.passed += whole * len(todo)
                for name, values in logits.items():
                    _refuse(name, condition, values, decoded, keys)
                    known[name, condition.name] = values
                kept.save(number, known)
                if progress is not None:
                    progress(len(todo) * (told - len(shard)))
            for pair in wanted:
                found.logits[pair][shard] = known[pair]
    for pair in wanted:
        found.logits[pair] = found.logits[pair][same_as]
    for at in np.flatnonzero(np.isnan(found.logits[wanted[0]])):
        found.skipped.append(Skipped(images.entries[at].path, _reason(images, same_as[at])))
    return found


def _under(
    condition: Condition,
    decoded: Sequence[Image.Image | None],
    keys: Sequence[str],
    detectors: Mapping[str, Detector],
    batch_size: int,
    seed: int,
    pool: ThreadPoolExecutor,
    progress: Callable[[int], object] | None,
) -> dict[str, np.ndarray]:
    """Return the logits of the images of one shard under one condition, NaN where unreadable."""
    shapes = {name: one.preset.shape_key() for name, one in detectors.items()}
    presets = {shapes[name]: one.preset for name, one in detectors.items()}

    def shaped(at: int) -> dict[Shape, np.ndarray]:
        image = decoded[at]
        if image is None:
            return {}
        changed = condition(image)
        return {
            shape: np.array(preset.geometry(changed, keys[at], seed))
            for shape, preset in presets.items()
        }

    logits = {name: np.full(len(decoded), np.nan) for name in detectors}
    for shape, pixels, where in _batches(pool.map(shaped, range(len(decoded))), batch_size):
        for name, detector in detectors.items():
            if shapes[name] == shape:
                logits[name][where] = _logits(name, detector, condition, pixels)
                if progress is not None:
                    progress(len(where))
    if progress is not None:
        progress(len(detectors) * sum(one is None for one in decoded))
    return logits


def _batches(
    results: Iterator[dict[Shape, np.ndarray]], batch_size: int
) -> Iterator[tuple[Shape, torch.Tensor, np.ndarray]]:
    """Yield preset's shape, uint8 (N, 3, H, W) and places in the shard, batches of one size."""
    waiting: dict[tuple[Shape, tuple[int, ...]], list[tuple[int, np.ndarray]]] = {}
    for at, result in enumerate(results):
        for shape, pixels in result.items():
            bucket = waiting.setdefault((shape, pixels.shape), [])
            bucket.append((at, pixels))
            if len(bucket) == batch_size:
                yield shape, *_stacked(waiting.pop((shape, pixels.shape)))
    for (shape, _), bucket in waiting.items():
        yield shape, *_stacked(bucket)


def _stacked(bucket: list[tuple[int, np.ndarray]]) -> tuple[torch.Tensor, np.ndarray]:
    stacked = np.stack([pixels for _, pixels in bucket]).transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(stacked)), np.array([at for at, _ in bucket])


def _logits(
    name: str, detector: Detector, condition: Condition, pixels: torch.Tensor
) -> np.ndarray:
    try:
        return detector.logits(pixels).numpy().astype(np.float64)
    except RuntimeError as error:
        height, width = pixels.shape[-2:]
        raise UserError(
            f"{name} cannot take images of {width} × {height} pixels ({condition.name}): "
            f"{str(error).splitlines()[0]}"
        ) from error


def _refuse(
    name: str,
    condition: Condition,
    logits: np.ndarray,
    decoded: Sequence[Image.Image | None],
    keys: Sequence[str],
) -> None:
    for logit, image, key in zip(logits, decoded, keys, strict=True):
        if image is not None and not np.isfinite(logit):
            raise UserError(
                f"{name} gives a logit that is not finite for {key} under {condition.name}"
            )


def _reader(
    images: ImageSet, equaliser: JpegEqualiser | None
) -> Callable[[int], Image.Image | None]:
    def read(index: int) -> Image.Image | None:
        entry = images.entries[index]
        try:
            image = read_image(entry.path)
        except UnreadableImage:
            return None
        return image if equaliser is None else equaliser(image, images.image_id(entry))

    return read


def _reason(images: ImageSet, index: int) -> str:
    try:
        read_image(images.entries[index].path)
    except UnreadableImage as error:
        return error.reason
    return "could not be read when it was scored"


def _alike(images: ImageSet, equaliser: JpegEqualiser | None, *, random: bool) -> np.ndarray:
    """Return for each image the index of the first one that is sure to have the same logits."""
    if random:
        return np.arange(len(images))
    same_as = first_alike(images)
    if equaliser is None:
        return same_as
    firsts: dict[object, int] = {}
    return np.array(
        [
            firsts.setdefault((same_as[at], equaliser.kinds.get(images.image_id(entry))), at)
            for at, entry in enumerate(images)
        ],
        dtype=same_as.dtype,
    )


def _shards(images: ImageSet, indices: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the indices in parts that are small when decoded; a part depends on the set alone."""
    part: list[int] = []
    held = 0
    for index in indices:
        try:
            _, width, height = image_size(images.entries[index].path)
        except UnreadableImage:
            width = height = 0
        if part and (len(part) == SHARD_IMAGES or held + 3 * width * height > SHARD_BYTES):
            yield np.array(part)
            part, held = [], 0
        part.append(int(index))
        held += 3 * width * height
    if part:
        yield np.array(part)
