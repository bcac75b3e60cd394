"""What the parts of ``forensift attribute`` share: the folder of the world."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

World = Annotated[
    Path,
    typer.Option("--data", metavar="DIR", help="The folder that `forensift attribute forge` made."),
]
