"""Results → one HTML file that holds all of their pictures and tables, and asks no network."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from ..errors import UserError, counted
from ..figures import svg
from ..records import Result
from ..views import View
from .answer import WORDS, answer, drawn, dropped, leading
from .found import WHOLE, Part, Picture, Table, read

FILE, PAGE = "report.html", "page.html"
MOST_SVG = 400_000  # bytes of a drawing that stays one: more has too many points to be drawn fast
WIDEST, QUALITY = 1800, 82  # pixels and WebP's quality of the other pictures
MOST_CSV = 40_000  # bytes of a tidy table that the page carries
LONG = 360  # characters after a section's first sentence: more stands folded
PROSE = 28  # characters: a longer cell is words, and gets room for them
FOLDED = 10  # rows of a table shown before it is unfolded
COORDINATES, DECIMALS = re.compile(rb' d="[^"]*"'), re.compile(rb"(\.\d\d)\d+")
NUMBER = re.compile(r"^[\[\s]*[-+−]?\d")
GENERAL = "All detectors"


@dataclass(frozen=True, eq=False, repr=False)
class Report(Result):
    """One page of results.

    parts: in the order in which they are read; title: what was asked; facts: for the manifest.
    """

    parts: Sequence[Part]
    title: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def view(self) -> View:
        """Return the answer, and the file that is the page."""
        made = {FILE: lambda path: path.write_text(self.html(), "utf-8")}
        return View("Report", " ".join(answer(self.parts)), {}, files=made, facts=self.facts)

    def html(self) -> str:
        """Return the page; equal results give equal bytes."""
        import jinja2

        here = files(__package__) / "page"
        environment = jinja2.Environment(
            loader=jinja2.FunctionLoader(lambda name: (here / name).read_text("utf-8")),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=jinja2.StrictUndefined,
        )
        style, script = ((here / name).read_text("utf-8") for name in ("page.css", "page.js"))
        sections = [one for one in self.parts if not one.is_whole]
        return environment.get_template(PAGE).render(
            title=self.title,
            style=style,
            script=script,
            policy=_policy(style, script),
            asked=list(_asked(self.parts)),
            answers=answer(self.parts),
            lead=_lead(sections),
            groups=_groups(sections),
            run=list(_run(self.parts)),
            undone=list(_undone(self.parts)),
            skipped=list(_skipped(self.parts)),
        )


def report(
    folders: Iterable[Path | str], *, title: str = "", facts: Mapping[str, Any] | None = None
) -> Report:
    """Return one page of all results saved in or below folders.

    title: the question at its top, made from the detectors where it is empty; facts: of the whole
    that the results are parts of, before its own manifest is written.

    Raises:
        UserError: a folder is missing, holds no result, or a result there cannot be read.
    """
    asked = [Path(one) for one in folders]
    parts = read(asked)
    if facts is not None:
        parts = [part for part in parts if not (part.is_whole and part.folder == asked[0])]
        parts.append(Part(asked[0], ".", WHOLE[0], "All", "", (), (), (), facts))
    detectors = list(dict.fromkeys(part.detector for part in parts if part.detector))
    if not title:
        one = detectors[0] if len(detectors) == 1 else "these detectors"
        title = f"What {'does' if len(detectors) == 1 else 'do'} {one} look at?"
        title = title if detectors else "What was found"
    own = {"results": [str(one) for one in asked], "parts": len(parts)}
    return Report(parts, title, own)


def _lead(parts: Sequence[Part]) -> dict[str, Any] | None:
    """Return the picture of the first screen: of the answer's numbers, where it has some."""
    found = drawn(dropped(parts))
    if found is not None:
        figure, caption = found
        return _embedded("Fakes found, reals right", caption, caption, "svg+xml", svg(figure))
    other = leading(parts)
    return _figure(*other) if other else None


def _policy(style: str, script: str) -> str:
    """Return what the page may load: nothing but what stands in it."""
    hashes = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (style, script)
    )
    css, js = hashes
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{css}'; script-src 'sha256-{js}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _groups(parts: Sequence[Part]) -> list[dict[str, Any]]:
    """Return the sections by detector, the fullest first, those of all last."""
    counts = Counter(part.detector for part in parts if part.detector)
    names = sorted(counts, key=lambda name: -counts[name])
    found = []
    for name in [*names, ""]:
        own = [_section(part) for part in parts if part.detector == name]
        if own:
            heading = name or ("Results", "Besides", GENERAL)[min(len(names), 2)]
            found.append({"name": heading, "id": _anchor(heading), "sections": own})
    return found


def _anchor(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text).strip("-") or "results"


def _section(part: Part) -> dict[str, Any]:
    first, _, rest = part.said.partition(". ")
    value = str(part.manifest.get("value", "")).split(",")[0]
    instead = f", {WORDS[value]} in their place" if value in WORDS else ""
    by = part.manifest.get("ranking_by", "omega")
    instead += f", ranked by {by}" * (by != "omega")
    return {
        "id": _anchor(f"{part.place}-{part.folder.name}" if part.place == "." else part.place),
        "title": part.title + instead,
        "first": f"{first.rstrip('.')}." if first else "",
        "rest": rest,
        "long": len(rest) > LONG,
        "figures": [_figure(part, one) for one in part.figures],
        "tables": [_table(one) for one in part.tables if one.rows],
        "more": _more(len(part.figures), sum(bool(one.rows) for one in part.tables)),
        "files": [_file(path) for path in part.files],
        "place": part.place,
    }


def _more(figures: int, tables: int) -> str:
    """Return what of a section stands folded: all but its first figure and its first table."""
    counts = ((figures - 1, "figure"), (tables - 1, "table"))
    return " and ".join(counted(number, what) for number, what in counts if number > 0)


def _table(table: Table) -> dict[str, Any]:
    columns = list(zip(*table.rows, strict=True))
    return {
        "caption": table.caption,
        "columns": [
            {
                "name": name,
                "numeric": at >= table.keys and _is_numeric(columns[at]),
                "prose": max(map(len, columns[at])) > PROSE,
            }
            for at, name in enumerate(table.columns)
        ],
        "rows": table.rows,
        "named": table.keys,
        "folded": FOLDED if len(table.rows) > FOLDED + 2 else 0,
    }


def _is_numeric(cells: Sequence[str]) -> bool:
    filled = [cell for cell in cells if cell not in ("", "-")]
    return bool(filled) and all(NUMBER.match(cell) for cell in filled)


def _figure(part: Part, picture: Picture) -> dict[str, Any]:
    said = picture.caption or part.said.split(". ")[0]
    name = picture.name.replace("_", " ").replace("-", " ")
    alt = f"{part.detector or part.title}, {name}: {said}"
    return _embedded(f"{part.title}: {name}", picture.caption, alt, *_content(picture))


def _embedded(name: str, caption: str, alt: str, kind: str, content: bytes) -> dict[str, Any]:
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return {"name": name, "caption": caption, "alt": alt, "source": source}


def _content(picture: Picture) -> tuple[str, bytes]:
    """Return a drawing as SVG, everything else as WebP: what a browser shows best for its bytes."""
    from PIL import Image

    by_kind = {path.suffix: path for path in picture.files}
    drawing = by_kind.get(".svg")
    if drawing is not None and drawing.is_file() and drawing.stat().st_size <= MOST_SVG:
        return "svg+xml", COORDINATES.sub(_rounded, drawing.read_bytes())
    path = by_kind.get(".png")
    if path is None or not path.is_file():
        raise UserError(f"{picture.files[0].with_suffix('.png')} is missing; make the result again")
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    image.thumbnail((WIDEST, 4 * WIDEST))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=QUALITY, method=4)
    return "webp", buffer.getvalue()


def _rounded(path: re.Match[bytes]) -> bytes:
    """Return a path of a drawing to a hundredth of a point, finer than any screen."""
    return DECIMALS.sub(rb"\1", path[0])


def _file(path: Path) -> dict[str, Any]:
    small = path.stat().st_size <= MOST_CSV
    content = base64.b64encode(path.read_bytes()).decode() if small else ""
    return {"name": path.name, "source": f"data:text/csv;base64,{content}" if small else ""}


def _asked(parts: Sequence[Part]) -> Iterator[tuple[str, str]]:
    """Yield what was asked of what: a word, and what it is."""
    detectors: dict[str, str] = {}
    for part in parts:
        for name, digest in (part.manifest.get("detectors") or {}).items() if part.is_whole else ():
            detectors.setdefault(str(name), str(digest)[:8])
        if part.detector:
            detectors.setdefault(part.detector, str(part.manifest.get("weights_sha256", ""))[:8])
    if detectors:
        named = (f"{name} (weights {sha})" if sha else name for name, sha in detectors.items())
        yield "Asked of", ", ".join(named)
    sets = dict.fromkeys(str(one.manifest["data"]) for one in parts if one.manifest.get("data"))
    used = max((one.manifest.get("used", 0) for one in parts if _is_count(one)), default=0)
    about = next((one.manifest["about"] for one in parts if one.manifest.get("about")), "")
    if about:
        yield "On", str(about)
    elif sets or used:
        yield "On", f"{used:,} images{' of ' if sets else ''}{', '.join(sets)}"


def _is_count(part: Part) -> bool:
    return isinstance(part.manifest.get("used"), int) and bool(part.detector)


FACTS = {
    "command": "command", "versions": "versions", "seed": "seed", "preset": "preprocessing",
    "weights": "weights", "weights_sha256": "weights, SHA-256", "detectors": "weights, SHA-256",
    "data": "images", "image_set_sha256": "images, SHA-256", "device": "device",
    "used": "images used", "k": "k", "draws": "draws of each control",
    "value": "in the maps' place",
    "threshold": "threshold", "composite": "rules of LRP",
}  # fmt: skip


def _run(parts: Sequence[Part]) -> Iterator[dict[str, Any]]:
    """Yield each part's facts; those that all share stand once, first."""
    told = [
        (part, {FACTS[key]: _plain(part.manifest[key]) for key in FACTS if key in part.manifest})
        for part in parts
    ]
    shared = {
        key: value
        for key, value in (told[0][1] if told else {}).items()
        if all(facts.get(key) == value for _, facts in told) and len(told) > 1
    }
    if shared:
        yield {"name": "Of all", "facts": shared}
    for part, facts in told:
        own = {key: value for key, value in facts.items() if key not in shared}
        named = f"{part.detector}: {part.title}" if part.detector else part.title
        if own:
            yield {"name": f"{named} ({part.place})" if part.place != "." else named, "facts": own}


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        # How often a run was interrupted is no matter of its results.
        return " ".join(str(one) for one in value if one != "--resume")
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _undone(parts: Sequence[Part]) -> Iterator[tuple[str, str]]:
    for part in parts:
        for stage, reason in (part.manifest.get("not_done") or {}).items():
            yield str(stage), str(reason)


def _skipped(parts: Sequence[Part]) -> Iterator[tuple[str, str, int]]:
    """Yield reason, an example, and how many images were left out for it."""
    seen: dict[str, set[str]] = {}
    for part in parts:
        for path, reason in part.skipped.itertuples(index=False):
            seen.setdefault(str(reason), set()).add(str(path))
    for reason, paths in seen.items():
        yield reason, Path(min(paths)).name, len(paths)
