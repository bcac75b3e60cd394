"""Are a GAN's fingerprints the same all over an image? (Yang et al. 2022, §3)

A small network is trained on patches from one position of the fakes and tested at every position,
for two questions: which family made the patch (architecture), and which of four networks of one
family that differ by the seed alone (weights). In the paper, on aligned faces, the first survives
a change of position and the second does not: an architecture leaves its traces everywhere, a
network's weights leave theirs where its training put them.

Here nothing ties content to a position: a crop is any part of any photograph, and all classes get
the same crops, so that neither content nor its alignment helps. The forge's networks are
convolutions from end to end, without the dense layer or learnt constant that gives a published
generator its map of positions; what can be tied to a place is the phase of the up-sampling, which
repeats every four pixels, and the border, whose padding is cut off. Hence two sets of positions: a
grid in steps of a multiple of four (same phase), and every shift of 0 to 7 pixels from the place of
training.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset

from ...data import read_image, scan
from ...data.photos import photograph_names
from ...errors import UserError
from ...evaluation import cluster_mean
from ...figures import plot_fingerprints
from ...records import FAKE, Result
from ...rng import keyed_short
from ...training.engine import Device, Progress, Task, cosine_rates, descend, run, seeded
from ...training.settings import Checked, setting
from ...views.view import Draw, View
from .splits import CLOSED, WEIGHTS

# The two questions: name, set to train on, set to test on.
TASKS = (("architecture", CLOSED[0], CLOSED[-1]), ("weights", *WEIGHTS))
GRID, SHIFT = "grid", "shift"
SHIFTS = 8  # pixels: two periods of the up-sampling
RESAMPLES = 2000


@dataclass(frozen=True)
class FingerprintSettings(Checked):
    """How patches are trained on and tested."""

    patch: int = setting(32, "Side of a patch in pixels.", least=8)
    place: tuple[int, int] | None = setting(None, "(top, left) trained on; None: the middle.")
    stride: int = setting(8, "Of the grid of test places; a multiple of 4.", least=4)
    steps: int = setting(1500, "Training steps a task.", least=1)
    batch: int = setting(16, "Crops a step, each in all classes.", least=1)
    learning_rate: float = setting(2e-3, "Of Adam, decayed by a cosine to zero.", least=0)
    seed: int = setting(0, "Of everything random.")
    limit: int | None = setting(None, "Most crops read of a set.")


@dataclass(frozen=True, eq=False, repr=False)
class Fingerprints(Result):
    """positions: a row a task, kind ('grid', 'shift') and position: top, left, trained (whether it
    is the place of training), n, accuracy, low, high (95 %).

    summary: a row a task: classes, chance, crops, positions (of the grid), worst (of the grid),
    trained (accuracy at the place of training), elsewhere (mean over the rest of the grid), fall
    (trained − elsewhere), and the mean accuracy over shifts of a multiple of four pixels in both
    directions (in_phase) and over all others (out_of_phase). All intervals draw photographs.
    history: task, step, loss (mean since the last row), train_accuracy.
    """

    positions: pd.DataFrame
    summary: pd.DataFrame
    history: pd.DataFrame
    facts: dict[str, object] = field(default_factory=dict)

    def view(self) -> View:
        """Return the accuracy at each place, and whether it is bound to that of the training."""
        tables = {
            "positions": self.positions,
            "fingerprints": self.summary,
            "history": self.history,
        }
        chances = self.summary.set_index("task")["chance"].to_dict()
        drawn: dict[str, Draw] = {
            "fingerprints": lambda: plot_fingerprints(self.positions, self.facts, chances)
        }
        said = fingerprints_said(self.summary)
        return View("Fingerprints", said, tables, figures=drawn, facts=self.facts)


def fingerprints_said(summary: pd.DataFrame) -> str:
    """Say for each task whether its accuracy is bound to the place, or to the phase."""
    said = []
    for row in summary.to_dict("records"):
        bound = "falls" if row["fall_low"] > 0 else "does not clearly fall"
        said.append(
            f"{str(row['task']).capitalize()}: {100 * row['trained']:.1f} % at the place of "
            f"training (chance {100 * row['chance']:.0f} %); it {bound} elsewhere, to "
            f"{100 * row['elsewhere']:.1f} % on average over {row['positions'] - 1} places in the "
            f"same phase of the up-sampling, and is {100 * row['out_of_phase']:.1f} % where the "
            "patch is shifted out of that phase."
        )
    return " ".join(said)


@dataclass(frozen=True)
class Crops:
    """The fakes of one set: pixels uint8 (crops, classes, 3, H, W), classes, names of the crops."""

    pixels: np.ndarray
    classes: tuple[str, ...]
    names: tuple[str, ...]


def study_fingerprints(
    data: Path, settings: FingerprintSettings, *, progress: Progress | None = None
) -> Fingerprints:
    """Return the empirical study of fingerprints on a world of ``forge_world``.

    Raises:
        UserError: a set is missing, or a patch does not fit.
    """
    positions, summary, history = [], [], []
    for at, (task, training, testing) in enumerate(TASKS):
        train, test = (read_crops(data, name, settings.limit) for name in (training, testing))
        place = _place(settings, train.pixels.shape[-1])

        def told(done: int, of: int, text: str, at: int = at, task: str = task) -> None:
            if progress is not None:
                progress(at * of + done, len(TASKS) * of, f"{task}: {text}")

        patches = PatchTask(train, place, settings)
        rows = run(patches, None, workers=0, progress=told)[["step", "loss", "train_accuracy"]]
        history.append(rows.assign(task=task))
        table, own = tested(patches.network, test, place, settings)
        positions.append(table.assign(task=task))
        summary.append({"task": task, **own})
    placed, learnt = (pd.concat(one, ignore_index=True) for one in (positions, history))
    for table in (placed, learnt):
        table.insert(0, "task", table.pop("task"))
    return Fingerprints(
        placed,
        pd.DataFrame(summary),
        learnt,
        {"patch": settings.patch, "place": place, "stride": settings.stride,
         "steps": settings.steps, "seed": settings.seed, "side": int(train.pixels.shape[-1])},
    )  # fmt: skip


def read_crops(data: Path, name: str, limit: int | None = None) -> Crops:
    """Return the fakes of a set by crop and generator, of the crops that all generators have.

    Raises:
        UserError: the set is missing, or its images have several sizes.
    """
    if not (data / name).is_dir():
        raise UserError(f"{data / name} is missing; make it with forensift attribute forge")
    images = scan(data / name).only(label=FAKE)
    files = {
        generator: {entry.path.name: entry.path for entry in images.only(generator=generator)}
        for generator in images.generators
    }
    shared = sorted(set.intersection(*(set(own) for own in files.values())))[:limit]
    rows = [[np.asarray(read_image(own[crop])) for own in files.values()] for crop in shared]
    if len({image.shape for row in rows for image in row}) != 1:
        raise UserError(f"{data / name}: the fakes are of several sizes, or none is shared by all")
    pixels = np.array(rows, dtype=np.uint8).transpose(0, 1, 4, 2, 3)
    return Crops(pixels, tuple(files), tuple(shared))


class PatchNet(nn.Sequential):
    """Patches → logits of the classes: four convolutions, global average pool, linear layer."""

    def __init__(self, classes: int, width: int = 24) -> None:
        def block(channels_in: int, channels_out: int, size: int, stride: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(channels_in, channels_out, size, stride, 1),
                nn.BatchNorm2d(channels_out),
                nn.LeakyReLU(0.2),
            )

        super().__init__(
            block(3, width, 3, 1),
            block(width, 2 * width, 4, 2),
            block(2 * width, 2 * width, 3, 1),
            block(2 * width, 2 * width, 4, 2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(2 * width, classes),
        )


class PatchTask(Task):
    """The training on patches of one place: Adam along a cosine, cross-entropy.

    A step shows the patches of some crops in every class, so that their content says nothing.
    """

    name = "patches"
    channels_last = False

    def __init__(self, crops: Crops, place: tuple[int, int], settings: FingerprintSettings) -> None:
        self.settings, self.seed = settings, settings.seed
        with seeded(settings.seed):
            self.network = self.learner = PatchNet(len(crops.classes))
        self.patches = Patches(_cut(crops.pixels, place, settings.patch), settings)
        self.truth = torch.arange(len(crops.classes)).repeat(self.patches.count)
        self.last_step = settings.steps
        self.epoch_steps = max(1, settings.steps // 20)
        self.schedule = cosine_rates(settings.learning_rate, settings.steps)

    def optimisers(self) -> tuple[torch.optim.Optimizer, ...]:
        return (torch.optim.Adam(self.network.parameters(), self.settings.learning_rate),)

    def data(self) -> Patches:
        return self.patches

    def rates(self, epoch: int, step: int) -> list[float]:
        return [self.schedule[step]]

    def learn(
        self, batch: Any, optimisers: tuple[torch.optim.Optimizer, ...], step: int, device: Device
    ) -> dict[str, torch.Tensor]:
        logits = self.network(batch)
        loss = cross_entropy(logits, self.truth)
        descend(optimisers[0], loss)
        right = (logits.argmax(1) == self.truth).float().mean()
        return {"loss": loss, "train_accuracy": right}


class Patches(Dataset):
    """Item s: the patches of some crops (crops · classes, 3, h, w), drawn by the seed and step."""

    def __init__(self, patches: np.ndarray, settings: FingerprintSettings) -> None:
        self.patches, self.seed = patches, settings.seed
        self.count = min(settings.batch, len(patches))

    def __getitem__(self, step: int) -> torch.Tensor:
        rng = keyed_short(self.seed, "fingerprints", step)
        return _signed(self.patches[rng.choice(len(self.patches), self.count, replace=False)])


def tested(
    network: nn.Module, crops: Crops, place: tuple[int, int], settings: FingerprintSettings
) -> tuple[pd.DataFrame, dict[str, object]]:
    """Return the table of positions and the summary row of one task.

    Raises:
        UserError: the grid has no place but the one of training.
    """
    side, patch = crops.pixels.shape[-1], settings.patch
    last = side - patch
    # The grid goes through the place of training, so that all of it is in the same phase.
    lines = [list(range(one % settings.stride, last + 1, settings.stride)) for one in place]
    grid = [(top, left) for top in lines[0] for left in lines[1]]
    if len(grid) < 2:
        raise UserError(f"a stride of {settings.stride} leaves no other place to test; lower it")
    shifts = [
        (place[0] + down, place[1] + right)
        for down in range(SHIFTS)
        for right in range(SHIFTS)
        if place[0] + down <= last and place[1] + right <= last
    ]
    found = {one: _right(network, crops, one, patch) for one in dict.fromkeys([*grid, *shifts])}
    clusters = np.repeat(photograph_names(crops.names), len(crops.classes))
    rows = []
    for kind, places in ((GRID, grid), (SHIFT, shifts)):
        for top, left in places:
            own = found[top, left]
            share = cluster_mean(own.ravel(), clusters, resamples=RESAMPLES, seed=settings.seed)
            rows.append((kind, top, left, (top, left) == place, own.size, *share))
    columns = ["kind", "top", "left", "trained", "n", "accuracy", "low", "high"]
    return pd.DataFrame(rows, columns=columns), _summary(
        found, grid, shifts, place, crops, settings
    )


def _summary(
    found: dict[tuple[int, int], np.ndarray],
    grid: list[tuple[int, int]],
    shifts: list[tuple[int, int]],
    place: tuple[int, int],
    crops: Crops,
    settings: FingerprintSettings,
) -> dict[str, object]:
    here = found[place].mean(axis=1)
    phases: dict[bool, list[np.ndarray]] = {True: [], False: []}
    for top, left in shifts:
        if (top, left) != place:
            same = (top - place[0]) % 4 == 0 and (left - place[1]) % 4 == 0
            phases[same].append(found[top, left].mean(axis=1))
    nothing = [np.full_like(here, np.nan)]
    elsewhere = np.mean([found[one].mean(axis=1) for one in grid if one != place], axis=0)
    values = {
        "trained": here,
        "elsewhere": elsewhere,
        "fall": here - elsewhere,
        "in_phase": np.mean(phases[True] or nothing, axis=0),
        "out_of_phase": np.mean(phases[False] or nothing, axis=0),
    }
    photographs = photograph_names(crops.names)
    row: dict[str, object] = {
        "classes": len(crops.classes),
        "chance": 1 / len(crops.classes),
        "crops": len(crops.names),
        "positions": len(grid),
        "worst": min(float(found[one].mean()) for one in grid),
    }
    for name, value in values.items():
        row[name], row[f"{name}_low"], row[f"{name}_high"] = cluster_mean(
            value, photographs, least=-1.0 if name == "fall" else 0.0, resamples=RESAMPLES,
            seed=settings.seed,
        )  # fmt: skip
    return row


@torch.no_grad()
def _right(network: nn.Module, crops: Crops, place: tuple[int, int], patch: int) -> np.ndarray:
    """Return whether each patch at a place is named rightly: bool (crops, classes)."""
    patches = _cut(crops.pixels, place, patch)
    called = [network(_signed(part)).argmax(1) for part in np.array_split(patches, 4) if len(part)]
    classes = len(crops.classes)
    return torch.cat(called).numpy().reshape(-1, classes) == np.arange(classes)


def _cut(pixels: np.ndarray, place: tuple[int, int], patch: int) -> np.ndarray:
    top, left = place
    return pixels[..., top : top + patch, left : left + patch]


def _signed(patches: np.ndarray) -> torch.Tensor:
    """uint8 (crops, classes, 3, h, w) → float32 (crops · classes, 3, h, w) in [-1, 1]."""
    flat = torch.from_numpy(np.ascontiguousarray(patches)).flatten(0, 1)
    return flat.float() / 127.5 - 1


def _place(settings: FingerprintSettings, side: int) -> tuple[int, int]:
    """Return the place of training.

    Raises:
        UserError: the patch does not fit there.
    """
    last = side - settings.patch
    middle = max(0, last // 2 // 4 * 4)
    top, left = settings.place or (middle, middle)
    if not (0 <= top <= last and 0 <= left <= last) or settings.stride % 4:
        raise UserError(
            f"patches of {settings.patch} at {top}, {left} of {side} pixels in steps of "
            f"{settings.stride}: they must fit, and the steps be a multiple of 4"
        )
    return top, left
