"""By gradients between a photograph and its fake: at the fake, or all along the way."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ..ablation import first_order, pixels_of
from ..ablation.gradients import kept
from ..data import Batch
from ..detectors import Detector
from ..detectors.precision import full_float32
from ..detectors.units import token_units
from ..errors import UserError
from ..records import FAKE, ImageEntry
from ..sweep import Look, Rows, Seen
from .question import Question
from .scores import ScoreStatistic

GRADIENT, EAP_IG, CONDUCTANCE = "gradient-activation", "eap-ig", "conductance"
STEPS = 16
GREY = 128  # of 255: what a path begins at where a fake has no photograph
CHUNK = 8  # images that go along their paths together: all their maps are held, several times

_Point = dict[str, list[tuple[Tensor, Tensor | None]]]  # layer → its calls' maps and gradients


@full_float32()
def path_effects(
    detector: Detector, start: Tensor, end: Tensor, names: Sequence[str], steps: int = STEPS
) -> dict[str, np.ndarray]:
    """Return by name what each map contributes to the logit from ``start`` to ``end``: (N, M).

    start, end: normalised, (N, 3, H, W). All sums are over space; L is the logit of 'fake', a the
    map, x(t) the straight line between the two images in as many ``steps``.
    gradient-activation: ∂L/∂a at the end times a(end) − a(start): attribution patching, what the
        logit loses, to first order, when the map of the start stands in its place.
    eap-ig: the mean of ∂L/∂a along x(t) times a(end) − a(start) (Hanna et al. 2024). Where a map is
        linear in the pixels, as in the first layer, all of them sum to L(end) − L(start).
    conductance: ∫ ∂L/∂a · da along x(t) (Dhamdhere et al. 2019); the maps of any layer that all of
        the logit passes through sum to L(end) − L(start).
    Integrals are by the trapezium rule, so they end on both images.
    """
    last = _point(detector, end)
    alone = set(names) <= {GRADIENT}
    first = _point(detector, start, gradients=not alone)
    between = {layer: [one[0] - two[0] for one, two in zip(last[layer], first[layer], strict=True)]
               for layer in last}  # fmt: skip
    dot = _Dot(detector, len(end))
    found = {}
    if GRADIENT in names:
        found[GRADIENT] = dot(last, between)
    if not alone:
        eap = (dot(last, between) + dot(first, between)) / 2 if EAP_IG in names else 0.0
        conductance, before = torch.zeros((), dtype=torch.float64), first
        for step in range(1, steps + 1):
            at = start + step / steps * (end - start)
            here = last if step == steps else _point(detector, at)
            if EAP_IG in names and step < steps:
                eap = eap + dot(here, between)
            if CONDUCTANCE in names:
                conductance = conductance + _moved(dot, before, here)
            before = here
        found |= {EAP_IG: eap / steps} if EAP_IG in names else {}  # type: ignore[dict-item]
        found |= {CONDUCTANCE: conductance} if CONDUCTANCE in names else {}
    return {name: found[name].numpy() for name in names}


def _moved(dot: _Dot, before: _Point, here: _Point) -> Tensor:
    """Return the mean gradient of two points of the path times how far each map moved."""
    means: _Point = {}
    steps: dict[str, list[Tensor]] = {}
    for layer, calls in here.items():
        both = list(zip(before[layer], calls, strict=True))
        steps[layer] = [two[0] - one[0] for one, two in both]
        means[layer] = [(two[0], _half(one[1], two[1])) for one, two in both]
    return dot(means, steps)


def _half(one: Tensor | None, two: Tensor | None) -> Tensor | None:
    return None if one is None or two is None else (one + two) / 2


def _point(detector: Detector, batch: Tensor, gradients: bool = True) -> _Point:
    """Return the maps of every layer on a normalised batch, and the logit's gradients by them."""
    network = detector.network
    with torch.set_grad_enabled(gradients), kept(network, detector.layers) as held:
        inside = batch.detach().requires_grad_(gradients)
        logits = detector.decide(network(inside).reshape(len(batch), -1))
        calls = [(layer, one) for layer, own in held.items() for one in own]
        wanted = [one for _, one in calls if one.requires_grad]
        slopes = iter(
            torch.autograd.grad(logits.sum(), wanted, allow_unused=True) if gradients else ()
        )
    found: _Point = {layer: [] for layer in detector.layers}
    for layer, one in calls:
        slope = next(slopes) if gradients and one.requires_grad else None
        found[layer].append((one.detach(), slope))
    return found


class _Dot:
    """Sums gradients times numbers of each map's shape over space: (N, M), float64 on the CPU."""

    def __init__(self, detector: Detector, images: int) -> None:
        self.layers, self.images = detector.layers, images
        self.units = token_units(detector.network)

    def __call__(self, point: _Point, by: Mapping[str, Sequence[Tensor]]) -> Tensor:
        found = []
        for layer, width in self.layers.items():
            whole = torch.zeros(self.images, width, dtype=torch.float64)
            for (_, slope), other in zip(point[layer], by[layer], strict=True):
                if slope is not None:
                    whole += self._summed(layer, slope * other).double().cpu()
            found.append(whole)
        return torch.cat(found, dim=1)

    def _summed(self, layer: str, values: Tensor) -> Tensor:
        """Return the sums (N, width) over space; windows or crops of an image are one image."""
        unit = self.units.get(layer)
        if unit is None:
            sums = values.sum(dim=(2, 3))
            return sums.unflatten(0, (self.images, -1)).sum(dim=1)
        maps = unit.by_map(values)
        return maps.reshape(len(maps), self.images, -1).sum(dim=2).T


class PathLook(Look):
    """What maps contribute between each fake and its photograph, or neutral grey where none has.

    Without pairs gradient-activation puts the mean over the reals in a map's place.
    """

    statistic: ScoreStatistic

    def __init__(self, question: Question, names: Sequence[str]) -> None:
        self.question, self.names = question, tuple(names)
        self.steps = int(question.ways.get("steps", STEPS))
        if self.steps < 1:
            raise UserError(f"steps {self.steps}: must be 1 or more")
        self.constants = None
        facts = {"names": self.names, "steps": self.steps, **question.facts}
        if not question.pairs and GRADIENT in names:
            self.constants = question.constants
            digest = hashlib.sha256()
            for one in self.constants.values():
                digest.update(one.numpy().tobytes())
            facts["constants_sha256"] = digest.hexdigest()
        detector = question.detector
        statistic = ScoreStatistic(detector.feature_maps, self.names, question.groups)
        super().__init__(detector, statistic, colours=(), facts=facts)

    def wants(self, entry: ImageEntry) -> bool:
        """Say whether the image is a fake, with its photograph where any has one."""
        question = self.question
        paired = not question.pairs or question.images.image_id(entry) in question.pairs
        return entry.label == FAKE and paired

    def observe(self, batch: Batch, seen: Mapping[str, Seen]) -> Rows:
        """Return by name what each map contributes, (N, M), float64; 0 of what is not wanted."""
        shape = (len(batch), len(self.detector.feature_maps))
        found = {name: np.zeros(shape) for name in self.names}
        wanted = [row for row, one in enumerate(batch.entries) if self.wants(one)]
        for at in range(0, len(wanted), CHUNK):
            rows = wanted[at : at + CHUNK]
            for name, values in self._effects(batch.take(rows)).items():
                found[name][rows] = values
        return found

    def _effects(self, batch: Batch) -> dict[str, np.ndarray]:
        question, detector = self.question, self.detector
        names, found = list(self.names), {}
        if self.constants is not None:
            _, change = first_order(detector, batch.pixels, self.constants)
            found[GRADIENT] = -change.numpy()
            names.remove(GRADIENT)
        if not names:
            return found
        others = torch.full_like(batch.pixels, GREY)
        if question.pairs:
            entries = [question.pairs[one] for one in batch.ids]
            others = pixels_of(detector, question.images, entries, question.how.get("seed", 0))
            if others.shape != batch.pixels.shape:
                raise UserError(
                    f"{entries[0].path}: {tuple(others.shape[2:])} pixels, and its fake "
                    f"{tuple(batch.pixels.shape[2:])}; take a preset that crops"
                )
        start, end = (detector.normalised(one) for one in (others, batch.pixels))
        return found | path_effects(detector, start, end, names, self.steps)

    def probe(self, batch: Batch, seen: Mapping[str, Seen]) -> object:
        """Go along one path, from the image to itself."""
        end = self.detector.normalised(batch.pixels)
        return path_effects(self.detector, end, end, self.names, 2)
