"""Train the detectors that tell several classes apart: DNA-Det and DeepFeatureX Net."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ..errors import UserError
from ..files import write_csv
from ..records import ImageSet
from . import deepfeaturex, dna_det
from .deepfeaturex_task import DFXSettings, goodness
from .engine import run
from .guidance import make_guidance, read_guidance
from .settings import changed

Progress = Callable[[int, int, str], None]

RECIPES: dict[str, tuple[str, Any]] = {
    **{name: ("dna-det", settings) for name, settings in dna_det.RECIPES.items()},
    "deepfeaturex": ("deepfeaturex", DFXSettings()),
}


@dataclass(frozen=True)
class Trained:
    """What a training wrote: the best epoch's weights, all histories by folder, its settings."""

    weights: Path
    histories: dict[str, pd.DataFrame]
    best: dict[str, float]
    settings: Any

    @property
    def seconds(self) -> float:
        """How long all trainings took."""
        return sum(float(one["seconds"].iloc[-1]) for one in self.histories.values() if len(one))


def train_classes(
    detector: str,
    recipe: str,
    training: ImageSet,
    validation: ImageSet | None,
    out: Path,
    *,
    given: Mapping[str, Any],
    pairs: Sequence[str] = (),
    guidance: Path | None = None,
    plain: bool = False,
    device: torch.device | str = "cpu",
    workers: int = 1,
    progress: Progress | None = None,
) -> Trained:
    """Train by one of ``RECIPES``, in ``out``, where an interrupted training is gone on with.

    given, pairs: settings that differ from the recipe's, see :func:`settings.changed`.
    validation: DNA-Det's; DeepFeatureX splits ``training`` by its guidance file, which is made in
    ``out`` where none is given. plain: the baseline instead of (DNA-Det: no contrastive
    loss) or beside (DeepFeatureX: one backbone, three classes) the published training.

    Raises:
        UserError: a recipe of another detector, an unknown setting, or unusable data.
    """
    if recipe not in RECIPES or RECIPES[recipe][0] != detector:
        own = [name for name, (whose, _) in RECIPES.items() if whose == detector]
        raise UserError(f"--recipe {recipe} is not one of {detector}'s: {', '.join(own)}")
    settings = changed(RECIPES[recipe][1], given, pairs)
    shared: dict[str, Any] = {"device": device, "workers": workers, "progress": progress}
    if detector == "dna-det":
        assert validation is not None
        if plain:
            settings = changed(settings, {"contrastive": False})
        task = dna_det.task(training, validation, settings)
        history = run(task, out, seed=settings.seed, **shared)
        return Trained(
            out / f"{task.name}.safetensors", {"": history}, _best(task, history), settings
        )
    if guidance is None:
        table = make_guidance(
            training, seed=settings.seed, by=settings.by, diffusion=settings.diffusion
        )
        write_csv(out / "guidance.csv", table)
    else:
        table = read_guidance(guidance)
    histories = deepfeaturex.train_all(training, table, settings, out, plain=plain, **shared)
    folder = deepfeaturex.COMPLETE_FOLDER
    last = histories[folder]
    rows = last.to_dict("records")
    best = max(rows, key=lambda row: (*goodness(row, settings.select), row["epoch"]))
    return Trained(out / folder / "deepfeaturex.safetensors", histories, best, settings)


def _best(task: dna_det.DNATask, history: pd.DataFrame) -> dict[str, float]:
    rows = history.to_dict("records")
    return max(enumerate(rows), key=lambda one: (task.score(one[1]), one[0]))[1]  # type: ignore[arg-type,return-value]
