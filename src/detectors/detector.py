"""What a detector is: network, preprocessing, feature maps, direction of the logit, origin."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from ..data.batching import batches
from ..data.presets import Preset
from ..errors import UserError
from ..records import FeatureMap, ImageEntry, ImageSet, Skipped
from .precision import full_float32


@dataclass(frozen=True)
class WeightsOrigin:
    """Where a detector's weights came from.

    path: file name or 'initialisation'; sha256: of that file ('' if there is none);
    wrapper: how the file held them ('bare', 'model', 'module.', 'safetensors', '8-bit').
    data: folders that they were trained on, where the file's header says so.
    backbone, backbone_sha256: the same of the backbone's file; '' where there is none beside it.
    """

    path: str
    sha256: str
    wrapper: str
    data: tuple[str, ...] = ()
    backbone: str = ""
    backbone_sha256: str = ""

    def facts(self) -> dict[str, dict[str, str]]:
        """Return what a manifest says of the files: weights, and backbone where there is one."""
        found = {"weights": {"file": self.path, "sha256": self.sha256}}
        if self.backbone:
            found["backbone"] = {"file": self.backbone, "sha256": self.backbone_sha256}
        return found


@dataclass(frozen=True, repr=False)
class Detector:
    """A complete description of a detector of generated images, or of a classifier beside it.

    network: takes a normalised batch (N, 3, H, W), returns logits (N, K); in evaluation mode.
    preset: the preprocessing its scores are meant for.
    feature_maps: every output channel of every ranked convolution, and every neuron of a
    transformer's MLPs, in network order (:func:`forensift.detectors.units.find_feature_maps`).
    classes: names of the K ≥ 2 classes, in the network's order; empty where K = 1; real: which of
    them is the real one, None where none is: an ImageNet classifier, which decides nothing.
    A positive logit means fake; the score is its sigmoid; the decision is score > 0.5.
    """

    name: str
    network: nn.Module
    preset: Preset
    feature_maps: tuple[FeatureMap, ...]
    weights: WeightsOrigin
    classes: tuple[str, ...] = ()
    real: int | None = 0

    def __repr__(self) -> str:
        outputs = f"{len(self.classes)} classes" if self.classes else "1 logit"
        maps = f"{len(self.feature_maps):,} feature maps in {len(self.layers)} layers"
        origin = self.weights.path + f" {self.weights.sha256[:8]}" * bool(self.weights.sha256)
        return (
            f"<Detector {self.name}: {outputs}, {maps}, preset {self.preset.name}, "
            f"weights {origin}, on {self.device}>"
        )

    @property
    def layers(self) -> dict[str, int]:
        """The ranked layers with their number of feature maps, in network order."""
        return {feature_map.layer: feature_map.width for feature_map in self.feature_maps}

    @property
    def device(self) -> torch.device:
        """The device that the network's parameters are on."""
        return next((one.device for one in self.network.parameters()), torch.device("cpu"))

    def with_preset(self, preset: Preset) -> Detector:
        """Return the same detector with another preprocessing."""
        return replace(self, preset=preset)

    def to(self, device: torch.device | str) -> Detector:
        """Return the same detector with its network on ``device``; this one's stays where it is."""
        if torch.empty(0, device=device).device == self.device:
            return self
        return replace(self, network=copy.deepcopy(self.network).to(device))

    def batch(
        self, images: ImageSet | Path | str | Sequence[ImageEntry | Path | str], seed: int = 0
    ) -> torch.Tensor:
        """Return images as the network sees them: float32 (N, 3, H, W), on its device.

        images: an image set or part of one (``images[:8]``), or files. seed: of random presets.

        Raises:
            UserError: no images, one that cannot be read, or images of several sizes.
        """
        if not isinstance(images, ImageSet):
            given = [images] if isinstance(images, (str, Path)) else list(images)
            entries = [
                one if isinstance(one, ImageEntry) else ImageEntry(Path(one), 0, "")
                for one in given
            ]
            images = ImageSet(Path(), tuple(entries))
        if not len(images):
            raise UserError(f"{self.name}: no images are given")
        skipped: list[Skipped] = []
        found = list(batches(images, self.preset, len(images), seed=seed, skipped=skipped))
        if skipped:
            raise UserError(f"{skipped[0].path}: {skipped[0].reason}")
        sizes = [f"{one.pixels.shape[3]} × {one.pixels.shape[2]}" for one in found]
        if len(set(sizes)) > 1:
            raise UserError(
                f"{self.name}: the images have {len(set(sizes))} sizes ({', '.join(sizes[:5])} "
                f"pixels) and preset {self.preset.name} keeps them; take images of one size, or a "
                "preset that crops"
            )
        rows = {key: row for one in found for key, row in zip(one.ids, one.pixels, strict=True)}
        pixels = torch.stack([rows[images.image_id(entry)] for entry in images])
        return self.preset.normalise(pixels.to(self.device))

    @torch.no_grad()
    @full_float32()
    def __call__(
        self, images: torch.Tensor | ImageSet | Path | str | Sequence[ImageEntry | Path | str]
    ) -> torch.Tensor:
        """Return the logits of 'fake' (N,), float32, of images or of what :meth:`batch` made.

        Raises:
            UserError: see :meth:`batch`.
        """
        batch = images if isinstance(images, torch.Tensor) else self.batch(images)
        if not batch.is_floating_point():
            batch = self.normalised(batch)
        return self.decide(self.network(batch.to(self.device)).reshape(len(batch), -1)).float()

    def decide(self, outputs: torch.Tensor) -> torch.Tensor:
        """Return the logits of 'fake' (N,) for the network's outputs (N, K); differentiable.

        With several classes that is log p(any class but the real one) − log p(real), which the
        softmax's normaliser drops out of.

        Raises:
            UserError: the network gives another number of outputs than it has classes, or none of
                its classes is the real one.
        """
        if self.real is None:
            raise UserError(
                f"{self.name} is a classifier of objects, none of its classes says real or fake; "
                "it can be explained, but decides nothing"
            )
        if outputs.dim() != 2 or outputs.shape[1] != max(1, len(self.classes)):
            raise UserError(
                f"{self.name}: outputs {tuple(outputs.shape)} instead of "
                f"(N, {max(1, len(self.classes))})"
            )
        if not self.classes:
            return outputs[:, 0]
        fakes = [index for index in range(len(self.classes)) if index != self.real]
        return outputs[:, fakes].logsumexp(dim=1) - outputs[:, self.real]

    def normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return what the network is given of a uint8 batch (N, 3, H, W): float32, on its device.

        Depthwise convolutions are several times faster in this layout, channels last, on the CPU.
        """
        batch = self.preset.normalise(pixels.to(self.device))
        return batch.contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    @full_float32()
    def outputs(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the network's outputs (N, K) on the CPU of a uint8 batch (N, 3, H, W)."""
        batch = self.normalised(pixels)
        return self.network(batch).reshape(len(batch), -1).float().cpu()

    def logits(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the logits of 'fake' (N,) on the CPU of a uint8 batch (N, 3, H, W)."""
        return self.decide(self.outputs(pixels))
