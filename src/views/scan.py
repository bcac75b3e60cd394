"""What is in a folder of images."""

from __future__ import annotations

import pandas as pd

from ..errors import counted
from ..evaluation import Found
from ..records import skipped_table
from .text import with_interval
from .view import Shown, View

LABELS = ("real", "fake")
FACTS = ("format", "size", "quality", "subsampling")


def view(result: Found) -> View:
    """Return how many images of what kind there are, what is odd, and what was left out."""
    tables = {"manifest": result.manifest, "skipped": skipped_table(result.skipped)}
    shown = [Shown(f"layout {result.images.layout}, in {result.images.root}", rows(result), keys=2)]
    if result.images.reading:
        read = pd.DataFrame(result.images.reading, columns=["understood as", "from"])
        shown.insert(0, Shown("how it was read", read))
    if result.audit is not None and result.formats is not None:
        tables |= {
            "formats": result.formats,
            "format_counts": result.audit.counts,
            "format_audit": result.audit.verdicts,
        }
        caption = "told apart by the files alone, percent (chance is 50)"
        shown.append(Shown(caption, audit_rows(result.audit.verdicts)))
    counts = {"image": len(result.images), "generator": len(result.images.generators)}
    images, generators = (counted(n, what) for what, n in counts.items())
    parts = [f"{images} of {generators}."]
    parts += [f"{one}." for one in result.warnings]
    if result.audit is not None and not result.audit.warnings:
        parts.append("The files alone do not tell reals from fakes, as far as these images show.")
    return View("Images", " ".join(parts), tables, shown, facts=result.facts)


def rows(result: Found) -> pd.DataFrame:
    """Return a row a generator and label."""
    found = []
    for generator in result.images.generators:
        for label, kind in enumerate(LABELS):
            images = result.images.only(generator=generator, label=label)
            if not len(images):
                continue
            headers = result.headers
            own = headers[(headers["generator"] == generator) & (headers["label"] == label)]
            formats = own["format"].value_counts()
            found.append(
                {
                    "generator": generator,
                    "label": kind,
                    "images": str(len(images)),
                    "classes": str(len({one.class_name for one in images} - {""}) or "-"),
                    "formats": ", ".join(f"{name} {n}" for name, n in formats.items()),
                    "sizes": _sizes(set(zip(own["width"], own["height"], strict=True))),
                    "unreadable": str(len(images) - len(own) or "-"),
                }
            )
    return pd.DataFrame(found)


def audit_rows(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Return the verdicts: balanced accuracy in percent, of all facts and of each."""
    found = []
    for row in verdicts.to_dict("records"):
        shown = {
            "generator": str(row["generator"]),
            "images": f"{row['n_real']} + {row['n_fake']}",
            "all facts": with_interval(row, "balanced_accuracy", 0, scale=100),
        }
        for fact in FACTS:
            shown[fact] = with_interval(row, f"balanced_accuracy_{fact}", 0, scale=100)
        found.append(shown | {"verdict": str(row["verdict"])})
    return pd.DataFrame(found)


def _sizes(sizes: set[tuple[int, int]]) -> str:
    """Return 'width × height' of a common size, or the smallest and largest side and a count."""
    if not sizes:
        return "-"
    sides = [side for size in sizes for side in size]
    if len(sizes) == 1:
        return " × ".join(map(str, sides))
    return f"{min(sides)} … {max(sides)} px ({len(sizes)} sizes)"
