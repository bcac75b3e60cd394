"""How DeepFeatureX Net is trained: three base models, one after another, then the head (§6.3)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from ..detectors import load_strictly, read_checkpoint
from ..detectors.deepfeaturex import (
    BRANCHES,
    CLASSES,
    NAME,
    DeepFeatureX,
    base_model,
    first_convolution,
)
from ..errors import UserError
from ..files import write_csv
from ..records import ImageSet
from .deepfeaturex_data import Classified, balanced_split, distinct, drawn_rest, split
from .deepfeaturex_task import ClassTask, DFXSettings
from .engine import Progress, run, seeded
from .guidance import BASE, COMPLETE, class_of, make_guidance, of_stage, read_guidance
from .initialise import started

FOLDERS = {"dm_generated": "bm-dm", "gan_generated": "bm-gan", "real": "bm-real"}  # as published
COMPLETE_FOLDER, PLAIN_FOLDER = "complete", "plain"
HELD_OUT = 0.2  # of the base models' images; for the head, of the smallest class, from each class


def base_task(
    images: ImageSet, guidance: pd.DataFrame, main: str, settings: DFXSettings
) -> ClassTask:
    """Return the training of the base model for class ``main``, deliberately unbalanced.

    Class 1 is every image of ``main``, class 0 int(share · n) of each other architecture; of these
    the guidance's base images, split 80/20 at random. Unweighted cross-entropy.
    """
    classes = [class_of(entry, settings.diffusion) for entry in images]
    rest = drawn_rest(images, classes, main, settings.share, settings.seed)
    named = dict(zip((entry.path for entry in images), classes, strict=True))
    chosen = [
        (entry, int(named[entry.path] == main))
        for entry in of_stage(images, guidance, BASE)
        if named[entry.path] == main or entry.path in rest
    ]
    _both(chosen, main, settings.share)
    training, validation = split(chosen, HELD_OUT, settings.seed, settings.by, main)
    network = _new(settings)
    facts = {"main": main, "classes": json.dumps(["rest", main])}
    name = f"{NAME}-base-{main}"
    learnt = list(network.parameters())
    return ClassTask(name, network, learnt, training, validation, settings, facts=facts)


def complete_task(
    images: ImageSet, guidance: pd.DataFrame, base_models: Mapping[str, Path], settings: DFXSettings
) -> ClassTask:
    """Return the training of the head on three frozen base models, weights 1 − share of the class.

    base_models: weights of the base model of each class. Validation is balanced.
    """
    with seeded(settings.seed):
        network = DeepFeatureX(settings.backbone)
        model = base_model(settings.backbone)
    for branch, main in zip(BRANCHES, CLASSES, strict=True):
        load_strictly(model, read_checkpoint(base_models[main]).state, base_models[main])
        kept = network.get_submodule(branch)
        kept.load_state_dict(model.state_dict(), strict=False)  # all but the last linear layer
    chosen = _classified(of_stage(images, guidance, COMPLETE), settings)
    training, validation = balanced_split(
        chosen, len(CLASSES), HELD_OUT, settings.seed, settings.by
    )
    learnt = [*network.convs.parameters(), *network.classifier.parameters()]
    return ClassTask(
        NAME,
        network,
        learnt,
        training,
        validation,
        settings,
        weights=_weights(chosen),
        facts={"classes": json.dumps(CLASSES)},
        head=True,
    )


def plain_task(images: ImageSet, guidance: pd.DataFrame, settings: DFXSettings) -> ClassTask:
    """Return the training of the plain baseline: one backbone, three classes, the same images.

    It sees what the base models and the complete model together may see; weights as for the head.
    """
    chosen = [
        *_classified(of_stage(images, guidance, BASE), settings),
        *_classified(of_stage(images, guidance, COMPLETE), settings),
    ]
    training, validation = balanced_split(
        chosen, len(CLASSES), HELD_OUT, settings.seed, settings.by
    )
    network = _new(settings, len(CLASSES))
    return ClassTask(
        f"{NAME}-plain",
        network,
        list(network.parameters()),
        training,
        validation,
        settings,
        weights=_weights(chosen),
        facts={"classes": json.dumps(CLASSES)},
    )


def train_all(
    images: ImageSet,
    guidance: pd.DataFrame,
    settings: DFXSettings,
    out: Path,
    *,
    progress: Progress | None = None,
    **how: Any,
) -> dict[str, tuple[ClassTask, pd.DataFrame]]:
    """Train base models and head one after another in sub-folders of ``out``; return histories.

    Folders: bm-dm, bm-gan, bm-real, with ``plain`` the baseline's, plain, and complete. Each
    resumes by itself; the complete network is ``complete/deepfeaturex.safetensors``; where a base
    model is not done (``stop_after``), the head waits for it.
    how, progress: see :func:`engine.run`.
    """
    images = distinct(images)
    found: dict[str, tuple[ClassTask, pd.DataFrame]] = {}

    def go(task: ClassTask, folder: str) -> bool:
        def told(done: int, total: int, text: str) -> None:
            if progress is not None:
                progress(done, total, f"{folder}: {text}")

        history = run(task, out / folder, progress=told, **how)
        found[folder] = (task, history)
        return bool(len(history)) and int(history["step"].iloc[-1]) >= task.last_step

    done = [
        go(base_task(images, guidance, main, settings), folder) for main, folder in FOLDERS.items()
    ]
    if settings.plain:
        go(plain_task(images, guidance, settings), PLAIN_FOLDER)
    if all(done):
        made = {
            main: out / folder / f"{NAME}-base-{main}.safetensors"
            for main, folder in FOLDERS.items()
        }
        go(complete_task(images, guidance, made, settings), COMPLETE_FOLDER)
    return found


def guidance_of(images: ImageSet, settings: DFXSettings, out: Path) -> pd.DataFrame:
    """Return the guidance table that is asked for, or make it in ``out``."""
    if settings.guidance:
        return read_guidance(Path(settings.guidance))
    table = make_guidance(images, seed=settings.seed, by=settings.by, diffusion=settings.diffusion)
    write_csv(out / "guidance.csv", table)
    return table


def _classified(images: ImageSet, settings: DFXSettings) -> Classified:
    return [(entry, CLASSES.index(class_of(entry, settings.diffusion))) for entry in images]


def _weights(images: Classified) -> list[float]:
    """Return 1 − share of each class."""
    counts = np.bincount([label for _, label in images], minlength=len(CLASSES))
    return (1 - counts / counts.sum()).tolist()


def _both(images: Classified, main: str, share: float) -> None:
    count = sum(label for _, label in images)
    if count in (0, len(images)):
        lacking = f"of class {main}" if count == 0 else f"of the others at a share of {share:g}"
        raise UserError(
            f"base model for {main}: no images {lacking}; check the images or the share"
        )


def _new(settings: DFXSettings, classes: int = 2) -> nn.Module:
    """Return a backbone with its last layer, as the settings say to start."""
    with seeded(settings.seed):
        network = base_model(settings.backbone, classes)
        return started(network, first_convolution(network), settings.start)
