"""``forensift scan``: what is in a folder of images."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from ..records import ImageSet

LABELS = ("real", "fake")
FACTS = ("format", "size", "quality", "subsampling")
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
    audit: Annotated[
        bool,
        typer.Option(
            "--audit",
            help="Say whether the files alone (format, size, JPEG quality, chroma subsampling) "
            "tell reals from fakes, so that a detector may have learnt them.",
        ),
    ] = False,
    seed: options.Seed = 0,
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

    With `--audit` also: `formats.csv` (what each file's header says), `format_counts.csv` (per
    generator and label) and `format_audit.csv` (how well a classifier tells reals from fakes by
    these facts, on files held out).
    """
    from .. import data
    from ..files import write_csv, write_manifest
    from ..records import Skipped, skipped_table

    images = data.scan(folder, layout=layout)
    output = options.output_folder(out)
    headers: list[Header | None] = []
    skipped: list[Skipped] = []
    formats = None
    with options.progress("reading headers", len(images)) as advance:
        if audit:
            formats = data.format_table(images, skipped=skipped, progress=advance)
            rows = formats[["path", "format", "width", "height"]].itertuples(index=False)
            known = {path: (name, width, height) for path, name, width, height in rows}
            headers = [known.get(images.image_id(entry)) for entry in images]
        for entry in () if audit else images:
            try:
                headers.append(data.image_size(entry.path))
            except data.UnreadableImage as error:
                headers.append(None)
                skipped.append(Skipped(entry.path, error.reason))
            advance(1)
    write_csv(output / "manifest.csv", data.manifest_table(images, relative_to=output))
    write_csv(output / "skipped.csv", skipped_table(skipped))
    facts = {"images": len(images), "image_set_sha256": images.hash(), "layout": images.layout}
    facts |= {"root": str(images.root), "skipped": len(skipped)}
    groups = _groups(images, headers)
    options.console().print(_table(groups))
    for line in _warnings(groups):
        print(line)
    if formats is not None:
        from ..evaluation import format_audit

        found = format_audit(formats, seed=seed)
        write_csv(output / "formats.csv", formats)
        write_csv(output / "format_counts.csv", found.counts)
        write_csv(output / "format_audit.csv", found.verdicts)
        facts |= {"seed": seed, "format_bias": found.biased, "warnings": list(found.warnings)}
        options.console().print(_audited(found.verdicts))
        for line in found.warnings:
            print(line)
        if not found.warnings:
            print("the files alone do not tell reals from fakes, as far as this many images show")
    write_manifest(output, facts)
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


def _audited(verdicts: pd.DataFrame) -> Table:
    """Return the verdicts of the audit: balanced accuracy in percent, of all facts and of each."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        "generator", "reals", "fakes", "all facts", "format", "size", "quality", "subsampling",
        "verdict", title="Told apart by the files alone, percent (chance is 50)",
        title_justify="left",
    )  # fmt: skip
    for row in verdicts.to_dict("records"):
        whole, *alone = (
            "-" if row[key] != row[key] else f"{100 * row[key]:.0f}"
            for key in ("balanced_accuracy", *(f"balanced_accuracy_{fact}" for fact in FACTS))
        )
        if whole != "-":
            ends = (100 * row[f"balanced_accuracy_{end}"] for end in ("low", "high"))
            whole += " \\[{:.0f}, {:.0f}]".format(*ends)
        name, counts = escape(str(row["generator"])), (str(row["n_real"]), str(row["n_fake"]))
        table.add_row(name, *counts, whole, *alone, str(row["verdict"]))
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
