"""``forensift scan``: what is in a folder of images."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options

if TYPE_CHECKING:
    from rich.table import Table

    from ..records import ImageSet

LABELS = ("real", "fake")
Header = tuple[str, int, int]  # format, width, height


def scan(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder of images, or a CSV manifest.")
    ],
    out: options.Out = Path("output/scan"),
    layout: Annotated[
        str,
        typer.Option(help="auto, forensynths, genimage, real-fake or csv; auto knows them all."),
    ] = "auto",
) -> None:
    """Find images and their labels, print what is there, write `manifest.csv`.

    Layouts that are recognised by themselves:

    - `<generator>/[<class>/]{0_real,1_fake}/*`, or a folder of such (ForenSynths)
    - `<generator>/[train|val/]{nature,ai}/*` (GenImage)
    - `<generator>/{real,fake}/*`
    - a CSV with the columns `path,label,generator,class` (label 0 real, 1 fake; a path is
      relative to the CSV), which is also what this command writes

    Example: `forensift scan CNN_synth_testset --out output/scan`

    `skipped.csv` names the files that are no images, judged by their headers.
    """

    from .. import data
    from ..files import write_csv, write_manifest
    from ..records import Skipped, skipped_table

    images = data.scan(folder, layout=layout)
    output = options.output_folder(out)
    headers: list[Header | None] = []
    skipped = []
    with options.progress("reading headers", len(images)) as advance:
        for entry in images:
            try:
                headers.append(data.image_size(entry.path))
            except data.UnreadableImage as error:
                headers.append(None)
                skipped.append(Skipped(entry.path, error.reason))
            advance(1)
    write_csv(output / "manifest.csv", data.manifest_table(images, relative_to=output))
    write_csv(output / "skipped.csv", skipped_table(skipped))
    facts = {"images": len(images), "image_set_sha256": images.hash(), "layout": images.layout}
    write_manifest(output, facts | {"root": str(images.root), "skipped": len(skipped)})
    groups = _groups(images, headers)
    options.console().print(_table(groups))
    for line in _warnings(groups):
        print(line)
    print(f"{len(images)} images, layout {images.layout}, in {output / 'manifest.csv'}")


@dataclass
class Group:
    """Images of one generator and label: headers of the readable ones, classes, a count."""

    images: int = 0
    classes: set[str] = field(default_factory=set)
    headers: Counter[Header] = field(default_factory=Counter)

    @property
    def formats(self) -> Counter[str]:
        """How many images have each file format."""
        found: Counter[str] = Counter()
        for (name, _, _), n in self.headers.items():
            found[name] += n
        return found


def _groups(images: ImageSet, headers: list[Header | None]) -> dict[str, tuple[Group, Group]]:
    """Return the real and the fake images of each generator."""
    groups = {generator: (Group(), Group()) for generator in images.generators}
    for entry, header in zip(images, headers, strict=True):
        group = groups[entry.generator][entry.label]
        group.images += 1
        group.classes |= {entry.class_name} - {""}
        if header is not None:
            group.headers[header] += 1
    return groups


def _table(groups: dict[str, tuple[Group, Group]]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table("generator", "label", "images", "classes", "formats", "sizes", "unreadable")
    for generator, both in groups.items():
        for kind, group in zip(LABELS, both, strict=True):
            if group.images:
                table.add_row(
                    escape(generator),
                    kind,
                    str(group.images),
                    str(len(group.classes) or "-"),
                    ", ".join(f"{name} {n}" for name, n in group.formats.most_common()),
                    _sizes({(width, height) for _, width, height in group.headers}),
                    str(group.images - group.headers.total() or "-"),
                )
    return table


def _sizes(sizes: set[tuple[int, int]]) -> str:
    """Return 'width × height' of a common size, or the smallest and largest side and a count."""
    if not sizes:
        return "-"
    sides = [side for size in sizes for side in size]
    if len(sizes) == 1:
        return " × ".join(map(str, sides))
    return f"{min(sides)} … {max(sides)} px ({len(sizes)} sizes)"


def _warnings(groups: dict[str, tuple[Group, Group]]) -> list[str]:
    """Say which generators lack a class, or can be told from reals by the file alone."""
    lines = []
    for generator, (real, fake) in groups.items():
        if not real.images or not fake.images:
            lines.append(f"{generator}: no {'fake' if real.images else 'real'} images")
        elif not real.headers or not fake.headers:
            continue
        elif not set(real.formats) & set(fake.formats):
            lines.append(f"{generator}: reals and fakes differ in file format, which can be seen")
        elif not set(real.headers) & set(fake.headers):
            lines.append(f"{generator}: no real image has the size of a fake one")
    return lines
