"""``forensift explore``: a local page on which feature maps are switched off."""

from __future__ import annotations

import os
import secrets
import tempfile
import webbrowser
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError
from . import completion, options
from .verb import one_line_errors

if TYPE_CHECKING:
    from ..explorer import Bench

MOST = 2  # detectors beside each other


def explore(
    detectors: Annotated[
        str,
        typer.Argument(
            metavar="[DETECTOR[,DETECTOR]]",
            help="One, or two to be beside each other; each as other verbs take it.",
            autocompletion=completion.detectors,
        ),
    ] = "resnet50",
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="Images to pick, in any layout or none. Default: test photographs of forensift "
            "and fakes of them.",
        ),
    ] = None,
    ranking: Annotated[
        str,
        typer.Option(
            "--ranking",
            metavar="CSV[,CSV]",
            help="One for each detector. Default: the shipped one of the shipped weights.",
        ),
    ] = "",
    crop: Annotated[
        int,
        typer.Option(
            "--crop",
            min=32,
            max=1024,
            help="Where the detector takes images of any size: their middle, at most so many "
            "pixels a side.",
        ),
    ] = 256,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Of 127.0.0.1; another if it is taken.")
    ] = 8765,
    open_page: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in the browser.")
    ] = True,
    device: options.Device = "auto",
) -> None:
    """Open a page on which feature maps are switched off, and the probability moves.

    Example: `forensift explore resnet50`, `forensift explore resnet50,npr --data DIR`

    Pick or drop an image; see what a detector makes of it, by any two explanation methods, and
    which feature maps hold the evidence; switch them off one by one, or the first k of a ranking,
    and compare with as many random maps of the same layers. JPEG, blur, size and grey are sliders.
    The page's export is one HTML file.

    It listens on 127.0.0.1 alone, for whoever has the token in the printed address. Nothing is
    written but to a temporary folder that is gone at the end; Ctrl-C ends it.
    """
    # Threads that wait are not to spin: the browser needs the cores too. Read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    with one_line_errors(["detectors", "data", "ranking", "crop", "port"]):
        names = detectors.split(",")
        files = [Path(one) for one in ranking.split(",")] if ranking else []
        if not 1 <= len(names) <= MOST or not all(names):
            raise UserError(f"{detectors}: one detector, or two with a comma between")
        if files and len(files) != len(names):
            raise UserError(f"--ranking: {len(files)} files for {len(names)} detectors")
        chosen = options.choose_device(device)
        with tempfile.TemporaryDirectory(prefix="forensift-explore-") as folder:
            os.environ["FORENSIFT_CACHE"] = str(Path(folder) / "cache")
            os.environ["MPLCONFIGDIR"] = str(Path(folder) / "matplotlib")  # of what loads it
            with suppress(KeyboardInterrupt):  # it is the way to end it
                _run(names, files, data, Path(folder), chosen, crop, port, open_page)


def _run(
    names: list[str],
    files: list[Path],
    data: Path | None,
    folder: Path,
    device: str,
    crop: int,
    port: int,
    open_page: bool,
) -> None:
    from ..explorer import Answers, Gallery, Turns, bench, demo_images, listening, serve

    (uploads := folder / "uploads").mkdir()
    if data is None:
        typer.echo("forging images to pick …", err=True)
        gallery = Gallery(demo_images(folder / "images"), uploads)
    else:
        gallery = Gallery.of(data, uploads)
    turns = Turns()
    benches: list[Bench] = []
    for place, name in enumerate(names):
        typer.echo(f"loading {name} …", err=True)
        own = files[place] if files else None
        benches.append(bench(name, gallery, turns, own, crop=crop, device=device))
        benches[-1].make_ready()
    opened = listening(port)
    token = secrets.token_urlsafe(24)
    address = f"http://127.0.0.1:{opened.getsockname()[1]}/?token={token}"
    typer.echo(f"open {address}\nCtrl-C ends it.")
    if open_page:
        webbrowser.open(address)
    serve(Answers(benches, gallery, turns), token, opened)
