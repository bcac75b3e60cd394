"""The page's server: what it may ask, and what it is told."""

from __future__ import annotations

import json
import socket
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from ..errors import UserError
from ..explain.methods import METHODS
from ..records import FeatureMap
from .bench import DRAWS, LISTED, LOOKED, Bench, Seen, drawn, lit, share
from .export import exported
from .gallery import UPLOAD_BYTES, Gallery, Shot, conditions_of
from .guard import Guard
from .pictures import heat_png, png
from .turns import LATER, NOW, SOON, Latest, Stale, Turns

ASSETS = Path(__file__).parent / "assets"
PAGE = {"/": "index.html", **{f"/{one}": one for one in ("explorer.css", "explorer.js", "plot.js")}}
ASKED_BYTES = 64 * 2**10
CHOSEN = 4_000  # maps that a request may name
Fresh = Callable[[], None]
Given = Mapping[str, Any]


@dataclass(eq=False)
class Answers:
    """What the page can ask of the benches; every answer is plain JSON."""

    benches: Sequence[Bench]
    gallery: Gallery
    turns: Turns

    def about(self) -> dict[str, Any]:
        """Return what there is: benches, images, methods."""
        benches = [
            {
                "name": one.name,
                "maps": len(one.detector.feature_maps),
                "layers": len(one.detector.layers),
                "preset": one.detector.preset.name,
                "ranking": bool(one.ranking),
                "values": list(one.ablations),
                "steps": one.steps,
                "draws": DRAWS,
            }
            for one in self.benches
        ]
        methods = [{"name": name, "source": one.source} for name, one in METHODS.items()]
        return {
            "version": metadata.version("forensift"),
            "benches": benches,
            "images": self.gallery.listed(),
            "methods": methods,
            "upload": UPLOAD_BYTES,
        }

    def see(self, bench: Bench, given: Given, fresh: Fresh) -> dict[str, Any]:
        """Return what a detector makes of an image, and the image as it saw it."""
        with self.turns.turn(NOW):
            fresh()
            return seen_facts(bench.see(shot(given)))

    def drop(self, bench: Bench, given: Given, fresh: Fresh) -> dict[str, Any]:
        """Return the logit without maps."""
        with self.turns.turn(NOW):
            fresh()
            seen = bench.see(shot(given))
            dropped = chosen_maps(bench, seen, given)
            logit = bench.logit(seen, dropped, value(given))
        return {"logit": logit, "probability": share(logit), "dropped": len(dropped)}

    def band(self, bench: Bench, given: Given, fresh: Fresh) -> dict[str, Any]:
        """Return the logits without as many random maps of the same layers."""
        with self.turns.turn(SOON):
            fresh()
            seen = bench.see(shot(given))
            dropped = chosen_maps(bench, seen, given)
            draws = bench.band(seen, dropped, value(given))
        logits = []
        for _ in range(DRAWS if dropped else 0):
            with self.turns.turn(SOON):
                fresh()
                logits.append(next(draws))
        return band_facts(logits)

    def maps(self, bench: Bench, given: Given, fresh: Fresh) -> dict[str, Any]:
        """Return the strongest maps of the image, and the ranking's."""
        with self.turns.turn(SOON):
            fresh()
            return listed_maps(bench, bench.see(shot(given)))

    def alone(self, bench: Bench, given: Given, fresh: Fresh) -> dict[str, Any]:
        """Return what becomes of the logit without each map alone."""
        names = list(given.get("maps", []))[: 2 * LISTED]
        changes = {}
        for one in bench.parsed(names):
            with self.turns.turn(LATER):
                fresh()
                seen = bench.see(shot(given))
                changes[str(one)] = bench.logit(seen, [one], value(given)) - seen.logit
        return {"changes": changes}

    def methods(self, bench: Bench, given: Given, fresh: Fresh) -> dict[str, Any]:
        """Return why methods do not apply."""
        with self.turns.turn(LATER):
            return {"notes": bench.methods.notes}

    def explain(self, bench: Bench, given: Given, fresh: Fresh) -> dict[str, Any]:
        """Return the heat of one method, or why it does not apply."""
        method = str(given.get("method", ""))
        with self.turns.turn(SOON):
            fresh()
            seen = bench.see(shot(given))
            try:
                found = bench.explained(seen, method)
            except UserError as error:
                return {"reason": str(error)}
        return {"heat": heat_png(drawn(found)), "caption": found.caption}

    def map(self, bench: Bench, given: Given, fresh: Fresh) -> dict[str, Any]:
        """Return where a map responds in the image."""
        (one,) = bench.parsed([str(given.get("map", ""))])
        with self.turns.turn(SOON):
            fresh()
            return response_facts(bench, bench.see(shot(given)), one)

    def study(self, bench: Bench, given: Given, fresh: Fresh) -> dict[str, Any]:
        """Return a map's patches and maxima over the images there are."""
        (one,) = bench.parsed([str(given.get("map", ""))])
        return studied_map(bench, one)

    def export(self, given: Given) -> str:
        """Return what is seen as one HTML page."""
        return exported(self, given)


def shot(given: Given) -> Shot:
    """Return the image that is asked about, and what is done to it."""
    return Shot(str(given.get("image", "")), conditions_of(dict(given.get("conditions") or {})))


def value(given: Given) -> str:
    """Return what stands in the place of maps."""
    return str(given.get("value", "zero"))


def chosen_maps(bench: Bench, seen: Seen, given: Given) -> list[FeatureMap]:
    """Return the first k of an order, with those switched off and without those switched on."""
    first = bench.first(seen, str(given.get("by", "ranking")), int(given.get("k", 0)))
    off, on = (list(given.get(one) or [])[:CHOSEN] for one in ("off", "on"))
    kept = set(bench.parsed(on))
    return [one for one in dict.fromkeys([*first, *bench.parsed(off)]) if one not in kept]


def seen_facts(seen: Seen) -> dict[str, Any]:
    """Return an image as a detector saw it, and the whole network's answer."""
    pixels = seen.batch.pixels[0].numpy().transpose(1, 2, 0)
    height, width = pixels.shape[:2]
    return {
        "logit": seen.logit,
        "probability": share(seen.logit),
        "picture": png(pixels),
        "size": [width, height],
        "of": list(seen.size),
    }


def band_facts(logits: Sequence[float]) -> dict[str, Any]:
    """Return where nine of ten draws lie; nothing of no draws."""
    if not logits:
        return {"draws": 0}
    low, high = np.quantile(logits, [0.05, 0.95])
    return {"draws": len(logits), "low": float(low), "high": float(high)}


def listed_maps(bench: Bench, seen: Seen) -> dict[str, Any]:
    """Return two lists of maps: the image's strongest, and the first of the ranking."""
    order, scores = bench.order(seen)
    strongest = []
    for place in order[:LISTED]:
        name = str(bench.detector.feature_maps[place])
        strongest.append(
            {"map": name, "score": float(scores[place]), "other": bench.places.get(name)}
        )
    ranked, by = [], ""
    if bench.ranking is not None:
        by = bench.ranking.by
        own = np.empty(len(order), dtype=int)
        own[order] = np.arange(1, len(order) + 1)
        for one, score in zip(bench.ranked[:LISTED], bench.ranking.scores, strict=False):
            place = bench.maps[str(one)]
            ranked.append({"map": str(one), "score": float(score), "other": int(own[place])})
    how = "relevance" if bench.lrp is not None else "activation × gradient"
    return {"image": strongest, "ranking": ranked, "by": by, "how": how}


def response_facts(bench: Bench, seen: Seen, one: FeatureMap) -> dict[str, Any]:
    """Return where a map responds in an image, and its largest value there."""
    response = bench.response(seen, one)
    return {
        "heat": heat_png(lit(response)),
        "maximum": float(response.max()),
        "size": list(response.shape[::-1]),
    }


def studied_map(bench: Bench, one: FeatureMap) -> dict[str, Any]:
    """Return a map's patches, and its maxima in colour and in grey over the studied images."""
    values = bench.maxima[:, :, bench.maps[str(one)]]
    patches = [
        {
            "picture": png(found.crop) if found.crop is not None else None,
            "size": [found.box.width, found.box.height] if found.box else None,
            "maximum": found.maximum,
            "of": found.generator,
            "name": found.path.name,
            "note": found.note,
        }
        for found in bench.patches(one)
    ]
    maxima = {"rgb": values[:, 0].tolist(), "grey": values[:, 1].tolist()}
    why = "" if bench.lrp is not None else "LRP has no rules for this network: no patches"
    generators = ", ".join(name or "unnamed" for name in bench.studied.generators)
    of = f"{len(values)} images of {generators} (at most {LOOKED} of each)" if len(values) else ""
    return {"patches": patches, "maxima": maxima, "why": why, "of": of}


def application(answers: Answers, token: str, port: int) -> Starlette:
    """Return the page's server, for Starlette's test client or :func:`serve`."""
    latest = Latest()
    asked = ("see", "drop", "band", "maps", "alone", "methods", "explain", "map", "study")

    async def about(request: Request) -> Response:
        return JSONResponse(answers.about())

    async def thumbnail(request: Request) -> Response:
        key = request.query_params.get("image", "")
        content = await run_in_threadpool(_plain, lambda: answers.gallery.thumbnail(key))
        return (
            content if isinstance(content, Response) else Response(content, 200, None, "image/png")
        )

    async def upload(request: Request) -> Response:
        content = await _body(request, UPLOAD_BYTES)
        if content is None:
            return _refused(f"the file is larger than {UPLOAD_BYTES // 2**20} MB", 413)
        name = request.query_params.get("name", "image")
        found = await run_in_threadpool(_plain, lambda: answers.gallery.add(name, content))
        return found if isinstance(found, Response) else JSONResponse({"id": found})

    async def ask(request: Request) -> Response:
        given = await _given(request)
        if isinstance(given, Response):
            return given
        what = request.path_params["what"]
        if what == "export":
            page = await run_in_threadpool(_plain, lambda: answers.export(given))
            return page if isinstance(page, Response) else Response(page, media_type="text/html")
        if what not in asked:
            return _refused("no such question", 404)

        def work() -> Any:
            place = int(given.get("bench", 0))
            if not 0 <= place < len(answers.benches):
                raise UserError("no such detector here")
            lane = f"{given.get('page', '')}/{given.get('lane', what)}"[:200]
            fresh = latest.check(lane, int(given.get("number", 0)))
            fresh()
            return getattr(answers, what)(answers.benches[place], given, fresh)

        found = await run_in_threadpool(_plain, work)
        return found if isinstance(found, Response) else JSONResponse(found)

    def asset(name: str) -> Any:
        async def give(request: Request) -> Response:
            return FileResponse(ASSETS / name)

        return give

    routes = [Route(path, asset(name), methods=["GET"]) for path, name in PAGE.items()]
    routes += [
        Route("/api/about", about, methods=["GET"]),
        Route("/api/thumbnail", thumbnail, methods=["GET"]),
        Route("/api/upload", upload, methods=["POST"]),
        Route("/api/{what}", ask, methods=["POST"]),
    ]
    return Starlette(routes=routes, middleware=[Middleware(Guard, token=token, port=port)])


def _plain(work: Callable[[], Any]) -> Any:
    """Return what ``work`` returns, or an answer that says in one line why not."""
    try:
        return work()
    except Stale:
        return Response(status_code=204)
    except (UserError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, UserError):
            return _refused(" ".join(str(error).split()), 400)
        traceback.print_exc()
        return _refused("the question cannot be understood", 400)
    except Exception:
        traceback.print_exc()
        return _refused("something went wrong; the terminal of `forensift explore` says more", 500)


def _refused(why: str, status: int) -> Response:
    return JSONResponse({"error": why}, status)


async def _body(request: Request, most: int) -> bytes | None:
    """Return the body, None where it is longer; the rest is not read then."""
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > most:
            return None
    return bytes(content)


async def _given(request: Request) -> dict[str, Any] | Response:
    if request.headers.get("content-type", "").split(";")[0] != "application/json":
        return _refused("questions are JSON", 415)
    content = await _body(request, ASKED_BYTES)
    if content is None:
        return _refused("the question is too long", 413)
    try:
        given = json.loads(content)
    except ValueError:
        given = None
    return given if isinstance(given, dict) else _refused("questions are JSON objects", 400)


def listening(port: int) -> socket.socket:
    """Return a socket on 127.0.0.1; where the port is taken, or 0, on any free one.

    Raises:
        UserError: there is none.
    """
    for one in (port, 0):
        opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            opened.bind(("127.0.0.1", one))
            opened.listen(64)
            return opened
        except OSError:
            opened.close()
    raise UserError(f"port {port}: nothing can listen on 127.0.0.1; give another port")


def serve(answers: Answers, token: str, opened: socket.socket) -> None:
    """Answer on an open socket until Ctrl-C."""
    port = opened.getsockname()[1]
    config = uvicorn.Config(
        application(answers, token, port),
        log_level="error",
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        http="h11",
        timeout_graceful_shutdown=1,
    )
    uvicorn.Server(config).run(sockets=[opened])
