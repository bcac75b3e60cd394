"""What a shell completes: detectors, presets, methods; nothing here waits for torch."""

from __future__ import annotations

from ..files import home

DETECTORS = ("resnet50", "efficientnet-b0", "npr", "vit", "lgrad", "dna-det", "deepfeaturex")


def detectors(incomplete: str) -> list[str]:
    """Return the names and variants of detectors that begin so."""
    shipped = {path.stem for path in (home() / "weights").glob("*.safetensors")}
    variants = [
        f"{name}:{stem.removeprefix(f'{name}-')}"
        for name in DETECTORS
        for stem in sorted(shipped)
        if stem.startswith(f"{name}-")
    ]
    return [name for name in (*DETECTORS, *variants) if name.startswith(incomplete)]


def presets(incomplete: str) -> list[str]:
    """Return the names of presets that begin so."""
    from ..data import PRESETS

    return [name for name in PRESETS if name.startswith(incomplete)]


def methods(incomplete: str) -> list[str]:
    """Return the explanation methods that begin so."""
    from ..explain.methods import METHODS

    return [name for name in METHODS if name.startswith(incomplete)]
