"""What is in a folder of images, and whether the files alone tell reals from fakes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ..data import UnreadableImage, format_table, image_size, manifest_table, scan
from ..records import ImageSet, Result, Skipped
from .format_audit import FormatAudit, format_audit

HEADER = ("format", "width", "height")


@dataclass(frozen=True, eq=False, repr=False)
class Found(Result):
    """The images of a folder.

    images: what was understood; manifest: as ``forensift scan`` writes it; headers: path, label,
    generator, class and HEADER of each file that is an image; formats, audit: see
    :func:`format_audit`, None where it was not asked for; warnings: lines.
    """

    images: ImageSet
    manifest: pd.DataFrame
    headers: pd.DataFrame
    formats: pd.DataFrame | None = None
    audit: FormatAudit | None = None
    warnings: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def survey(
    folder: Path,
    layout: str = "auto",
    *,
    reals: Path | None = None,
    columns: Mapping[str, str] | None = None,
    real_values: Sequence[str] = (),
    audit: bool = False,
    seed: int = 0,
    relative_to: Path | None = None,
    tell: Callable[..., None] = lambda *told: None,
) -> Found:
    """Find the images of a folder and read their headers.

    layout, reals, columns, real_values: see :func:`forensift.data.scan`; relative_to: what the
    manifest's paths are below, by default the folder itself.

    Raises:
        UserError: no images, or a layout that is not clear.
    """
    images = scan(folder, layout=layout, reals=reals, columns=columns, real_values=real_values)
    skipped: list[Skipped] = []
    formats = None
    if audit:
        done = 0

        def progress(more: int) -> None:
            nonlocal done
            done += more
            tell("reading headers", done, len(images))

        formats = format_table(images, skipped=skipped, progress=progress)
    rows = []
    for place, entry in enumerate(images, 1):
        try:
            header = image_size(entry.path)
        except UnreadableImage as error:
            if not audit:
                skipped.append(Skipped(entry.path, error.reason))
            continue
        facts = (images.image_id(entry), entry.label, entry.generator, entry.class_name)
        rows.append((*facts, *header))
        tell("reading headers", place, len(images))
    headers = pd.DataFrame(rows, columns=["path", "label", "generator", "class", *HEADER])
    found = None if formats is None else format_audit(formats, seed=seed)
    warnings = [*images.left_out, *images.notes, *_warnings(images, headers)]
    facts_ = {
        "images": len(images),
        "image_set_sha256": images.hash(),
        "layout": images.layout,
        "root": str(images.root),
        "skipped": len(skipped),
        "left_out": list(images.left_out),
        "notes": list(images.notes),
        "reading": dict(images.reading),
        "shared_reals": images.shared_reals,
    }
    if found is not None:
        warnings += found.warnings
        facts_ |= {"seed": seed, "format_bias": found.biased}
    base = images.root.parent if images.root.is_file() else images.root
    manifest = manifest_table(images, relative_to=relative_to or base)
    return Found(images, manifest, headers, formats, found, tuple(warnings), tuple(skipped), facts_)


def _warnings(images: ImageSet, headers: pd.DataFrame) -> list[str]:
    """Say which generators lack a class, or can be told from reals by the file alone."""
    lines = []
    for generator in images.generators:
        both = [images.only(generator=generator, label=label) for label in (0, 1)]
        own = headers[headers["generator"] == generator]
        real, fake = (own[own["label"] == label] for label in (0, 1))
        if not all(map(len, both)):
            lines.append(f"{generator}: no {'fake' if len(both[0]) else 'real'} images")
        elif len(real) and len(fake) and not set(real["format"]) & set(fake["format"]):
            lines.append(f"{generator}: reals and fakes differ in file format, which can be seen")
        elif len(real) and len(fake):
            sizes = [set(zip(one["width"], one["height"], strict=True)) for one in (real, fake)]
            if not sizes[0] & sizes[1]:
                lines.append(f"{generator}: no real image has the size of a fake one")
    return lines
