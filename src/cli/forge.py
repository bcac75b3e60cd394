"""``forensift forge``: photographs → a ForenSynths-style set of pairs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from . import options
from .run import Out
from .verb import verb

if TYPE_CHECKING:
    from ..forge import Forged

EMBEDDED = ("train", "train-interiors", "train-others", "validation", "test", "all")


@dataclass(kw_only=True)
class ForgeRun(Out):
    """A run that makes images."""

    seed: options.Seed = 0


@verb
def forge(
    run: ForgeRun,
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
) -> Forged:
    """Make fakes of photographs with small trained generators, as `FAMILY/{0_real,1_fake}/*.png`.

    Example: `forensift forge --photos test --families progan-like,dcgan-like --per-family 150`

    Real and fake of a pair share the photograph, an antialiased rescale by 0.5–0.9, the crop and
    the PNG encoder; only the network differs. Equal seeds give equal files. The family `identity`
    has no network: its pairs show what the forge itself leaves (`--audit`: nothing).
    """
    from ..data import scan
    from ..evaluation import pixel_audit
    from ..forge import TRAINED
    from ..forge import forge as forge_pairs

    forged = forge_pairs(
        photograph_paths(photos),
        list(TRAINED) if families == "all" else families.split(","),
        run.folder,
        per_family=per_family,
        side=size,
        seed=run.seed,
        vary=vary,
        weights=weights,
        members=members,
        progress=lambda done, total, family: run.tell("forging", done, total, family),
    )
    if not audit:
        return forged
    run.tell("auditing")
    return replace(forged, audit=pixel_audit(scan(run.folder)))


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
