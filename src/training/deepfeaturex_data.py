"""What DeepFeatureX's four trainings see: unbalanced sets, splits, batches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from ..data.presets import Preset
from ..errors import UserError, counted
from ..files import sha256
from ..records import ImageEntry, ImageSet
from ..rng import keyed_short
from .batches import read
from .guidance import architecture_of, unit_of

Classified = list[tuple[ImageEntry, int]]


def distinct(images: ImageSet) -> ImageSet:
    """Return the images without byte-identical copies: generators often share their reals."""
    sizes: dict[tuple[str, int], list[ImageEntry]] = defaultdict(list)
    for entry in images:
        if entry.path.is_file():
            sizes[entry.path.name, entry.path.stat().st_size].append(entry)
    copies: set[Path] = set()
    for alike in sizes.values():
        seen: set[str] = set()
        for entry in alike if len(alike) > 1 else ():
            digest = sha256(entry.path)
            if digest in seen:
                copies.add(entry.path)
            seen.add(digest)
    kept = tuple(entry for entry in images if entry.path not in copies)
    return ImageSet(images.root, kept, images.layout)


def drawn_rest(
    images: ImageSet, classes: Sequence[str], main: str, share: float, seed: int
) -> set[Path]:
    """Return what stands against the main class: int(share · n) images of each other architecture.

    classes: of each image, in the set's order; n counts an architecture's images before the
    guidance is looked at, as published.
    """
    others: dict[str, list[Path]] = defaultdict(list)
    for entry, kind in zip(images, classes, strict=True):
        if kind != main:
            others[architecture_of(entry)].append(entry.path)
    drawn: set[Path] = set()
    for name, paths in others.items():
        rng = keyed_short(seed, "rest", main, name)
        chosen = rng.permutation(len(paths))[: int(share * len(paths))]
        drawn |= {paths[place] for place in chosen}
    return drawn


def split(
    images: Classified, share: float, seed: int, by: str, *key: str
) -> tuple[Classified, Classified]:
    """Return (training, validation) with about ``share`` of the photographs or images held out."""
    units = sorted({unit_of(entry.path, by) for entry, _ in images})
    count = max(1, round(share * len(units)))
    if len(units) < 2:
        raise UserError(
            f"{counted(len(images), 'image')} of one photograph cannot be split into training and "
            "validation"
        )
    order = keyed_short(seed, "split", *key).permutation(len(units))
    held_out = {units[place] for place in order[:count]}
    training = [one for one in images if unit_of(one[0].path, by) not in held_out]
    return training, [one for one in images if unit_of(one[0].path, by) in held_out]


def balanced_split(
    images: Classified, classes: int, share: float, seed: int, by: str
) -> tuple[Classified, Classified]:
    """Return (training, validation) with int(share · smallest class) held out of each class.

    By photograph (or name), nothing is trained on of the photographs that are held out.

    Raises:
        UserError: a class has no images, or too few to hold one out.
    """
    counts = np.bincount([label for _, label in images], minlength=classes)
    each = int(share * counts.min())
    if each == 0:
        raise UserError(f"too few images to hold {share:.0%} of the smallest class out: {counts}")
    rng = keyed_short(seed, "balanced split")
    pool, rest = images, images
    if by != "image":
        rest, pool = split(images, share, seed, by, "balanced")
        each = min(each, *np.bincount([label for _, label in pool], minlength=classes))
    held_out: Classified = []
    for label in range(classes):
        own = [one for one in pool if one[1] == label]
        chosen = sorted(rng.permutation(len(own))[:each])
        held_out += [own[place] for place in chosen]
    if by != "image":
        return rest, held_out
    paths = {entry.path for entry, _ in held_out}
    return [one for one in images if one[0].path not in paths], held_out


class ClassBatches(Dataset):
    """Item s is the batch of step s: float32 (N, 3, H, W), normalised, and classes (N,).

    An epoch is one pass over all images in an order keyed by seed and epoch, in ``steps`` batches
    that differ by one unit at most. The published training uses nothing of the following:
    crop_size: random crops after the preset's geometry (0: none); symmetries: one of the eight
    mirrorings and quarter turns, at random; matched: images of equal name, crops of one photograph
    and their fakes, are one unit that gives one image of each class, drawn at random, cropped and
    turned alike, so that only their makers differ and the classes are balanced.
    """

    def __init__(
        self,
        images: Classified,
        preset: Preset,
        *,
        batch_size: int,
        seed: int,
        crop_size: int = 0,
        symmetries: bool = False,
        matched: bool = False,
    ) -> None:
        groups: dict[str, Classified] = defaultdict(list)
        for entry, label in images:
            name = entry.path.stem if matched else entry.path.as_posix()
            groups[name].append((entry, label))
        self.matched = matched
        classes = len({label for _, label in images})
        whole = [unit for unit in groups.values() if len({one for _, one in unit}) == classes]
        self.units = whole if matched else list(groups.values())
        if not self.units:
            raise UserError("matched: no photograph has images of all classes under one name")
        self.preset, self.seed = preset, seed
        self.crop_size, self.symmetries = crop_size, symmetries
        count = classes * len(self.units) if matched else len(images)
        self.steps = min(len(self.units), max(1, round(count / batch_size)))

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        epoch, place = divmod(step, self.steps)
        order = keyed_short(self.seed, "order", epoch).permutation(len(self.units))
        pixels, labels = [], []
        for unit in np.array_split(order, self.steps)[place]:
            rng = keyed_short(self.seed, "view", step, int(unit))
            draw = rng.random(5)
            for entry, label in self._drawn(self.units[unit], rng):
                pixels.append(self._view(entry, draw))
                labels.append(label)
        if len({one.shape for one in pixels}) > 1:
            raise UserError(
                "images of different sizes in one batch: give a crop size or another preset"
            )
        stacked = torch.from_numpy(np.stack(pixels).transpose(0, 3, 1, 2).copy())
        return self.preset.normalise(stacked), torch.tensor(labels)

    def _drawn(self, unit: Classified, rng: np.random.Generator) -> Classified:
        if not self.matched:
            return unit
        labels = sorted({label for _, label in unit})
        of_label = [[one for one in unit if one[1] == label] for label in labels]
        return [each[rng.integers(len(each))] for each in of_label]

    def _view(self, entry: ImageEntry, draw: np.ndarray) -> np.ndarray:
        """Return uint8 (H, W, 3); draw: five numbers in [0, 1) that decide crop and symmetry."""
        pixels = np.asarray(self.preset.geometry(read(entry), entry.path.name, self.seed))
        side = self.crop_size
        if side:
            if min(pixels.shape[:2]) < side:
                raise UserError(
                    f"{entry.path}: {pixels.shape[1]} × {pixels.shape[0]} pixels are fewer than "
                    f"the crop of {side}; give a smaller crop size"
                )
            top, left = (
                int(d * (n - side + 1)) for d, n in zip(draw[:2], pixels.shape[:2], strict=True)
            )
            pixels = pixels[top : top + side, left : left + side]
        if self.symmetries:
            pixels = pixels[:, ::-1] if draw[2] < 0.5 else pixels
            pixels = pixels[::-1] if draw[3] < 0.5 else pixels
            square = pixels.shape[0] == pixels.shape[1]
            pixels = pixels.transpose(1, 0, 2) if draw[4] < 0.5 and square else pixels
        return pixels
