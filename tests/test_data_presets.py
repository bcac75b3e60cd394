from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import functional

from forensift.data import PRESETS, get_preset
from forensift.data.presets import centre_crop
from forensift.errors import UserError


def noise(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(width * 1000 + height)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


SIZES = [(300, 400), (401, 299), (224, 224), (225, 230), (100, 301), (37, 53), (256, 20)]


@pytest.mark.parametrize("size", SIZES)
def test_geometry_equals_torchvisions(size: tuple[int, int]) -> None:
    image = noise(*size)
    equals = {
        "wang-nocrop": transforms.Compose([]),
        "wang-crop224": transforms.CenterCrop(224),
        "npr-forensynths": transforms.Resize((256, 256)),
        "imagenet": transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)]),
    }
    for name, theirs in equals.items():
        ours = np.asarray(get_preset(name).geometry(image))
        assert np.array_equal(ours, np.asarray(theirs(image))), name


@pytest.mark.parametrize("size", SIZES)
def test_centre_crop_of_odd_sizes_equals_torchvisions(size: tuple[int, int]) -> None:
    for crop in (31, 32, 223):
        theirs = functional.center_crop(noise(*size), [crop, crop])
        assert np.array_equal(np.asarray(centre_crop(noise(*size), crop)), np.asarray(theirs))


def test_tiling_repeats_from_the_top_left() -> None:
    image = noise(100, 60)
    tiled = np.asarray(get_preset("npr-genimage").geometry(image))
    whole = np.tile(np.asarray(image), (4, 3, 1))  # 240 × 300: ⌈224 / 60⌉ and ⌈224 / 100⌉
    assert np.array_equal(tiled, whole[8:232, 38:262])
    assert get_preset("npr-genimage").geometry(noise(300, 224)).size == (224, 224)


def test_normalisation_equals_torchvisions() -> None:
    batch = torch.arange(2 * 3 * 4 * 5, dtype=torch.uint8).reshape(2, 3, 4, 5)
    preset = get_preset("imagenet")
    theirs = functional.normalize(batch / 255, list(preset.mean), list(preset.std))
    ours = preset.normalise(batch)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_random_crops_are_keyed_by_image_and_seed() -> None:
    preset = get_preset("tff-ffrs")
    image = noise(300, 300)

    def crop(key: str, seed: int) -> np.ndarray:
        return np.asarray(preset.geometry(image, key, seed))

    assert crop("a", 0).shape == (224, 224, 3)
    assert np.array_equal(crop("a", 0), crop("a", 0))
    # Few parts of an image are that large, so that two keys often give the same one.
    assert len({crop(key, 0).tobytes() for key in "abcdefghij"}) > 2
    assert len({crop("a", seed).tobytes() for seed in range(10)}) > 2
    assert preset.random
    assert [name for name, one in PRESETS.items() if one.random] == ["tff-ffrs"]


def test_random_crop_of_a_whole_image_is_torchvisions_resize() -> None:
    """An aspect ratio that never fits: both take the largest central part."""
    image = noise(400, 100)
    theirs = transforms.RandomResizedCrop(64, (1.0, 1.0), (0.99, 1.0))
    ours = get_preset("tff-ffrs-64").geometry(image)
    assert np.array_equal(np.asarray(ours), np.asarray(theirs(image)))


def test_random_crop_takes_nearly_everything() -> None:
    """A horizontal ramp shows which part was taken: at least 98 % of the width, moved about."""
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, :, None], (256, 256, 3))
    image = Image.fromarray(np.ascontiguousarray(ramp))
    preset = get_preset("tff-ffrs-256")
    rows = np.array([np.asarray(preset.geometry(image, str(n)))[0, :, 0] for n in range(60)])
    left, right = rows[:, 0].astype(int), 255 - rows[:, -1].astype(int)
    assert (left + right).max() <= 5
    assert left.max() > 0
    assert right.max() > 0


def test_names() -> None:
    assert all(name == preset.name for name, preset in PRESETS.items())
    sized = get_preset("tff-ffrs-96")
    assert sized.name == "tff-ffrs-96"
    assert sized.geometry(noise(128, 128), "a").size == (96, 96)
    for wrong in ("clip224", "tff-ffrs-", "tff-ffrs-4", ""):
        with pytest.raises(UserError, match=r"there are wang-nocrop, .*tff-ffrs-SIZE"):
            get_preset(wrong)
