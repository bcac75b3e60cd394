"""The gallery of figures, from a demo: ``make gallery``.

python docs/gallery.py demo-out docs
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

from PIL import Image

WIDTH, COLOURS, MOST = 1000, 40, 400_000  # pixels, of a picture, and bytes of all
ON = "resnet50 --data DIR"
RANKED = f"{ON} --ranking RANKING.csv"
# Folder below the demo, figure, and the command that makes it of any detector and images.
FIGURES = (
    ("spectra", "spectra", "forensift spectra --data DIR"),
    ("resnet50/evaluation", "scores", f"forensift evaluate {ON}"),
    ("resnet50/evaluation", "curves", f"forensift evaluate {ON}"),
    ("resnet50/evaluation", "calibration", f"forensift evaluate {ON}"),
    ("resnet50/evaluation", "mistakes", f"forensift evaluate {ON}"),
    ("resnet50/ranking", "omega", f"forensift rank {ON}"),
    ("resnet50/dropout-k114", "dropout", f"forensift dropout {RANKED} --k 114"),
    ("resnet50/dropout-k114", "ap_curve", f"forensift dropout {RANKED} --k 114 --ks 28,456"),
    ("resnet50/transfer", "transfer", f"forensift transfer {ON} --k 114"),
    ("resnet50/patches-progan-like", "collage", f"forensift patches {RANKED} --k 8"),
    ("resnet50/median-test", "histograms_progan-like", f"forensift median-test {RANKED} --k 114"),
    ("resnet50/colour", "colour_modes", f"forensift colour {ON}"),
    ("resnet50/colour", "boxes_grey", f"forensift colour {ON}"),
    ("resnet50/embedding", "tsne-penultimate", f"forensift embed {ON}"),
    ("resnet50/explanation", "explanations", "forensift explain resnet50 DIR --method lrp,gradcam"),
    ("resnet50/faithfulness", "faithfulness", f"forensift faithfulness {ON}"),
    ("robustness", "robustness", "forensift robustness resnet50,npr --data DIR"),
)
HEAD = """# Gallery

Every figure that the verbs draw, from the demo: its title says what was found, the text below how
to read it. Each is saved as PDF with its fonts, PNG at 300 dpi and, where it is a drawing, SVG; in
Python `result.plot("name")` gives the Matplotlib figure. `make gallery` makes this page from the
demo.
"""


def main(demo: Path, docs: Path) -> None:
    """Write gallery.md, and its pictures to gallery/."""
    folder, parts, size = docs / "gallery", [HEAD], 0
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    for stage, name, command in FIGURES:
        view = json.loads((demo / stage / "view.json").read_text(encoding="utf-8"))
        figure = next((one for one in view["figures"] if one["name"] == name), None)
        if figure is None:  # of mistakes, where none was made
            continue
        picture = small(demo / stage / f"{name}.png")
        size += len(picture)
        (folder / f"{name}.png").write_bytes(picture)
        title = name.split("_progan")[0].replace("_", " ").replace("-", " ")
        parts.append(
            f"## {view['title']}: {title}\n\n![{view['title']}: {title}](gallery/{name}.png)\n\n"
            f"{figure['caption']}\n\n`{command}`\n"
        )
    if size > MOST:
        raise SystemExit(f"the pictures have {size:,} bytes, more than {MOST:,}")
    (docs / "gallery.md").write_text("\n".join(parts), encoding="utf-8")
    print(f"{len(parts) - 1} figures, {size:,} bytes, in {docs / 'gallery.md'}")


def small(path: Path) -> bytes:
    """Return a picture as a PNG of few pixels and colours."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    image.thumbnail((WIDTH, 2 * WIDTH), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
