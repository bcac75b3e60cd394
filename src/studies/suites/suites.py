"""The published test suites, and where below a folder they lie."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...data import require_both_classes, scan
from ...data.names import LABELS, SPLITS
from ...errors import UserError
from ...records import ImageSet

DEPTH = 5  # how far below the folder given a suite is looked for


@dataclass(frozen=True)
class Suite:
    """Test sets that are published together and prepared alike.

    name: on the command line; title: as published; preset: its resize and crop rule;
    folders: what its folder is called; generators: of each test set the published name and then
    other names of its folder, in the published order. Names are compared without case, dots,
    dashes, underscores and spaces.
    """

    name: str
    title: str
    preset: str
    folders: tuple[str, ...]
    generators: tuple[tuple[str, ...], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The published names of the generators, in the published order."""
        return tuple(one[0] for one in self.generators)

    def published(self, folder: str) -> str | None:
        """Return the published name of the generator whose folder is called so; None if none."""
        for names in self.generators:
            if plain(folder) in map(plain, names):
                return names[0]
        return None


@dataclass(frozen=True)
class Found:
    """A suite that is there: its images by published name, and what a reader must know.

    folders: the name that each generator's folder has.
    """

    suite: Suite
    root: Path
    sets: Mapping[str, ImageSet]
    folders: Mapping[str, str]
    notes: tuple[str, ...] = field(default=())


def plain(name: str) -> str:
    """Return a name by which folders are compared: lower case, letters and digits alone."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _alone(text: str) -> tuple[tuple[str, ...], ...]:
    return tuple((name,) for name in text.split())


# §2.3 of Wang et al.'s protocol: thirteen sets in the order of the published evaluation.
WANG = Suite(
    "wang",
    "CNN_synth_testset",
    "wang-crop224",
    ("CNN_synth_testset", "ForenSynths", "ForenSynths_test"),
    (
        *_alone("ProGAN StyleGAN BigGAN CycleGAN StarGAN GauGAN CRN IMLE"),
        ("SITD", "seeingdark"),
        *_alone("SAN Deepfake StyleGAN2 Whichfaceisreal"),
    ),
)

_SDV4 = ("sdv4", "sdv14", "stable_diffusion_v_1_4")
_SDV5 = ("sdv5", "sdv15", "stable_diffusion_v_1_5")

# §3.3 of NPR's protocol. Of folders that fit two suites alike, the first is meant.
NPR_SUITES = (
    Suite(
        "forensynths",
        "ForenSynths",
        "npr-forensynths",
        ("ForenSynths", "ForenSynths_test", "CNN_synth_testset"),
        _alone("ProGAN StyleGAN StyleGAN2 BigGAN CycleGAN StarGAN GauGAN Deepfake"),
    ),
    Suite(
        "gangen",
        "GANGen-Detection",
        "npr-gangen",
        ("GANGen-Detection", "GANGen"),
        _alone("AttGAN BEGAN CramerGAN InfoMaxGAN MMDGAN RelGAN S3GAN SNGAN STGAN"),
    ),
    Suite(
        "diffusionforensics",
        "DiffusionForensics",
        "npr-diffusionforensics",
        ("DiffusionForensics",),
        _alone("adm ddpm iddpm ldm pndm sdv1_new sdv2 vqdiffusion"),
    ),
    Suite(
        "universalfakedetect",
        "UniversalFakeDetect",
        "npr-universalfakedetect",
        ("UniversalFakeDetect",),
        _alone("dalle glide_100_10 glide_100_27 glide_50_27 guided ldm_100 ldm_200 ldm_200_cfg"),
    ),
    Suite(
        "diffusion1kstep",
        "Diffusion1kStep",
        "npr-diffusion1kstep",
        ("Diffusion1kStep",),
        _alone("DALLE ddpm guided-diffusion improved-diffusion midjourney"),
    ),
    Suite(
        "genimage",
        "GenImage",
        "npr-genimage",
        ("GenImage", "GenImage_test"),
        (*_alone("ADM biggan glide midjourney"), _SDV5, *_alone("vqdm wukong")),
    ),
    Suite(
        "aigcdetectbenchmark",
        "AIGCDetectBenchmark",
        "npr-aigcdetect",
        ("AIGCDetectBenchmark", "AIGCDetect", "AIGCDetect_testset", "AIGCDetectionBenchmark"),
        (
            *_alone("ProGAN StyleGAN BigGAN CycleGAN StarGAN GauGAN StyleGAN2"),
            ("WFIR", "whichfaceisreal"),
            *_alone("ADM Glide Midjourney"),
            ("SDv1.4", *_SDV4),
            ("SDv1.5", *_SDV5),
            *_alone("VQDM Wukong DALLE2"),
        ),
    ),
)


def find_suites(
    root: Path, suites: Sequence[Suite], given: Mapping[str, Path] | None = None
) -> list[Found]:
    """Return the suites that lie in ``root`` or up to DEPTH folders below it, in their order.

    A folder called like a suite, with at least one of its generators in it, is that suite. Another
    is the suite most of whose generators it holds, at least two (one is enough for ``root``
    itself). given: folders of suites by name, which settle it.

    Raises:
        UserError: no such folder, an unknown name, two folders that may be one suite, or none.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        raise UserError(f"{root}: no such folder")
    known = {suite.name: suite for suite in suites}
    places: dict[str, Path] = {}
    for name, folder in (given or {}).items():
        if name not in known:
            raise UserError(f"--suite {name}: there are {', '.join(known)}")
        places[name] = folder.expanduser()
        if not places[name].is_dir():
            raise UserError(f"{folder}: no such folder")
    candidates: dict[str, dict[bool, list[Path]]] = {}
    for folder, suite, named in _candidates(root, suites):
        candidates.setdefault(suite.name, {}).setdefault(named, []).append(folder)
    for name, by_rank in candidates.items():
        folders = by_rank.get(True) or by_rank[False]
        if name in places:
            continue
        if len(folders) > 1:
            raise UserError(
                f"{' and '.join(map(str, folders))} may both be {known[name].title}; "
                f"say --suite {name}=DIR"
            )
        places[name] = folders[0]
    found = [_images(suite, places[suite.name]) for suite in suites if suite.name in places]
    found = [one for one in found if one.sets]
    if not found:
        titles = ", ".join(suite.title for suite in suites)
        raise UserError(
            f"{root}: no test set of {titles} in it; a suite is a folder of "
            "<generator>/[<class>/]{0_real,1_fake}"
        )
    return found


def _candidates(root: Path, suites: Sequence[Suite]) -> list[tuple[Path, Suite, bool]]:
    """Return (folder, suite, whether the name says so) of all folders that may be a suite."""
    candidates = []
    level = [root]
    for depth in range(DEPTH):
        below: list[Path] = []
        for folder in level:
            children = _subfolders(folder)
            held = {
                suite.name: {suite.published(child) for child in children} - {None}
                for suite in suites
            }
            named = [one for one in suites if plain(folder.name) in map(plain, one.folders)]
            named = [one for one in named if held[one.name]]
            best = named[0] if named else max(suites, key=lambda suite: len(held[suite.name]))
            enough = 1 if named or depth == 0 else 2
            if len(held[best.name]) >= enough:
                candidates.append((folder, best, bool(named)))
                children = [child for child in children if best.published(child) is None]
            below += [folder / child for child in children if child.lower() not in LABELS]
        level = below
    return candidates


def _subfolders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as listed:
            return sorted(
                one.name for one in listed if one.is_dir() and not one.name.startswith(".")
            )
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}") from None


def _images(suite: Suite, folder: Path) -> Found:
    """Return the images of a suite's generators; those that cannot be used are noted."""
    sets: dict[str, ImageSet] = {}
    folders: dict[str, str] = {}
    notes: list[str] = []
    others: list[str] = []
    for child in _subfolders(folder):
        name = suite.published(child)
        if name is None or name in sets:
            others.append(child)
            continue
        try:
            images = scan(folder / child)
            entries = tuple(replace(one, generator=child) for one in images)
            images = _held_out(ImageSet(images.root, entries, images.layout))
            require_both_classes(images)
        except UserError as error:
            notes.append(f"{suite.title}, {name} is left out: {error}")
            continue
        sets[name], folders[name] = images, child
    ordered = {name: sets[name] for name in suite.names if name in sets}
    missing = [name for name in suite.names if name not in sets]
    if missing:
        notes.append(f"{suite.title}: not in the data: {', '.join(missing)}.")
    if others:
        notes.append(f"{suite.title}: no part of it, passed over: {', '.join(others)}.")
    return Found(suite, folder, ordered, folders, tuple(notes))


def _held_out(images: ImageSet) -> ImageSet:
    """Leave training images out where there are others (GenImage's train and val)."""

    def split(path: Path) -> str:
        parts = [part.lower() for part in path.relative_to(images.root).parts[:-1]]
        return next((part for part in parts if part in SPLITS), "")

    splits = [split(entry.path) for entry in images]
    if "train" not in splits or not any(one not in ("", "train") for one in splits):
        return images
    kept = [entry for entry, one in zip(images, splits, strict=True) if one != "train"]
    return ImageSet(images.root, tuple(kept), images.layout)
