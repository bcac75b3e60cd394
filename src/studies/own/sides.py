"""Which images are looked at, and which others feature maps are ranked on."""

from __future__ import annotations

from ...data.photos import photograph_names
from ...records import FAKE, REAL, ImageEntry, ImageSet
from ...rng import keyed

SHARE = 1 / 3  # of the photographs, to rank on


def sides(images: ImageSet, seed: int = 0) -> tuple[ImageSet, ImageSet]:
    """Return images to look at and images to rank on, which share no photograph.

    A photograph's crops and fakes are on one side (:func:`photograph_names`), drawn by its name.
    Where a side would lack a generator's reals or fakes, both are all images.
    """
    names = photograph_names([entry.path for entry in images])
    order = sorted(set(names), key=lambda name: _place(seed, name))
    ranked = set(order[: round(SHARE * len(order))])
    looked = tuple(one for one, name in zip(images, names, strict=True) if name not in ranked)
    rest = tuple(one for one, name in zip(images, names, strict=True) if name in ranked)
    test, rank = (ImageSet(images.root, side, images.layout) for side in (looked, rest))
    for generator in images.generators:
        for label in (REAL, FAKE):
            if any(not len(side.only(label=label, generator=generator)) for side in (test, rank)):
                return images, images
    return test, rank


def fewer(images: ImageSet, most: int, seed: int = 0) -> ImageSet:
    """Return at most so many reals and fakes a generator, drawn by photograph; 0 keeps all."""
    if not most:
        return images
    names = photograph_names([entry.path for entry in images])
    groups: dict[tuple[str, int], list[tuple[float, ImageEntry]]] = {}
    for entry, name in zip(images, names, strict=True):
        key = (entry.generator, entry.label)
        groups.setdefault(key, []).append((_place(seed, str(name)), entry))
    kept = set()
    for own in groups.values():
        # Crops of one photograph come in the order of their files.
        kept |= {id(entry) for _, entry in sorted(own, key=lambda one: one[0])[:most]}
    entries = tuple(entry for entry in images if id(entry) in kept)
    return ImageSet(images.root, entries, images.layout, images.left_out)


def _place(seed: int, name: str) -> float:
    return float(keyed(seed, "studied", str(name)).random())
