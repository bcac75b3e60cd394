"""DNA-Det's batches: many random crops of each image, every class in every batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from ..data.presets import Preset
from ..errors import UserError, counted
from ..evaluation.source_attribution import without_repeats
from ..records import REAL, ImageEntry, ImageSet
from ..rng import keyed_short
from .batches import read
from .transformations import SIDE, TRANSFORMATIONS

Views = tuple[torch.Tensor, torch.Tensor]
HeldOut = list[tuple[Callable[[], Image.Image], int]]  # how an image is had, and its class
REAL_CLASS = "real"


def by_class(images: ImageSet, classes: Sequence[str] = ()) -> dict[str, tuple[ImageEntry, ...]]:
    """Return the images of each class, in the classes' order: 'real', or a generator's fakes.

    classes: which, and in which order; by default 'real', then all generators by name. Real images
    that several generators share count once.

    Raises:
        UserError: fewer than two classes, or one of which there is no image.
    """
    reals = without_repeats(images.only(label=REAL))
    fakes = {name: images.only(label=1, generator=name).entries for name in images.generators}
    there = {REAL_CLASS: reals, **fakes}
    there = {name: entries for name, entries in there.items() if entries}
    chosen = tuple(classes) or tuple(there)
    for name in chosen:
        if name not in there:
            raise UserError(f"{images.root}: no images of class {name!r}; there are {list(there)}")
    if len(chosen) < 2 or len(set(chosen)) < len(chosen):
        raise UserError(f"classes {', '.join(chosen)}: give two or more, each once")
    return {name: there[name] for name in chosen}


def crops_of(image: Image.Image, count: int, side: int, rng: np.random.Generator) -> np.ndarray:
    """Return ``count`` independent random crops, uint8 (count, side, side, 3).

    Raises:
        UserError: the image is smaller than a crop.
    """
    pixels = np.asarray(image)
    high, wide = pixels.shape[0] - side, pixels.shape[1] - side
    if min(high, wide) < 0:
        raise UserError(
            f"crops of {side} pixels do not fit into images of {image.width} × {image.height}; "
            "choose a larger preset or a smaller crop"
        )
    places = zip(rng.integers(0, high + 1, count), rng.integers(0, wide + 1, count), strict=True)
    return np.stack([pixels[top : top + side, left : left + side] for top, left in places])


class _Batches(Dataset):
    """Item s is step s's batch: crops uint8 (V, B, 3, side, side) and the images' classes (B,).

    An epoch is one pass over the items in an order keyed by seed and epoch; what fills no batch is
    left out.
    """

    def __init__(
        self, items: int, preset: Preset, *, crops: int, side: int, batch_size: int, seed: int
    ) -> None:
        if items < batch_size:
            raise UserError(
                f"{counted(items, 'image')} a class do not fill a batch of {batch_size}"
            )
        self.items, self.preset, self.crops, self.side = items, preset, crops, side
        self.batch_size, self.seed = batch_size, seed

    @property
    def steps_an_epoch(self) -> int:
        """Steps in one pass over the data."""
        return self.items // self.batch_size

    def _item(self, index: int, step: int, place: int) -> list[tuple[Image.Image, int]]:
        raise NotImplementedError

    def __getitem__(self, step: int) -> Views:
        epoch, place = divmod(step, self.steps_an_epoch)
        order = keyed_short(self.seed, "order", epoch).permutation(self.items)
        views, labels = [], []
        for at in range(self.batch_size):
            item = self._item(int(order[place * self.batch_size + at]), step, at)
            for number, (image, label) in enumerate(item):
                rng = keyed_short(self.seed, "crops", step, at, number)
                views.append(crops_of(self.preset.geometry(image), self.crops, self.side, rng))
                labels.append(label)
        stacked = np.stack(views, axis=1).transpose(0, 1, 4, 2, 3)
        return torch.from_numpy(np.ascontiguousarray(stacked)), torch.tensor(labels)


class BalancedBatches(_Batches):
    """Each item is one image of every class; smaller classes start again where they end."""

    def __init__(
        self, classes: Mapping[str, Sequence[ImageEntry]], preset: Preset, **sizes: int
    ) -> None:
        self.classes = list(classes.values())
        super().__init__(max(map(len, self.classes)), preset, **sizes)

    def _item(self, index: int, step: int, place: int) -> list[tuple[Image.Image, int]]:
        return [
            (read(entries[index % len(entries)]), label)
            for label, entries in enumerate(self.classes)
        ]


class TransformedBatches(_Batches):
    """The pre-training task: each item is an image with a transformation drawn at every access."""

    def __init__(self, entries: Sequence[ImageEntry], preset: Preset, **sizes: int) -> None:
        self.entries = entries
        super().__init__(len(entries), preset, **sizes)

    def _item(self, index: int, step: int, place: int) -> list[tuple[Image.Image, int]]:
        rng = keyed_short(self.seed, "transformation", step, place)
        label = int(rng.integers(len(TRANSFORMATIONS)))
        return [(transformed(self.entries[index], label, rng), label)]


def transformed(entry: ImageEntry, label: int, rng: np.random.Generator) -> Image.Image:
    """Return a random SIDE × SIDE crop of an image after transformation number ``label``."""
    crop = crops_of(read(entry), 1, SIDE, rng)[0]
    return Image.fromarray(TRANSFORMATIONS[label](np.ascontiguousarray(crop), rng))


def reals(images: ImageSet) -> tuple[ImageEntry, ...]:
    """Return the real images, each once.

    Raises:
        UserError: there are none.
    """
    found = without_repeats(images.only(label=REAL))
    if not found:
        raise UserError(f"{images.root}: pre-training needs real images, and there are none")
    return found


def held_out(images: ImageSet, classes: Sequence[str]) -> HeldOut:
    """Return every image of the classes."""
    found = by_class(images, classes).values()
    return [
        (partial(read, entry), label) for label, entries in enumerate(found) for entry in entries
    ]


def held_out_transformed(images: ImageSet, seed: int, each: int = 2) -> HeldOut:
    """Return ``each`` transformed crops of every class, keyed by the seed: alike in all epochs."""
    entries = reals(images)
    found: HeldOut = []
    for label in range(len(TRANSFORMATIONS)):
        for turn in range(each):
            key = ("validation", label, turn)
            entry = entries[int(keyed_short(seed, *key).integers(len(entries)))]
            found.append((partial(_transformed_by_key, entry, label, seed, key), label))
    return found


def _transformed_by_key(
    entry: ImageEntry, label: int, seed: int, key: tuple[str | int, ...]
) -> Image.Image:
    return transformed(entry, label, keyed_short(seed, *key, "crop"))
