"""The published training recipes of detectors with one logit, as data."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from ..detectors.vit import STEMS
from ..errors import UserError
from .settings import Settings, setting

PRECISIONS = ("float32", "bf16")
NATIVE_CROP = 224  # of images at their native size


@dataclass(frozen=True)
class OneLogitSettings(Settings):
    """One run of a recipe of a detector with one logit: real against fake."""

    batch_size: int = setting(64, "Images a step.", least=1)
    epochs: int = setting(10_000, "End after so many epochs.", least=1)
    crop_size: int = setting(
        0, f"Side of the crop; 0: 7/8 of the load size, {NATIVE_CROP} at native size.", least=0
    )
    load_size: int = setting(256, "Shorter side before the crop; 0: native size.", least=0)
    squash: bool = setting(False, "Both sides get the load size.")
    tile: bool = setting(False, "Repeat an image that is smaller than the crop.")
    blur: float = setting(0.0, "Probability of a blur.", least=0)
    jpeg: float = setting(0.0, "Probability of JPEG.", least=0)
    grey: float = setting(0.0, "Probability of greyscale.", least=0)
    published_blur: bool = setting(False, "Truncate to 8 bits after each pass of the blur.")
    plateau: bool = setting(
        True, "Divide the rate by 10 after 5 epochs without progress; end below 1e-6."
    )
    decay_epochs: int = setting(0, "Without that rule: epochs between falls of the rate; 0: none.")
    decay: float = setting(0.9, "What the rate is then multiplied by.", least=0)
    pairs: bool = setting(
        False,
        "Put real and fake of the same file name into the same batch, cropped and compressed "
        "alike, so that only the generator differs.",
    )
    balanced: bool = setting(
        False, "Draw reals and fakes equally often, with replacement; an epoch stays as long."
    )
    precision: str = setting(
        "float32", "bf16 is faster: all but the first convolution and the loss.", among=PRECISIONS
    )
    freeze: tuple[str, ...] = setting(
        (), "Modules (name prefixes) whose convolutions keep the weights they start with."
    )
    settle: int = setting(
        0,
        "At the end, measure BatchNorm's statistics anew over so many batches and write the last "
        "step instead of the best epoch.",
        least=0,
    )
    settle_crop: int = setting(0, "Side of the crops for that; 0: as in training.", least=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.balanced and self.pairs:
            raise UserError("pairs are balanced already: leave out one of the two")

    @property
    def side(self) -> int:
        """Pixels a side of a crop."""
        return self.crop_size or (self.load_size * 7 // 8 if self.load_size else NATIVE_CROP)

    @property
    def network(self) -> dict[str, Any]:
        """What the architecture's ``build`` is given."""
        return {}


@dataclass(frozen=True)
class LGradSettings(OneLogitSettings):
    """The same for LGrad."""

    stages: int = setting(4, "How many of ResNet-50's stages the network has: 1 to 4.", least=1)

    @property
    def network(self) -> dict[str, Any]:
        """What the architecture's ``build`` is given."""
        return {"stages": self.stages}


@dataclass(frozen=True)
class ViTSettings(OneLogitSettings):
    """The same for the vision transformer: AdamW, whose rate rises at first, then falls to 0."""

    width: int = setting(192, "Channels of a token, a multiple of 64.", least=64)
    depth: int = setting(5, "How many blocks the network has.", least=1)
    stem: str = setting("convolutional", "What makes tokens of pixels.", among=STEMS)
    weight_decay: float = setting(0.05, "Of AdamW, on weights of two dimensions and more.", least=0)
    warm_up: int = setting(200, "Steps in which the rate rises; half a cosine follows.", least=0)

    @property
    def network(self) -> dict[str, Any]:
        """What the architecture's ``build`` is given."""
        return {"width": self.width, "depth": self.depth, "side": self.side, "stem": self.stem}


RECIPES: dict[str, OneLogitSettings] = {
    # Wang et al. 2020, Blur+JPEG (0.5) and (0.1)
    "blur-jpg-0.5": OneLogitSettings(blur=0.5, jpeg=0.5),
    "blur-jpg-0.1": OneLogitSettings(blur=0.1, jpeg=0.1),
    # Chandrasegaran et al. 2022: Blur+JPEG (0.5) with random greyscale
    "colour-robust": OneLogitSettings(blur=0.5, jpeg=0.5, grey=0.5),
    # Tan et al. 2024
    "npr": OneLogitSettings(
        squash=True, batch_size=32, learning_rate=2e-4, plateau=False, decay_epochs=10, epochs=50
    ),
    # Tan et al. 2023, on gradient images
    "lgrad": OneLogitSettings(
        squash=True,
        batch_size=16,
        learning_rate=5e-4,
        plateau=False,
        decay_epochs=10,
        decay=0.8,
        epochs=100,
    ),
    # Tan et al. 2024, GenImage (on sdv4)
    "npr-genimage": OneLogitSettings(
        load_size=0, tile=True, batch_size=32, learning_rate=2e-4, plateau=False, epochs=1, seed=70
    ),
}
LGRAD_RECIPES = {
    name: LGradSettings(**{one.name: getattr(recipe, one.name) for one in fields(recipe)})
    for name, recipe in RECIPES.items()
}
VIT_RECIPES = {
    "blur-jpg-0.1": ViTSettings(
        blur=0.1, jpeg=0.1, plateau=False, batch_size=32, learning_rate=5e-4, epochs=50
    ),
    "blur-jpg-0.5": ViTSettings(
        blur=0.5, jpeg=0.5, plateau=False, batch_size=32, learning_rate=5e-4, epochs=50
    ),
}
