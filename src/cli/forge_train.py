"""``forensift forge-train``: train one family's generator, or a variant of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import UserError
from . import options
from .forge import photograph_paths


def forge_train(
    family: Annotated[
        str, typer.Argument(metavar="FAMILY", help="progan-like, dcgan-like, pixelshuffle-like …")
    ],
    variant: Annotated[
        str | None,
        typer.Option(
            "--variant",
            metavar="seed-N|loss-hinge|loss-l1|finetune|photos",
            help="Train the family again in another way; decides all that is not given below.",
        ),
    ] = None,
    regime: options.Regime = "matched",
    photos: Annotated[
        str | None,
        typer.Option(
            "--photos",
            metavar="DIR|train|train-interiors|train-others|validation|all",
            help="Photographs to train on; by default train.",
        ),
    ] = None,
    held_out: Annotated[
        str | None,
        typer.Option(
            "--held-out",
            metavar="DIR|validation|test",
            help="Photographs for the PSNR; by default validation, or test for a network that is "
            "trained on validation.",
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Training steps; by default 1000.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, help="Crops a step; by default 16.")
    ] = None,
    size: Annotated[int, typer.Option("--size", help="Side of a training crop.")] = 48,
    device: options.Device = "auto",
    seed: Annotated[
        int | None, typer.Option("--seed", help="Of everything that is random; by default 0.")
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option("--init", metavar="FILE", help="Weights of the family to go on from."),
    ] = None,
    encoder_only: Annotated[
        bool,
        typer.Option("--encoder-only", help="Take the encoder of --init; the decoder starts anew."),
    ] = False,
    loss: Annotated[
        str | None,
        typer.Option(
            "--loss",
            metavar="least-squares|hinge|none",
            help="Adversarial loss beside L1 and texture; by default least-squares.",
        ),
    ] = None,
    warm_up: Annotated[
        float | None,
        typer.Option(
            "--warm-up", min=0.0, max=1.0, help="Share of steps without a critic; by default 0.3."
        ),
    ] = None,
    member: Annotated[
        int,
        typer.Option(
            "--member", min=1, help="Number of this network in its family: names the file."
        ),
    ] = 1,
    bits: Annotated[int, typer.Option("--bits", help="Of the weights written: 8 or 16.")] = 8,
    save_critic: Annotated[
        bool, typer.Option("--save-critic", help="Keep the critic too, as STEM-critic.safetensors.")
    ] = False,
    out: options.Out = Path("output/forge-train"),
) -> None:
    """Train a small generator to re-synthesise photographs: L1, adversarial and texture loss.

    Example: `forensift forge-train dcgan-like --out weights/forge`

    A family may have several networks (`--member 2 --seed 1`), and some families build them
    differently; the forge lets them take turns. A variant is another matter: the family's first
    network, trained with another seed or loss, fine-tuned from the shipped weights, or trained on
    other photographs; `forensift forge --weights DIR --families FAMILY--VARIANT` uses it.

    Writes `STEM.safetensors`, where STEM is FAMILY, FAMILY-MEMBER or FAMILY--VARIANT,
    `STEM-history.csv` with the PSNR on held-out photographs, and `manifest.json`. A run that was
    interrupted goes on from its last tenth and ends the same.
    """
    from .. import forge as forging
    from ..files import write_manifest

    if bits not in (8, 16):
        raise UserError(f"--bits {bits}: choose 16 or 8")
    if variant is not None and member != 1:
        raise UserError("--variant is of a family's first network: leave --member out")
    forging.get_family(family)
    chosen = forging.get_variant(variant) if variant is not None else None
    settings = forging.ForgeTraining()
    if chosen is not None:
        settings = forging.variant_settings(family, chosen, regime)
        photos = photos or chosen.photos
        encoder = forging.get_regime(regime).encoder
        if start is None and (chosen.fine_tuned or encoder):
            start, encoder_only = forging.shipped_path(family), not chosen.fine_tuned
    given: dict[str, Any] = {
        "steps": steps, "batch_size": batch_size, "seed": seed, "loss": loss, "warm_up": warm_up,
        "side": size, "member": member,
    }  # fmt: skip
    settings = replace(settings, **{key: one for key, one in given.items() if one is not None})
    stem = family if member == 1 else f"{family}-{member}"
    if variant is not None:
        stem = forging.variant_name(family, variant)
    photos = photos or "train"
    if held_out is None:
        held_out = "test" if photos == "validation" else "validation"
    training, validation = photograph_paths(photos), photograph_paths(held_out)
    output = options.output_folder(out)
    with options.steps(f"training {stem}") as progress:
        facts = forging.train_and_save(
            stem,
            family,
            settings,
            training,
            validation,
            output,
            start=start,
            encoder_only=encoder_only,
            bits=bits,
            critic=save_critic,
            device=options.choose_device(device),
            progress=progress,
        )
    write_manifest(output, {**facts, "photographs": len(training), "psnr": float(facts["psnr"])})
    print(
        f"{stem}: PSNR {float(facts['psnr']):.1f} dB on {len(validation)} held-out photographs "
        f"after {settings.steps} steps ({facts['seconds']} s); weights in {output}"
    )
