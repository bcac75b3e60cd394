"""Folders of gradient images beside folders of images, as LGrad publishes and trains on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import nn

from ..data import Batch
from ..data.names import GRADIENTS, label_folder
from ..detectors import Detector
from ..detectors.detector import WeightsOrigin
from ..detectors.gradient_images import PROCEDURE, GradientPreset, read_gradient, write_gradient
from ..records import ImageSet, Result, Skipped
from ..sweep import Look, PerImage, Progress, Rows, Seen, sweep

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


class _GradientLook(Look):
    """Writes gradient images that are not there yet; paths: where, by the id of the image."""

    def __init__(
        self, preset: GradientPreset, device: str, paths: Mapping[str, list[Path]]
    ) -> None:
        critic = preset.images.critic
        network = critic.score if isinstance(critic.score, nn.Module) else nn.Identity()
        origin = WeightsOrigin("", critic.sha256, "")
        named = Detector(f"critic {critic.name}", network, preset, (), origin)
        super().__init__(named, PerImage(), colours=())
        self.alone = True  # equal images have files of their own
        self.images, self.device, self.paths = preset.images, torch.device(device), paths
        self.images.critic.to(self.device)
        self.written, self.kept = 0, 0

    def observe(self, batch: Batch, seen: Mapping[str, Seen]) -> Rows:
        for image_id, pixels in zip(batch.ids, batch.pixels, strict=True):
            key = self.images.key(pixels.numpy(), self.device)
            for path in self.paths[image_id]:
                if read_gradient(path, key) is not None:
                    self.kept += 1
                    continue
                write_gradient(path, self._made(pixels[None])[0].cpu().numpy(), key)
                self.written += 1
        return {}

    def probe(self, batch: Batch, seen: Mapping[str, Seen]) -> object:
        return self._made(batch.pixels)

    def _made(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.images(pixels.to(self.device))


def write_gradients(
    images: ImageSet,
    preset: GradientPreset,
    out: Path,
    *,
    device: str = "cpu",
    max_skipped: float = 0.01,
    skipped: list[Skipped] | None = None,
    progress: Progress | None = None,
) -> Gradients:
    """Write the gradient image of every usable image below ``out`` as 8-bit PNG.

    A file that is there already and was made of the same pixels with the same critic is kept, so
    an interrupted run goes on where it was; any other is replaced. max_skipped, skipped, progress:
    see :class:`forensift.sweep.How`.

    Raises:
        UserError: too many images cannot be used: unreadable, or of a size that the critic cannot
            take.
    """
    paths: dict[str, list[Path]] = {}
    for entry, path in zip(images, gradient_paths(images), strict=True):
        paths.setdefault(images.image_id(entry), []).append(out / path)
    look = _GradientLook(preset, device, paths)
    done = sweep(
        images,
        [look],
        what="gradient images",
        batch_size=1,  # each goes through the critic alone
        max_skipped=max_skipped,
        skipped=[] if skipped is None else skipped,
        progress=progress or (lambda *told: None),
    )
    facts = {
        **preset.facts,
        "critic_name": preset.images.critic.name,
        "preset": preset.name,
        "procedure": PROCEDURE,
        "data": str(images.root),
        "image_set_sha256": images.hash(),
        "images": len(done.used),
        "skipped": len(done.skipped),
    }
    return Gradients(look.written, look.kept, done.skipped, facts)
