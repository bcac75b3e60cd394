"""Who may ask: this machine, this page, with the token that was printed; nobody else."""

from __future__ import annotations

import hmac
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

HEADER = "x-forensift-token"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """Refuses, with 403, what has another host or origin, or not the token.

    The token comes once in the address, then in a cookie that other sites do not get sent, or in
    the header ``x-forensift-token``.
    """

    def __init__(self, app: Any, token: str, port: int) -> None:
        self.app, self.token, self.cookie = app, token.encode(), f"forensift-{port}"
        self.hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Hand a request on, or answer it."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return

        async def sent(message: Any) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        answer = self._answer(Request(scope))
        await (self.app if answer is None else answer)(scope, receive, sent)

    def _answer(self, request: Request) -> Response | None:
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if host not in self.hosts or (origin is not None and origin != f"http://{host}"):
            return PlainTextResponse("this page is for this machine alone", 403)
        asked = request.query_params.get("token", "")
        site = request.headers.get("sec-fetch-site", "none")
        walked = request.headers.get("sec-fetch-mode") == "navigate"
        if site not in ("none", "same-origin") and not (asked and walked):
            return PlainTextResponse("another page asked for this", 403)
        held = (asked, request.cookies.get(self.cookie, ""), request.headers.get(HEADER, ""))
        if not any(hmac.compare_digest(one.encode(), self.token) for one in held):
            return PlainTextResponse(
                "the token is missing or another run's: open the address that `forensift explore` "
                "printed",
                403,
            )
        if asked and request.method == "GET":
            found = RedirectResponse(request.url.path, 303)
            found.set_cookie(
                self.cookie, self.token.decode(), httponly=True, samesite="strict", path="/"
            )
            return found
        return None
