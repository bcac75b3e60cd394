"""``forensift forge-train``: train one family's generator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError
from . import options
from .forge import photograph_paths


def forge_train(
    family: Annotated[
        str, typer.Argument(metavar="FAMILY", help="progan-like, dcgan-like, pixelshuffle-like.")
    ],
    photos: Annotated[
        str,
        typer.Option("--photos", metavar="DIR|train|all", help="Photographs to train on."),
    ] = "train",
    held_out: Annotated[
        str,
        typer.Option("--held-out", metavar="DIR|validation", help="Photographs for the PSNR."),
    ] = "validation",
    steps: Annotated[int, typer.Option("--steps", min=1, help="Training steps.")] = 1000,
    batch_size: options.BatchSize = 16,
    size: Annotated[int, typer.Option("--size", help="Side of a training crop.")] = 48,
    device: options.Device = "auto",
    seed: options.Seed = 0,
    start: Annotated[
        Path | None,
        typer.Option("--init", metavar="FILE", help="Weights of the family to go on from."),
    ] = None,
    warm_up: Annotated[
        float,
        typer.Option("--warm-up", min=0.0, max=1.0, help="Share of the steps without a critic."),
    ] = 0.3,
    member: Annotated[
        int,
        typer.Option(
            "--member", min=1, help="Number of this network in its family: names the file."
        ),
    ] = 1,
    bits: Annotated[int, typer.Option("--bits", help="Of the weights written: 8 or 16.")] = 8,
    out: options.Out = Path("output/forge-train"),
) -> None:
    """Train a small generator to re-synthesise photographs: L1, adversarial and texture loss.

    Example: `forensift forge-train dcgan-like --out weights/forge`

    A family may have several networks (`--member 2 --seed 1`), and some families build them
    differently; the forge lets them take turns.

    Writes `FAMILY.safetensors`, `FAMILY-history.csv` with the PSNR on held-out
    photographs, and `manifest.json`.
    """
    from ..detectors import header
    from ..files import provenance, write_csv, write_manifest
    from ..forge import (
        ForgeTraining,
        get_family,
        load_generator,
        save_generator,
        train_generator,
    )

    get_family(family)
    if bits not in (8, 16):
        raise UserError(f"--bits {bits}: choose 16 or 8")
    settings = ForgeTraining(
        steps=steps, batch_size=batch_size, side=size, seed=seed, warm_up=warm_up, member=member
    )
    training, validation = photograph_paths(photos), photograph_paths(held_out)
    output = options.output_folder(out)
    with options.steps(f"training {family}") as progress:
        generator, history = train_generator(
            family,
            training,
            validation,
            settings,
            device=options.choose_device(device),
            start=load_generator(start, family) if start else None,
            progress=progress,
        )
    last = history.iloc[-1]
    facts = {"family": family, "member": str(member), "seed": str(seed), "steps": str(steps)}
    facts |= provenance(header(start) if start else {}, float(last["seconds"]))
    facts["result"] = f"PSNR {last['psnr']:.1f} dB on held-out photographs"
    stem = family if member == 1 else f"{family}-{member}"
    save_generator(output / f"{stem}.safetensors", generator, facts, bits=bits)
    write_csv(output / f"{stem}-history.csv", history)
    write_manifest(output, {**facts, "photographs": len(training), "psnr": float(last["psnr"])})
    print(
        f"{family}: PSNR {last['psnr']:.1f} dB on {len(validation)} held-out photographs after "
        f"{steps} steps ({last['seconds']:.0f} s); weights in {output}"
    )
