"""Run the notebooks and keep their outputs in them, small: ``make notebooks``.

    python docs/run_notebooks.py [NAME …]

What a run leaves behind beside its outputs (numbers of cells, times) is taken out, and pictures are
shrunk to the width of a page and few colours, so that equal runs give equal files.
"""

from __future__ import annotations

import base64
import io
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

BOOKS = Path(__file__).resolve().parents[1] / "notebooks"
WIDTH, COLOURS, QUALITY = 660, 128, 72
OCTREE = Image.Quantize.FASTOCTREE  # keeps the colours of thin lines apart


def small(png: str) -> dict[str, str]:
    """Return a picture (base64) at the width of a page: PNG of few colours, or JPEG if smaller."""
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    picture.thumbnail((WIDTH, 2 * WIDTH), Image.Resampling.LANCZOS)
    few, many = io.BytesIO(), io.BytesIO()
    drawn = picture.quantize(COLOURS, method=OCTREE, dither=Image.Dither.NONE)
    drawn.save(few, "PNG", optimize=True)
    picture.save(many, "JPEG", quality=QUALITY, optimize=True)
    kinds = {"image/png": few.getvalue(), "image/jpeg": many.getvalue()}
    kind = min(kinds, key=lambda one: len(kinds[one]))
    return {kind: base64.b64encode(kinds[kind]).decode()}


def run(path: Path) -> None:
    """Run a notebook away from its folder, and write it with its outputs."""
    book = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as elsewhere:
        resources = {"metadata": {"path": elsewhere}}
        NotebookClient(book, timeout=900, resources=resources).execute()
    book.metadata.language_info = {"name": "python"}
    for cell in book.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type != "code":
            continue
        cell.execution_count = None
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = None
            data = output.get("data", {})
            data.pop("image/jpeg", None)
            if "image/png" in data:
                data |= small(data.pop("image/png"))
    nbformat.write(book, path)


if __name__ == "__main__":
    for name in sys.argv[1:] or sorted(path.stem for path in BOOKS.glob("*.ipynb")):
        print(f"running {name}", flush=True)
        run(BOOKS / f"{name}.ipynb")
