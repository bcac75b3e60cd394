"""The worlds of the attribution study: which networks, which photographs, which image sets.

DNA-Det's question (Yang et al. 2022, §5): trained on one network an architecture, does a detector
name the architecture of networks that were trained with another seed or loss, fine-tuned, or
trained on other photographs? Here an architecture is a family of the forge.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pandas as pd

from ...data.photos import Split, photographs
from ...errors import UserError
from ...files import write_csv, write_manifest
from ...forge import (
    Variant,
    facts_of,
    family_of,
    forge,
    get_variant,
    load_generator,
    psnr,
    shipped_path,
    train_and_save,
    variant_name,
    variant_settings,
)

FAMILIES = ("progan-like", "dcgan-like", "pixelshuffle-like", "stylegan2-like")
PER_FAMILY = ("seed-2", "loss-hinge", "finetune", "photos")
# Four networks of one family that differ by nothing but the seed: the fingerprints' other question.
ONE_FAMILY, SEEDS = FAMILIES[0], ("seed-2", "seed-3", "seed-4", "seed-5")

CLOSED = ("closed/train", "closed/validation", "closed/test")
CROSS = ("cross_seed", "cross_loss", "cross_finetune", "cross_dataset")
WEIGHTS = ("weights/train", "weights/test")
REAL = "real"
CROP = 64  # pixels a side of the crops that the networks' PSNR is measured on
NETWORKS = "networks"  # the folder of their weights

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Sizes:
    """How much is made: pairs a network in each kind of set, pixels a side, training steps.

    steps: of every network, None for each variant's own number (``forge.variant_settings``).
    """

    train: int = 720
    validation: int = 60
    test: int = 75
    side: int = 128
    steps: int | None = None

    def of(self, name: str) -> tuple[Split, int]:
        """Return the photographs and the pairs a network of a set."""
        part = name.rpartition("/")[2]
        split = part if part in ("train", "validation") else "test"
        return cast(Split, split), getattr(self, split)


def planned() -> list[tuple[str, Variant]]:
    """Return every network to train, family and variant; the closed set uses the shipped ones."""
    found = [(family, name) for name in PER_FAMILY for family in FAMILIES]
    found += [(ONE_FAMILY, name) for name in SEEDS if (ONE_FAMILY, name) not in found]
    return [(family, get_variant(name)) for family, name in found]


def generators_of(name: str) -> list[str]:
    """Return the generators of a set, as the forge calls them.

    Raises:
        UserError: no such set.
    """
    if name in CLOSED:
        return list(FAMILIES)
    if name in WEIGHTS:
        return [variant_name(ONE_FAMILY, one) for one in SEEDS]
    settings = {get_variant(one).setting: one for one in PER_FAMILY}
    if name not in settings:
        raise UserError(f"no set {name!r}; there are {', '.join((*CLOSED, *CROSS, *WEIGHTS))}")
    return [variant_name(family, settings[name]) for family in FAMILIES]


def classes_of(generators: list[str]) -> dict[str, str]:
    """Return the class that each generator's fakes count as: its family."""
    return {name: family_of(name) for name in generators}


def forge_world(
    out: Path, sizes: Sizes, *, seed: int = 0, progress: Progress | None = None
) -> pd.DataFrame:
    """Train the networks of ``planned`` and forge the sets; what is there already is kept.

    Every set is ``<set>/<generator>/{0_real,1_fake}/*.png``. Its photographs are those of its
    split, so no photograph is in two of train, validation and test; all test sets, closed and
    cross, are the same crops, so that between two of them the network alone differs.

    Writes ``networks/<generator>.safetensors`` with critics and histories, the sets,
    ``networks.csv`` and ``manifest.json`` below ``out``.

    Returns networks.csv, a row a network: generator, family, variant, setting, seed, loss, photos,
    steps, psnr (dB on the same crops of test photographs for all), seconds.

    Raises:
        UserError: ``out`` holds a network or images of other settings.
    """
    networks = planned()
    parts = len(networks) + len(CLOSED) + len(CROSS) + len(WEIGHTS)

    def make(names: tuple[str, ...], done: int) -> None:
        for at, name in enumerate(names):
            split, pairs = sizes.of(name)
            closed = name in CLOSED
            forge(
                photographs(split),
                generators_of(name),
                out / name,
                per_family=pairs,
                side=sizes.side,
                seed=seed,
                weights=None if closed else out / NETWORKS,
                members=1 if closed else None,
                progress=_within(progress, done + at, parts, name),
            )

    make(CLOSED, 0)  # first: a detector can be trained on it while the networks are
    rows = [_shipped(family) for family in FAMILIES]
    for done, (family, variant) in enumerate(networks, len(CLOSED)):
        part = _within(progress, done, parts, f"{family} {variant.name}")
        rows.append(_trained(out / NETWORKS, family, variant, sizes.steps, part))
    table = pd.DataFrame(rows)
    write_csv(out / "networks.csv", table)
    make((*CROSS, *WEIGHTS), len(CLOSED) + len(networks))
    write_manifest(out, {"sizes": vars(sizes), "seed": seed, "networks": len(table)})
    return table


def _within(progress: Progress | None, done: int, total: int, text: str) -> Progress | None:
    """Return a progress of one part of many: parts done, and what the part says."""
    if progress is None:
        return None

    return lambda at, of, said: progress(done, total, f"{text} {at}/{of}")


def _trained(
    folder: Path, family: str, variant: Variant, steps: int | None, progress: Progress | None
) -> dict[str, Any]:
    stem = variant_name(family, variant.name)
    settings = variant_settings(family, variant)
    if steps is not None:
        settings = replace(settings, steps=steps)
    path = folder / f"{stem}.safetensors"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        train_and_save(
            stem,
            family,
            settings,
            photographs(cast(Split, variant.photos)),
            photographs("test" if variant.photos == "validation" else "validation"),
            folder,
            start=shipped_path(family) if variant.from_shipped else None,
            critic=settings.loss != "none",
            progress=progress,
        )
    facts = facts_of(path)
    wanted = {"seed": settings.seed, "steps": settings.steps, "loss": settings.loss}
    if any(facts.get(key) != str(value) for key, value in wanted.items()):
        raise UserError(f"{path} was trained with other settings; delete it or give another --out")
    setting = "cross_seed, weights" if stem in generators_of(WEIGHTS[0]) else variant.setting
    if variant.name in SEEDS[1:]:
        setting = "weights"
    return _row(path, stem, variant.name, setting, variant.photos, facts)


def _shipped(family: str) -> dict[str, Any]:
    path = shipped_path(family)
    facts = facts_of(path)
    # Its header's steps are those of the last of its commands; 1000 is what none stands for.
    asked = [re.search(r"--steps (\d+)", one) for one in facts["command"].splitlines()]
    facts["steps"] = str(sum(int(one[1]) if one else 1000 for one in asked))
    return _row(path, family, "shipped", "closed", "train", facts)


def _row(
    path: Path, generator: str, variant: str, setting: str, photos: str, facts: dict[str, str]
) -> dict[str, Any]:
    network = load_generator(path, family_of(generator))
    return {
        "generator": generator,
        "family": family_of(generator),
        "variant": variant,
        "setting": setting,
        "seed": int(facts["seed"]),
        "loss": facts.get("loss", "least-squares"),
        "photos": photos,
        "steps": int(facts["steps"]),
        "psnr": psnr(network, photographs("test"), CROP, 0),
        "seconds": float(facts["seconds"]),
    }
