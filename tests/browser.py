"""Pages in a real browser: what they ask for, what they complain of, what a reader stumbles on."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--no-sandbox",  # Chromium refuses to run as root with it, as containers do
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
OUTSIDE = re.compile(r"^(?!(file|data|blob|about|chrome-error):|(http|ws)://127\.0\.0\.1[:/])")
SCREENSHOTS = Path(__file__).resolve().parents[1] / "output" / "screenshots"


class Browser:
    """Headless Chromium. ``page`` opens a tab that nothing outside this machine can be asked from.

    Of a page: ``requests_outside``, the addresses it asked for elsewhere (all refused), and
    ``complaints``, the console's errors and the exceptions nobody caught.
    """

    def __init__(self, chromium: Any) -> None:
        self.chromium = chromium

    def page(self, width: int = 1280, height: int = 800, dark: bool = False) -> Any:
        context = self.chromium.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
            service_workers="block",
            accept_downloads=True,
        )
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.requests_outside, page.complaints = [], []

        def refuse(route: Any) -> None:
            page.requests_outside.append(route.request.url)
            route.abort()

        def note(message: Any) -> None:
            if message.type == "error":
                page.complaints.append(message.text)

        def shut(socket: Any) -> None:
            page.requests_outside.append(socket.url)
            socket.close()

        context.route(OUTSIDE, refuse)
        context.route_web_socket(OUTSIDE, shut)
        page.on("console", note)
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        return page


@contextmanager
def started() -> Iterator[Browser]:
    """Start Chromium; the test is skipped, with the reason, where there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("there is no Chromium: `apt-get install chromium`, or see the Makefile")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=FLAGS)
        try:
            yield Browser(chromium)
        finally:
            chromium.close()


def accessible(page: Any) -> list[str]:
    """Return what axe-core finds of impact serious or critical: ``rule: element, element``."""
    from axe_playwright_python.sync_playwright import Axe

    return [
        f"{one['id']}: {', '.join(' '.join(node['target']) for node in one['nodes'])}"
        for one in Axe().run(page).response["violations"]
        if one["impact"] in ("serious", "critical")
    ]


def screenshot(page: Any, name: str, full: bool = True) -> Path:
    """Keep what a page looks like as ``output/screenshots/NAME.png``, the whole page by default."""
    path = SCREENSHOTS / f"{name}.png"
    page.screenshot(path=path, full_page=full)
    return path
