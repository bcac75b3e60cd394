"""The registry of trainings: each detector's settings and recipes, and what runs them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ..detectors import header, read_checkpoint, save_weights
from ..eight_bits import SHAPES
from ..errors import UserError
from ..files import provenance, sha256
from ..records import ImageSet
from . import deepfeaturex, dna_det
from .deepfeaturex_task import DFXSettings
from .engine import Task, run
from .one_logit import OneLogit
from .recipes import (
    LGRAD_RECIPES,
    RECIPES,
    VIT_RECIPES,
    LGradSettings,
    OneLogitSettings,
    ViTSettings,
)
from .settings import Settings, changed
from .trained import Trained

Sets = tuple[ImageSet, Any]  # training and validation images; the latter None for DeepFeatureX
BITS = (*range(2, 9), 16, 32)  # of weights that can be written


@dataclass(frozen=True)
class Training:
    """One detector's: the class of its settings, the published ones by recipe, what runs it."""

    settings: type[Settings]
    recipes: Mapping[str, Settings]
    run: Callable[..., Trained]


def _one_logit(name: str, sets: Sets, settings: OneLogitSettings, out: Path, **how: Any) -> Trained:
    task = OneLogit(name, *sets, settings)
    history = run(task, out, **how)
    best, path = task.best(history), out / f"{name}.safetensors"
    what = f"best epoch {int(best['epoch'])} of {len(history)}"
    if settings.settle and how.get("stop_after") is None:
        state, best = task.settled(out / "checkpoint.pth", how.get("device", "cpu"))
        save_weights(path, state, header(path))
        what = f"last step, norms settled over {settings.settle} batches"
    measured = (
        f"validation accuracy {best['accuracy']:.3f} with blur and JPEG, "
        f"{best['clean_accuracy']:.3f} without, AP {best['clean_ap']:.3f}"
    )
    return Trained(name, path, {"history": history}, best, settings, what, measured)


def _several(task: Task, path: Path, histories: dict[str, pd.DataFrame], last: str) -> Trained:
    """Return what a training of several classes wrote; ``last``: the history that counts."""
    best = task.best(histories[last])
    named = [key for key in best if "accuracy" in key or key == "macro_f1"]
    said = ", ".join(f"{key.replace('_', ' ')} {best[key]:.3f}" for key in named)
    settings: Any = task.settings  # type: ignore[attr-defined]
    what, measured = f"best epoch {int(best['epoch'])}", f"validation {said}"
    return Trained(task.name, path, histories, best, settings, what, measured)


def _dna_det(
    name: str, sets: Sets, settings: dna_det.DNASettings, out: Path, **how: Any
) -> Trained:
    task = dna_det.DNATask(*sets, settings)
    return _several(
        task, out / f"{task.name}.safetensors", {"history": run(task, out, **how)}, "history"
    )


def _deepfeaturex(name: str, sets: Sets, settings: DFXSettings, out: Path, **how: Any) -> Trained:
    training, _ = sets
    guidance = deepfeaturex.guidance_of(training, settings, out)
    found = deepfeaturex.train_all(training, guidance, settings, out, **how)
    last = (
        deepfeaturex.COMPLETE_FOLDER if deepfeaturex.COMPLETE_FOLDER in found else next(iter(found))
    )
    task = found[last][0]
    histories = {f"{folder}/history": history for folder, (_, history) in found.items()}
    return _several(task, out / last / f"{task.name}.safetensors", histories, f"{last}/history")


TRAININGS: dict[str, Training] = {
    **{
        name: Training(OneLogitSettings, RECIPES, _one_logit)
        for name in ("resnet50", "efficientnet-b0", "npr")
    },
    "lgrad": Training(LGradSettings, LGRAD_RECIPES, _one_logit),
    "vit": Training(ViTSettings, VIT_RECIPES, _one_logit),
    "dna-det": Training(dna_det.DNASettings, dna_det.RECIPES, _dna_det),
    "deepfeaturex": Training(DFXSettings, {"deepfeaturex": DFXSettings()}, _deepfeaturex),
}


def get_recipe(detector: str, recipe: str, **given: Any) -> Any:
    """Return the settings of a recipe of a detector, with the values that are given by name.

    Raises:
        UserError: no such detector or recipe, or a value that is not possible.
    """
    recipes = get_training(detector).recipes
    if recipe not in recipes:
        raise UserError(f"recipe {recipe}: {detector}'s are {', '.join(recipes)}")
    return changed(recipes[recipe], given)


def get_training(detector: str) -> Training:
    """Return how a detector is trained.

    Raises:
        UserError: there is no training of that name; the message lists those there are.
    """
    if detector not in TRAININGS:
        raise UserError(f"no training of {detector!r}; there are {', '.join(TRAININGS)}")
    return TRAININGS[detector]


def train(
    name: str,
    training: ImageSet,
    validation: ImageSet | None,
    settings: Settings,
    out: Path,
    *,
    bits: int = 32,
    difference: Path | None = None,
    **how: Any,
) -> Trained:
    """Train a detector and write ``<name>.safetensors`` (best epoch) and ``history.csv``.

    A training that was interrupted is gone on with. DeepFeatureX, which is four trainings, has a
    folder for each, splits ``training`` itself and takes no ``validation``.

    Args:
        bits: of the weights: 32, 16, or 8 and fewer; difference: write only the tensors that
            differ from these weights.
        how: device, workers, progress and stop_after of :func:`engine.run`.

    Raises:
        UserError: settings of another detector, unusable data, or ``out`` holds a run with other
            settings.
    """
    kind = get_training(name)
    if not isinstance(settings, kind.settings):
        raise UserError(f"{name} is trained by {kind.settings.__name__}; see get_recipe")
    if (validation is None) != (name == "deepfeaturex"):
        raise UserError(
            f"{name}: validation images are {'split off the others' if validation else 'missing'}"
        )
    if bits not in BITS:
        raise UserError(f"bits {bits}: choose 32, 16, or 8 and fewer")
    if difference is not None:
        read_checkpoint(difference)  # before anything is computed
    found = kind.run(name, (training, validation), settings, out, **how)
    before = header(Path(settings.start)) if Path(settings.start).is_file() else {}
    # A run that is over may be written again, in other bits.
    kept = {key: one for key, one in header(found.weights).items() if key not in (SHAPES, "base")}
    told = {**kept, **provenance(before, found.seconds)}
    told |= {"seed": str(settings.seed), "result": found.measured}
    path = out / found.weights.name
    save_weights(path, read_checkpoint(found.weights).state, told, bits=bits, base=difference)
    sets = [one for one in (training, validation) if one is not None]
    facts = {
        "detector": name,
        "settings": dataclasses.asdict(settings),
        "images": [len(images) for images in sets],
        "image_set_sha256": [images.hash() for images in sets],
        "weights_sha256": sha256(path),
        "seconds": found.seconds,
    }
    return dataclasses.replace(found, weights=path, facts=facts)
