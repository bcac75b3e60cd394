"""Training batches whose content depends on seed and step alone, whatever loads them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from ..data.decode import UnreadableImage, read_image
from ..data.presets import IMAGENET_MEAN, IMAGENET_STD, tiled
from ..errors import UserError
from ..records import FAKE, REAL, ImageEntry, ImageSet
from ..rng import keyed_short
from .augment import blur_and_jpeg
from .recipes import OneLogitSettings


def make_pairs(images: ImageSet) -> list[tuple[ImageEntry, ImageEntry]]:
    """Return (real, fake) of the same generator, class and file name, sorted.

    Raises:
        UserError: no two images share a name.
    """
    found: dict[tuple[str, str, str], dict[int, ImageEntry]] = defaultdict(dict)
    for entry in images:
        found[entry.generator, entry.class_name, entry.path.stem][entry.label] = entry
    pairs = [(both[REAL], both[FAKE]) for both in found.values() if len(both) == 2]
    if not pairs:
        raise UserError(
            f"{images.root}: no real and fake image share a file name; train without pairs"
        )
    return pairs


class TrainingBatches(Dataset):
    """Item s is the batch of step s: float32 (N, 3, crop, crop), normalised, and labels (N, 1).

    An epoch is one pass over all units (pairs or images) in an order keyed by seed and epoch; the
    rest that fills no batch is left out. An epoch of ``balanced`` draws as many with replacement.
    """

    def __init__(self, images: ImageSet, settings: OneLogitSettings) -> None:
        self.settings = settings
        self.units: Sequence[tuple[ImageEntry, ...]]
        self.units = make_pairs(images) if settings.pairs else [(entry,) for entry in images]
        self.weights = _equal_weights(self.units) if settings.balanced else None
        self.units_a_step = max(1, settings.batch_size // len(self.units[0]))
        if len(self.units) < self.units_a_step:
            raise UserError(
                f"{images.root}: {len(self.units)} {'pairs' if settings.pairs else 'images'} do "
                f"not fill a batch of {settings.batch_size}; give a smaller batch size"
            )

    @property
    def steps_an_epoch(self) -> int:
        """Steps in one pass over the data."""
        return len(self.units) // self.units_a_step

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        seed, epoch = self.settings.seed, step // self.steps_an_epoch
        rng = keyed_short(seed, "order", epoch)
        order = rng.permutation(len(self.units))
        if self.weights is not None:
            order = rng.choice(len(self.units), len(self.units), p=self.weights)
        start = step % self.steps_an_epoch * self.units_a_step
        images, labels = [], []
        for place in range(start, start + self.units_a_step):
            for entry in self.units[order[place]]:
                rng = keyed_short(seed, "augment", step, place)
                images.append(augmented(entry, self.settings, rng))
                labels.append(float(entry.label))
        return to_batch(images), torch.tensor(labels)[:, None]


def _equal_weights(units: Sequence[tuple[ImageEntry, ...]]) -> np.ndarray:
    """Return how probable each unit is (N,) where each label shall be drawn equally often."""
    labels = np.array([unit[0].label for unit in units])
    weights = 1 / np.bincount(labels)[labels]
    return weights / weights.sum()


def read(entry: ImageEntry) -> Image.Image:
    """Return the RGB image of an entry.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return read_image(entry.path)
    except UnreadableImage as error:
        raise UserError(
            f"{entry.path}: {error}; remove it or train on a manifest without it"
        ) from error


def loaded(entry: ImageEntry, settings: OneLogitSettings) -> np.ndarray:
    """Return uint8 (H, W, 3) at the recipe's load size.

    Raises:
        UserError: the image cannot be read, or is smaller than the crop.
    """
    image = read(entry)
    size = settings.load_size
    if size:
        width, height = image.size
        shorter = min(width, height)
        kept = (size * width // shorter, size * height // shorter)  # as torchvision cuts it off
        image = image.resize((size, size) if settings.squash else kept, Image.Resampling.BILINEAR)
    if settings.tile and min(image.size) < settings.side:
        image = tiled(image, settings.side)
    if min(image.size) < settings.side:
        raise UserError(
            f"{entry.path}: {image.width} × {image.height} is smaller than the crop of "
            f"{settings.side}; give a smaller crop size or a load size"
        )
    return np.asarray(image)


def augmented(
    entry: ImageEntry, settings: OneLogitSettings, rng: np.random.Generator
) -> np.ndarray:
    """Return a training crop: load, blur, JPEG, crop, flip, greyscale, in the published order."""
    image = loaded(entry, settings)
    strikes = (settings.blur, settings.jpeg)
    image = blur_and_jpeg(image, strikes, rng, published_blur=settings.published_blur)
    side = settings.side
    top = int(rng.integers(0, image.shape[0] - side + 1))
    left = int(rng.integers(0, image.shape[1] - side + 1))
    crop = image[top : top + side, left : left + side]
    crop = crop[:, ::-1] if rng.random() < 0.5 else crop
    if settings.grey and rng.random() < settings.grey:
        crop = np.asarray(Image.fromarray(np.ascontiguousarray(crop)).convert("L").convert("RGB"))
    return crop


def validation_crop(entry: ImageEntry, settings: OneLogitSettings, *, clean: bool) -> np.ndarray:
    """Return a centre crop; blur and JPEG as published unless ``clean``, keyed by the file name."""
    image = loaded(entry, settings)
    if not clean:
        rng = keyed_short(settings.seed, "validation", entry.path.name)
        image = blur_and_jpeg(
            image,
            (settings.blur, settings.jpeg),
            rng,
            published_blur=settings.published_blur,
            validation=True,
        )
    side = settings.side
    top, left = (round((length - side) / 2) for length in image.shape[:2])  # as torchvision does
    return image[top : top + side, left : left + side]


def to_batch(images: Sequence[np.ndarray]) -> torch.Tensor:
    """Stack uint8 (H, W, 3) crops into a normalised float32 batch (N, 3, H, W)."""
    pixels = torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy()).float() / 255
    mean, std = (
        torch.tensor(values).reshape(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD)
    )
    return (pixels - mean) / std
