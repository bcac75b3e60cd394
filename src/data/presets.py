"""Named preprocessing: what happens between a decoded image and the network, in two halves.

``geometry`` works on one Pillow image and keeps 8-bit pixels; ``normalise`` works on a batch and
gives float32. Between the two a batch is uint8, so that it is cheap to hold and exact to save.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from functools import partial

import cv2
import numpy as np
import torch
from PIL import Image

from ..errors import UserError
from ..rng import keyed

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of OpenAI's CLIP (openai/CLIP, clip/clip.py)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class RandomResizedCrop:
    """A random part of the image, resampled (bilinear, antialiased) to size × size pixels.

    scale: smallest and largest share of the image's area; ratio: of width to height.
    """

    size: int
    scale: tuple[float, float]
    ratio: tuple[float, float]


@dataclass(frozen=True)
class Preset:
    """A named preprocessing; the steps are done in the order of the fields.

    resize: the shorter side becomes this many pixels, aspect kept (bilinear, or bicubic where
    ``bicubic`` is set; antialiased).
    squash: (height, width) that the image is forced to, aspect lost.
    tile: repeat an image whose shorter side is below ``crop`` until it is not, top left first.
    random_resized_crop: a crop drawn from (seed, key) alone.
    crop: centre crop to crop × crop pixels, zero-padded where the image is smaller.
    mean, std: normalisation per channel of values in 0 … 1.
    """

    name: str
    resize: int | None = None
    squash: tuple[int, int] | None = None
    tile: bool = False
    random_resized_crop: RandomResizedCrop | None = None
    crop: int | None = None
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    bicubic: bool = False

    @property
    def side(self) -> int | None:
        """How many pixels wide and high every image becomes; None where it is not one number."""
        if self.crop is not None:
            return self.crop
        if self.random_resized_crop is not None:
            return self.random_resized_crop.size
        square = self.squash is not None and self.squash[0] == self.squash[1]
        return self.squash[0] if self.squash is not None and square else None

    @property
    def random(self) -> bool:
        """Whether ``geometry`` depends on ``key`` and ``seed``."""
        return self.random_resized_crop is not None

    def shape_key(self, key: str = "", seed: int = 0) -> tuple[object, ...]:
        """Return all that decides what ``geometry`` makes of an image."""
        steps: tuple[object, ...]
        steps = (self.resize, self.squash, self.tile, self.random_resized_crop, self.crop)
        steps += ("bicubic",) if self.bicubic else ()
        return (*steps, key, seed) if self.random else steps

    def geometry(self, image: Image.Image, key: str = "", seed: int = 0) -> Image.Image:
        """Return the RGB image resized and cropped; ``key`` names the image in the set.

        What is random depends on (seed, key) only, never on the batch, the order or the worker.
        """
        if self.resize is not None:
            how = Image.Resampling.BICUBIC if self.bicubic else Image.Resampling.BILINEAR
            image = _resize_shorter(image, self.resize, how)
        if self.squash is not None:
            height, width = self.squash
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        if self.tile and self.crop is not None and min(image.size) < self.crop:
            image = tiled(image, self.crop)
        if self.random_resized_crop is not None:
            image = _random_resized_crop(image, self.random_resized_crop, keyed(seed, key))
        if self.crop is not None:
            image = centre_crop(image, self.crop)
        return image

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return uint8 pixels (N, 3, H, W) as float32, (pixels / 255 − mean) / std."""
        mean = torch.tensor(self.mean, device=pixels.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(1, 3, 1, 1)
        return (pixels.to(torch.float32) / 255 - mean) / std


@dataclass(frozen=True)
class SquarePreset(Preset):
    """DNA-Det's: what is not square is cropped to 128 × 128, then resized (bicubic) step by step.

    sides: of the square after each step, in pixels.
    """

    sides: tuple[int, ...] = (512,)
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def shape_key(self, key: str = "", seed: int = 0) -> tuple[object, ...]:
        """Return all that decides what ``geometry`` makes of an image."""
        return ("square", *self.sides)

    @property
    def side(self) -> int:
        """How many pixels wide and high every image becomes."""
        return self.sides[-1]

    def geometry(self, image: Image.Image, key: str = "", seed: int = 0) -> Image.Image:
        """Return the RGB image as a square of the last side; nothing is random."""
        if image.width != image.height:
            image = centre_crop(image, 128)
        for side in self.sides:
            image = image.resize((side, side), Image.Resampling.BICUBIC)
        return image


@dataclass(frozen=True)
class PlainSquashPreset(Preset):
    """``squash`` as OpenCV does it: bilinear between four pixels, so that shrinking aliases."""

    def shape_key(self, key: str = "", seed: int = 0) -> tuple[object, ...]:
        """Return all that decides what ``geometry`` makes of an image."""
        return ("plain", *super().shape_key(key, seed))

    def geometry(self, image: Image.Image, key: str = "", seed: int = 0) -> Image.Image:
        """Return the RGB image forced to the size of ``squash``."""
        assert self.squash is not None
        height, width = self.squash
        pixels = cv2.resize(np.asarray(image), (width, height), interpolation=cv2.INTER_LINEAR)
        return Image.fromarray(pixels)


_clip = partial(Preset, mean=CLIP_MEAN, std=CLIP_STD)

PRESETS = {
    preset.name: preset
    for preset in (
        Preset("wang-nocrop"),  # CNNDetection --no_crop, and the T-FF evaluations
        Preset("wang-crop224", crop=224),  # CNNDetection's default
        Preset("npr-native"),  # an odd last row or column is dropped in the network
        # NPR's test suites (§3.3); it prints no rule for diffusion1kstep, which is as its others.
        Preset("npr-forensynths", squash=(256, 256)),
        Preset("npr-gangen"),
        Preset("npr-diffusionforensics", squash=(256, 256)),
        Preset("npr-universalfakedetect", squash=(256, 256)),
        Preset("npr-diffusion1kstep", squash=(256, 256)),
        Preset("npr-aigcdetect"),
        Preset("npr-genimage", tile=True, crop=224),
        Preset(
            "tff-ffrs",  # T-FF's FF-RS data: resamples a little, at random
            random_resized_crop=RandomResizedCrop(224, (0.99, 1.0), (0.99, 1.0)),
        ),
        Preset("imagenet", resize=256, crop=224),
        Preset("deepfeaturex", squash=(256, 256)),
        Preset("deepfeaturex-vit", squash=(256, 256), crop=224),
        Preset("deepfeaturex-native"),  # squashing small images resamples the traces
        Preset("vit", crop=96),  # our own transformer's: native pixels of the centre
        SquarePreset("dna-det"),
        SquarePreset("dna-det-in-the-wild", sides=(128, 512)),
        # UniversalFakeDetect's validate.py and RINE's src/utils.py: no resize.
        _clip("clip-crop224", crop=224),
        _clip("clip-crop336", crop=336),  # DDA's Inference/inference.py; CLIP's numbers
        _clip("clip-resize224", resize=224, crop=224),  # C2P-CLIP's data.py
        # ClipBased-SyntheticImageDetection's main.py, patch_size Clip224.
        _clip("clip-bicubic224", resize=224, bicubic=True, crop=224),
        # Effort's DeepfakeBench/training/demo.py: cv2.resize.
        PlainSquashPreset("clip-squash224", squash=(224, 224), mean=CLIP_MEAN, std=CLIP_STD),
        # Community-Forensics' models.py; its 224 is as imagenet.
        Preset("commfor-384", resize=440, crop=384),
    )
}

_SIZED = re.compile(r"(tff-ffrs|vit|dna-det|dna-det-in-the-wild)-(\d+)")
_SMALLEST = {"tff-ffrs": 8, "vit": 8, "dna-det": 16, "dna-det-in-the-wild": 16}


def get_preset(name: str) -> Preset:
    """Return the preset of that name; ``tff-ffrs-96`` is ``tff-ffrs`` at 96 × 96 pixels.

    Likewise ``dna-det-256`` and ``dna-det-in-the-wild-256``.

    Raises:
        UserError: no such preset, or a size that is too small for it.
    """
    if name in PRESETS:
        return PRESETS[name]
    sized = _SIZED.fullmatch(name)
    if sized and (side := int(sized[2])) >= _SMALLEST[sized[1]]:
        published = PRESETS[sized[1]]
        if isinstance(published, SquarePreset):
            return replace(published, name=name, sides=(*published.sides[:-1], side))
        if published.crop is not None:
            return replace(published, name=name, crop=side)
        assert published.random_resized_crop is not None
        crop = replace(published.random_resized_crop, size=side)
        return replace(published, name=name, random_resized_crop=crop)
    sizes = ", ".join(f"{kind}-SIZE (SIZE ≥ {least} pixels)" for kind, least in _SMALLEST.items())
    raise UserError(f"no preset {name!r}; there are {', '.join(PRESETS)} and {sizes}")


def centre_crop(image: Image.Image, size: int) -> Image.Image:
    """Return the centre size × size pixels; black is added around where the image is smaller."""
    width, height = image.size
    if width < size or height < size:
        padded = Image.new(image.mode, (max(width, size), max(height, size)))
        padded.paste(image, (max(size - width, 0) // 2, max(size - height, 0) // 2))
        image, (width, height) = padded, padded.size
    # Python rounds halves to even here, as torchvision's centre crop does.
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def _resize_shorter(image: Image.Image, size: int, how: Image.Resampling) -> Image.Image:
    width, height = image.size
    shorter = min(width, height)
    target = (size * width // shorter, size * height // shorter)
    return image if target == image.size else image.resize(target, how)


def tiled(image: Image.Image, size: int) -> Image.Image:
    """Return the image repeated from its top left until no side is below ``size`` pixels."""
    width, height = image.size
    across, down = math.ceil(size / width), math.ceil(size / height)
    whole = Image.new(image.mode, (width * across, height * down))
    for row in range(down):
        for column in range(across):
            whole.paste(image, (column * width, row * height))
    return whole


def _random_resized_crop(
    image: Image.Image, crop: RandomResizedCrop, rng: np.random.Generator
) -> Image.Image:
    """Draw area and log aspect ratio uniformly, up to ten times until the part fits."""
    width, height = image.size
    part = None
    for _ in range(10):
        area = width * height * rng.uniform(*crop.scale)
        ratio = math.exp(rng.uniform(math.log(crop.ratio[0]), math.log(crop.ratio[1])))
        wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < high <= height:
            left = int(rng.integers(0, width - wide + 1))
            top = int(rng.integers(0, height - high + 1))
            part = (left, top, left + wide, top + high)
            break
    if part is None:  # an aspect ratio outside the allowed ones: the largest central part
        wide = min(width, round(height * crop.ratio[1]))
        high = min(height, round(width / crop.ratio[0]))
        left, top = (width - wide) // 2, (height - high) // 2
        part = (left, top, left + wide, top + high)
    # Cropping first keeps pixels outside the part from bleeding in, as torchvision does.
    return image.crop(part).resize((crop.size, crop.size), Image.Resampling.BILINEAR)
