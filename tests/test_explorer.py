"""The explorer's server, asked as its page asks it; then its page, in a real browser."""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import re
import signal
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import uvicorn
from PIL import Image

from forensift.ablation import ablation
from forensift.data import photographs
from forensift.errors import UserError
from forensift.evaluation.scores import ScoreLook
from forensift.explorer import Answers, Gallery, Turns, application, bench, demo_images, listening
from forensift.explorer.gallery import UPLOAD_BYTES, Shot, conditions_of
from forensift.explorer.turns import LATER, NOW, Latest, Stale
from forensift.records import ImageSet
from forensift.sensitivity.masks import layer_matched_random_k, top_k
from forensift.sensitivity.scoring import masked_scores
from forensift.sweep import sweep

from .browser import Browser, accessible, screenshot

TOKEN = "a-token-of-the-tests"
PATH = os.pathsep.join(sys.path)
JSON = {"Content-Type": "application/json"}


@dataclass
class Live:
    """A running explorer, and the images of its gallery as a set."""

    port: int
    answers: Answers
    images: ImageSet

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/?token={TOKEN}"

    @property
    def fake(self) -> str:
        return next(one["id"] for one in self.answers.gallery.listed() if one["kind"] == "fake")

    def send(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> SimpleNamespace:
        """Return status, headers and body; with the token unless headers are given."""
        given = {"x-forensift-token": TOKEN} if headers is None else headers
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            content = answer.read()
            return SimpleNamespace(
                status=answer.status,
                headers=answer.headers,
                body=content,
                text=content.decode(errors="replace"),
            )
        finally:
            connection.close()

    def ask(self, what: str, **given: Any) -> dict[str, Any]:
        """Return the answer to a question about the first fake, on the first bench."""
        body = json.dumps({"image": self.fake, "bench": 0, **given})
        found = self.send("POST", f"/api/{what}", body, {"x-forensift-token": TOKEN, **JSON})
        assert found.status == 200, found.text
        return dict(json.loads(found.body))


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("explorer")
    images = demo_images(folder / "images", photos=3)
    (folder / "uploads").mkdir()
    gallery, turns = Gallery(images, folder / "uploads"), Turns()
    benches = [bench(name, gallery, turns) for name in ("npr", "vit")]
    answers = Answers(benches, gallery, turns)
    opened = listening(0)
    port = opened.getsockname()[1]
    server = uvicorn.Server(
        uvicorn.Config(application(answers, TOKEN, port), log_level="error", lifespan="off")
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
    thread.start()
    yield Live(port, answers, images)
    server.should_exit = True
    thread.join(20)
    opened.close()
    assert not thread.is_alive()


# ---- who may ask ----


@pytest.mark.parametrize("path", ["/", "/explorer.js", "/explorer.css", "/api/about", "/nothing"])
def test_without_the_token_nothing_is_given(live: Live, path: str) -> None:
    for headers in ({}, {"x-forensift-token": TOKEN[:-1]}, {"Cookie": f"forensift-{live.port}=é"}):
        found = live.send("GET", path, headers=headers)
        assert found.status == 403
        assert "token" in found.text
        assert TOKEN not in found.text
    assert live.send("GET", path + "?token=other", headers={}).status == 403


def test_the_token_of_the_address_becomes_a_cookie(live: Live) -> None:
    found = live.send("GET", f"/?token={TOKEN}", headers={})
    assert (found.status, found.headers["location"]) == (303, "/")
    cookie = found.headers["set-cookie"]
    assert f"forensift-{live.port}={TOKEN}" in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    page = live.send("GET", "/", headers={"Cookie": cookie.split(";")[0]})
    assert page.status == 200
    assert "<title>forensift explore</title>" in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert page.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "example.org"},
        {"Host": "127.0.0.1:1"},
        {"Host": "localhost.example.org"},
        {"Origin": "http://example.org"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
    ],
)
def test_another_host_or_origin_is_refused(live: Live, headers: dict[str, str]) -> None:
    own = {"x-forensift-token": TOKEN, **JSON, **headers}
    assert live.send("GET", "/api/about", headers=own).status == 403
    body = json.dumps({"image": live.fake})
    assert live.send("POST", "/api/see", body, own).status == 403
    assert live.send("POST", "/api/upload", b"", own).status == 403


def test_questions_that_make_no_sense_get_one_line(live: Live) -> None:
    own = {"x-forensift-token": TOKEN}
    assert live.send("POST", "/api/see", "{}", own).status == 415  # no form of another page can
    for what, body, status in (
        ("see", "[", 400),
        ("see", "[]", 400),
        ("see", json.dumps({"image": "nothing"}), 400),
        ("see", json.dumps({"image": live.fake, "bench": 7}), 400),
        ("see", json.dumps({"image": live.fake, "conditions": {"jpeg": 900}}), 400),
        ("see", json.dumps({"image": live.fake, "conditions": {"rm": 1}}), 400),
        ("see", json.dumps({"image": "../" * 9 + "etc/passwd"}), 400),
        ("drop", json.dumps({"image": live.fake, "off": ["no.#1(T=2)"]}), 400),
        ("drop", json.dumps({"image": live.fake, "k": "many"}), 400),
        ("drop", json.dumps({"image": live.fake, "by": "mood", "k": 2}), 400),
        ("map", json.dumps({"image": live.fake}), 400),
        ("see", json.dumps({"image": "x" * 70_000}), 413),
        ("__class__", "{}", 404),
        ("about", "{}", 404),
    ):
        found = live.send("POST", f"/api/{what}", body, {**own, **JSON})
        if what == "about":
            assert found.status in (404, 405)
            continue
        assert found.status == status, (what, body[:80], found.text)
        error = json.loads(found.body)["error"]
        assert "\n" not in error
        assert len(error) < 300
    for path in ("/../bench.py", "/assets/index.html", "/explorer.js/../../bench.py", "/docs"):
        assert live.send("GET", path, headers=own).status in (404, 405)


# ---- what is uploaded ----


def png_bytes(size: tuple[int, int] = (64, 48)) -> bytes:
    buffer = io.BytesIO()
    with Image.open(photographs("test")[0]) as photo:
        photo.convert("RGB").resize(size).save(buffer, "PNG")
    return buffer.getvalue()


def bomb(side: int) -> bytes:
    """Return a PNG of one black square, small as a file."""
    rows = zlib.compress(b"\0" * (side * (side // 8 + 1)), 9)
    parts = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)), (b"IDAT", rows)]
    chunks = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in [*parts, (b"IEND", b"")]
    )
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_hostile_uploads_get_one_line_and_leave_nothing(live: Live) -> None:
    own, good = {"x-forensift-token": TOKEN}, png_bytes()
    for name, content, status, said in (
        ("page.png", b"<html><script>alert(1)</script></html>", 400, "page.png: no"),
        ("empty.png", b"", 400, "empty.png: no"),
        ("half.png", good[: len(good) // 2], 400, "half.png: "),
        ("bomb.png", bomb(8_000), 400, "8000 × 8000 pixels"),
        ("bomb.png", bomb(8_000)[:60], 400, "bomb.png: "),
        ("big.png", b"\0" * (UPLOAD_BYTES + 1), 413, "larger than 32 MB"),
        ("s.svg", b'<svg xmlns="http://www.w3.org/2000/svg"/>', 400, "s.svg: no"),
        ("..%2F..%2Fetc%2Fpasswd", b"%!PS", 400, "passwd: no"),
    ):
        try:
            found = live.send("POST", f"/api/upload?name={name}", content, own)
        except (BrokenPipeError, ConnectionResetError):
            assert status == 413  # it did not listen to the end
            continue
        assert found.status == status, (name, found.text)
        error = json.loads(found.body)["error"]
        assert said in error
        assert "\n" not in error
    assert not list(live.answers.gallery.folder.iterdir())


def test_an_upload_is_seen_as_its_file_is(live: Live, tmp_path: Path) -> None:
    content = png_bytes((300, 90))
    found = live.send(
        "POST", "/api/upload?name=%3Cb%3Emine.png", content, {"x-forensift-token": TOKEN}
    )
    key = json.loads(found.body)["id"]
    assert re.fullmatch(r"upload-[0-9a-f]{12}", key)
    listed = live.answers.gallery.listed()[-1]
    assert (listed["id"], listed["name"], listed["kind"]) == (key, "<b>mine.png", "uploaded")
    seen = live.ask("see", image=key)
    assert (seen["size"], seen["of"]) == ([256, 90], [300, 90])  # the middle, at most 256 a side
    with Image.open(io.BytesIO(content)) as image:
        middle = np.asarray(image.crop((22, 0, 278, 90)))
    assert np.array_equal(decoded(seen["picture"]), middle)
    assert live.ask("see", image=key, bench=1)["size"] == [96, 96]  # that preset crops by itself
    thumbnail = live.send("GET", f"/api/thumbnail?image={key}")
    assert Image.open(io.BytesIO(thumbnail.body)).size == (96, 29)


def decoded(address: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))))


# ---- what is answered ----


def one_image(live: Live, key: str) -> ImageSet:
    entry = live.answers.gallery.entries[key]
    return ImageSet(live.images.root, (entry,), live.images.layout)


@pytest.mark.parametrize("value", ["zero", "mean-real"])
@pytest.mark.parametrize("k", [1, 8, 100])
def test_a_number_without_maps_is_dropouts(live: Live, value: str, k: int) -> None:
    own = live.answers.benches[0]
    assert own.ranking is not None
    images = one_image(live, live.fake)
    under = own.ablations[value] if value == "mean-real" else ablation(own.detector, images)
    mask = top_k(own.ranking, k)
    logits, _ = masked_scores(own.detector, images, [mask.feature_maps], ablation=under)
    found = live.ask("drop", by="ranking", k=k, value=value)
    assert found["logit"] == pytest.approx(logits[0, 0], abs=1e-6)
    assert found["dropped"] == k
    assert found["probability"] == pytest.approx(1 / (1 + np.exp(-logits[0, 0])))


def test_maps_are_switched_off_and_on_by_name(live: Live) -> None:
    own = live.answers.benches[0]
    first, other = map(str, own.ranked[:3]), str(own.ranked[900])
    names = [*first]
    images = one_image(live, live.fake)
    wanted = own.parsed([names[0], names[2], other])
    logits, _ = masked_scores(own.detector, images, [wanted, own.parsed([other])])
    found = live.ask("drop", by="ranking", k=3, off=[other], on=[names[1]])
    assert found["dropped"] == 3
    assert found["logit"] == pytest.approx(logits[0, 0], abs=1e-6)
    whole = live.ask("see")["logit"]
    changes = live.ask("alone", maps=[other])["changes"]
    assert changes[other] == pytest.approx(logits[1, 0] - whole, abs=1e-6)


def test_the_band_is_that_of_layer_matched_draws(live: Live) -> None:
    own = live.answers.benches[0]
    maps = own.detector.feature_maps
    masks = [layer_matched_random_k(maps, own.ranked[:8], draw, 0) for draw in range(20)]
    logits, _ = masked_scores(
        own.detector, one_image(live, live.fake), [one.feature_maps for one in masks]
    )
    found = live.ask("band", by="ranking", k=8)
    assert found["draws"] == 20
    low, high = np.quantile(logits[:, 0], [0.05, 0.95])
    assert (found["low"], found["high"]) == (
        pytest.approx(low, abs=1e-6),
        pytest.approx(high, abs=1e-6),
    )
    assert live.ask("band", by="ranking", k=0) == {"draws": 0}


def test_changes_of_the_image_are_those_of_robustness(live: Live) -> None:
    own = live.answers.benches[0]
    one = one_image(live, live.fake)
    found = {live.ask("see")["logit"]}
    for condition, given in (("jpeg-50", {"jpeg": 50}), ("blur-1", {"blur": 1})):
        look = ScoreLook(own.detector, conditions=[condition])
        sweep(one, [look])
        logit = float(np.ravel(look.statistic.of([live.fake], "logit", condition))[0])
        seen = live.ask("see", conditions=given)["logit"]
        assert seen == pytest.approx(logit, abs=1e-5)
        found.add(seen)
    assert len(found) == 3


def test_conditions_come_in_the_order_of_an_images_way() -> None:
    given = {"jpeg": 75, "grey": 1, "blur": 1.5, "resize": 0.5}
    assert conditions_of(given) == ("resize-0.5", "blur-1.5", "grey", "jpeg-75")
    with pytest.raises(UserError, match="no condition 'turn'"):
        conditions_of({"turn": 20})


def test_lists_hold_the_strongest_maps(live: Live) -> None:
    own = live.answers.benches[0]
    found = live.ask("maps")
    assert found["how"] == "relevance"
    assert found["by"] == "omega"
    scores = [row["score"] for row in found["image"]]
    assert scores == sorted(scores, reverse=True)
    assert 0 < scores[0] <= 1
    assert [row["map"] for row in found["ranking"]] == [str(one) for one in own.ranked[:12]]
    first = found["image"][0]
    assert own.places[first["map"]] == first["other"]
    # The order of the image is what its slider drops.
    by_name = live.ask("drop", off=[row["map"] for row in found["image"][:5]])
    assert live.ask("drop", by="image", k=5) == by_name


def test_a_map_is_studied(live: Live) -> None:
    name = str(live.answers.benches[0].ranked[0])
    here, found = live.ask("map", map=name), live.ask("study", map=name)
    assert decoded(here["heat"]).shape[2] == 4
    values = np.array(found["maxima"]["rgb"])
    assert len(values) == len(found["maxima"]["grey"]) == 6
    assert np.isclose(values, here["maximum"], atol=1e-5).any()  # the image is one of them
    most = [one["maximum"] for one in found["patches"]]
    assert most == pytest.approx(sorted(values, reverse=True)[:5], abs=1e-5)
    assert found["patches"][0]["size"] == list(decoded(found["patches"][0]["picture"]).shape[1::-1])


def test_methods_explain_or_say_why_not(live: Live) -> None:
    heat = decoded(live.ask("explain", method="lrp")["heat"])
    assert heat.shape == (128, 128, 4)
    assert heat[..., 3].max() == 255
    assert "no explanation method" in live.ask("explain", method="tea leaves")["reason"]
    refused = live.ask("explain", method="fullgrad", bench=1)
    assert ("heat" in refused) != ("reason" in refused)
    notes = live.ask("methods", bench=1)["notes"]
    assert all(why for why in notes.values())


def test_what_is_out_of_date_is_not_computed(live: Live) -> None:
    own = {"x-forensift-token": TOKEN, **JSON}
    given = {"image": live.fake, "page": "p", "lane": "drop/0", "k": 3}
    assert live.send("POST", "/api/drop", json.dumps({**given, "number": 5}), own).status == 200
    assert live.send("POST", "/api/drop", json.dumps({**given, "number": 4}), own).status == 204
    assert live.send("POST", "/api/drop", json.dumps({**given, "number": 6}), own).status == 200
    fresh = Latest()
    first = fresh.check("lane", 1)
    first()
    fresh.check("lane", 2)
    with pytest.raises(Stale):
        first()


def test_the_urgent_have_their_turn_first() -> None:
    turns, done = Turns(), list[str]()
    started = threading.Event()

    def work(name: str, urgency: int) -> None:
        with turns.turn(urgency):
            done.append(name)

    with turns.turn(LATER):
        threads = [
            threading.Thread(target=work, args=one)
            for one in (("later", LATER), ("now", NOW), ("later too", LATER), ("now too", NOW))
        ]
        for place, thread in enumerate(threads, 1):
            thread.start()
            while len(turns._waiting) < place:
                started.wait(0.001)
    for thread in threads:
        thread.join()
    assert done == ["now", "now too", "later", "later too"]


def test_unlabelled_folders_and_old_uploads(
    live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in range(2):
        (tmp_path / f"{place}.png").write_bytes(png_bytes((40 + place, 40)))
    (tmp_path / "uploads").mkdir()
    gallery = Gallery.of(tmp_path, tmp_path / "uploads")
    assert [one["kind"] for one in gallery.listed()] == ["", ""]
    assert len(gallery.studied) == 2  # nobody says which are fakes
    monkeypatch.setattr("forensift.explorer.gallery.UPLOADS", 1)
    first = gallery.add("a.png", png_bytes((8, 8)))
    gallery.add("b.png", png_bytes((9, 9)))
    assert len(list((tmp_path / "uploads").iterdir())) == 1
    with pytest.raises(UserError, match="was dropped here earlier"):
        gallery.picture(Shot(first))


# ---- the page ----


def settled(page: Any, script: str, what: str = "") -> Any:
    """Wait until a script gives something true; the page's policy lets none be run as text."""
    for _ in range(1_500):
        found = page.evaluate(script)
        if found:
            return found
        page.wait_for_timeout(20)
    raise AssertionError(what or script)


def quiet(page: Any) -> None:
    """Wait until the page has nothing to ask any more."""
    silent = 0
    while silent < 8:
        page.wait_for_timeout(60)
        busy = page.evaluate("document.body.dataset.busy")
        silent = 0 if busy == "true" else silent + 1


def opened(live: Live, browser: Browser, state: str = "", **how: Any) -> Any:
    page = browser.page(**how)
    page.goto(live.address + state)
    settled(page, "document.querySelectorAll('.bench[data-painted]').length == 2", "no number")
    page.locator(".lists .map").first.wait_for()
    explained = "[...document.querySelectorAll('.explanations figcaption')].every(x => x.innerText)"
    settled(page, explained, "no explanation")
    return page


def number(page: Any, place: int = 0) -> str:
    return str(page.locator(".probability").nth(place).inner_text())


def test_a_walk_through_the_page(live: Live, browser: Browser, tmp_path: Path) -> None:
    page = opened(live, browser)
    whole = live.ask("see")
    assert page.locator(".logit").first.inner_text() == f"logit +{whole['logit']:.2f}"
    assert page.locator(".name").all_inner_texts() == ["npr", "vit"]
    assert page.locator("h1").inner_text() == "What do npr and vit look at?"

    # Maps off: by the slider, then one of them on again by hand.
    page.locator(".k").first.fill("4")
    expected = live.ask("drop", by="ranking", k=5)
    settled(page, f"document.querySelector('.logit').innerText.includes('{expected['logit']:.2f}')")
    assert page.locator(".kshown").first.inner_text() == "5 of 5,056"
    switch = page.locator("ol.ranking").first.locator(".toggle").first
    assert not switch.is_checked()
    switch.click()
    name = str(live.answers.benches[0].ranked[0])
    expected = live.ask("drop", by="ranking", k=5, on=[name])
    settled(page, f"document.querySelector('.logit').innerText.includes('{expected['logit']:.2f}')")
    assert number(page, 1) != "…"
    settled(page, "document.querySelector('.bandsaid').innerText.startsWith('Band: of 20')")
    page.locator(".reset").first.click()
    assert page.locator(".kshown").first.inner_text() == "0 of 5,056"

    # A method changed, a map opened.
    page.locator(".method").nth(1).select_option("input-x-gradient")
    settled(page, "document.querySelectorAll('figcaption')[1].innerText.includes('input-x-grad')")
    page.locator("ol.image").first.locator(".map").first.click()
    page.locator(".patches img").first.wait_for()
    assert page.locator(".plot svg").count() == 1
    assert page.locator(".detail .over").first.get_attribute("src").startswith("data:image/png")

    # The image changed on its way: another number.
    page.locator("#jpeg").fill("40")
    jpeg = live.ask("see", conditions={"jpeg": 40})["logit"]
    settled(page, f"document.querySelector('.logit').innerText.includes('{abs(jpeg):.2f}')")
    screenshot(page, "explorer-two")

    # An upload.
    path = tmp_path / "own photograph.png"
    path.write_bytes(png_bytes((120, 100)))
    page.locator("#file").set_input_files(path)
    settled(page, "document.querySelector('#facts').innerText.includes('own photograph.png')")
    assert "uploaded" in page.locator("#facts").inner_text()
    bad = tmp_path / "page.png"
    bad.write_bytes(b"<html>")
    page.locator("#file").set_input_files(bad)
    settled(page, "document.querySelector('#message').innerText.includes('page.png: no')")
    complaints = [one for one in page.complaints if "400" not in one]
    assert page.requests_outside == complaints == []


def test_the_address_brings_back_what_was_seen(live: Live, browser: Browser) -> None:
    page = opened(live, browser)
    page.locator("#strip button").nth(4).click()
    page.locator("#blur").fill("1.2")
    quiet(page)
    page.locator(".k").nth(1).fill("3")
    page.locator(".by").nth(1).select_option("image")
    page.locator(".value").first.select_option("mean-real")
    page.locator("ol.image").first.locator(".toggle").nth(2).click()
    page.locator(".method").first.select_option("gradient")
    page.locator(".opacity").first.fill("35")
    page.locator("ol.ranking").first.locator(".map").nth(1).click()
    page.locator(".patches li").first.wait_for()
    told = "[...document.querySelectorAll('.logit')].map(x => x.innerText)"
    quiet(page)
    before = page.evaluate(told)
    again = browser.page()
    again.goto(live.address)  # the token becomes a cookie there, too
    again.goto(page.url)
    again.reload()
    again.locator(".patches li").first.wait_for()
    quiet(again)
    assert again.evaluate(told) == before
    assert again.locator(".opacity").first.input_value() == "35"
    assert again.locator(".method").first.input_value() == "gradient"
    assert again.locator("#blur").input_value() == "1.2"
    assert not again.locator("ol.image").first.locator(".toggle").nth(2).is_checked()
    assert again.requests_outside == again.complaints == []


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_is_for_everybody(live: Live, browser: Browser, dark: bool) -> None:
    name = str(live.answers.benches[0].ranked[0])
    page = opened(live, browser, f"#map0={quote(name)}", width=390, dark=dark)
    page.locator(".patches li").first.wait_for()
    assert accessible(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    screenshot(page, f"explorer-phone-{'dark' if dark else 'light'}")
    # By keyboard alone: a switch goes off with the space bar, and has a name.
    switch = page.locator("ol.image").first.locator(".toggle").first
    switch.focus()
    before = page.locator(".bench").first.get_attribute("data-painted")
    page.keyboard.press("Space")
    settled(page, f"document.querySelector('.bench').dataset.painted != '{before}'")
    assert not switch.is_checked()
    assert switch.get_attribute("aria-label").endswith("on")
    assert page.requests_outside == page.complaints == []


def test_an_export_moves_without_the_server(live: Live, browser: Browser, tmp_path: Path) -> None:
    page = opened(live, browser, "#k0=8")
    page.locator("ol.ranking").first.locator(".map").first.click()
    page.locator(".patches li").first.wait_for()
    with page.expect_download() as download:
        page.locator("#export").click()
    path = tmp_path / download.value.suggested_filename
    assert path.name.startswith("forensift-npr-vit-")
    download.value.save_as(path)
    content = path.read_text(encoding="utf-8")
    assert 100_000 < len(content.encode()) < 5_000_000
    assert not re.search(
        r"""(src|href)=["'](?!data:)|url\(|@import|https?://(?!www\.w3)""", content
    )

    alone = browser.page()
    alone.goto(path.as_uri())
    shown = page.locator(".probability").first.inner_text()
    assert alone.locator(".probability").first.inner_text() == shown
    alone.locator(".k").first.fill("7")
    k = live.answers.benches[0].steps[7]
    expected = live.ask("drop", by="ranking", k=k)["logit"]
    text = alone.locator(".logit").first.inner_text()
    assert f"{abs(expected):.2f} without {k} feature maps" in text
    button = alone.locator(".lists .map").first
    button.click()
    changes = live.ask("alone", maps=[button.inner_text()])["changes"]
    logit = live.ask("see")["logit"] + changes[button.inner_text()]
    assert f"{abs(logit):.2f} without {button.inner_text()} alone" in (
        alone.locator(".logit").first.inner_text()
    )
    alone.locator(".opacity").first.fill("10")
    assert alone.locator(".over").first.evaluate("e => e.style.opacity") == "0.1"
    assert alone.locator(".patches img").count() >= 1
    assert accessible(alone) == []
    screenshot(alone, "explorer-export")
    assert alone.requests_outside == alone.complaints == []


# ---- the command ----


def explore(*given: str, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "forensift", "explore", *given, "--no-open", "--port", "0"]
    environment = {**os.environ, "TMPDIR": str(cwd / "tmp"), "HOME": str(cwd), "PYTHONPATH": PATH}
    (cwd / "tmp").mkdir(exist_ok=True)
    return subprocess.Popen(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_the_command_prints_an_address_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.png").write_bytes(png_bytes())
    started = explore("npr", "--data", "mine", cwd=tmp_path)
    try:
        assert started.stdout is not None
        line = started.stdout.readline()
        found = re.fullmatch(r"open (http://127\.0\.0\.1:(\d+)/\?token=([\w-]{32}))\n", line)
        assert found, line + started.communicate(timeout=10)[1]
        connection = http.client.HTTPConnection("127.0.0.1", int(found[2]), timeout=60)
        connection.request("GET", "/api/about", headers={"x-forensift-token": found[3]})
        about = json.loads(connection.getresponse().read())
        assert [one["id"] for one in about["images"]] == ["photo.png"]
        assert about["benches"][0]["ranking"]
        own = {"x-forensift-token": found[3], **JSON}
        connection.request("POST", "/api/see", json.dumps({"image": "photo.png"}), own)
        assert json.loads(connection.getresponse().read())["size"] == [64, 48]
        connection.close()
        assert len(list((tmp_path / "tmp").iterdir())) == 1
    finally:
        started.send_signal(signal.SIGINT)
        _, said = started.communicate(timeout=90)
    assert "Traceback" not in said
    assert started.returncode == 0
    assert sorted(one.name for one in tmp_path.iterdir()) == ["mine", "tmp"]
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("npr,vit,lgrad",), "one detector, or two"),
        (("npr,",), "one detector, or two"),
        (("npr", "--ranking", "a.csv,b.csv"), "--ranking: 2 files for 1 detectors"),
        (("npr", "--data", "nowhere"), "nowhere: no such folder or file"),
    ],
)
def test_what_is_wrong_is_one_line(given: tuple[str, ...], said: str, tmp_path: Path) -> None:
    started = explore(*given, cwd=tmp_path)
    printed, errors = started.communicate(timeout=200)
    assert (started.returncode, printed) == (2, "")
    assert errors.count("\n") == 1
    assert said in errors
