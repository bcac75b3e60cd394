"""What rankings are asked about, and what several of them need: pairs, groups, means over reals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from torch import Tensor

from ..ablation import Ablation, Pairs, ablation, pairs_of
from ..detectors import Detector
from ..errors import UserError
from ..records import FAKE, REAL, ImageEntry, ImageSet, Ranking
from ..rng import digest
from ..sweep import How
from .buckets import buckets_by_photograph
from .scores import Scored


class Ways(How, total=False):
    """How images are gone over, and what rankings other than ω want to know.

    pairs: a table (fake, photograph), or its file; by file names where it is not given.
    steps: of a path from photograph to fake (eap-ig, conductance).
    masks: where a fake was made: a table or a folder, see :func:`load_masks` (rad).
    maps: how many are measured one by one (single; 0 measures all) or picked (pursuit).
    layers: patterns of the layers that these are chosen from ('layer[234]*'); all by default.
    k: of the top maps that several rankings are compared on.
    """

    pairs: Path | pd.DataFrame | None
    steps: int
    masks: Path | None
    maps: int
    layers: Sequence[str]
    k: int | None


WAYS = Ways.__annotations__.keys() - How.__annotations__.keys()


class Found(NamedTuple):
    """A ranking, and its scores as a function of the photographs drawn where they are known."""

    ranking: Ranking
    scored: Scored | None = None


@dataclass(frozen=True, eq=False)
class Question:
    """One detector and the images that its feature maps are to be ranked on.

    ways: see :class:`Ways`; how: how images are gone over.
    """

    detector: Detector
    images: ImageSet
    ways: Mapping[str, Any] = field(default_factory=dict)
    how: How = field(default_factory=lambda: How())

    @cached_property
    def pairs(self) -> Pairs:
        """The photograph of each fake that has one, by the fake's id; {} where none has."""
        return pairs_of(self.images, self.ways.get("pairs"))

    @cached_property
    def fakes(self) -> ImageSet:
        """The fakes that have their photographs; all of them where none has."""
        fakes, pairs = self.images.only(label=FAKE), self.pairs
        if not pairs:
            return fakes
        kept = tuple(one for one in fakes if fakes.image_id(one) in pairs)
        return ImageSet(fakes.root, kept, fakes.layout)

    @cached_property
    def reals(self) -> ImageSet:
        """The reals.

        Raises:
            UserError: there are none.
        """
        reals = self.images.only(label=REAL)
        if not len(reals):
            raise UserError(f"{self.images.root}: holds no real images to compare fakes with")
        return reals

    @cached_property
    def photographs(self) -> dict[str, ImageEntry]:
        """The photographs of the pairs by id, each once."""
        return {self.images.image_id(one): one for one in self.pairs.values()}

    @cached_property
    def groups(self) -> dict[str, int]:
        """The group of each image's photograph, by the image's id."""
        return buckets_by_photograph(self.images, tuple(self.photographs.values()))

    @cached_property
    def mean_real(self) -> Ablation:
        """What puts the mean over the reals in the place of feature maps; one pass over them."""
        reals = self.reals
        return ablation(self.detector, reals, "mean-real", reference=reals, **self.how)

    @cached_property
    def constants(self) -> Mapping[str, Tensor]:
        """The mean over the reals of each map: layer → (width, d)."""
        return self.mean_real.constants_of(self.detector.feature_maps) or {}

    @property
    def facts(self) -> dict[str, Any]:
        """What decides the numbers, for manifests and partial results."""
        pairs = sorted((fake, self.images.image_id(one)) for fake, one in self.pairs.items())
        return {
            "images": self.images.hash(),
            "pairs": len(pairs),
            "pairs_sha256": digest(*(word for pair in pairs for word in pair)).hex(),
            "fakes_without_photograph": len(self.images.only(label=FAKE)) - len(pairs),
        }
