"""What is seen, as one file that opens without a network and still moves."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from .bench import Bench, share
from .turns import SOON

if TYPE_CHECKING:
    from jinja2 import Template

    from .server import Answers

ASSETS = Path(__file__).parent / "assets"
ALONE = 16  # maps whose loss alone is computed
MOST_BYTES = 5_000_000

Given = Mapping[str, Any]


def exported(answers: Answers, given: Given) -> str:
    """Return one HTML page: images, explanations and maps, and what is dropped along the order.

    given: image, conditions, opacity, and for each bench by, k, off, on, value, methods and map.

    Raises:
        UserError: there is no such image, map or method.
    """
    wanted = list(given.get("benches") or [])[: len(answers.benches)]
    benches = [
        _bench(answers, place, one, {**given, **wanted[place]})
        for place, one in enumerate(answers.benches[: len(wanted)])
    ]
    entry = answers.gallery.entries[str(given.get("image"))]
    shown = {
        "name": entry.class_name or entry.path.name,
        "conditions": dict(given.get("conditions") or {}),
        "opacity": max(0, min(100, int(given.get("opacity", 80)))),
        "benches": benches,
        "version": metadata.version("forensift"),
    }
    style, plot, moves = (
        (ASSETS / name).read_text(encoding="utf-8")
        for name in ("explorer.css", "plot.js", "export.js")
    )
    script = plot + moves
    page = _template().render(
        **shown,
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
        data={"benches": [_moving(one) for one in benches]},
    )
    if len(page.encode()) > MOST_BYTES:
        raise UserError("the page would be larger than 5 MB; take a smaller --crop")
    return page


def _bench(answers: Answers, place: int, bench: Bench, given: Given) -> dict[str, Any]:
    """Return all that the page shows of a detector."""
    from .server import shot, value

    nothing = lambda: None  # noqa: E731  # an export is never out of date
    asked = {**given, "bench": place}
    seen = answers.see(bench, asked, nothing)
    now = answers.drop(bench, asked, nothing)
    lists = answers.maps(bench, asked, nothing)
    maps = [*lists["image"], *lists["ranking"]]
    named = list(dict.fromkeys([*list(given.get("off") or []), *(one["map"] for one in maps)]))
    alone = answers.alone(bench, {**asked, "maps": named[:ALONE]}, nothing)["changes"]
    grid = []
    for k in bench.steps:
        with answers.turns.turn(SOON):
            again = bench.see(shot(asked))
            first = bench.first(again, str(given.get("by", "ranking")), k)
            logit = bench.logit(again, first, value(asked))
        grid.append({"k": k, "logit": logit, "probability": share(logit)})
    explained = []
    for method in list(given.get("methods") or [])[:2]:
        found = answers.explain(bench, {**asked, "method": method}, nothing)
        explained.append({"method": str(method), **found})
    opened = None
    if given.get("map"):
        one = {**asked, "map": given["map"]}
        opened = {"name": str(given["map"]), **answers.map(bench, one, nothing)}
        opened |= answers.study(bench, one, nothing)
    return {
        "name": bench.name,
        "maps": len(bench.detector.feature_maps),
        "preset": bench.detector.preset.name,
        "seen": seen,
        "whole": {"logit": seen["logit"], "probability": seen["probability"]},
        "now": now,
        "band": answers.band(bench, asked, nothing),
        "by": str(given.get("by", "ranking")),
        "value": value(given),
        "grid": grid,
        "alone": [
            {"map": name, "logit": seen["logit"] + change, "change": change}
            for name, change in alone.items()
        ],
        "lists": lists,
        "explained": explained,
        "opened": opened,
    }


def _moving(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers that the page's script needs of a bench."""
    opened = one["opened"] and {key: one["opened"][key] for key in ("maxima", "maximum", "of")}
    return {"grid": one["grid"], "whole": one["whole"], "opened": opened}


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@lru_cache(1)
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader

    found = Environment(loader=FileSystemLoader(ASSETS), autoescape=True, trim_blocks=True)
    found.filters["percent"] = _percent
    found.filters["signed"] = _signed
    found.filters["change"] = lambda one: _signed(one, 3 if abs(one) < 0.0995 else 2)
    found.filters["share"] = share
    return found.get_template("export.html")


def _signed(number: float, digits: int = 2) -> str:
    return f"{'−' if number < 0 else '+'}{abs(number):.{digits}f}"


def _percent(probability: float) -> str:
    if not 0.001 <= probability <= 0.999:
        return ">\u00a099.9\u00a0%" if probability > 0.5 else "<\u00a00.1\u00a0%"
    return f"{100 * probability:.1f}\u00a0%"
