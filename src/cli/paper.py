"""What the scripts in ``paper/`` are run with.

Without options a script runs on the embedded default: photographs that no training saw, forged
into all families, and the detectors that forensift ships. With ``--data`` and ``--weights`` it runs
on ForenSynths with the published detectors and rankings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UserError
from .run import Sweeping
from .verb import verb

if TYPE_CHECKING:
    from ..detectors import Detector
    from ..records import ImageSet, Ranking, Result

TRAINED_ON = ("progan-like", "progan")
PER_CLASS = 50  # fakes of each class of progan_val that are ranked on, as published


def script(function: Callable[..., Any]) -> None:
    """Run a script's function ``(run: Paper, own options …)`` as a program."""
    typer.run(verb(function))


def _option(name: str, text: str, **more: Any) -> Any:
    return typer.Option(name, help=text, rich_help_panel="What it works on", **more)


@dataclass(kw_only=True)
class Paper(Sweeping):
    """Detectors, image sets and rankings of a script."""

    data: Annotated[
        Path | None,
        _option("--data", "ForenSynths or any image set. Default: forged photographs."),
    ] = None
    weights: Annotated[
        list[str] | None,
        _option(
            "--weights",
            "Published weights (repeat the option). Default: those that forensift ships.",
            metavar="DIR|FILE|ARCH[:CR]=FILE",
        ),
    ] = None
    rank_data: Annotated[
        Path | None,
        _option("--rank-data", "progan_val, to rank anew by the published protocol."),
    ] = None
    ranking_file: Annotated[
        Path | None,
        _option("--ranking", "A ranking on fakes. Default: the one of the weights."),
    ] = None
    arch: Annotated[str, _option("--arch", "resnet50 (theirs too) and efficientnet-b0 (efb0).")] = (
        "resnet50,efficientnet-b0"
    )
    generators: Annotated[str, _option("--generators", "A,B. Default: all there are.")] = ""
    maps: Annotated[
        int | None, _option("--k", "Feature maps. Default: the published 114 and 27.")
    ] = None
    limit: Annotated[
        int | None, _option("--limit", "The first N of each generator, class and label.")
    ] = None
    pairs: Annotated[int, _option("--pairs", "Of each family, embedded default.")] = 24
    size: Annotated[int, _option("--size", "Pixels, embedded default.")] = 128
    families: Annotated[str, _option("--families", "A,B, embedded default.")] = "all"
    min_confidence: Annotated[float, _option("--min-confidence", "Of the images ranked on.")] = 0.9
    world: Annotated[Path, _option("--world", "Where forged images and rankings are kept.")] = Path(
        "output/world"
    )

    @cached_property
    def found(self) -> dict[tuple[str, str], Path]:
        """Weights files by architecture and training; empty for the shipped ones."""
        from ..studies.tff import find_weights

        return find_weights(self.weights) if self.weights else {}

    @property
    def archs(self) -> list[str]:
        """The architectures asked for, those with weights."""
        from ..studies.tff import ALIASES, ARCHS, BASELINE

        asked = [ALIASES.get(one, one) for one in self.arch.split(",")]
        unknown = [one for one in asked if one not in ARCHS]
        if unknown:
            raise UserError(f"--arch {unknown[0]}: choose among {', '.join(ARCHS)}")
        there = [one for one in asked if not self.found or (one, BASELINE) in self.found]
        if not there:
            raise UserError(f"--weights: none of {self.arch}")
        return there

    @cached_property
    def images(self) -> ImageSet:
        """The images to look at."""
        from ..data import scan
        from ..forge import TRAINED
        from ..histograms import first_instances
        from ..records import ImageSet

        families = TRAINED if self.families == "all" else self.families.split(",")
        images = scan(self.data) if self.data else self.forged("test", families)
        if self.generators:
            wanted = self.generators.split(",")
            for one in wanted:
                if one not in images.generators:
                    there = ", ".join(images.generators)
                    raise UserError(f"{images.root}: no generator {one!r}; there are {there}")
            kept = tuple(entry for entry in images if entry.generator in wanted)
            images = ImageSet(images.root, kept, images.layout)
        return first_instances(images, self.limit) if self.limit else images

    @property
    def training_family(self) -> str | None:
        """The generator that the detectors were trained on, if it is among the images."""
        return next((one for one in self.images.generators if one in TRAINED_ON), None)

    def forged(self, split: str, families: Sequence[str]) -> ImageSet:
        """Return the held-out photographs of a split, forged into families; made where missing."""
        from ..data import photographs, scan
        from ..forge import forge
        from ..records import ImageSet

        folder = self.world / f"{split}-{self.size}px-{self.pairs}-seed{self.seed}"
        forge(
            photographs("validation" if split == "validation" else "test"),
            list(families),
            folder,
            per_family=self.pairs,
            side=self.size,
            seed=self.seed,
        )
        images = scan(folder)
        kept = tuple(entry for entry in images if entry.generator in families)
        return ImageSet(images.root, kept, images.layout)

    def detector(self, arch: str, training: str = "baseline") -> Detector | None:
        """Return a detector at native size; None where there is no colour-robust one."""
        from ..detectors import load_detector, shipped_weights

        path: Path | str | None = self.found.get((arch, training))
        if path is None and (self.found or training != "baseline"):
            if self.found or not shipped_weights(arch, "colour-robust").is_file():
                print(f"{arch}: no weights of its {training} version, left out")
                return None
            path = "colour-robust"
        return load_detector(arch, weights=path, preset="wang-nocrop", device=self.chosen_device)

    def k(self, arch: str) -> int:
        """Return how many feature maps are looked at: the published number, or ``--k``."""
        from ..fmap_ranking import PUBLISHED_K

        return self.maps or PUBLISHED_K[arch]

    def ranking(self, detector: Detector) -> Ranking:
        """Return ω on fakes of the training family: the one that belongs to the weights.

        Published weights have the published ranking, or with ``--rank-data`` one by the published
        protocol. For the shipped weights it is computed on forged validation photographs, once:
        it is kept beside these.
        """
        from ..fmap_ranking import fitting, load_ranking, save_ranking
        from ..studies.tff import published_ranking

        path = self.ranking_file
        if path is None and self.found and not self.rank_data:
            path = published_ranking(detector.name)
        if path is None:
            images, preset, start = self._ranked_on()
            named = f"{detector.name}-{detector.weights.sha256[:8]}-{images.hash()[:8]}"
            words = f"{preset}-{self.seed}-{self.min_confidence:g}"
            path = self.world / f"ranking-{named}-{words}-fake.csv"
            if not path.is_file():
                save_ranking(self._rank(detector, images, preset, start), path)
        ranking = load_ranking(path)
        detector = fitting(ranking, detector)
        return ranking

    def keep(self, name: str, result: Result) -> None:
        """Save a result to NAME in the script's folder, and say what it shows."""
        from .. import views

        views.save(result, self.folder / name, {**self.facts(), "data": str(self.images.root)})
        print(f"{name}: {result.said}\nin {self.folder / name}")

    def _ranked_on(self) -> tuple[ImageSet, str, str]:
        from ..data import scan
        from ..histograms import first_instances
        from ..records import FAKE

        if self.rank_data:
            images = first_instances(scan(self.rank_data).only(label=FAKE), PER_CLASS)
            return images, "tff-ffrs", "published"
        return (
            self.forged("validation", TRAINED_ON[:1]).only(label=FAKE),
            "wang-nocrop",
            "predicted",
        )

    def _rank(self, detector: Detector, images: ImageSet, preset: str, start: str) -> Ranking:
        from ..fmap_ranking import rank

        return rank(
            detector,
            images,
            start=start,  # type: ignore[arg-type]
            min_confidence=self.min_confidence,
            preset=preset,
            **self.how,
        )
