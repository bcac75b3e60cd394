"""What a shell completes: detectors, presets, methods; nothing here waits for torch."""

from __future__ import annotations

from ..files import home

DETECTORS = (
    "resnet50", "efficientnet-b0", "npr", "vit", "lgrad", "dna-det", "deepfeaturex",
    "univfd", "rine", "clip-based", "c2p-clip", "effort", "drct", "dda", "commfor", "corvi",
)  # fmt: skip


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


def composites(incomplete: str) -> list[str]:
    """Return the composites of LRP rules that begin so."""
    from ..lrp.composites import COMPOSITES

    return [name for name in COMPOSITES if name.startswith(incomplete)]


METHODS = (
    "all", "lrp", "gradcam", "guided-gradcam", "guided-backprop", "gradient", "saliency",
    "input-x-gradient", "integrated-gradients", "smoothgrad", "gradient-shap", "deeplift",
    "occlusion", "kernel-shap", "gradcam++", "xgradcam", "hirescam", "layercam", "eigencam",
    "ablationcam", "scorecam", "fullgrad",
)  # fmt: skip


def methods(incomplete: str) -> list[str]:
    """Return the explanation methods that begin so, the last of several with commas between."""
    before, comma, last = incomplete.rpartition(",")
    return [before + comma + name for name in METHODS if name.startswith(last)]
