"""The browser of the tests itself: it must see what a page does wrong."""

from __future__ import annotations

from pathlib import Path

from .browser import Browser, accessible, screenshot

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>A page</title>
<main><h1>A page</h1><p style="{style}">Words</p>{more}</main></html>"""


def test_a_clean_page(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "clean.html"
    path.write_text(PAGE.format(style="color: #000", more=""))
    page = browser.page(dark=True)
    page.goto(path.as_uri())
    assert page.title() == "A page"
    assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert page.requests_outside == page.complaints == accessible(page) == []
    assert screenshot(page, "browser").stat().st_size > 1_000


def test_what_a_page_does_wrong_is_seen(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "faulty.html"
    faults = (
        '<img src="https://example.org/one.png"><script>console.error("no"); lost()</script>'
        "<script>new WebSocket('ws://example.org/').onclose = () => { closed_socket = 1 }</script>"
    )
    path.write_text(PAGE.format(style="color: #bbb; background: #ccc", more=faults))
    page = browser.page(width=390)
    page.goto(path.as_uri())
    page.wait_for_function("window.closed_socket")
    assert set(page.requests_outside) == {"https://example.org/one.png", "ws://example.org/"}
    assert "no" in page.complaints
    assert any("lost is not defined" in one for one in page.complaints)
    found = {one.split(":")[0] for one in accessible(page)}
    assert found == {"image-alt", "color-contrast"}
