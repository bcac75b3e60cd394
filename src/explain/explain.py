"""Attribution of images by any method: what ``forensift explain`` computes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..data.batching import Batch, batches
from ..detectors.classifiers import Classifier
from ..detectors.detector import Detector
from ..errors import UserError
from ..lrp import LRP
from ..records import ImageSet, Skipped
from .cam import GradCAM, GuidedGradCAM
from .files import image_files
from .guided import Gradient, GuidedBackprop
from .target import Attribution, Target, chosen

Attribute = Callable[[Tensor, Target], Attribution]
Explained = Detector | Classifier | nn.Module
Images = ImageSet | Path | str | Sequence[Path | str] | np.ndarray | Tensor


class RelevancePropagation:
    """LRP (β = 0, see :class:`forensift.lrp.LRP`) in the form of the other methods.

    R = +1 at the target whatever its sign: every rule divides by its own output, so positive
    relevance is evidence for the decision that the logit stands for. Where 'fake' or 'real' is
    asked for and the decision is the other one, relevance is negated: positive is then evidence
    for what was asked.
    """

    def __init__(self, explained: Explained) -> None:
        self.lrp = LRP(explained)
        self.outputs = 0

    def __call__(self, batch: Tensor, target: Target = None) -> Attribution:
        """Return the pixels' relevance of each image: relevance (N, 3, H, W)."""
        start = None
        if target is not None and not isinstance(target, str):
            if not self.outputs:
                self.outputs = self.lrp.plan.forward(batch[:1])[1][0].numel()
            targets, _ = chosen(batch.new_zeros(len(batch), self.outputs), target)
            start = batch.new_zeros(len(batch), self.outputs).scatter_(1, targets[:, None], 1.0)
        found = self.lrp(batch, start, layers=())
        assert found.pixels is not None
        targets, signs = chosen(found.logits, target)
        values = found.pixels
        if isinstance(target, str):
            decided, _ = found.logits.max(dim=1)
            agrees = torch.where(decided < 0, -signs, signs)
            values = values * agrees[:, None, None, None]
        return Attribution(found.logits, targets, signs, values)


METHODS: dict[str, Callable[[Explained, str | None], Attribute]] = {
    "lrp": lambda explained, layer: RelevancePropagation(explained),
    "gradcam": lambda explained, layer: GradCAM(_network(explained), layer),
    "guided-gradcam": lambda explained, layer: GuidedGradCAM(_network(explained), layer),
    "guided-backprop": lambda explained, layer: GuidedBackprop(_network(explained)),
    "gradient": lambda explained, layer: Gradient(_network(explained)),
}


def _network(explained: Explained) -> nn.Module:
    return explained if isinstance(explained, nn.Module) else explained.network


@dataclass(frozen=True)
class Explanation:
    """Why a network gave one image its logit, as far as one method can say.

    key: the image's id in its set, or its number; path: its file, if it has one; pixels: uint8
    (3, H, W) as the network saw them; relevance: float32, raw and signed, (3, H, W), or (H, W) for
    Grad-CAM; target: the output explained, with its name and its logit; sign: −1 where minus the
    logit is explained.
    """

    key: str
    path: Path | None
    pixels: np.ndarray
    relevance: np.ndarray
    method: str
    target: int
    target_name: str
    logit: float
    sign: int = 1

    @property
    def map(self) -> np.ndarray:
        """One signed number a pixel, float32 (H, W): see :func:`pixel_map`."""
        return pixel_map(self.relevance, self.method)


def pixel_map(relevance: np.ndarray, method: str) -> np.ndarray:
    """Return one number a pixel: the sum over colours, or of absolute values for the gradient.

    relevance: (…, 3, H, W), or (…, H, W) for Grad-CAM, which is returned as it is. A plain
    gradient says how much a pixel matters and not which way, hence its absolute value.
    """
    if method == "gradcam":
        return relevance
    return (np.abs(relevance) if method == "gradient" else relevance).sum(axis=-3)


def attributor(explained: Explained, method: str, layer: str | None = None) -> Attribute:
    """Return the method, made ready for a network: call it with a batch and a target.

    explained: a detector or classifier; of a bare network LRP takes the pixels for normalised as
    ImageNet's. layer: for the Grad-CAM methods, see :class:`GradCAM`.

    Raises:
        UserError: no such method, or a network that it cannot be used on.
    """
    if method not in METHODS:
        raise UserError(f"no attribution method {method!r}; there are {', '.join(METHODS)}")
    return METHODS[method](explained, layer)


def explanations(
    detector: Detector | Classifier,
    images: Images,
    method: str = "lrp",
    *,
    target: Target = None,
    layer: str | None = None,
    batch_size: int = 8,
    seed: int = 0,
    skipped: list[Skipped] | None = None,
) -> Iterator[Explanation]:
    """Yield the explanation of every readable image, a batch at a time.

    images: an image set; files and folders (all images in them, recursively); or uint8 pixels
        (N, 3, H, W), of which nothing is resized or cropped. Files go through the detector's own
        preprocessing. Images of one size come in their order; sizes may be mixed.
    method: of ``METHODS``. target: see :func:`forensift.explain.target.chosen`; a class may
        be given by its name. layer: see :class:`GradCAM`. seed: of random presets.
    skipped: images that cannot be read are appended.

    Raises:
        UserError: see :func:`attributor`; a target that is none; no images.
    """
    missed = skipped if skipped is not None else []
    attribute = attributor(detector, method, layer)
    wanted = named_target(detector, target)
    if isinstance(images, (np.ndarray, Tensor)):
        feed: Iterator[Batch] = _given(torch.as_tensor(images), batch_size)
        known = None
    else:
        known = images if isinstance(images, ImageSet) else image_files(images)
        feed = batches(known, detector.preset, batch_size, seed=seed, skipped=missed)
    for batch in feed:
        normalised = detector.preset.normalise(batch.pixels.to(detector.device))
        # Depthwise convolutions are several times faster in this layout on the CPU.
        normalised = normalised.contiguous(memory_format=torch.channels_last)
        found = attribute(normalised, wanted)
        values = found.relevance.float().cpu().numpy()
        for place, index in enumerate(batch.indices):
            entry = None if known is None else known.entries[index]
            output, sign = int(found.targets[place]), int(found.signs[place])
            yield Explanation(
                key=str(index) if known is None or entry is None else known.image_id(entry),
                path=None if entry is None else entry.path,
                pixels=batch.pixels[place].numpy(),
                relevance=np.ascontiguousarray(values[place]),
                method=method,
                target=output,
                target_name=_target_name(detector, output, sign),
                logit=float(found.logits[place, output]),
                sign=sign,
            )


def explain(
    detector: Detector | Classifier, images: Images, method: str = "lrp", **options: object
) -> list[Explanation]:
    """Return the explanations of all readable images; arguments as for :func:`explanations`."""
    return list(explanations(detector, images, method, **options))  # type: ignore[arg-type]


def named_target(detector: Detector | Classifier, target: Target) -> Target:
    """Return a class's number for its name or digits; anything else as it is.

    Of a detector with several classes 'real' is the real one, whatever its name, and 'decision'
    the one with the largest logit.

    Raises:
        UserError: there is no class of that name.
    """
    if not isinstance(target, str):
        return target
    if target.isdecimal():
        return int(target)
    if isinstance(detector, Detector):
        return _detector_target(detector, target)
    names = [name.lower() for name in detector.class_names]
    places = [place for place, name in enumerate(names) if name == target.lower()]
    if len(places) != 1:
        word = re.compile(rf"\b{re.escape(target)}\b", re.IGNORECASE)
        near = [name for name in detector.class_names if word.search(name)]
        hint = f"; close are {', '.join(near[:5])}" if near else ""
        raise UserError(f"{detector.name}: {len(places)} classes are called {target!r}{hint}")
    return places[0]


def _detector_target(detector: Detector, target: str) -> Target:
    if not detector.classes:
        return target
    names = [name.lower() for name in detector.classes]
    if target.lower() in names:
        return names.index(target.lower())
    if target in ("real", "decision"):
        return detector.real if target == "real" else None
    raise UserError(
        f"{detector.name}: no class is called {target!r}; there are {', '.join(detector.classes)}"
    )


def _target_name(detector: Detector | Classifier, output: int, sign: int) -> str:
    if isinstance(detector, Classifier):
        return detector.class_names[output]
    if detector.classes:
        return detector.classes[output]
    return "fake" if sign > 0 else "real"


def _given(pixels: Tensor, batch_size: int) -> Iterator[Batch]:
    if pixels.dtype != torch.uint8 or pixels.dim() != 4 or pixels.shape[1] != 3:
        raise UserError(
            f"pixels must be uint8 (N, 3, H, W); got {pixels.dtype} {tuple(pixels.shape)}"
        )
    if batch_size < 1:
        raise UserError(f"batch size {batch_size}: must be 1 or more")
    for first in range(0, len(pixels), batch_size):
        part = pixels[first : first + batch_size]
        yield Batch(part, np.arange(first, first + len(part)))
