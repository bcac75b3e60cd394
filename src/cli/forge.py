"""``forensift forge``: photographs → a ForenSynths-style set of pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import UserError
from . import options

EMBEDDED = ("train", "train-interiors", "train-others", "validation", "test", "all")


def forge(
    photos: Annotated[
        str,
        typer.Option(
            "--photos",
            metavar="DIR|train|validation|test|all",
            help="A folder of photographs, or a split of those that forensift carries "
            "(train-interiors and train-others are the parts of train).",
        ),
    ] = "test",
    families: Annotated[
        str,
        typer.Option(
            "--families",
            metavar="A,B",
            help="Generators; `all` is every one. A variant in --weights is FAMILY--VARIANT.",
        ),
    ] = "all",
    per_family: Annotated[
        int, typer.Option("--per-family", min=1, help="Pairs of real and fake for each family.")
    ] = 100,
    size: Annotated[int, typer.Option("--size", help="Side of an image; a multiple of 4.")] = 128,
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights", metavar="DIR", help="Folder of FAMILY.safetensors from `forge-train`."
        ),
    ] = None,
    members: Annotated[
        int | None,
        typer.Option("--members", min=1, help="Most networks of a family that take turns."),
    ] = None,
    vary: Annotated[
        float,
        typer.Option(
            "--vary",
            min=0.0,
            max=1.0,
            help="Make each fake with its own random variation of the network, up to this "
            "strength: a training set from which no detector learns one network by heart.",
        ),
    ] = 0.0,
    audit: Annotated[
        bool, typer.Option("--audit", help="Also measure what else gives the fakes away.")
    ] = False,
    seed: options.Seed = 0,
    out: options.Out = Path("output/forge"),
) -> None:
    """Make fakes of photographs with small trained generators, as `FAMILY/{0_real,1_fake}/*.png`.

    Example: `forensift forge --photos test --families progan-like,dcgan-like --per-family 150`

    Real and fake of a pair share the photograph, an antialiased rescale by 0.5–0.9, the crop and
    the PNG encoder; only the network differs. Equal seeds give equal files. The family `identity`
    has no network: its pairs show what the forge itself leaves (`--audit`: nothing).
    """
    from .. import forge as forging
    from ..data import scan
    from ..evaluation import pixel_audit
    from ..files import sha256, write_csv, write_manifest

    chosen = list(forging.TRAINED) if families == "all" else families.split(",")
    for name in chosen:
        forging.get_family(name)
    output = options.output_folder(out)
    with options.steps(f"forging {len(chosen)} families") as progress:
        forged = forging.forge(
            photograph_paths(photos),
            chosen,
            output,
            per_family=per_family,
            side=size,
            seed=seed,
            vary=vary,
            weights=weights,
            members=members,
            progress=progress,
        )
    images = scan(output)
    used = {
        path.name: sha256(path)
        for name in chosen
        if forging.get_family(name).trained
        for path in forging.member_files(name, weights, members)
    }
    facts = {
        "photos": photos,
        "families": forged.families,
        "pairs": forged.pairs,
        "size": size,
        "seed": seed,
        "vary": vary,
        "members": members,
        "weights_sha256": used,
        "image_set_sha256": images.hash(),
    }
    write_manifest(output, facts)
    print(f"{forged.pairs} pairs a family in {output}: {', '.join(forged.families)}")
    if audit:
        table = pixel_audit(images)
        write_csv(output / "audit.csv", table)
        print("how well a trivial property separates real from fake (AUC; 0.5 is chance):")
        print(table.to_string(index=False, float_format="%.3f"))


def photograph_paths(photos: str) -> list[Path]:
    """Return the photographs that ``--photos`` names, sorted.

    Raises:
        UserError: neither a split of the embedded ones nor a folder with images.
    """
    from ..data import EXTENSIONS, photographs

    if photos in EMBEDDED:
        return photographs(photos)  # type: ignore[arg-type]
    folder = Path(photos)
    if not folder.is_dir():
        raise UserError(f"--photos {photos}: neither a folder nor one of {', '.join(EMBEDDED)}")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS)
    if not found:
        raise UserError(f"--photos {photos}: no images in that folder")
    return found
