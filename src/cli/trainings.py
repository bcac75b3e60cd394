"""What ``forensift train`` runs: one training each, and what is written and said at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from . import options

if TYPE_CHECKING:
    from ..records import ImageSet


def train_one_logit(
    detector: str,
    recipe: str,
    sets: Sequence[ImageSet],
    given: Mapping[str, Any],
    output: Path,
    *,
    seed: int | None,
    preset: str | None,
    settle: int,
    settle_crop: int,
    bits: int,
    difference: Path | None,
    device: str,
) -> None:
    """Train a detector with one logit and write its weights, settled where asked."""
    import dataclasses

    from ..detectors import header, read_checkpoint, save_weights
    from ..files import provenance, sha256, write_manifest
    from ..training import Settings, get_recipe, settled, train

    chosen = get_recipe(recipe)
    seed = chosen.seed if seed is None else seed
    settings = Settings(recipe=chosen, seed=seed, **given)
    training, validation = sets
    with options.steps(f"training {detector}") as progress:
        history = train(
            detector, training, validation, settings, output, device=device, progress=progress
        )
    weights = output / f"{detector}.safetensors"
    if settle:
        what = f"last step, norms settled over {settle} batches"
        state, best = settled(
            detector,
            output / "checkpoint.pth",
            training,
            validation,
            settings,
            settle,
            crop_size=settle_crop,
            device=device,
        )
    else:
        rows = history.to_dict("records")
        row = max(rows, key=lambda one: (one["accuracy"], one["clean_ap"], one["epoch"]))
        what = f"best epoch {int(row['epoch'])} of {len(history)}"
        state, best = read_checkpoint(weights)[0], row
    result = (
        f"validation accuracy {best['accuracy']:.3f} with blur and JPEG, "
        f"{best['clean_accuracy']:.3f} without, AP {best['clean_ap']:.3f}"
    )
    seconds = float(history["seconds"].iloc[-1])
    before = header(Path(settings.start)) if Path(settings.start).is_file() else {}
    told = provenance(before, seconds) | {"seed": str(seed), "result": result}
    told |= {"preset": preset} if preset else {}
    save_weights(weights, state, header(weights) | told, bits=bits, base=difference)
    facts = {
        "detector": detector,
        "settings": dataclasses.asdict(settings),
        "images": [len(images) for images in sets],
        "image_set_sha256": [images.hash() for images in sets],
        "weights_sha256": sha256(weights),
        "seconds": seconds,
    }
    write_manifest(output, facts)
    print(f"{detector}: {what}: {result}; {weights}")


def train_classes(
    detector: str,
    recipe: str,
    sets: Sequence[ImageSet],
    given: Mapping[str, Any],
    pairs: Sequence[str],
    output: Path,
    *,
    guidance: Path | None,
    plain: bool,
    bits: int,
    workers: int,
    device: str,
) -> None:
    """Train a detector of several classes and write its weights into ``output``."""
    import dataclasses

    from ..detectors import header, read_checkpoint, save_weights
    from ..files import provenance, sha256, write_manifest
    from ..training.classes import train_classes as run

    if guidance is not None and not guidance.is_file():
        raise UserError(f"--guidance {guidance}: no such file")
    with options.steps(f"training {detector}") as progress:
        trained = run(
            detector,
            recipe,
            sets[0],
            sets[1] if len(sets) > 1 else None,
            output,
            given=given,
            pairs=pairs,
            guidance=guidance,
            plain=plain,
            device=device,
            workers=workers,
            progress=progress,
        )
    measures = [key for key in trained.best if "accuracy" in key or key == "macro_f1"]
    result = "validation " + ", ".join(
        f"{key.replace('_', ' ')} {trained.best[key]:.3f}" for key in measures
    )
    start = Path(trained.settings.start)
    before = header(start) if start.is_file() else {}
    told = provenance(before, trained.seconds)
    told |= {"seed": str(trained.settings.seed), "result": result}
    weights = output / trained.weights.name
    state, facts = read_checkpoint(trained.weights)[0], header(trained.weights)
    save_weights(weights, state, facts | told, bits=bits)
    manifest = {
        "detector": detector,
        "recipe": recipe,
        "settings": dataclasses.asdict(trained.settings),
        "images": [len(images) for images in sets],
        "image_set_sha256": [images.hash() for images in sets],
        "weights_sha256": sha256(weights),
        "seconds": trained.seconds,
    }
    write_manifest(output, manifest)
    epoch = int(trained.best["epoch"])
    print(f"{detector}: best epoch {epoch}: {result}; {weights}")
