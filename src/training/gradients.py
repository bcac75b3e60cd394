"""Folders of gradient images beside folders of images, as LGrad publishes and trains on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Unpack

from ..data import batches, check_skipped
from ..data.layouts import GRADIENTS, label_folder
from ..detectors.gradient_images import PROCEDURE, GradientPreset, read_gradient, write_gradient
from ..records import ImageSet, Result, Skipped
from ..sweep import How

FOLDERS = ("0_real", "1_fake")  # where a list of images does not say


@dataclass(frozen=True, eq=False, repr=False)
class Gradients(Result):
    """How many gradient images were written, and how many were there already."""

    written: int
    kept: int
    skipped: tuple[Skipped, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def gradient_paths(images: ImageSet) -> list[PurePosixPath]:
    """Return where each image's gradient image goes, below the output folder.

    The tree is the set's own, ``0_real`` becoming ``0_real_grad``; a set that is one generator gets
    a folder of its name. An image is named by what stands before the first dot of its name, as
    published; where that names two images of a folder, by its whole name.
    """
    folders = [_folder(images, entry.path, entry.generator) for entry in images]
    for place, entry in enumerate(images):
        if folders[place] is None:
            classes = entry.class_name.split("/") if entry.class_name else []
            label = FOLDERS[entry.label] + GRADIENTS
            folders[place] = PurePosixPath(entry.generator, *classes, label)
    short = [
        folder / f"{entry.path.name.split('.')[0]}.png"
        for folder, entry in zip(folders, images, strict=True)
        if folder is not None
    ]
    often = Counter(short)
    return [
        path if often[path] == 1 else path.with_name(f"{entry.path.name}.png")
        for path, entry in zip(short, images, strict=True)
    ]


def _folder(images: ImageSet, path: Path, generator: str) -> PurePosixPath | None:
    try:
        relative = path.relative_to(images.root)
    except ValueError:
        return None
    at = label_folder(relative)
    if at is None or images.layout == "csv":
        return None
    parts = list(relative.parts[:-1])
    parts[at] += GRADIENTS
    return PurePosixPath(*([] if generator in parts[:at] else [generator]), *parts)


def write_gradients(
    images: ImageSet, preset: GradientPreset, out: Path, *, device: str = "cpu", **how: Unpack[How]
) -> Gradients:
    """Write the gradient image of every readable image below ``out`` as 8-bit PNG.

    A file that is there already and was made of the same pixels with the same critic is kept, so
    an interrupted run goes on where it was; any other is replaced.

    Raises:
        UserError: too many images cannot be read.
    """
    paths = dict(zip(images.entries, gradient_paths(images), strict=True))
    written, done, skipped = 0, 0, how.get("skipped", [])
    told = how.get("progress")
    for batch in batches(images, preset, 1, skipped=skipped):  # each goes through the critic alone
        path = out / paths[batch.entries[0]]
        key = preset.images.key(batch.pixels[0].numpy(), device)
        if read_gradient(path, key) is None:
            found = preset.images(batch.pixels.to(device))[0]
            write_gradient(path, found.cpu().numpy(), key)
            written += 1
        done += 1
        if told is not None:
            told("gradient images", done, len(images))
    check_skipped(skipped, len(images), how.get("max_skipped", 0.01))
    facts = {
        **preset.facts,
        "critic_name": preset.images.critic.name,
        "preset": preset.name,
        "procedure": PROCEDURE,
        "data": str(images.root),
        "image_set_sha256": images.hash(),
        "images": done,
        "skipped": len(skipped),
    }
    return Gradients(written, done - written, tuple(skipped), facts)
