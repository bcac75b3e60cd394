"""The gallery of figures, from a demo: ``make gallery``.

python docs/gallery.py demo-out docs
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

from PIL import Image

WIDTHS, COLOURS = (900, 800, 720, 640, 560), 32  # pixels of a picture, the first that fits
MOST = 400_000  # bytes of all
ON = "npr --data DIR"
RANKED = f"{ON} --ranking RANKING.csv"
# Folder below the demo, figure, and the command that makes it of any detector and images.
FIGURES = (
    ("spectra", "spectra", "forensift spectra --data DIR"),
    ("npr/evaluation", "scores", f"forensift evaluate {ON}"),
    ("npr/evaluation", "curves", f"forensift evaluate {ON}"),
    ("npr/evaluation", "calibration", f"forensift evaluate {ON}"),
    ("npr/evaluation", "mistakes", f"forensift evaluate {ON}"),
    ("npr/ranking", "omega", f"forensift rank {ON}"),
    ("npr/dropout-k40", "dropout", f"forensift dropout {RANKED} --k 40"),
    ("npr/dropout-k40", "ap_curve", f"forensift dropout {RANKED} --k 40 --ks 10,160"),
    ("npr/transfer", "transfer", f"forensift transfer {ON} --k 40"),
    ("npr/patches-progan-like", "collage", f"forensift patches {RANKED} --k 8"),
    ("npr/median-test", "histograms_progan-like", f"forensift median-test {RANKED} --k 40"),
    ("npr/colour", "colour_modes", f"forensift colour {ON}"),
    ("npr/colour", "boxes_grey", f"forensift colour {ON}"),
    ("npr/embedding", "tsne-penultimate", f"forensift embed {ON}"),
    ("npr/explanation", "explanations", "forensift explain npr DIR --method lrp,gradcam"),
    ("npr/faithfulness", "faithfulness", f"forensift faithfulness {ON}"),
    ("robustness", "robustness", "forensift robustness npr,resnet50 --data DIR"),
)
HEAD = """# Gallery

Figures that the verbs draw, from the demo: a title says what was found, the text below how to
read it. Each is saved as PDF with its fonts, PNG at 300 dpi and, where it is a drawing, SVG; in
Python `result.plot("name")` gives the Matplotlib figure. `make gallery` makes this page from the
demo.
"""


def main(demo: Path, docs: Path) -> None:
    """Write gallery.md, and its pictures to gallery/, as wide as all of them may be."""
    folder, parts, shown = docs / "gallery", [HEAD], {}
    for stage, name, command in FIGURES:
        told = demo / stage / "view.json"
        if not told.is_file():  # of a demo that was asked for less
            continue
        view = json.loads(told.read_text(encoding="utf-8"))
        figure = next((one for one in view["figures"] if one["name"] == name), None)
        if figure is None:  # of mistakes, where none was made
            continue
        shown[name] = demo / stage / f"{name}.png"
        words = name.split("_progan")[0].replace("_", " ").replace("-", " ")
        title = f"{view['title']}: {words}"
        parts.append(
            f"## {title}\n\n![{title}](gallery/{name}.SUFFIX)\n\n"
            f"{figure['caption']}\n\n`{command}`\n"
        )
    text = "\n".join(parts)
    for width in WIDTHS:
        pictures = {name: small(path, width) for name, path in shown.items()}
        size = sum(len(picture) for picture, _ in pictures.values())
        if size <= MOST:
            break
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.*"):
        old.unlink()
    for name, (picture, suffix) in pictures.items():
        (folder / f"{name}.{suffix}").write_bytes(picture)
        text = text.replace(f"gallery/{name}.SUFFIX", f"gallery/{name}.{suffix}")
    (docs / "gallery.md").write_text(text, encoding="utf-8")
    print(f"{len(shown)} figures, {width} pixels wide, {size:,} bytes, in {docs / 'gallery.md'}")


def small(path: Path, width: int) -> tuple[bytes, str]:
    """Return a picture of few pixels: a drawing as PNG of few colours, photographs as JPEG."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    image.thumbnail((width, 2 * width), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    if path.with_suffix(".svg").is_file():
        few = image.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        few.save(buffer, "PNG", optimize=True)
        return buffer.getvalue(), "png"
    image.save(buffer, "JPEG", quality=50, optimize=True)
    return buffer.getvalue(), "jpg"


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
