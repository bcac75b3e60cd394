"""What of a detector is pruned, the random choices beside it, and the images it is fitted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..ablation import Ablation
from ..data.photos import photograph_names
from ..detectors import head
from ..records import FeatureMap, ImageSet, Ranking
from ..rng import keyed
from ..sensitivity import layer_matched_random_k, top_k
from ..sweep import How
from .certificate import PRUNED, RANDOM
from .dissect import DEAR, extremes, harmful, regional
from .heads import Fit, fit
from .looks import LastInputLook, Maps


@dataclass(frozen=True)
class Version:
    """What is taken away of a detector: feature maps, or inputs of its last layer."""

    name: str
    draw: int = 0
    maps: Maps = ()
    inputs: tuple[int, ...] = ()


class Reference:
    """The images that last layers are fitted on, under each condition."""

    def __init__(self, look: LastInputLook, images: ImageSet, seed: int) -> None:
        self.look, self.images, self.seed = look, images, seed
        times = len(look.conditions)
        self.labels = np.tile([entry.label for entry in images], times)
        self.photographs = np.tile(photograph_names([one.path for one in images]), times)
        self.generators = np.tile([entry.generator for entry in images], times)

    def features(self, maps: Maps = ()) -> np.ndarray:
        """Return what goes into the last layer without these maps: (conditions · N, D)."""
        return self.look.features(self.images, maps)

    def fit(self, version: Version) -> Fit:
        """Return the last layer of a version."""
        return fit(
            self.features(version.maps), self.labels, self.photographs, without=version.inputs,
            seed=self.seed,
        )  # fmt: skip


def by_ranking(place: Ablation, ranking: Ranking, k: int, draws: int, seed: int) -> list[Version]:
    """Return the top k maps, and as many drawn from each of their layers."""
    chosen, every = top_k(ranking, k).feature_maps, place.detector.feature_maps
    random = [layer_matched_random_k(every, chosen, draw, seed) for draw in range(draws)]
    return [
        Version(PRUNED, 0, chosen),
        *(Version(RANDOM, draw, one.feature_maps) for draw, one in enumerate(random)),
    ]


def by_inputs(
    place: Ablation, refit: ImageSet, method: str, reference: Reference, alone: Fit, how: How
) -> tuple[dict[int, float], dict[str, Any]]:
    """Return the inputs of the last layer that a method prunes, with what chose them, and facts."""
    if method == "gaintseva":
        places, losses = harmful(
            reference.features(), reference.labels, reference.photographs, reference.generators,
            alone.strength, reference.seed,
        )  # fmt: skip
        scores = losses[:-1] - losses[1:]
        facts: dict[str, Any] = {"loss_before": float(losses[0]), "loss_after": float(losses[-1])}
    else:
        found, pairs = regional(place.detector, refit, how)
        places = extremes(found, DEAR[method])
        scores, facts = found[places], {"pairs": pairs, "kept": DEAR[method]}
    chosen = {int(one): float(score) for one, score in zip(places, scores, strict=True)}
    return chosen, facts


def input_versions(size: int, inputs: Sequence[int], draws: int, seed: int) -> list[Version]:
    """Return the inputs, and as many others, drawn; of all where too few are left."""
    left = np.setdiff1d(np.arange(size), inputs)
    pool = left if len(left) >= len(inputs) else np.arange(size)
    found = [Version(PRUNED, 0, inputs=tuple(inputs))]
    for draw in range(draws):
        drawn = keyed("inputs", seed, draw).choice(pool, len(inputs), replace=False)
        found.append(Version(RANDOM, draw, inputs=tuple(int(one) for one in np.sort(drawn))))
    return found


def maps_table(maps: Maps, ranking: Ranking, place: Ablation) -> pd.DataFrame:
    """Return unit, score, constant of feature maps."""
    by_map = dict(zip(ranking.feature_maps(), ranking.scores, strict=True))
    constants = place.constants_of(maps)
    held = [float(constants[one.layer][one.channel].mean()) if constants else 0.0 for one in maps]
    scores = [by_map[one] for one in maps]
    return pd.DataFrame({"unit": list(map(str, maps)), "score": scores, "constant": held})


def inputs_table(chosen: Mapping[int, float], place: Ablation, size: int) -> pd.DataFrame:
    """Return unit, score, constant of inputs of the last layer; its bias takes the constant up."""
    name = head(place.detector.network)
    units = [f"input of {FeatureMap(name, one, size)}" for one in chosen]
    return pd.DataFrame({"unit": units, "score": list(chosen.values()), "constant": np.nan})
