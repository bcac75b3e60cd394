"""What verbs are run on and with: the common options are these fields, declared only here."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from . import options

if TYPE_CHECKING:
    from ..detectors import Detector
    from ..records import ImageSet, Skipped
    from ..sweep import How


def scanned(folder: Path) -> ImageSet:
    """Return the image set of a folder or manifest; what of it was passed over is said."""
    from ..data import scan

    images = scan(folder)
    for one in images.left_out:
        print(f"left out: {one}", file=sys.stderr)
    for one in images.notes:
        print(f"note: {one}", file=sys.stderr)
    return images


@dataclass(kw_only=True)
class Out:
    """A run that writes a folder.

    verb: its name; given: the verb's own options, for the manifest; tell: progress, see ``bars``.
    """

    out: options.Out = None
    json: options.Json = False
    verb: str = field(default="", metadata={"hidden": True})
    given: dict[str, Any] = field(default_factory=dict, metadata={"hidden": True})
    tell: Callable[..., None] = field(default=lambda *told: None, metadata={"hidden": True})
    skipped: list[Skipped] = field(default_factory=list, metadata={"hidden": True})

    @cached_property
    def folder(self) -> Path:
        """The folder for the results, made before anything is computed."""
        folder = self.out or Path("output") / self.verb
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # What may be written is only known by writing: permissions do not tell.
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"--out {folder}: nothing can be written there: {reason}") from None

    def say(self, text: str) -> None:
        """Print what a study does now, on stderr, and show it as long as nothing else is told."""
        from .tables import console

        console(stderr=True).print(f"· {text}", style="dim", markup=False, soft_wrap=True)
        self.tell(text)

    def facts(self) -> dict[str, Any]:
        """Return what the manifest says of the run itself."""
        return {"options": self.given}


@dataclass(kw_only=True)
class Seeded(Out):
    """A run that draws at random, on a device."""

    device: options.Device = "auto"
    seed: options.Seed = 0

    @cached_property
    def chosen_device(self) -> str:
        """'cpu' or 'cuda'."""
        return options.choose_device(self.device)

    def facts(self) -> dict[str, Any]:
        """Return what the manifest says of the run itself."""
        return {**super().facts(), "seed": self.seed, "device": self.chosen_device}


@dataclass(kw_only=True)
class Sweeping(Seeded):
    """A run that goes over images."""

    batch_size: options.BatchSize = 32
    max_skipped: options.MaxSkipped = 0.01
    resume: options.Resume = False

    @property
    def how(self) -> How:
        """How images are gone over, for the library's functions."""
        return {
            "batch_size": self.batch_size,
            "seed": self.seed,
            "max_skipped": self.max_skipped,
            "skipped": self.skipped,
            "progress": self.tell,
            "partials": self.folder / "partials",
            "resume": self.resume,
        }

    def facts(self) -> dict[str, Any]:
        """Return what the manifest says of the run itself."""
        return {**super().facts(), "batch_size": self.batch_size, "skipped": len(self.skipped)}


@dataclass(kw_only=True)
class OnImages(Sweeping):
    """A run over an image set."""

    data: options.Data

    @cached_property
    def images(self) -> ImageSet:
        """The image set."""
        self.tell(f"finding the images in {self.data}")
        return scanned(self.data)

    def of_generator(self, name: str | None) -> ImageSet:
        """Return the images of one generator, or all.

        Raises:
            UserError: there is no such generator.
        """
        images = self.images
        if name is not None and name not in images.generators:
            there = ", ".join(images.generators)
            raise UserError(f"--generator {name}: there are {there} in {images.root}")
        return images.only(generator=name)

    def facts(self) -> dict[str, Any]:
        """Return what the manifest says of the run itself."""
        images = self.images
        return {
            **super().facts(),
            "data": str(images.root),
            "image_set_sha256": images.hash(),
            "used": len(images) - len(self.skipped),
        }


@dataclass(kw_only=True)
class OnDetector(Sweeping):
    """A run on one detector."""

    detector: options.DetectorName
    weights: options.Weights = None
    backbone: options.Backbone = None
    preset: options.PresetName = None

    @cached_property
    def loaded(self) -> Detector:
        """The detector with its weights, on the device."""
        self.tell(f"loading {self.detector}")
        from ..detectors import load_detector

        return load_detector(
            self.detector,
            weights=self.weights,
            backbone=self.backbone,
            preset=self.preset,
            device=self.chosen_device,
        )

    @cached_property
    def every(self) -> dict[str, Detector]:
        """The detectors by name: one, several with commas between, or all that are shipped."""
        self.tell(f"loading {self.detector}")
        from ..detectors import load_detector, shipped_detectors

        if self.detector == "all":
            return shipped_detectors(self.chosen_device)
        names = self.detector.split(",")
        if len(names) == 1:
            return {self.loaded.name: self.loaded}
        if self.weights or self.backbone:
            raise UserError("weights: of several detectors give them as NAME=FILE")
        device = self.chosen_device
        return {one: load_detector(one, preset=self.preset, device=device) for one in names}

    def facts(self) -> dict[str, Any]:
        """Return what the manifest says of the run itself."""
        if "loaded" not in vars(self):
            return super().facts()
        detector = self.loaded
        return {
            **super().facts(),
            "detector": detector.name,
            **detector.weights.facts(),
            "preset": detector.preset.name,
            **getattr(detector.preset, "facts", {}),
        }


@dataclass(kw_only=True)
class OnLoose(OnDetector):
    """A run of one detector on files of one's own, which goes on without those that are broken."""

    max_skipped: options.MaxSkipped = 1.0


@dataclass(kw_only=True)
class Run(OnDetector, OnImages):
    """A run of one detector over an image set."""
