"""Logits of an image set under many masks: each image decoded once, each content scored once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from ..data import batches
from ..data import content as content_of
from ..detectors.detector import Detector
from ..records import FeatureMap, ImageSet, Skipped
from ..sweep import Progress
from .apply import masked_logits, masked_parameters

CHUNK_IMAGES = 512  # decoded images that wait for all masks
CHUNK_BYTES = 256 * 2**20


def masked_scores(
    detector: Detector,
    images: ImageSet,
    masks: Sequence[Sequence[FeatureMap]],
    *,
    batch_size: int = 16,
    seed: int = 0,
    skipped: list[Skipped] | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """Return the logits (masks, images), float64; NaN where an image could not be read.

    masks: each the feature maps that are dropped together; equal sets are scored once.
    progress: called with numbers of images that sum to those that could be read.

    Images of the same pixels (reals that several generators share) go through the network once.
    Memory: one chunk of decoded images, one mask's weights, and the logits.
    """
    jobs: dict[frozenset[FeatureMap], int] = {}
    job_of_mask = [jobs.setdefault(frozenset(mask), len(jobs)) for mask in masks]
    content = np.full(len(images), -1)
    parts = [np.empty((len(jobs), 0))]
    missed = skipped if skipped is not None else []
    for chunk, read in _chunks(detector, images, content, batch_size, seed, missed):
        logits = np.empty((len(jobs), len(chunk)))
        told = 0
        for job, feature_maps in enumerate(jobs):
            overrides = masked_parameters(detector.network, feature_maps)
            for rows in _by_size(chunk, batch_size):
                pixels = torch.stack([chunk[row] for row in rows])
                logits[job, rows] = masked_logits(detector, overrides, pixels).double().numpy()
            done = read * (job + 1) // len(jobs)
            if progress:
                progress(done - told)
            told = done
        parts.append(logits)
    scored = np.concatenate(parts, axis=1)
    found = np.full((len(jobs), len(images)), np.nan)
    found[:, content >= 0] = scored[:, content[content >= 0]]
    return found[job_of_mask]


def _chunks(
    detector: Detector,
    images: ImageSet,
    content: np.ndarray,
    batch_size: int,
    seed: int,
    skipped: list[Skipped],
) -> Iterator[tuple[list[torch.Tensor], int]]:
    """Yield decoded images (3, H, W) not seen before, and how many were read to find them.

    content: filled with each image's position among all those yielded.
    """
    places: dict[bytes, int] = {}
    chunk: list[torch.Tensor] = []
    read = size = 0
    for batch in batches(images, detector.preset, batch_size, seed=seed, skipped=skipped):
        for image, index in zip(batch.pixels, batch.indices, strict=True):
            key = content_of(image)
            if key not in places:
                places[key] = len(places)
                chunk.append(image)
                size += image.nelement()
            content[index] = places[key]
            read += 1
        if len(chunk) >= CHUNK_IMAGES or size >= CHUNK_BYTES:
            yield chunk, read
            chunk, read, size = [], 0, 0
    if read:
        yield chunk, read


def _by_size(chunk: Sequence[torch.Tensor], batch_size: int) -> Iterator[list[int]]:
    """Yield positions of up to ``batch_size`` images of one size."""
    sizes: dict[torch.Size, list[int]] = {}
    for row, image in enumerate(chunk):
        sizes.setdefault(image.shape, []).append(row)
    for rows in sizes.values():
        for first in range(0, len(rows), batch_size):
            yield rows[first : first + batch_size]
