"""What stands in the place of feature maps that are taken away: its kind, and its numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Unpack, get_args

import numpy as np
import torch
from torch import Tensor

from ..data import Batch
from ..detectors import Detector
from ..errors import UserError
from ..records import FAKE, REAL, FeatureMap, ImageEntry, ImageSet
from ..rng import keyed
from ..sweep import How, first_alike
from .means import Means, means
from .optimal import learnt
from .pairs import Pairs, pairs_of, pixels_of
from .put import put
from .sites import SITES, Site, chains

Value = Literal["zero", "mean", "mean-real", "resample", "paired", "optimal"]
VALUES: tuple[Value, ...] = get_args(Value)


@dataclass(eq=False)
class Ablation:
    """Runs a detector with something else in the place of chosen feature maps.

    value, site: see :func:`ablation`. constants: layer → (width, d), None for zero and for values
    that are taken from another image. partners: image id → the image whose maps are put there.
    """

    detector: Detector
    value: Value = "zero"
    site: Site = "conv"
    images: ImageSet | None = None
    constants: Mapping[str, Tensor] | None = None
    partners: Mapping[str, ImageEntry] = field(default_factory=dict)
    learn_on: ImageSet | None = None
    scale: Mapping[str, Tensor] | None = None
    how: How = field(default_factory=lambda: How())
    facts: Mapping[str, Any] = field(default_factory=dict)
    _learnt: dict[frozenset[FeatureMap], Mapping[str, Tensor]] = field(default_factory=dict)

    def constants_of(self, feature_maps: Iterable[FeatureMap]) -> Mapping[str, Tensor] | None:
        """Return the constants for these maps; those of 'optimal' are learnt for each set once."""
        chosen = frozenset(feature_maps)
        if self.value != "optimal" or not chosen:
            return self.constants
        if chosen not in self._learnt:
            assert self.learn_on is not None
            assert self.constants is not None
            assert self.scale is not None
            self._learnt[chosen] = learnt(
                self.detector, self.learn_on, sorted(chosen), self.constants, self.scale, self.how
            )
        return self._learnt[chosen]

    def digest(self) -> str:
        """Return a SHA-256 over constants and partners: what the facts do not say in numbers."""
        found = hashlib.sha256()
        for layer, constant in (self.constants or {}).items():
            found.update(f"{layer}\t".encode() + constant.double().cpu().numpy().tobytes())
        for key, partner in self.partners.items():
            found.update(f"{key}\t{partner.path}\n".encode())
        return found.hexdigest()

    def logits(self, batch: Batch, feature_maps: Iterable[FeatureMap]) -> np.ndarray:
        """Return the logits of 'fake' (N,), float64, of a batch without these feature maps."""
        chosen, network = list(feature_maps), self.detector.network
        if not chosen or self.value not in ("paired", "resample"):
            with put(network, chosen, self.constants_of(chosen) if chosen else None):
                return self.detector.logits(batch.pixels).double().numpy()
        assert self.images is not None
        has = [row for row, one in enumerate(batch.ids) if one in self.partners]
        found = self.detector.logits(batch.pixels).double().numpy() if len(has) < len(batch) else (
            np.empty(len(batch))
        )  # fmt: skip
        if has:
            entries = [self.partners[batch.ids[row]] for row in has]
            others = pixels_of(self.detector, self.images, entries, self.how.get("seed", 0))
            own = batch.pixels[has]
            if others.shape != own.shape:
                raise UserError(
                    f"{entries[0].path}: {tuple(others.shape[2:])} pixels, and the image whose "
                    f"maps it stands for {tuple(own.shape[2:])}; take a preset that crops"
                )
            with put(network, chosen, from_first_half=True):
                both = self.detector.logits(torch.cat([others, own]))
            found[has] = both[len(has) :].double().numpy()
        return found


def ablation(
    detector: Detector,
    images: ImageSet,
    value: Value = "zero",
    *,
    site: Site = "conv",
    reference: ImageSet | Means | None = None,
    pairs: Pairs | None = None,
    **how: Unpack[How],
) -> Ablation:
    """Return what stands in the place of feature maps of ``detector`` while it sees ``images``.

    value: 'zero' (published); 'mean', over the reference's images and over space; 'mean-real', over
        its reals; 'resample', the map of another real of the reference, drawn by the image's id;
        'paired', in a fake the map of its own photograph (activation patching); 'optimal', the
        constants under which the detector's logits on the reference stay nearest to what they are
        (Li and Janson 2024), learnt for each set of maps.
    site: where: 'conv', the output of the convolution (published); 'bn', behind its BatchNorm;
        'activation', behind the activation that follows by itself. It decides what zero and mean
        are; where a map is taken from another image all sites are one.
    reference: images that means and constants are taken from, ``images`` themselves by default; or
        means read from a file. pairs: fake's id → its photograph; by file names by default.

    Raises:
        UserError: an unknown value or site, no pairs, or a reference without what is needed.
    """
    if value not in VALUES or site not in SITES:
        raise UserError(
            f"value {value!r} at site {site!r}: choose of {', '.join(VALUES)} at {', '.join(SITES)}"
        )
    facts: dict[str, Any] = {"value": value, "site": site}
    if value == "paired":
        found = pairs_of(images) if pairs is None else pairs
        if not found:
            raise UserError(
                f"{images.root}: no fake has its photograph beside it: a real of the same "
                "generator with the same file name; give a table of pairs (fake,photograph)"
            )
        fakes = sum(entry.label == FAKE for entry in images)
        facts |= {"pairs": len(found), "fakes_without_photograph": fakes - len(found)}
        return Ablation(detector, value, site, images, partners=found, how=how, facts=facts)
    if value == "resample":
        others = reference if isinstance(reference, ImageSet) else images
        partners = _drawn(images, others, how.get("seed", 0))
        facts |= {"reference": others.hash(), "reference_is": _whose(reference)}
        return Ablation(detector, value, site, images, partners=partners, how=how, facts=facts)
    links = _chains(detector, images, site) if site != "conv" else {}
    if value == "zero":
        zeros = {one: torch.zeros(link.shift.shape) for one, link in links.items()}
        constants = {
            one: link.before(zeros[one], site, zeros[one])[:, None] for one, link in links.items()
        }
        return Ablation(detector, value, site, images, constants or None, how=how, facts=facts)
    if value == "optimal" and isinstance(reference, Means):
        raise UserError("value optimal is learnt on images: give a set as the reference")
    if reference is None or isinstance(reference, ImageSet):
        reference_set = images if reference is None else reference
        facts["reference_is"] = _whose(reference)
        reference = means(detector, reference_set, links if site == "activation" else None, **how)
    facts |= dict(reference.facts)
    kinds = ("real",) if value == "mean-real" else ("real", "fake")
    constants = _before(reference, links, site, kinds)
    if value != "optimal":
        return Ablation(detector, value, site, images, constants, how=how, facts=facts)
    scale = reference.by_layer(reference.deviation)
    return Ablation(
        detector, value, site, images, constants, learn_on=reference_set, scale=scale, how=how,
        facts=facts,
    )  # fmt: skip


def _whose(reference: ImageSet | Means | None) -> str:
    return "other images" if isinstance(reference, ImageSet) else "the images themselves"


def _before(
    reference: Means, links: Mapping[str, Any], site: Site, kinds: tuple[str, ...]
) -> dict[str, Tensor]:
    """Return the constants at the convolution that give the reference's means at the site."""
    plain = reference.by_layer(reference.numbers("conv", kinds))
    if site != "activation":  # BatchNorm takes a mean to the mean
        return plain
    behind = reference.by_layer(reference.numbers("activation", kinds))
    return {
        layer: links[layer].before(behind[layer][:, 0], site, own[:, 0])[:, None]
        if layer in links
        else own
        for layer, own in plain.items()
    }


def _chains(detector: Detector, images: ImageSet, site: Site) -> Mapping[str, Any]:
    first = detector.normalised(pixels_of(detector, images, images.entries[:1]))
    found = chains(detector.network, detector.layers, first)
    if not found:
        raise UserError(
            f"{detector.name}: no convolution is followed by a BatchNorm of its own, so there is "
            f"no site {site!r}; use site conv"
        )
    return found


def _drawn(images: ImageSet, others: ImageSet, seed: int) -> dict[str, ImageEntry]:
    """Return for each image a real of ``others`` of other bytes, keyed by the first of its own."""
    reals: Sequence[ImageEntry] = others.only(label=REAL).entries
    same_as = first_alike(ImageSet(images.root, (*images.entries, *reals)))
    pool: dict[int, ImageEntry] = {}
    for first, entry in zip(same_as[len(images) :], reals, strict=True):
        pool.setdefault(int(first), entry)
    if len(pool) < 2:
        raise UserError(f"{others.root}: value resample needs two reals or more")
    found, places = {}, list(pool)
    for entry, own in zip(images, same_as[: len(images)], strict=True):
        rng = keyed("resample", seed, images.image_id(images.entries[own]))
        first, second = (places[int(at)] for at in rng.permutation(len(places))[:2])
        found[images.image_id(entry)] = pool[second if first == own else first]
    return found
