"""Which of the top-k feature maps respond to colour: one pass a colour mode, then the tests."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ..data import check_skipped
from ..data.colour import PUBLISHED_MODES
from ..detectors.detector import Detector
from ..errors import UserError
from ..fmap_ranking import check_ranking_fits, top
from ..records import FAKE, ImageSet, Ranking, Skipped
from ..sweep import Progress
from .colour_tests import LEVEL, MIN_EFFECT, colour_tests, percentages
from .density import densities
from .maxima import Maxima, first_instances, maxima


@dataclass(frozen=True)
class MedianTestResult:
    """What the tests say.

    table: one row a generator and feature map, in rank order (``median_test.csv``); the columns of
        :func:`colour_tests`, then generator and rank (from 1).
    percentages: colour-conditional maps by generator and criterion; see :func:`percentages`.
    maxima: the samples. skipped: images that could not be read. facts: what decided the numbers.
    """

    table: pd.DataFrame
    percentages: pd.DataFrame
    maxima: Maxima
    skipped: tuple[Skipped, ...] = ()
    facts: dict[str, object] = field(default_factory=dict)

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
    batch_size: int = 16,
    seed: int = 0,
    max_skipped: float = 0.01,
    skipped: list[Skipped] | None = None,
    progress: Progress | None = None,
) -> MedianTestResult:
    """Test the spatial maxima of the top k feature maps on the same fakes in rgb and in grey.

    images: only the fakes are looked at. generator: the only one to test; by default each generator
        is tested by itself, with its own q-values.
    num_instances: the first so many fakes of each class (published 500); by default all.
    mode: what rgb is compared with; 'grey' is published. ties, level, min_effect: see
        :func:`colour_tests`.

    Two forward passes an image in all, whatever k is; each image is decoded once.

    Raises:
        UserError: the ranking does not fit the detector, k is out of range, there is no such
            generator, fewer than two fakes could be read, or too many could not.
    """
    check_ranking_fits(ranking, detector)
    feature_maps = top(ranking, k)
    chosen = _fakes(images, generator)
    if num_instances is not None:
        chosen = first_instances(chosen, num_instances)
    missed: list[Skipped] = []
    found = maxima(
        detector,
        chosen,
        feature_maps,
        (PUBLISHED_MODES[0], mode),
        batch_size=batch_size,
        seed=seed,
        skipped=missed,
        progress=progress,
    )
    if skipped is not None:
        skipped.extend(missed)
    check_skipped(missed, len(chosen), max_skipped)
    table, shares = judge(found, ties=ties, level=level, min_effect=min_effect)
    facts: dict[str, object] = {
        "k": k,
        "modes": list(found.modes),
        "generator": generator,
        "num_instances": num_instances,
        "ties": ties,
        "level": level,
        "min_effect": min_effect,
        "seed": seed,
    }
    return MedianTestResult(table, shares, found, tuple(missed), facts)


def judge(
    found: Maxima, *, ties: str = "below", level: float = LEVEL, min_effect: float = MIN_EFFECT
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return table and percentages of a :class:`MedianTestResult` from samples in two modes."""
    of = np.array([entry.generator for entry in found.images], dtype=object)
    tables, shares = [], []
    for generator in found.images.generators:
        values = found.maxima[of == generator]
        if len(values) < 2:
            raise UserError(f"generator {generator}: one fake is no sample; 2 or more are needed")
        table = colour_tests(
            found.feature_maps, values[:, 0], values[:, 1],
            ties=ties, level=level, min_effect=min_effect,
        )  # fmt: skip
        shares.append(percentages(table).assign(generator=generator))
        tables.append(table.assign(generator=generator, rank=range(1, len(table) + 1)))
    share = pd.concat(shares, ignore_index=True)
    order = ["generator", *share.columns.drop("generator")]
    return pd.concat(tables, ignore_index=True), share[order]


def _fakes(images: ImageSet, generator: str | None) -> ImageSet:
    if generator is not None and generator not in images.generators:
        raise UserError(
            f"no generator {generator!r} in {images.root}; there are {', '.join(images.generators)}"
        )
    chosen = images.only(label=FAKE, generator=generator)
    if not len(chosen):
        raise UserError(f"{images.root}: holds no fakes to test on")
    return chosen
