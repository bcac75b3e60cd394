"""Which of the top-k feature maps respond to colour: one pass a colour mode, then the tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Unpack

import numpy as np
import pandas as pd

from ..data.colour import PUBLISHED_MODES
from ..detectors.detector import Detector
from ..errors import UserError
from ..evaluation import Cluster, clusters_of
from ..fmap_ranking import fitting, top
from ..records import FAKE, ImageSet, Ranking, Result, Skipped
from ..sweep import How, Pass, sweep
from .colour_tests import LEVEL, MIN_EFFECT, colour_tests, percentages
from .density import densities
from .maxima import Maxima, MaximaLook, first_instances


@dataclass(frozen=True, eq=False, repr=False)
class MedianTestResult(Result):
    """What the tests say.

    table: one row a generator and feature map, in rank order (``median_test.csv``); the columns of
        :func:`colour_tests`, then generator and rank (from 1).
    percentages: colour-conditional maps by generator and criterion; see :func:`percentages`.
    maxima: the samples. skipped: images that could not be used. facts: what decided the numbers.
    drawn: generators whose densities are drawn; None: all.
    """

    table: pd.DataFrame
    percentages: pd.DataFrame
    maxima: Maxima
    skipped: tuple[Skipped, ...] = ()
    facts: Mapping[str, object] = field(default_factory=dict)
    drawn: tuple[str, ...] | None = None

    def densities(self) -> pd.DataFrame:
        """Return the kernel densities of the maxima; see :func:`densities`."""
        return densities(self.maxima)


def median_test(
    detector: Detector,
    images: ImageSet,
    ranking: Ranking,
    k: int,
    *,
    generator: str | None = None,
    num_instances: int | None = None,
    mode: str = "grey",
    ties: str = "below",
    level: float = LEVEL,
    min_effect: float = MIN_EFFECT,
    cluster: Cluster = "photograph",
    **how: Unpack[How],
) -> MedianTestResult:
    """Test the spatial maxima of the top k feature maps on the same fakes in rgb and in grey.

    images: only the fakes are looked at. generator: the only one to test; by default each generator
        is tested by itself, with its own q-values.
    num_instances: the first so many fakes of each class (published 500); by default all.
    mode: what rgb is compared with; 'grey' is published. ties, level, min_effect: see
        :func:`colour_tests`. cluster: which fakes depend on one another, see
        :func:`forensift.evaluation.metrics`.

    Two forward passes an image in all, whatever k is; each image is decoded once.

    Raises:
        UserError: the ranking does not fit the detector, k is out of range, there is no such
            generator, fewer than two fakes could be used, or see :func:`forensift.sweep`.
    """
    detector = fitting(ranking, detector)
    chosen = fakes_of(images, generator, num_instances)
    look = MaximaLook(detector, top(ranking, k), (PUBLISHED_MODES[0], mode))
    done = sweep(chosen, [look], what="testing feature maps", **how)
    facts = {"generator": generator, "num_instances": num_instances, "seed": how.get("seed", 0)}
    return median_of(
        look, done, ties=ties, level=level, min_effect=min_effect, cluster=cluster, facts=facts
    )


def median_of(
    look: MaximaLook,
    done: Pass,
    *,
    ties: str = "below",
    level: float = LEVEL,
    min_effect: float = MIN_EFFECT,
    cluster: Cluster = "photograph",
    facts: Mapping[str, object] | None = None,
) -> MedianTestResult:
    """Return the tests of what a pass in two colour modes has shown; see :func:`median_test`."""
    found = look.result(done.used)
    table, shares = judge(found, ties=ties, level=level, min_effect=min_effect, cluster=cluster)
    known: dict[str, object] = {
        "detector": look.detector.name,
        "k": len(look.feature_maps),
        "modes": list(found.modes),
        "ties": ties,
        "level": level,
        "min_effect": min_effect,
        "cluster": cluster,
        "used": len(found.images),
        **(facts or {}),
    }
    return MedianTestResult(table, shares, found, done.skipped, known)


def judge(
    found: Maxima,
    *,
    ties: str = "below",
    level: float = LEVEL,
    min_effect: float = MIN_EFFECT,
    cluster: Cluster = "photograph",
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return table and percentages of a :class:`MedianTestResult` from samples in two modes."""
    of = np.array([entry.generator for entry in found.images], dtype=object)
    images = pd.DataFrame(
        [(found.images.image_id(entry), entry.class_name) for entry in found.images],
        columns=["path", "class"],
    )
    tables, shares = [], []
    for generator in found.images.generators:
        values = found.maxima[of == generator]
        if len(values) < 2:
            raise UserError(f"generator {generator}: one fake is no sample; 2 or more are needed")
        table = colour_tests(
            found.feature_maps, values[:, 0], values[:, 1],
            clusters=clusters_of(images[of == generator], cluster)[0],
            ties=ties, level=level, min_effect=min_effect,
        )  # fmt: skip
        shares.append(percentages(table).assign(generator=generator))
        tables.append(table.assign(generator=generator, rank=range(1, len(table) + 1)))
    share = pd.concat(shares, ignore_index=True)
    order = ["generator", *share.columns.drop("generator")]
    return pd.concat(tables, ignore_index=True), share[order]


def fakes_of(
    images: ImageSet, generator: str | None = None, num_instances: int | None = None
) -> ImageSet:
    """Return the fakes to test on: of one generator or all, and the first so many of each class.

    Raises:
        UserError: no such generator, or no fakes.
    """
    if generator is not None and generator not in images.generators:
        raise UserError(
            f"no generator {generator!r} in {images.root}; there are {', '.join(images.generators)}"
        )
    chosen = images.only(label=FAKE, generator=generator)
    if not len(chosen):
        raise UserError(f"{images.root}: holds no fakes to test on")
    return chosen if num_instances is None else first_instances(chosen, num_instances)
