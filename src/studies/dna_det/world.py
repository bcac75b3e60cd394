"""Make the world: train the networks, forge the image sets; whatever is there is kept."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pandas as pd

from ...data.photos import Split, photographs
from ...errors import UserError
from ...files import sha256, write_csv, write_manifest
from ...forge import (
    facts_of,
    family_of,
    forge,
    load_generator,
    psnr_crops,
    psnr_of,
    shipped_path,
)
from ...training.generators import GeneratorTask, train_generator
from ...training.variants import REGIME, Variant, variant_name, variant_settings
from .splits import CLOSED, CROSS, FAMILIES, SEEDS, WEIGHTS, Sizes, generators_of, planned

NETWORKS = "networks"  # the folder of their weights
CROP = 64  # pixels a side of the crops that all networks are judged on

Progress = Callable[[int, int, str], None]


def forge_world(
    out: Path,
    sizes: Sizes,
    *,
    regime: str = REGIME,
    seed: int = 0,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Train the networks of ``planned`` and forge the sets; what is there already is kept.

    regime: how the networks are trained, a name of ``training.variants.REGIMES``.

    Every set is ``<set>/<generator>/{0_real,1_fake}/*.png``. Its photographs are those of its
    split, so no photograph is in two of train, validation and test; all test sets, closed and
    cross, are the same crops, so that between two of them the network alone differs.

    Writes ``networks/<generator>.safetensors`` with critics and histories, the sets,
    ``networks.csv`` and ``manifest.json`` below ``out``.

    Returns networks.csv, a row a network: generator, family, variant, setting, seed, loss, photos,
    steps, seconds (of all its trainings), sha256 of its weights, psnr (dB on the same crops of test
    photographs for all).

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
        rows.append(_trained(out / NETWORKS, family, variant, sizes.steps, part, regime))
    table = _judged(pd.DataFrame(rows), out)
    write_csv(out / "networks.csv", table)
    make((*CROSS, *WEIGHTS), len(CLOSED) + len(networks))
    write_manifest(
        out, {"sizes": vars(sizes), "regime": regime, "seed": seed, "networks": len(table)}
    )
    return table


def _within(progress: Progress | None, done: int, total: int, text: str) -> Progress | None:
    """Return a progress of one part of many: parts done, and what the part says."""
    if progress is None:
        return None

    return lambda at, of, said: progress(done, total, f"{text} {at}/{of}")


def _trained(
    folder: Path,
    family: str,
    variant: Variant,
    steps: int | None,
    progress: Progress | None,
    regime: str,
) -> dict[str, Any]:
    stem = variant_name(family, variant.name)
    settings = variant_settings(family, variant, regime)
    if steps is not None:
        settings = replace(settings, steps=steps)
    path = folder / f"{stem}.safetensors"
    if not path.is_file():
        trained_on = photographs(cast(Split, variant.photos))
        held_out = photographs("test" if variant.photos == "validation" else "validation")
        settings = replace(settings, save_critic=settings.loss != "none")
        task = GeneratorTask(family, trained_on, held_out, settings, stem)
        train_generator(task, folder, progress=progress)
    facts = facts_of(path)
    wanted = {"seed": settings.seed, "steps": settings.steps, "loss": settings.loss}
    wanted |= {"batch_size": settings.batch_size, "learning_rate": f"{settings.learning_rate:g}"}
    if any(facts.get(key, str(value)) != str(value) for key, value in wanted.items()):
        raise UserError(f"{path} was trained with other settings; delete it or give another --out")
    setting = "weights" if variant.name in SEEDS[1:] else variant.setting
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
    return {
        "generator": generator,
        "family": family_of(generator),
        "variant": variant,
        "setting": setting,
        "seed": int(facts["seed"]),
        "loss": facts.get("loss", "least-squares"),
        "photos": photos,
        "steps": int(facts["steps"]),
        "seconds": float(facts["seconds"]),
        "sha256": sha256(path),
    }


def _judged(table: pd.DataFrame, out: Path) -> pd.DataFrame:
    """Add the column psnr; what the folder's networks.csv says of equal weights is taken over."""
    listed = out / "networks.csv"
    known: dict[str, float] = {}
    if listed.is_file():
        before = pd.read_csv(listed)
        if "sha256" in before:
            known = dict(zip(before["sha256"], before["psnr"], strict=True))
    crops = None
    values = []
    for row in table.to_dict("records"):
        if row["sha256"] not in known:
            if crops is None:
                crops = psnr_crops(photographs("test"), CROP, 0)
            trained = out / NETWORKS / f"{row['generator']}.safetensors"
            path = trained if trained.is_file() else shipped_path(row["family"])
            known[row["sha256"]] = psnr_of(load_generator(path, row["family"]), crops)
        values.append(known[row["sha256"]])
    return table.assign(psnr=values)
