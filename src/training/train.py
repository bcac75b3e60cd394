"""Train a detector by a published recipe: resumable, with history and early stopping."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader

from ..detectors import Architecture, get_architecture, save_weights
from ..errors import UserError
from ..evaluation.metrics import average_precision, sigmoid
from ..files import write_csv, write_with
from ..records import ImageSet
from .batches import Sampling, TrainingBatches, to_batch, validation_crop
from .initialise import initialise
from .plateau import Plateau
from .recipes import Recipe

PRECISIONS = ("float32", "bf16")


@dataclass(frozen=True)
class Settings:
    """One run of a recipe; 0 or None means the recipe's own value.

    max_steps ends the training however well it goes; epoch_steps shortens an epoch (the interval
    between validations, that the plateau rule counts) on small data sets or slow machines;
    precision 'bf16' runs all but the first convolution and the loss in bfloat16; freeze: modules
    (name prefixes) whose convolutions keep the weights they start with.
    """

    recipe: Recipe
    start: str = "default"
    seed: int = 0
    max_steps: int = 0
    epoch_steps: int = 0
    batch_size: int = 0
    learning_rate: float = 0.0
    load_size: int | None = None
    crop_size: int = 0
    pairs: bool = False
    precision: str = "float32"
    published_blur: bool = False
    workers: int = 1
    freeze: tuple[str, ...] = ()

    def sampling(self) -> Sampling:
        """Return how this run makes its batches."""
        recipe = self.recipe
        load_size = recipe.load_size if self.load_size is None else self.load_size
        crop = self.crop_size or (load_size * 7 // 8 if load_size else recipe.crop_size)
        return Sampling(
            batch_size=self.batch_size or recipe.batch_size,
            load_size=load_size,
            crop_size=crop,
            squash=recipe.squash,
            blur=recipe.blur,
            jpeg=recipe.jpeg,
            pairs=self.pairs,
            seed=self.seed,
            published_blur=self.published_blur,
            grey=recipe.grey,
        )


@dataclass
class _Run:
    """What a checkpoint holds beside the tensors."""

    step: int = 0
    epoch: int = 0
    seconds: float = 0.0
    best: tuple[float, float] = (-1.0, -1.0)
    plateau: Plateau | None = None
    history: list[dict] = field(default_factory=list)


def train(
    name: str,
    training: ImageSet,
    validation: ImageSet,
    settings: Settings,
    out: Path,
    *,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int, str], None] | None = None,
    stop_after: int | None = None,
) -> pd.DataFrame:
    """Train detector ``name`` and write ``<name>.safetensors`` (best epoch) and ``history.csv``.

    A run is checkpointed in ``out`` after every epoch and goes on from there when it is called
    again with the same settings; it then ends as an uninterrupted one would. ``stop_after`` ends
    this call after so many epochs (for tests and time limits), not the run. ``progress`` is told
    (steps done, steps in all or 0, text).

    Returns the history: epoch, step, learning_rate, loss, accuracy and ap on validation images
    with the recipe's blur and JPEG, clean_accuracy and clean_ap without, seconds. The best epoch
    has the highest accuracy, then clean AP.

    Raises:
        UserError: unusable data, or ``out`` holds a run with other settings.
    """
    sampling = settings.sampling()
    architecture = get_architecture(name)
    data = TrainingBatches(training, sampling)
    epoch_steps = settings.epoch_steps or data.steps_an_epoch
    rate = settings.learning_rate or settings.recipe.learning_rate
    network = initialise(architecture, settings.start, settings.seed).to(device)
    # Channels last: faster convolutions on CPU and GPU.
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    _freeze(network, settings.freeze)
    learnt = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(learnt, rate)
    run = _Run(plateau=Plateau(rate) if settings.recipe.plateau else None)
    out.mkdir(parents=True, exist_ok=True)
    identity = _identity(name, training, settings)
    _resume(out, identity, run, network, optimiser)
    last = settings.max_steps or settings.recipe.epochs * epoch_steps
    stream = iter(_stream(data, run.step, settings.workers))
    epochs_left = stop_after
    while run.step < last and not (run.plateau and run.plateau.ended) and epochs_left != 0:
        network.train()
        optimiser.param_groups[0]["lr"] = _rate(settings, run, rate)
        started, losses = time.monotonic(), []
        for _ in range(min(epoch_steps, last - run.step)):
            images, labels = next(stream)
            # Dropout and drop-connect draw from the global generator: key it, or no run resumes.
            torch.manual_seed(settings.seed * 1_000_003 + run.step)
            loss = _loss(network, architecture, images, labels, settings.precision, device)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
            run.step += 1
            if progress is not None:
                text = f"loss {np.mean(losses[-50:]):.3f}"
                if run.history:
                    text += f", validation AP {run.history[-1]['clean_ap']:.3f}"
                progress(run.step, last, text)
        learning_rate = optimiser.param_groups[0]["lr"]
        accuracy, ap = validate(network, validation, sampling, device, clean=False)
        clean_accuracy, clean_ap = validate(network, validation, sampling, device, clean=True)
        if run.plateau is not None:
            run.plateau.update(accuracy)
        run.epoch += 1
        run.seconds += time.monotonic() - started
        row = {"epoch": run.epoch, "step": run.step, "learning_rate": learning_rate}
        row |= {"loss": float(np.mean(losses)), "accuracy": accuracy, "ap": ap}
        row |= {"clean_accuracy": clean_accuracy, "clean_ap": clean_ap}
        run.history.append(row | {"seconds": round(run.seconds, 1)})
        if (accuracy, clean_ap) >= run.best:
            run.best = (accuracy, clean_ap)
            facts = {
                "detector": name,
                "settings": json.dumps(_plain(settings)),
                "step": str(run.step),
            }
            save_weights(out / f"{name}.safetensors", network.state_dict(), facts)
        _save(out, identity, run, network, optimiser)
        write_csv(out / "history.csv", pd.DataFrame(run.history))
        epochs_left = None if epochs_left is None else epochs_left - 1
    return pd.DataFrame(run.history)


def _freeze(network: nn.Module, prefixes: tuple[str, ...]) -> None:
    names = [name for name, one in network.named_modules() if isinstance(one, nn.Conv2d)]
    for prefix in prefixes:
        frozen = [name for name in names if name.startswith(prefix)]
        if not frozen:
            raise UserError(f"--freeze {prefix}: no convolution's name begins so")
        for name in frozen:
            network.get_submodule(name).requires_grad_(False)


def _stream(data: TrainingBatches, start: int, workers: int) -> DataLoader:
    """Load the batches from step ``start`` on; how many workers there are changes nothing."""

    class FromHere:
        def __iter__(self) -> Iterator[int]:
            return iter(range(start, len(data)))

    return DataLoader(
        data,
        batch_size=None,
        sampler=FromHere(),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        multiprocessing_context="fork" if workers else None,
    )


def _rate(settings: Settings, run: _Run, rate: float) -> float:
    """Return this epoch's learning rate by the plateau rule or the recipe's fixed schedule."""
    if run.plateau is not None:
        return run.plateau.learning_rate
    if settings.recipe.decay is None:
        return rate
    every, factor = settings.recipe.decay
    return rate * factor ** (max(0, run.epoch - 1) // every)


def _loss(
    network: nn.Module,
    architecture: Architecture,
    images: torch.Tensor,
    labels: torch.Tensor,
    precision: str,
    device: torch.device | str,
) -> torch.Tensor:
    images = images.to(device, memory_format=torch.channels_last)
    kind = torch.device(device).type
    if precision == "bf16":
        first = network.get_submodule(architecture.first_convolution)
        with torch.autocast(kind, dtype=torch.bfloat16), _in_float32(first, kind):
            logits = network(images)
    else:
        logits = network(images)
    return binary_cross_entropy_with_logits(logits.float(), labels.to(device))


@contextmanager
def _in_float32(module: nn.Module, kind: str) -> Iterator[None]:
    """Keep one module out of autocast: 8 bits of mantissa would round the finest differences of
    neighbouring pixels away."""
    forward = module.forward

    def exact(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(kind, enabled=False):
            return forward(x)

    module.forward = exact  # type: ignore[method-assign]
    try:
        yield
    finally:
        del module.forward


@torch.no_grad()
def validate(
    network: nn.Module,
    images: ImageSet,
    sampling: Sampling,
    device: torch.device | str,
    *,
    clean: bool,
) -> tuple[float, float]:
    """Return accuracy at 0.5 and AP on centre crops, with the recipe's blur and JPEG or clean."""
    network.eval()
    logits = []
    for start in range(0, len(images), 64):
        crops = [
            validation_crop(entry, sampling, clean=clean)
            for entry in images.entries[start : start + 64]
        ]
        batch = to_batch(crops).to(device, memory_format=torch.channels_last)
        logits.append(network(batch).reshape(-1).float().cpu().numpy())
    scores = sigmoid(np.concatenate(logits))
    labels = np.array([entry.label for entry in images])
    return float(np.mean((scores > 0.5) == (labels == 1))), average_precision(labels, scores)


def _plain(settings: Settings) -> dict:
    return dataclasses.asdict(settings)


def _identity(name: str, training: ImageSet, settings: Settings) -> str:
    """Name everything that a resumed run must share with the one that it goes on with."""
    facts = _plain(settings)
    for free in ("workers", "max_steps"):  # neither changes what a step does
        facts.pop(free)
    return json.dumps({"detector": name, "data": training.hash(), **facts}, sort_keys=True)


def _save(
    out: Path, identity: str, run: _Run, network: nn.Module, optimiser: torch.optim.Optimizer
) -> None:
    content = {
        "identity": identity,
        "run": {**vars(run), "plateau": vars(run.plateau) if run.plateau else None},
        "model": network.state_dict(),
        "optimizer": optimiser.state_dict(),
        "total_steps": run.step,
    }
    write_with(out / "checkpoint.pth", lambda path: torch.save(content, path))


def _resume(
    out: Path, identity: str, run: _Run, network: nn.Module, optimiser: torch.optim.Optimizer
) -> None:
    path = out / "checkpoint.pth"
    if not path.is_file():
        return
    content = torch.load(path, map_location="cpu", weights_only=True)
    if content.get("identity") != identity:
        raise UserError(
            f"{path} belongs to a run with other settings or data; give another --out or delete it"
        )
    network.load_state_dict(content["model"])
    optimiser.load_state_dict(content["optimizer"])
    for name, value in content["run"].items():
        if name == "plateau":
            value = Plateau(**value) if value else None
        setattr(run, name, tuple(value) if name == "best" else value)
