"""Rank feature maps by pursuit: the next is the one that, given those before it, removes most.

A set of maps is to make of each fake what the detector says of its own photograph, and to leave
photographs as they are. With r a photograph, f its fake, L the logit with maps replaced and L₀ of
the whole network, the objective is J = mean_f (L(f) − L₀(r))² + β · mean_r (L(r) − L₀(r))².
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from functools import cached_property
from typing import Any, Unpack

import numpy as np
import pandas as pd

from ..ablation import Means, Pairs, first_order, means, pairs_of
from ..data import Batch
from ..data.photos import photograph_names
from ..detectors import Detector
from ..detectors.building import digest
from ..errors import UserError
from ..files import write_bytes
from ..records import FAKE, REAL, FeatureMap, ImageSet, Ranking
from ..rng import keyed
from ..sweep import How, Look, PerImage, Rows, Seen, sweep, untold
from .buckets import INTERVAL, RESAMPLES
from .omega import ranking_table

MAPS = 400  # picked, unless nothing is gained before
GROWTH = 0.12  # of the maps picked so far: as many more before the effects are taken anew
BETA = 1.0  # how much reals count
MOST = 8  # maps picked in a round


Row = dict[str, float]
Pick = tuple[int, Row, float]  # place of the map, its row, J predicted after it


@dataclass(frozen=True)
class Pursued:
    """A ranking by pursuit, and how it went.

    path: one row a round: maps picked before it, and with these replaced: objective (J), predicted
        (what the round before expected it to be), gap (mean logit of fakes − of reals),
        move_real (mean change of the reals' logit), found and right (shares at logit > 0).
    """

    ranking: Ranking
    path: pd.DataFrame


def pursuit(
    detector: Detector,
    images: ImageSet,
    *,
    maps: int = MAPS,
    beta: float = BETA,
    layers: Sequence[str] = (),
    reference: ImageSet | Means | None = None,
    pairs: Pairs | None = None,
    **how: Unpack[How],
) -> Pursued:
    """Return feature maps in the order in which pursuit picks them, at most ``maps`` of them.

    images: fakes and their photographs, ``pairs`` by file names by default. Without any pair each
        fake is drawn to the reals' mean logit instead. beta: how much reals count in J.
    layers: patterns of layer names to pick from, all by default ('layer[234]*').
    reference: images, or means read from a file, whose reals' mean stands in the place of a map;
        the photographs by default.

    In each round the change of every image's logit by replacing each map is taken to first order,
    with the maps picked so far replaced (:func:`forensift.ablation.first_order`); then maps are
    picked one by one by the predicted fall of J, the changes of all images added up, so that maps
    that do the same are not counted twice. A round picks one map, later 12 % of those there are,
    at most eight.

    The ranking's score is the fall of J by the pick as a share of J of the whole network (never
    above the score before it, so that the order stays); standard_error is of that, over
    photographs. rank_low … rank_high: 95 % of the place that the map would have had if the
    photographs were drawn again, given the picks before it.

    Memory: images × maps × 4 bytes.

    Raises:
        UserError: no fakes or reals, no layer of such a name, or see :func:`forensift.sweep`.
    """
    world = _World.of(images, pairs)
    allowed = _allowed(detector, layers)
    if not isinstance(reference, Means):
        chosen = world.images if reference is None else reference
        reference = means(detector, chosen, **untold(how))
    constants = reference.by_layer(reference.numbers("conv", ("real",)))
    walk = _Walk(detector, world, constants, allowed, beta, how)
    walk.go(maps)
    if not walk.picks:
        raise UserError(f"{detector.name}: replacing no map brings fakes nearer to photographs")
    facts = {
        "detector": detector.name,
        "weights": detector.weights.path,
        "weights_sha256": detector.weights.sha256,
        "image_set": world.images.hash(),
        "preset": detector.preset.name,
        "by": "pursuit",
        "value": "mean-real",
        "beta": beta,
        "layers": list(layers),
        "paired": world.paired,
        "reference": dict(reference.facts).get("reference"),
    }
    return Pursued(replace(walk.ranking(), facts=facts), pd.DataFrame(walk.path))


class _Walk:
    """The rounds of a pursuit: effects taken anew, some maps picked, and what came of it."""

    def __init__(
        self,
        detector: Detector,
        world: _World,
        constants: Mapping[str, Any],
        allowed: np.ndarray,
        beta: float,
        how: How,
    ) -> None:
        self.detector, self.world, self.constants = detector, world, constants
        self.allowed, self.beta, self.how = allowed, beta, how
        self.picks: list[int] = []
        self.rows: list[Row] = []
        self.path: list[Row] = []

    def go(self, maps: int) -> None:
        """Pick up to ``maps`` maps."""
        world, tell = self.world, self.how.get("progress")
        logits, changes = self._seen()
        plain, target, predicted = logits, world.targets(logits), np.nan
        self.picks, self.rows, self.path = self._kept() or ([], [], [])
        if self.picks:  # of an interrupted run
            logits, changes = self._seen()
        while True:
            away = logits - target
            now = world.objective(away, self.beta)
            ends = {"maps": len(self.picks), "objective": now, "predicted": predicted}
            self.path.append({**ends, **_stand(world, logits, plain)})
            self._keep()
            if tell:
                tell("pursuit", len(self.picks), maps)
            number = min(MOST, max(1, int(GROWTH * len(self.picks))), maps - len(self.picks))
            found = self._next(away, changes, number)
            if not found:
                return
            predicted = found[-1][2]
            self.picks += [place for place, _, _ in found]
            self.rows += [one for _, one, _ in found]
            logits, changes = self._seen()

    def ranking(self) -> Ranking:
        """Return the picks as a ranking; the score never rises, so that their order stays."""
        told = pd.DataFrame(self.rows)
        maps = [self.detector.feature_maps[place] for place in self.picks]
        scores = np.minimum.accumulate(told["score"].to_numpy())
        table = ranking_table(maps, scores, "pursuit")
        for column in ("standard_error", "rank_low", "rank_high"):
            table[column] = told[column].to_numpy()[table.index]
        fakes = int(self.world.fake.sum())
        counts = {"used": fakes, "reals": len(self.world.fake) - fakes}
        return Ranking(table.reset_index(drop=True), FAKE, counts=counts, by="pursuit")

    def _seen(self) -> tuple[np.ndarray, np.ndarray]:
        """Return logits (N,) with the picks replaced, and changes (N, M) by each other map."""
        picked = [self.detector.feature_maps[place] for place in self.picks]
        look = ChangesLook(self.detector, self.constants, picked)
        images = self.world.images
        sweep(images, [look], what=f"pursuit, {len(picked)} maps", **untold(self.how))
        ids = [images.image_id(entry) for entry in images]
        return look.statistic.of(ids, "logit"), look.statistic.of(ids, "changes").astype(float)

    def _keep(self) -> None:
        """Write down how far it is."""
        if "partials" in self.how:
            state = [self._plan, self.picks, self.rows, self.path[:-1]]
            write_bytes(self.how["partials"] / "pursuit.json", json.dumps(state).encode())

    def _kept(self) -> tuple[list[int], list[Row], list[Row]] | None:
        """Return picks, rows and path of an interrupted run with the same question."""
        path = self.how["partials"] / "pursuit.json" if self.how.get("resume") else None
        if path is None or not path.is_file():
            return None
        plan, *found = json.loads(path.read_bytes())
        return tuple(found) if plan == self._plan else None  # type: ignore[return-value]

    @cached_property
    def _plan(self) -> list[Any]:
        constants = {one: float(own.double().sum()) for one, own in self.constants.items()}
        weights, images = digest(self.detector.network), self.world.images.hash()
        return [weights, images, self.beta, int(self.allowed.sum()), constants]

    def _next(self, away: np.ndarray, changes: np.ndarray, number: int) -> list[Pick]:
        free = self.allowed.copy()
        free[self.picks] = False
        changes = np.where(free, changes, 0)
        start = self.path[0]["objective"]
        return _picked(self.world, away, changes, number, self.beta, start, len(self.picks))


class ChangesLook(Look):
    """Logits with picked maps replaced, and what replacing each other map would change."""

    statistic: PerImage

    def __init__(
        self, detector: Detector, constants: Mapping[str, Any], picked: Sequence[FeatureMap]
    ) -> None:
        self.constants, self.picked = constants, tuple(picked)
        super().__init__(detector, PerImage(), colours=(), facts={"picked": list(map(str, picked))})

    def observe(self, batch: Batch, seen: Mapping[str, Seen]) -> Rows:
        """Return the logits (N,), float64, and changes (N, M), float32."""
        logits, changes = first_order(self.detector, batch.pixels, self.constants, self.picked)
        return {"logit": logits.numpy(), "changes": changes.float().numpy()}


@dataclass(frozen=True, eq=False)
class _World:
    """The images of a pursuit, fakes first, then reals.

    real_of: of each fake the place of its photograph among the reals, −1 without one;
    photograph: of each image the number of its photograph, so that its crops stand together.
    """

    images: ImageSet
    fake: np.ndarray
    real_of: np.ndarray
    photograph: np.ndarray

    @classmethod
    def of(cls, images: ImageSet, pairs: Pairs | None) -> _World:
        pairs = pairs_of(images) if pairs is None else pairs
        fakes = [one for one in images if one.label == FAKE]
        paired = [one for one in fakes if images.image_id(one) in pairs] or fakes
        own = [pairs[images.image_id(one)] for one in paired if images.image_id(one) in pairs]
        reals = list(dict.fromkeys(own)) or [one for one in images if one.label == REAL]
        if not paired or not reals:
            raise UserError(f"{images.root}: pursuit needs fakes and reals")
        place = {one: at for at, one in enumerate(reals)}
        real_of = [place[one] if own else -1 for one in (own or paired)]
        entries = (*paired, *reals)
        names = photograph_names([entry.path for entry in entries])
        return cls(
            ImageSet(images.root, entries, images.layout),
            np.arange(len(entries)) < len(paired),
            np.array(real_of),
            np.unique(names, return_inverse=True)[1],
        )

    @property
    def paired(self) -> bool:
        return bool((self.real_of >= 0).all())

    def targets(self, logits: np.ndarray) -> np.ndarray:
        """Return the logit that each image is to have, (N,), from those of the whole network."""
        reals = logits[~self.fake]
        goal = reals[self.real_of] if self.paired else np.full(self.fake.sum(), reals.mean())
        return np.concatenate([goal, reals])

    def weights(self, beta: float) -> np.ndarray:
        """Return what the square of each image's distance counts in J."""
        return np.where(self.fake, 1 / self.fake.sum(), beta / (~self.fake).sum())

    def objective(self, away: np.ndarray, beta: float) -> float:
        return float(self.weights(beta) @ away**2)


def _picked(
    world: _World,
    away: np.ndarray,
    changes: np.ndarray,
    number: int,
    beta: float,
    start: float,
    before: int,
) -> list[Pick]:
    """Return the next picks: place among the maps, row of the table, J predicted after it."""
    weights, away = world.weights(beta), away.copy()
    squares = (changes**2 * weights[:, None]).sum(axis=0)
    free = np.ones(changes.shape[1], dtype=bool)
    photographs = world.photograph.max() + 1
    group = np.zeros((photographs, len(away)))
    group[world.photograph, np.arange(len(away))] = 1
    rng = keyed("pursuit", before)
    drawn = rng.multinomial(photographs, np.full(photographs, 1 / photographs), size=RESAMPLES)
    found: list[Pick] = []
    for _ in range(number):
        gains = -(2 * (weights * away) @ changes + squares)
        gains[~free] = -np.inf
        best = int(gains.argmax())
        if not gains[best] > 0:
            break
        own = -group @ (weights * (2 * away * changes[:, best] + changes[:, best] ** 2))
        counts = drawn @ group * weights  # what each image counts in each resample
        low, high = _places(counts, away, changes[:, free], int(free[:best].sum()))
        error = own.std(ddof=1) * np.sqrt(photographs) if photographs > 1 else np.nan
        place = before + len(found)
        row = {
            "score": gains[best] / start, "standard_error": error / start,
            "rank_low": place + low, "rank_high": place + high,
        }  # fmt: skip
        away += changes[:, best]
        free[best] = False
        found.append((best, row, world.objective(away, beta)))
    return found


def _places(
    counts: np.ndarray, away: np.ndarray, changes: np.ndarray, pick: int
) -> tuple[float, float]:
    """Return 95 % of the place, from 1, of the pick among free maps, photographs drawn again."""
    gains = -(2 * (counts * away) @ changes + counts @ changes**2)
    better = (gains > gains[:, [pick]]).sum(axis=1) + 1
    low, high = np.percentile(better, INTERVAL)
    return min(float(low), 1.0), float(high)


def _stand(world: _World, logits: np.ndarray, plain: np.ndarray) -> Row:
    fakes, reals = logits[world.fake], logits[~world.fake]
    return {
        "gap": float(fakes.mean() - reals.mean()),
        "move_real": float((logits - plain)[~world.fake].mean()),
        "found": float((fakes > 0).mean()),
        "right": float((reals <= 0).mean()),
    }


def _allowed(detector: Detector, patterns: Sequence[str]) -> np.ndarray:
    """Return which feature maps lie in layers of these names, bool (M,)."""
    names = list(detector.layers)
    chosen = {one for one in names if not patterns or any(fnmatch(one, p) for p in patterns)}
    if not chosen:
        raise UserError(f"{detector.name} has no layer {', '.join(patterns)}; it has {names[0]} …")
    return np.array([one.layer in chosen for one in detector.feature_maps])
