"""Fixtures that several test files share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import forensift  # noqa: F401  # its guard must be in place before any test imports torchvision

from .browser import Browser, started


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep gradient images out of the user's cache."""
    monkeypatch.setenv("FORENSIFT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def write_image(path: Path, size: tuple[int, int] = (16, 16), seed: int = 0) -> Path:
    """Write an RGB image of noise, (width, height), in the format of the path's extension."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


@pytest.fixture
def image_folder(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes <generator>/{0_real,1_fake}/<n>.png and gives the folder."""

    def make(
        generators: tuple[str, ...] = ("one", "two"), n: int = 3, size: tuple[int, int] = (16, 16)
    ) -> Path:
        root = tmp_path / "set"
        for at, generator in enumerate(generators):
            for label, kind in enumerate(("0_real", "1_fake")):
                for number in range(n):
                    seed = 100 * at + 10 * label + number
                    write_image(root / generator / kind / f"{number}.png", size, seed)
        return root

    return make


@pytest.fixture(scope="module")  # Playwright holds an event loop as long as it runs
def browser() -> Iterator[Browser]:
    with started() as browser:
        yield browser


@pytest.fixture
def few_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the methods of many passes make a few."""
    attribution = import_module("forensift.explain.attribution")
    few = {"STEPS": 4, "DRAWS": 2, "WINDOWS": 2, "SUPERPIXELS": 6, "COALITIONS": 12}
    for name, value in few.items():
        monkeypatch.setattr(attribution, name, value)
    for name, value in {"CHANNELS": 3, "ABLATED": 8}.items():
        monkeypatch.setattr(import_module("forensift.explain.cam_family"), name, value)
