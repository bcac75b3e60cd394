"""The one training loop: steps, epochs, checkpoints, history, the best weights."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from ..detectors import save_weights
from ..errors import UserError
from ..files import write_csv, write_with

Progress = Callable[[int, int, str], None]
Device = torch.device | str
KNOWN = ("epoch", "step", "learning_rate", "seconds")  # columns that every history has


class Task:
    """What one training does; :func:`run` does the rest.

    name: of the weights file; prefix: of its checkpoint and history; network: whose weights are
    written; learner: the network and whatever else is learnt; identity: plain facts that a resumed
    run must share; facts: go into the weights' header; epoch_steps: steps between two validations;
    last_step: where the training ends at the latest; seed: of what a network draws while it learns.
    """

    name: str
    prefix = ""
    network: nn.Module
    learner: nn.Module
    identity: dict[str, Any]
    facts: dict[str, str]
    epoch_steps: int
    last_step: int
    seed = 0
    channels_last = True  # faster convolutions on CPU and GPU, rounded in another order

    def optimisers(self) -> tuple[torch.optim.Optimizer, ...]:
        """Return the optimisers over the learner's parameters."""
        raise NotImplementedError

    def data(self) -> Dataset:
        """Return a data set whose item s is the batch of step s, whatever loads it."""
        raise NotImplementedError

    def loss(self, batch: Any, device: Device) -> torch.Tensor:
        """Return the loss of a batch."""
        raise NotImplementedError

    def learn(
        self, batch: Any, optimisers: tuple[torch.optim.Optimizer, ...], step: int, device: Device
    ) -> dict[str, torch.Tensor]:
        """Take one step; return the losses by their column in the history."""
        loss = self.loss(batch, device)
        descend(optimisers[0], loss)
        return {"loss": loss}

    def rates(self, epoch: int, step: int) -> list[float]:
        """Return each parameter group's learning rate from this step on; []: as it is."""
        return []

    def validate(self, device: Device) -> dict[str, float]:
        """Return columns of the history, measured on validation images; once an epoch."""
        return {}

    def score(self, row: Mapping[str, float]) -> tuple[float, ...]:
        """Return how good an epoch is; of equal ones the last counts."""
        return (row["step"],)

    def ended(self) -> bool:
        """Whether the training is over before its last step."""
        return False

    def state(self) -> dict[str, Any]:
        """Return what the task remembers between epochs, in plain containers."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state` gave."""

    def keep(self, folder: Path, facts: Mapping[str, str]) -> None:
        """Write the weights of the best epoch so far."""
        state = self.network.state_dict()
        save_weights(folder / f"{self.name}.safetensors", state, {**self.facts, **facts})

    def best(self, history: pd.DataFrame) -> dict[str, float]:
        """Return the row of the best epoch."""
        rows: Any = history.to_dict("records")
        return max(enumerate(rows), key=lambda one: (self.score(one[1]), one[0]))[1]


def descend(optimiser: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    """Take one step down the gradient of a loss."""
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def cosine_rates(rate: float, steps: int) -> list[float]:
    """Return every step's learning rate along half a cosine, as torch's scheduler rounds it."""
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    found = []
    for _ in range(steps):
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    return found


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let torch's global random numbers start from a seed inside; the user's come back after."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


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
    out: Path | None,
    *,
    device: Device = "cpu",
    workers: int = 1,
    progress: Progress | None = None,
    stop_after: int | None = None,
) -> pd.DataFrame:
    """Run a training; write the best epoch's weights and ``history.csv`` into ``out``.

    It is checkpointed there after every epoch, and goes on from there when it is called again with
    a task of the same identity; it then ends as an uninterrupted one would, to the bit. The
    network is left in evaluation mode, torch's global random numbers where they were.
    out: None writes nothing; stop_after: end this call, not the training, after so many epochs;
    progress: is told (steps done, steps in all, text); workers: processes that load batches, which
    changes nothing else.

    Returns the history: epoch, step, learning_rate, mean losses, what the task measures, seconds.

    Raises:
        UserError: ``out`` holds a run of another identity, or the loss is no longer finite.
    """
    task.learner.to(device)
    if task.channels_last:
        task.learner.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimisers = task.optimisers()
    now = _Run()
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        _resume(out, now, task, optimisers)
    with seeded(task.seed):
        stream = iter(_stream(task.data(), now.step, workers))
        epochs_left = stop_after
        while now.step < task.last_step and not task.ended() and epochs_left != 0:
            started = time.monotonic()
            row = _epoch(task, optimisers, now, stream, device, progress)
            task.learner.eval()
            measured = task.validate(device)
            now.epoch += 1
            now.seconds += time.monotonic() - started
            now.history.append(
                {"epoch": now.epoch, **row, **measured, "seconds": round(now.seconds, 1)}
            )
            _keep(out, now, task, optimisers)
            epochs_left = None if epochs_left is None else epochs_left - 1
    task.learner.eval()
    return pd.DataFrame(now.history)


def _epoch(
    task: Task,
    optimisers: tuple[torch.optim.Optimizer, ...],
    now: _Run,
    stream: Iterator[Any],
    device: Device,
    progress: Progress | None,
) -> dict[str, float]:
    """Take the steps of one epoch and return the first columns of its row."""
    groups = [group for one in optimisers for group in one.param_groups]
    losses: list[dict[str, float]] = []
    task.learner.train()
    for _ in range(min(task.epoch_steps, task.last_step - now.step)):
        for group, rate in zip(groups, task.rates(now.epoch, now.step), strict=False):
            group["lr"] = rate
        batch = next(stream)
        # Dropout and drop-connect draw from the global generator: key it, or no run resumes.
        torch.manual_seed(task.seed * 1_000_003 + now.step)
        found = task.learn(batch, optimisers, now.step, device)
        losses.append({name: float(value.detach()) for name, value in found.items()})
        first = next(iter(losses[-1].values()))
        if not np.isfinite(first):
            raise UserError(
                f"{task.name}: the loss is {first} at step {now.step}; give a smaller learning rate"
            )
        now.step += 1
        if progress is not None:
            progress(now.step, task.last_step, _told(losses, now.history))
    means = {name: sum(one[name] for one in losses) / len(losses) for name in losses[0]}
    return {"step": now.step, "learning_rate": groups[0]["lr"], **means}


def _told(losses: list[dict[str, float]], history: list[dict]) -> str:
    name = next(iter(losses[-1]))
    text = f"{name} {np.mean([one[name] for one in losses[-50:]]):.3f}"
    known = (*KNOWN, *losses[-1])
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


def _keep(
    out: Path | None, now: _Run, task: Task, optimisers: tuple[torch.optim.Optimizer, ...]
) -> None:
    """Write the weights where the last epoch is the best, then checkpoint and history."""
    score = task.score(now.history[-1])
    better = not now.best or score >= now.best
    now.best = score if better else now.best
    if out is None:
        return
    if better:
        task.keep(out, {"step": str(now.step)})
    content = {
        "identity": _identity(task),
        "run": vars(now),
        "task": task.state(),
        "model": task.learner.state_dict(),
        "optimizer": [one.state_dict() for one in optimisers],
        "total_steps": now.step,
    }
    write_with(out / f"{task.prefix}checkpoint.pth", lambda path: torch.save(content, path))
    write_csv(out / f"{task.prefix}history.csv", pd.DataFrame(now.history))


def _identity(task: Task) -> str:
    return json.dumps(task.identity, sort_keys=True)


def _resume(
    out: Path, now: _Run, task: Task, optimisers: tuple[torch.optim.Optimizer, ...]
) -> None:
    path = out / f"{task.prefix}checkpoint.pth"
    if not path.is_file():
        return
    content = torch.load(path, map_location="cpu", weights_only=True)
    if content.get("identity") != _identity(task):
        raise UserError(
            f"{path} belongs to a run with other settings or data; give another folder or delete it"
        )
    task.learner.load_state_dict(content["model"])
    for optimiser, state in zip(optimisers, content["optimizer"], strict=True):
        optimiser.load_state_dict(state)
    task.restore(content["task"])
    for name, value in content["run"].items():
        setattr(now, name, tuple(value) if name == "best" else value)
