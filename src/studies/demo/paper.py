"""What the scripts in ``paper/`` share: their options, detectors, images and rankings.

Without options a script runs on the embedded default: photographs that no training saw, forged
into all families, and the detectors that forensift ships. With ``--data`` and ``--weights`` it runs
on ForenSynths with the published detectors and rankings.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch

from ...data import photographs, scan
from ...detectors import Detector, load_detector, shipped_weights
from ...errors import UserError
from ...files import write_bytes, write_csv, write_manifest, write_with
from ...fmap_ranking import check_ranking_fits, load_ranking, rank, save_ranking
from ...forge import TRAINED, forge
from ...histograms import first_instances
from ...records import FAKE, ImageSet, Ranking
from ...sensitivity import PUBLISHED_K
from ...views.text import markdown
from ..tff import (
    ALIASES,
    ARCHS,
    BASELINE,
    FFRS,
    MIN_CONFIDENCE,
    NATIVE,
    ROBUST,
    Slot,
    find_weights,
    published_ranking,
)

TRAINED_ON = ("progan-like", "progan")
PER_CLASS = 50  # reals and fakes of each class of progan_val that are ranked on, as published


@dataclass
class Bench:
    """What one script works with; made by :func:`bench`.

    images: to look at. weights: files by architecture and training; empty for the shipped ones.
    facts: gathered for the manifest.
    """

    name: str
    options: argparse.Namespace
    images: ImageSet
    weights: dict[Slot, Path]
    facts: dict[str, object] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where figure and numbers go."""
        return Path(self.options.out) / self.name

    @property
    def archs(self) -> list[str]:
        """The architectures asked for, those with weights."""
        asked = [ALIASES.get(one, one) for one in self.options.arch.split(",")]
        unknown = [one for one in asked if one not in ARCHS]
        if unknown:
            raise UserError(f"--arch {unknown[0]}: choose among {', '.join(ARCHS)}")
        return [one for one in asked if not self.weights or (one, BASELINE) in self.weights]

    @property
    def training_family(self) -> str | None:
        """The generator that the detectors were trained on, if it is among the images."""
        return next((one for one in self.images.generators if one in TRAINED_ON), None)

    def detector(self, arch: str, training: str = BASELINE) -> Detector | None:
        """Return a detector at native size; None where there is no colour-robust one."""
        path: Path | str | None = self.weights.get((arch, training))
        if path is None and (self.weights or training == ROBUST):
            path = shipped_weights(arch, "colour-robust")
            if self.weights or not path.is_file():
                self.say(f"{arch}: no weights of its {training} version, left out")
                return None
        found = load_detector(arch, weights=path, preset=NATIVE, device=self.options.device)
        named = f"{arch}, {training}"
        self.facts[f"weights of {named}"] = {
            "file": found.weights.path, "sha256": found.weights.sha256
        }  # fmt: skip
        return found

    def k(self, arch: str) -> int:
        """Return how many feature maps are looked at: the published number, or ``--k``."""
        return self.options.k or PUBLISHED_K[arch]

    def ranking(self, detector: Detector) -> Ranking:
        """Return ω on fakes of the training family: the one that belongs to the weights.

        ``--ranking`` names a file. Published weights have the published ranking, or with
        ``--rank-data`` one by the published protocol. For the shipped weights it is computed on
        forged validation photographs, once: it is kept beside these.
        """
        o = self.options
        if o.ranking:
            found = load_ranking(Path(o.ranking), label=FAKE)
            source = str(o.ranking)
        elif self.weights and not o.rank_data:
            path = published_ranking(detector.name)
            found, source = load_ranking(path, label=FAKE), f"published, {path.name}"
        else:
            found, source = self._ranked(detector)
        check_ranking_fits(found, detector)
        self.facts[f"ranking of {detector.name}"] = source
        return found

    def save(self, tables: Mapping[str, pd.DataFrame], **facts: object) -> None:
        """Write the numbers beside the figure, and the manifest."""
        for name, table in tables.items():
            write_csv(self.folder / f"{name}.csv", table)
        about = {
            "script": f"paper/{self.name}.py",
            "data": str(self.images.root),
            "image_set_sha256": self.images.hash(),
            "images": len(self.images),
            "seed": self.options.seed,
            "batch_size": self.options.batch_size,
        }
        write_manifest(self.folder, about | self.facts | facts)
        self.say(f"in {self.folder}")

    def say(self, text: str) -> None:
        """Print a line of progress."""
        print(f"{self.name}: {text}", flush=True)

    def _ranked(self, detector: Detector) -> tuple[Ranking, str]:
        o = self.options
        if o.rank_data:
            images = first_instances(scan(o.rank_data).only(label=FAKE), PER_CLASS)
            preset, start = FFRS, "published"
        else:
            images = world(o, "validation", (TRAINED_ON[0],)).only(label=FAKE)
            preset, start = NATIVE, "predicted"
        named = f"{detector.name}-{detector.weights.sha256[:8]}-{images.hash()[:8]}"
        kept = Path(o.world) / f"ranking-{named}-{preset}-{o.seed}-{o.min_confidence:g}.parquet"
        source = f"own, on {len(images)} fakes of {images.root}"
        if kept.is_file():
            return Ranking(pd.read_parquet(kept), FAKE, start), source
        self.say(f"{detector.name}: ranking on {len(images)} fakes")
        found = rank(
            detector,
            images,
            start="published" if start == "published" else "predicted",
            min_confidence=o.min_confidence,
            preset=preset,
            batch_size=o.batch_size,
            seed=o.seed,
        )
        write_with(kept, lambda path: found.table.to_parquet(path, index=False))
        save_ranking(found, kept.with_name(f"ranking-{named}-fake.csv"))
        return found, source


def bench(
    name: str,
    description: str,
    *,
    arch: str = "resnet50",
    pairs: int = 24,
    more: Callable[[argparse.ArgumentParser], object] | None = None,
    argv: Sequence[str] | None = None,
) -> Bench:
    """Read a script's command line and find what it works on.

    arch: of the default; pairs: real and fake of each family of the embedded default; more: adds
    the script's own options.

    Raises:
        SystemExit: with code 2 and one line, for whatever the user can mend.
    """
    parser = argparse.ArgumentParser(prog=f"paper/{name}.py", description=description)
    add = parser.add_argument
    add("--data", metavar="DIR", help="ForenSynths or any image set; default: forged photographs")
    add("--weights", metavar="DIR|FILE|ARCH[:CR]=FILE", action="append", default=[],
        help="published weights; default: those that forensift ships")  # fmt: skip
    add("--rank-data", metavar="DIR", help="progan_val, to rank anew by the published protocol")
    add("--ranking", metavar="CSV", help="a ranking on fakes; default: the one of the weights")
    add("--arch", default=arch, help="resnet50 (theirs too) and efficientnet-b0 (efb0)")
    add("--generators", default="", metavar="A,B", help="default: all there are")
    add("--k", type=int, help="feature maps; default: the published 114 and 27")
    add("--limit", type=int, metavar="N", help="the first N of each generator, class and label")
    add("--pairs", type=int, default=pairs, help="of each family, embedded default")
    add("--size", type=int, default=128, help="pixels, embedded default")
    add("--families", default=",".join(TRAINED), metavar="A,B", help="embedded default")
    add("--min-confidence", type=float, default=MIN_CONFIDENCE, help="of the images ranked on")
    add("--batch-size", type=int, default=32)
    add("--seed", type=int, default=0)
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--world", default="output/paper/world", help="where forged images and rankings are kept")
    add("--out", default="output/paper", metavar="DIR", help="results go to DIR/<name>")
    if more is not None:
        more(parser)
    options = parser.parse_args(argv)
    weights = find_weights(options.weights) if options.weights else {}
    images = (
        scan(options.data) if options.data else world(options, "test", options.families.split(","))
    )
    if options.generators:
        wanted = options.generators.split(",")
        lacking = [one for one in wanted if one not in images.generators]
        if lacking:
            there = ", ".join(images.generators)
            raise UserError(f"{images.root}: no generator {lacking[0]!r}; there are {there}")
        kept = tuple(entry for entry in images if entry.generator in wanted)
        images = ImageSet(images.root, kept, images.layout)
    if options.limit:
        images = first_instances(images, options.limit)
    found = Bench(name, options, images, weights)
    if not found.archs:
        raise UserError(f"--weights: none of {options.arch}")
    return found


def world(options: argparse.Namespace, split: str, families: Sequence[str]) -> ImageSet:
    """Return the held-out photographs of a split, forged into families; made where missing.

    The *test* split is looked at, the *validation* split ranked on; no training saw either.
    """
    folder = Path(options.world) / f"{split}-{options.size}px-{options.pairs}-seed{options.seed}"
    forge(
        photographs("validation" if split == "validation" else "test"),
        list(families),
        folder,
        per_family=options.pairs,
        side=options.size,
        seed=options.seed,
    )
    images = scan(folder)
    kept = tuple(entry for entry in images if entry.generator in families)
    return ImageSet(images.root, kept, images.layout)


def write_markdown(path: Path, title: str, table: pd.DataFrame) -> None:
    """Write a table as Markdown, as the study's README prints it."""
    write_bytes(path, f"# {title}\n\n{markdown(table)}\n".encode())


def run(main: Callable[[], None]) -> None:
    """Run a script; what the user can mend is one line and exit code 2."""
    try:
        main()
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(2) from None
