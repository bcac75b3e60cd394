"""One detector on the bench: what it makes of an image, with feature maps and without."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..ablation import Ablation, Prefix, ablation, first_order, load_means
from ..data import Batch
from ..detectors import Detector, load_detector, observed
from ..errors import UserError
from ..evaluation import sigmoid
from ..explain.explain import ExplainLook, Explanation
from ..explain.heat import heat
from ..fmap_ranking import (
    descending,
    fitting,
    load_ranking,
    relevance_shares,
    set_of,
    shipped_ranking,
    usual_k,
)
from ..histograms import MaximaLook, first_instances
from ..lrp import LRP, CanonisationError
from ..patches import Patch, PeakLook
from ..patches.extract import cut
from ..records import FeatureMap, ImageEntry, ImageSet, Ranking
from ..sensitivity.masks import layer_matched_random_k
from ..sweep import sweep
from .gallery import Gallery, Shot
from .turns import LATER, Turns

DRAWS = 20  # of layer-matched random masks; a band of 90 % leaves one out at either end
LISTED = 12  # maps of a list
PATCHES = 5
LOOKED = 12  # images of each generator that maps are looked at in
TOGETHER = 4  # images, after which others may have their turn
KEPT = 2  # images whose activations are kept
SCALING = "percentile-99"
_STEPS = (0, 1, 2, 3, 5, 8, 12, 18, 27, 40, 60, 80)


@dataclass
class Seen:
    """An image as the detector saw it; prefix: what its network made of it."""

    prefix: Prefix
    batch: Batch
    size: tuple[int, int]
    order: np.ndarray | None = None
    scores: np.ndarray | None = None

    @property
    def logit(self) -> float:
        """Of 'fake', of the whole network."""
        return float(self.prefix.logits[0])


@dataclass(eq=False)
class Bench:
    """A detector, its ranking if there is one, and images to look at.

    name: as the user gave it; crop: the most pixels a side of images that the preset leaves as
    large as they are, their middle; ablations: value → what stands in the place of dropped maps.
    All functions expect that nobody else computes with this detector (:class:`.turns.Turns`),
    but for those that take turns themselves.
    """

    name: str
    detector: Detector
    ranking: Ranking | None
    gallery: Gallery
    turns: Turns
    ablations: Mapping[str, Ablation]
    crop: int = 256
    _seen: OrderedDict[Shot, Seen] = field(default_factory=OrderedDict)
    _studying: Lock = field(default_factory=Lock)
    _maxima: np.ndarray | None = None

    @cached_property
    def ranked(self) -> list[FeatureMap]:
        """The ranking's maps, highest first; none where there is no ranking."""
        return self.ranking.feature_maps() if self.ranking else []

    @cached_property
    def places(self) -> dict[str, int]:
        """The place of each map in the ranking, by name; 1 is the first."""
        return {str(one): place for place, one in enumerate(self.ranked, 1)}

    @cached_property
    def maps(self) -> dict[str, int]:
        """Every feature map's name, with its place in the network."""
        return {str(one): place for place, one in enumerate(self.detector.feature_maps)}

    @cached_property
    def lrp(self) -> LRP | None:
        """LRP of the detector, None where it has no rules for the network."""
        try:
            return LRP(self.detector)
        except CanonisationError:
            return None

    @cached_property
    def methods(self) -> ExplainLook:
        """All explanation methods that apply; ``notes`` says why others do not."""
        return ExplainLook(self.detector, ["all"])

    @property
    def steps(self) -> list[int]:
        """How many of an order's first maps can be dropped, for a slider."""
        most = len(self.detector.feature_maps)
        usual, k, steps = usual_k(self.detector.name, most), 80, list(_STEPS)
        while k < most // 4:
            k = round(1.4 * k)
            steps.append(k)
        return sorted({one for one in (*steps, usual) if one <= max(usual, most // 4)})

    def parsed(self, names: Sequence[str]) -> list[FeatureMap]:
        """Return feature maps of these names.

        Raises:
            UserError: the detector has no such map.
        """
        for name in names:
            if name not in self.maps:
                raise UserError(f"{self.name} has no feature map {str(name)[:80]!r}")
        return [self.detector.feature_maps[self.maps[name]] for name in names]

    def see(self, shot: Shot) -> Seen:
        """Return an image as the detector sees it, with the network's activations.

        Raises:
            UserError: it cannot be read, or the network takes no image of its size.
        """
        if shot in self._seen:
            self._seen.move_to_end(shot)
            return self._seen[shot]
        picture = self.gallery.picture(shot)
        image = picture if self.detector.preset.side else middle(picture, self.crop)
        pixels = np.array(self.detector.preset.geometry(image, shot.image, 0))
        tensor = torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy())
        entry = self.gallery.entries.get(shot.image, ImageEntry(Path(shot.image), 0, ""))
        try:
            prefix = Prefix(self.detector, tensor)
        except (RuntimeError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            size = f"{pixels.shape[1]} × {pixels.shape[0]}"
            raise UserError(f"{self.name} cannot take an image of {size} pixels") from None
        if not np.isfinite(float(prefix.logits[0])):
            raise UserError(f"{self.name} gives a logit that is not finite for this image")
        found = Seen(prefix, Batch(tensor, (entry,), (shot.image,)), picture.size)
        self._seen[shot] = found
        while len(self._seen) > KEPT:
            self._seen.popitem(last=False)
        return found

    def logit(self, seen: Seen, dropped: Sequence[FeatureMap], value: str = "zero") -> float:
        """Return the logit without these maps, as ``forensift dropout`` has it.

        Raises:
            UserError: nothing is known for that value.
        """
        if value not in self.ablations:
            raise UserError(f"{self.name}: no value {value!r}; there are {list(self.ablations)}")
        if not dropped:
            return seen.logit
        with seen.prefix.upto(dropped):
            return float(self.ablations[value].logits(seen.batch, dropped)[0])

    def band(
        self, seen: Seen, dropped: Sequence[FeatureMap], value: str = "zero", seed: int = 0
    ) -> Iterator[float]:
        """Yield the logits without as many random maps of the same layers, a draw each."""
        for draw in range(DRAWS):
            mask = layer_matched_random_k(self.detector.feature_maps, dropped, draw, seed)
            yield self.logit(seen, mask.feature_maps, value)

    def order(self, seen: Seen) -> tuple[np.ndarray, np.ndarray]:
        """Return places of all maps, the image's strongest first, and what they are ordered by.

        That is each map's share of its layer's relevance for the decision (ω of this image alone),
        or, of a network that LRP refuses, by how much the logit is to fall without the map, to
        first order.
        """
        if seen.order is None or seen.scores is None:
            if self.lrp is None:
                _, changes = first_order(self.detector, seen.batch.pixels, None)
                seen.scores = -changes[0].numpy()
            else:
                batch = self.detector.normalised(seen.batch.pixels)
                found = self.lrp(
                    batch, pixels=False, reduce=lambda layer, one: relevance_shares(one)
                ).feature_maps
                layers = self.detector.layers.items()
                shares = [found.get(layer, torch.zeros(1, width)) for layer, width in layers]
                seen.scores = torch.cat(shares, dim=1)[0].double().numpy()
            seen.order = descending(seen.scores)
        return seen.order, seen.scores

    def first(self, seen: Seen, by: str, k: int) -> list[FeatureMap]:
        """Return the first k maps of the ranking, or, by 'image', of the image's own order.

        Raises:
            UserError: there is no such order.
        """
        if k <= 0:
            return []
        if by == "image":
            return [self.detector.feature_maps[place] for place in self.order(seen)[0][:k]]
        if by != "ranking" or not self.ranked:
            raise UserError(f"{self.name} has no ranking; its maps are ordered by image")
        return self.ranked[:k]

    def explained(self, seen: Seen, method: str) -> Explanation:
        """Return why the whole network decides as it does, by one method.

        Raises:
            UserError: the method does not apply.
        """
        look = self.methods
        if method not in look.explain:
            raise UserError(look.notes.get(method, f"no explanation method {method!r}"))
        one = copy.copy(look)
        one.explain, one.statistic = {method: look.explain[method]}, look.statistic.empty()
        rows = one.observe(seen.batch, {})
        if not one.explain:
            look.explain.pop(method)
            raise UserError(look.notes[method])
        one.statistic.update(seen.batch, rows)
        return one.statistic.found[seen.batch.ids[0], method]

    def response(self, seen: Seen, chosen: FeatureMap) -> np.ndarray:
        """Return what a map gives in this image, float (h, w), before BatchNorm."""
        with (
            seen.prefix.upto([chosen]),
            observed(self.detector.network, [chosen.layer], lambda layer, one: one) as found,
        ):
            self.detector.logits(seen.batch.pixels)
        return found[chosen.layer][0, chosen.channel].float().cpu().numpy()

    @cached_property
    def studied(self) -> ImageSet:
        """The images that maps are looked at in."""
        return first_instances(self.gallery.studied, LOOKED)

    @property
    def maxima(self) -> np.ndarray:
        """Spatial maxima of all maps in the studied images, float32 (N, RGB and grey, maps).

        Takes turns itself; images that cannot be read are left out of ``studied``.
        """
        with self._studying:
            if self._maxima is None:
                look = MaximaLook(self.detector, self.detector.feature_maps)
                for first in range(0, len(self.studied), TOGETHER):
                    with self.turns.turn(LATER):
                        sweep(self.studied[first : first + TOGETHER], [look], max_skipped=1.0)
                found = look.result(self.studied)
                self.studied, self._maxima = found.images, found.maxima
        return self._maxima

    def patches(self, chosen: FeatureMap) -> tuple[Patch, ...]:
        """Return the LRP-max patches of a map from the studied images; none where LRP refuses."""
        values = self.maxima[:, 0, self.maps[str(chosen)]]
        if self.lrp is None or not len(values):
            return ()
        best = descending(values)[:PATCHES]
        entries = tuple(self.studied.entries[place] for place in sorted(best))
        images = ImageSet(self.studied.root, entries, self.studied.layout)
        look = PeakLook(self.detector, [chosen], PATCHES)
        with self.turns.turn(LATER):
            sweep(images, [look])
            omega = self.ranking or _alone(chosen)
            return cut(self.detector, images, omega, look.statistic, lrp=self.lrp)

    def make_ready(self) -> None:
        """Build what the first questions need: LRP and the other methods."""
        with self.turns.turn(LATER):
            _ = self.lrp, self.methods


def bench(
    spec: str, gallery: Gallery, turns: Turns, ranking: Path | None = None, **load: Any
) -> Bench:
    """Load a detector and its ranking: by default the shipped one of these very weights.

    load: crop, and options of :func:`load_detector`.

    Raises:
        UserError: no such detector, or a ranking of another one.
    """
    crop = load.pop("crop", 256)
    detector = load_detector(spec, **load)
    path = ranking
    if path is None:
        try:
            path = shipped_ranking(detector.name)
            facts = load_ranking(path).facts.get("weights") or {}
            own = isinstance(facts, dict) and facts.get("sha256") == detector.weights.sha256
            path = path if own else None
        except UserError:
            path = None
    found = load_ranking(path) if path else None
    if found is not None:
        detector = fitting(found, detector)
    ablations = {"zero": Ablation(detector)}
    means = path.with_name(f"{set_of(path)}-means.parquet") if path else None
    if means is not None and means.is_file():
        reference = load_means(means, detector)
        ablations["mean-real"] = ablation(
            detector, gallery.studied, "mean-real", reference=reference
        )
    return Bench(spec, detector, found, gallery, turns, ablations, crop)


def middle(image: Image.Image, side: int) -> Image.Image:
    """Return the middle of an image, of at most side × side pixels."""
    (width, height), wide, high = image.size, min(image.width, side), min(image.height, side)
    left, top = (width - wide) // 2, (height - high) // 2
    return image.crop((left, top, left + wide, top + high))


def share(logit: float) -> float:
    """Return the probability of 'fake'."""
    return float(sigmoid(np.array(logit)))


def drawn(explanation: Explanation) -> np.ndarray:
    """Return an explanation's heat (H, W), 0 … 1."""
    return heat(explanation.map, SCALING)[0]


def lit(response: np.ndarray) -> np.ndarray:
    """Return where a map responds, 0 … 1: from its median over space to its largest value."""
    low, high = float(np.median(response)), float(response.max())
    return np.clip((response - low) / (high - low), 0, 1) if high > low else 0 * response


def _alone(chosen: FeatureMap) -> Ranking:
    from ..fmap_ranking.omega import ranking_table

    return Ranking(ranking_table([chosen], np.zeros(1)), 1)
