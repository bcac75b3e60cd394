"""What all trainings share: steps, epochs, checkpoints, history, the best weights."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from ..detectors import save_weights
from ..errors import UserError
from ..files import write_csv, write_with


class Task(Protocol):
    """What one training does; :func:`run` does the rest.

    name: of the weights file; network: whose weights are written; learner: the network and
    whatever else is learnt (the network itself where nothing is); identity: plain facts that a
    resumed run must share; facts: go into the weights' header; epoch_steps: steps between two
    validations; last_step: where the training ends at the latest.
    """

    name: str
    network: nn.Module
    learner: nn.Module
    identity: dict[str, Any]
    facts: dict[str, str]
    epoch_steps: int
    last_step: int

    def optimiser(self) -> torch.optim.Optimizer:
        """Return the optimiser over the learner's parameters."""
        ...

    def data(self) -> Dataset:
        """Return a data set whose item s is the batch of step s, whatever loads it."""
        ...

    def loss(self, batch: Any, device: torch.device | str) -> torch.Tensor:
        """Return the loss of a batch."""
        ...

    def rates(self, epoch: int, step: int) -> list[float] | None:
        """Return each parameter group's learning rate from this step on; None: as it is."""
        ...

    def validate(self, device: torch.device | str) -> dict[str, float]:
        """Return columns of the history, measured on validation images; once an epoch."""
        ...

    def score(self, row: Mapping[str, float]) -> tuple[float, ...]:
        """Return how good an epoch is; of equal ones the last counts."""
        ...

    def ended(self) -> bool:
        """Whether the training is over before its last step."""
        ...

    def state(self) -> dict[str, Any]:
        """Return what the task remembers between epochs, in plain containers."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state` gave."""
        ...


@dataclass
class _Run:
    """What a checkpoint holds beside the tensors."""

    step: int = 0
    epoch: int = 0
    seconds: float = 0.0
    best: tuple[float, ...] = ()
    history: list[dict] = field(default_factory=list)


def run(
    task: Task,
    out: Path,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    workers: int = 1,
    progress: Callable[[int, int, str], None] | None = None,
    stop_after: int | None = None,
) -> pd.DataFrame:
    """Run a training; write ``<task.name>.safetensors`` (best epoch) and ``history.csv``.

    It is checkpointed in ``out`` after every epoch, and goes on from there when it is called again
    with a task of the same identity; it then ends as an uninterrupted one would, to the bit.
    stop_after: end this call, not the training, after so many epochs; progress: is told (steps
    done, steps in all, text); workers: processes that load batches, which changes nothing else.

    Returns the history: epoch, step, learning_rate, loss, what the task measures, seconds.

    Raises:
        UserError: ``out`` holds a run of another identity, or the loss is no longer finite.
    """
    task.learner.to(device)
    # Channels last: faster convolutions on CPU and GPU.
    task.learner.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = task.optimiser()
    now = _Run()
    out.mkdir(parents=True, exist_ok=True)
    identity = json.dumps({**task.identity}, sort_keys=True)
    _resume(out, identity, now, task, optimiser)
    stream = iter(_stream(task.data(), now.step, workers))
    epochs_left = stop_after
    while now.step < task.last_step and not task.ended() and epochs_left != 0:
        started, losses = time.monotonic(), []
        task.learner.train()
        for _ in range(min(task.epoch_steps, task.last_step - now.step)):
            for group, rate in zip(
                optimiser.param_groups, task.rates(now.epoch, now.step) or (), strict=False
            ):
                group["lr"] = rate
            batch = next(stream)
            # Dropout and drop-connect draw from the global generator: key it, or no run resumes.
            torch.manual_seed(seed * 1_000_003 + now.step)
            loss = task.loss(batch, device)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(float(loss.detach()))
            if not np.isfinite(losses[-1]):
                raise UserError(
                    f"{task.name}: the loss is {losses[-1]} at step {now.step}; give a smaller --lr"
                )
            now.step += 1
            if progress is not None:
                progress(now.step, task.last_step, _told(losses, now.history))
        learning_rate = optimiser.param_groups[0]["lr"]
        task.learner.eval()
        measured = task.validate(device)
        now.epoch += 1
        now.seconds += time.monotonic() - started
        row = {"epoch": now.epoch, "step": now.step, "learning_rate": learning_rate}
        row |= {"loss": float(np.mean(losses)), **measured, "seconds": round(now.seconds, 1)}
        now.history.append(row)
        if not now.best or task.score(row) >= now.best:
            now.best = task.score(row)
            facts = {**task.facts, "step": str(now.step)}
            save_weights(out / f"{task.name}.safetensors", task.network.state_dict(), facts)
        _save(out, identity, now, task, optimiser)
        write_csv(out / "history.csv", pd.DataFrame(now.history))
        epochs_left = None if epochs_left is None else epochs_left - 1
    task.learner.eval()
    return pd.DataFrame(now.history)


def _told(losses: list[float], history: list[dict]) -> str:
    text = f"loss {np.mean(losses[-50:]):.3f}"
    known = ("epoch", "step", "learning_rate", "loss", "seconds")
    shown = [(key, value) for key, value in (history or [{}])[-1].items() if key not in known]
    return ", ".join([text, *(f"{key} {value:.3f}" for key, value in shown[:3])])


def _stream(data: Dataset, start: int, workers: int) -> DataLoader:
    """Load the batches from step ``start`` on; how many workers there are changes nothing."""

    class FromHere:
        def __iter__(self) -> Iterator[int]:
            return iter(range(start, 2**31 - 1))

    return DataLoader(
        data,
        batch_size=None,
        sampler=FromHere(),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        multiprocessing_context="fork" if workers else None,
    )


def _save(
    out: Path, identity: str, now: _Run, task: Task, optimiser: torch.optim.Optimizer
) -> None:
    content = {
        "identity": identity,
        "run": vars(now),
        "task": task.state(),
        "model": task.learner.state_dict(),
        "optimizer": optimiser.state_dict(),
        "total_steps": now.step,
    }
    write_with(out / "checkpoint.pth", lambda path: torch.save(content, path))


def _resume(
    out: Path, identity: str, now: _Run, task: Task, optimiser: torch.optim.Optimizer
) -> None:
    path = out / "checkpoint.pth"
    if not path.is_file():
        return
    content = torch.load(path, map_location="cpu", weights_only=True)
    if content.get("identity") != identity:
        raise UserError(
            f"{path} belongs to a run with other settings or data; give another --out or delete it"
        )
    task.learner.load_state_dict(content["model"])
    optimiser.load_state_dict(content["optimizer"])
    task.restore(content["task"])
    for name, value in content["run"].items():
        setattr(now, name, tuple(value) if name == "best" else value)
