"""What is measured of every method on one fake and the photograph that it was made of."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

from ...data import Batch, read_image
from ...detectors import Detector
from ...detectors.precision import full_float32
from ...errors import UserError
from ...evaluation import sigmoid
from ...explain import explainer, named_methods, pixel_map
from ...explain.localisation import in_box
from ...explain.methods import Explainer, shared
from ...explain.perturbation import area, cell_sums, curves, falling, taken
from ...explain.sanity import randomised, rank_correlation
from ...explain.target import Target
from ...records import ImageEntry
from ...rng import keyed
from ...sweep import Look, PerImage, Rows, Seen

FLOORS = ("random map", "edges")  # what a method must beat: noise, and the image's own gradient
MEASURES = ("area", "share", "hit", "deletion", "insertion", "flip", "spearman", "seconds")
STEPS = 5  # parts in which an image is deleted and inserted
EPSILON = 2  # of 255: the step against the decision
MOVED = 0.1  # of the cells that may move

Maps = np.ndarray  # (N, H, W)


class BoardLook(Look):
    """Every measure of every method on fakes whose photographs are known.

    pairs: image id → the aligned photograph; methods that do not apply are in ``notes``.
    """

    statistic: PerImage

    def __init__(
        self,
        detector: Detector,
        pairs: Mapping[str, Path],
        first: torch.Tensor,
        methods: Sequence[str],
        *,
        cell: int = 8,
        seed: int = 0,
    ) -> None:
        """first: some of the images, normalised, for the network with random weights."""
        self.notes: dict[str, str] = {}
        twin = replace(detector, network=randomised(detector.network, 1.0, first, seed)[0])
        ready, other = shared(detector), shared(twin)
        self.explain: dict[str, tuple[Explainer, Explainer]] = {}
        for name in named_methods(methods):
            try:
                made = explainer(ready(name), name)
                made(first[:1], None)
                self.explain[name] = made, explainer(other(name), name)
            except UserError as error:
                self.notes[name] = f"{detector.name}: {name} does not apply: {error}."
        self.names = (*self.explain, *FLOORS)
        self.pairs, self.cell, self.seed = pairs, cell, seed
        facts = {"methods": list(self.names), "cell": cell, "steps": STEPS, "epsilon": EPSILON}
        super().__init__(detector, PerImage(), colours=(), facts=facts)

    def wants(self, entry: ImageEntry) -> bool:
        """Say whether the image has a photograph beside it."""
        return str(entry.path) in self.pairs

    def observe(self, batch: Batch, seen: Mapping[str, Seen]) -> Rows:
        """Return each of ``MEASURES`` as (N, methods and floors)."""
        fakes = batch.pixels.numpy()
        reals = np.stack(
            [self._photograph(*one) for one in zip(batch.entries, batch.ids, strict=True)]
        )
        boxes = np.array([self._box(one, fakes.shape[2:]) for one in batch.ids])
        spliced = reals.copy()
        for image, fake, (left, top, right, bottom) in zip(spliced, fakes, boxes, strict=True):
            image[:, top:bottom, left:right] = fake[:, top:bottom, left:right]
        logits = [self.detector.logits(torch.from_numpy(one)).numpy() for one in (reals, spliced)]
        planted = logits[1] > logits[0]  # the box carries evidence
        target: Target = "fake"
        if self.detector.classes:
            target = self.detector.outputs(batch.pixels).argmax(dim=1)
        trials = [Trial(self.detector, *one, self.cell, self.seed) for one in
                  zip(batch.ids, fakes, reals, self._against(fakes), strict=True)]  # fmt: skip
        found = {name: np.full((len(fakes), len(self.names)), np.nan) for name in MEASURES}
        for place, name in enumerate(self.names):
            maps, there, without, seconds = self._maps(name, batch.ids, fakes, spliced, target)
            inside = in_box(there, boxes)
            for measure in ("area", "share", "hit"):
                values = inside[measure].to_numpy(dtype=float)
                found[measure][:, place] = np.where(planted, values, np.nan)
            for at, trial in enumerate(trials):
                for measure, value in trial.of(maps[at]).items():
                    found[measure][at, place] = value
                if without is not None:
                    found["spearman"][at, place] = rank_correlation(maps[at], without[at])
            found["seconds"][:, place] = seconds / len(fakes)
        return found

    def _maps(
        self,
        name: str,
        ids: Sequence[str],
        fakes: np.ndarray,
        spliced: np.ndarray,
        target: Target,
    ) -> tuple[Maps, Maps, Maps | None, float]:
        """Return maps of the fakes, of the spliced, by random weights, and the seconds."""
        if name in FLOORS:
            kind: Callable[..., np.ndarray] = _edges if name == "edges" else self._noise
            maps = np.stack([kind(*one) for one in zip(fakes, ids, strict=True)])
            return maps, np.stack([kind(*one) for one in zip(spliced, ids, strict=True)]), None, 0.0
        made, other = self.explain[name]
        batch, started = self.detector.normalised(torch.from_numpy(fakes)), time.process_time()
        maps = self._map(name, made, batch, target)
        seconds = time.process_time() - started
        there = self._map(name, made, self.detector.normalised(torch.from_numpy(spliced)), target)
        return maps, there, self._map(name, other, batch, target), seconds

    def _map(self, name: str, made: Explainer, batch: torch.Tensor, target: Target) -> Maps:
        return pixel_map(made(batch, target).relevance.float().cpu().numpy(), name)

    def _against(self, fakes: np.ndarray) -> np.ndarray:
        """Return the fakes after one step of ``EPSILON`` against the logit of 'fake'."""
        leaf = self.detector.normalised(torch.from_numpy(fakes)).requires_grad_()
        with full_float32(), torch.enable_grad():
            logits = self.detector.decide(self.detector.network(leaf).reshape(len(fakes), -1))
            (slope,) = torch.autograd.grad(logits.sum(), leaf)
        moved = fakes.astype(np.int16) - EPSILON * np.sign(slope.cpu().numpy()).astype(np.int16)
        return moved.clip(0, 255).astype(np.uint8)

    def _photograph(self, entry: ImageEntry, image_id: str) -> np.ndarray:
        image = read_image(self.pairs[str(entry.path)])
        return np.array(self.detector.preset.geometry(image, image_id, self.seed)).transpose(
            2, 0, 1
        )

    def _box(self, image_id: str, size: tuple[int, ...]) -> tuple[int, int, int, int]:
        """Return left, top, right, bottom of a box of a quarter of the area."""
        rng = keyed(self.seed, image_id, "box")
        h, w = size[0] // 2, size[1] // 2
        top, left = int(rng.integers(size[0] - h + 1)), int(rng.integers(size[1] - w + 1))
        return left, top, left + w, top + h

    def _noise(self, pixels: np.ndarray, image_id: str) -> np.ndarray:
        return keyed(self.seed, image_id, "map").random(pixels.shape[1:])


class Trial:
    """One fake with its photograph: how the score follows what a map names first."""

    def __init__(
        self,
        detector: Detector,
        image_id: str,
        fake: np.ndarray,
        real: np.ndarray,
        against: np.ndarray,
        cell: int,
        seed: int,
    ) -> None:
        self.detector, self.key, self.cell, self.seed = detector, image_id, cell, seed
        self.fake, self.real, self.against = fake, real, against
        whole, gone, moved = self._logits(np.stack([fake, real, against]))
        self.ends = tuple(sigmoid(np.array([whole, gone])))
        self.whole, self.moved = whole, moved

    def of(self, values: np.ndarray) -> dict[str, float]:
        """Return of a map (H, W) the areas under the curves, and the fall of the logit.

        deletion, insertion: cells of the photograph replace the fake's, or the other way round;
        flip: the share of the fall that a step against the decision makes when only the
        ``MOVED`` highest cells may move.
        """
        order = falling(cell_sums(values, self.cell), keyed(self.seed, self.key, "order"))
        fractions = np.linspace(0, 1, STEPS + 1)
        found = curves(
            self.fake, order, lambda many: sigmoid(self._logits(many)), fractions,
            cell=self.cell, fill=self.real, ends=self.ends,
        )  # fmt: skip
        mask = taken(order, MOVED, (values.shape[0], values.shape[1]), self.cell)
        (left,) = self._logits(np.where(mask, self.against, self.fake)[None])
        whole = self.whole - self.moved
        return {
            **{kind: area(fractions, rows) for kind, rows in found.items()},
            "flip": float((self.whole - left) / whole) if whole > 0 else np.nan,
        }

    def _logits(self, pixels: np.ndarray) -> np.ndarray:
        return self.detector.logits(torch.from_numpy(pixels)).numpy().astype(np.float64)


def _edges(pixels: np.ndarray, image_id: str) -> np.ndarray:
    """Return the magnitude of Sobel's gradient of the grey image (H, W)."""
    grey = cv2.cvtColor(np.ascontiguousarray(pixels.transpose(1, 2, 0)), cv2.COLOR_RGB2GRAY)
    along = [cv2.Sobel(grey.astype(np.float64), cv2.CV_64F, *one) for one in ((1, 0), (0, 1))]
    return np.hypot(*along)
