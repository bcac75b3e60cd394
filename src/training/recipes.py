"""The published training recipes as data."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UserError


@dataclass(frozen=True)
class Recipe:
    """How a detector is trained; the fields are the published values.

    load_size: shorter side (or both sides if ``squash``) before augmentation, in pixels;
    crop_size: side of the random crop; tile: repeat an image that is smaller than the crop;
    blur, jpeg, grey: probabilities of blur, JPEG and greyscale; batch_size: images a step;
    learning_rate: of Adam(0.9, 0.999) without decay; plateau: Wang et al.'s rule, that divides
    the rate by 10 after 5 epochs without progress and ends below 1e-6; decay: (epochs, factor),
    the rate's fixed schedule where there is no plateau rule; epochs: the cap; seed: the default.
    """

    name: str
    follows: str
    load_size: int = 256
    crop_size: int = 224
    squash: bool = False
    blur: float = 0.0
    jpeg: float = 0.0
    grey: float = 0.0
    batch_size: int = 64
    learning_rate: float = 1e-4
    plateau: bool = True
    decay: tuple[int, float] | None = None
    epochs: int = 10_000
    tile: bool = False
    seed: int = 0


_WANG = "Wang et al. 2020, Blur+JPEG"

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("blur-jpg-0.5", f"{_WANG} (0.5)", blur=0.5, jpeg=0.5),
        Recipe("blur-jpg-0.1", f"{_WANG} (0.1)", blur=0.1, jpeg=0.1),
        Recipe(
            "colour-robust",
            "Chandrasegaran et al. 2022, Blur+JPEG (0.5) with random greyscale",
            blur=0.5,
            jpeg=0.5,
            grey=0.5,
        ),
        Recipe(
            "npr",
            "Tan et al. 2024",
            squash=True,
            batch_size=32,
            learning_rate=2e-4,
            plateau=False,
            decay=(10, 0.9),
            epochs=50,
        ),
        Recipe(
            "lgrad",
            "Tan et al. 2023, on gradient images",
            squash=True,
            batch_size=16,
            learning_rate=5e-4,
            plateau=False,
            decay=(10, 0.8),
            epochs=100,
        ),
        Recipe(
            "npr-genimage",
            "Tan et al. 2024, GenImage (on sdv4)",
            load_size=0,
            tile=True,
            batch_size=32,
            learning_rate=2e-4,
            plateau=False,
            epochs=1,
            seed=70,
        ),
    )
}


def get_recipe(name: str) -> Recipe:
    """Return the recipe of that name.

    Raises:
        UserError: there is none; the message lists those there are.
    """
    if name not in RECIPES:
        raise UserError(f"no recipe is called {name!r}; there are {list(RECIPES)}")
    return RECIPES[name]
