"""Everything about one detector on anybody's images, and the page that is made of it."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

from forensift.data import get_preset
from forensift.detectors.detector import Detector, WeightsOrigin
from forensift.detectors.units import find_feature_maps
from forensift.errors import UserError
from forensift.records import FAKE, REAL, ImageEntry, ImageSet
from forensift.report import read, report
from forensift.report.answer import answer, dropped
from forensift.studies.own import study
from forensift.studies.own.sides import fewer, sides
from forensift.studies.stages import Scale

from .browser import accessible, screenshot
from .planted import planted_detector, planted_images

SCALE = Scale(draws=2, maps=2, explained=2, modes=("rgb", "grey"), conditions=("clean", "grey"))
HOSTILE = "two<script>bad()</script>"


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    images = planted_images(root / "data", ("one", HOSTILE), n=9)
    lonely = images.only(label=REAL, generator="one").entries[0].path
    more = ImageEntry(lonely, REAL, "lonely")
    images = ImageSet(images.root, (*images.entries, more), images.layout)
    said: list[str] = []
    done = study(
        root / "out", planted_detector(width=12), images, scale=SCALE, ks=(2,), say=said.append
    )
    done.save(root / "out")
    return done, root / "out", said


def test_every_stage_is_there_or_says_why_not(studied):
    done, out, said = studied
    stages = {
        "ranking", "evaluation", "dropout-k2", "colour", "median-test", "patches-one", "embedding",
        "explanation", "faithfulness", "transfer",
    }  # fmt: skip
    for stage in stages:
        assert f"planted/{stage}" in done.found or f"planted: {stage}" in done.not_done, stage
    assert {f"planted/{one}" for one in ("evaluation", "ranking", "dropout-k2", "colour")} <= set(
        done.found
    )
    assert "robustness" in done.found
    assert done.not_done["generator lonely"] == "it holds no fakes"
    assert "pursuit" in done.not_done["planted: dropout-causal"]
    assert "forensift planted" in done.not_done["planted truth"]
    for name in done.found:
        manifest = json.loads((out / name / "manifest.json").read_text())
        assert manifest["said"] == done.found[name].said
    assert any("ranked on 12 other images" in line for line in said)
    page = (out / "index.html").read_text()
    assert all(reason.split("`")[0].split("'")[0] in page for reason in done.not_done.values())


def test_a_stage_that_fails_ends_no_study(tmp_path: Path) -> None:
    class Odd(nn.Module):
        """Neither torch.fx nor LRP can read it."""

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 12, 3), nn.Linear(12, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.conv(x).relu()
            if float(x.detach().mean()) > 1e9:
                x = x - 1
            return self.fc(torch.sort(x.flatten(2), -1)[0][..., -5:].mean(-1))

    torch.manual_seed(0)
    network = Odd().eval()
    odd = Detector(
        "odd", network, get_preset("wang-nocrop"), find_feature_maps(network),
        WeightsOrigin("initialisation", "", "bare"),
    )  # fmt: skip
    images = planted_images(tmp_path / "data", ("one",), n=9)
    done = study(tmp_path / "out", odd, images, scale=SCALE, say=lambda line: None)
    done.save(tmp_path / "out")
    assert "odd/evaluation" in done.found, done.not_done
    assert "ranking by omega" in {stage.split(": ")[1] for stage in done.not_done if ":" in stage}
    assert "odd/ranking" in done.found, done.not_done
    assert done.found["odd/ranking"].of["gradient-activation"].by == "gradient-activation"
    assert "odd/dropout-k3" in done.found, done.not_done
    assert done.not_done["odd: transfer"] == "it takes two generators, and there is one"
    assert "What does odd look at?" in (tmp_path / "out" / "index.html").read_text()


def test_a_photograph_is_looked_at_or_ranked_on() -> None:
    entries = tuple(
        ImageEntry(Path(f"/x/{generator}/{label}/{name}-{crop}.png"), label, generator)
        for generator in ("a", "b")
        for label in (REAL, FAKE)
        for name in map(str, "pqrstuvwx")
        for crop in range(2)
    )
    images = ImageSet(Path("/x"), entries)
    test, rank = sides(images, 3)
    shown = [{one.path.stem.split("-")[0] for one in side} for side in (test, rank)]
    assert not shown[0] & shown[1]
    assert len(shown[1]) == 3
    assert len(test) + len(rank) == len(images)
    assert sides(ImageSet(Path("/x"), entries[::-1]), 3)[1].entries == rank.entries[::-1]
    few = fewer(test, 4, 3)
    assert len(few) == 16
    assert len({one.path.stem for one in few}) == 4  # the same photographs of every group
    alone = ImageSet(Path("/x"), entries[:1] + entries[36:37])
    assert sides(alone) == (alone, alone)


def test_no_generator_with_both(tmp_path: Path) -> None:
    images = planted_images(tmp_path, ("one",), n=3).only(label=REAL)
    with pytest.raises(UserError, match="no generator holds both"):
        study(tmp_path / "out", planted_detector(), images)


def test_the_answer_is_of_the_tables(studied):
    done, out, _ = studied
    parts = read([out])
    sentences = answer(parts)
    assert len(sentences) == 3
    table = done.found["planted/evaluation"].table
    own = table[table["generator"] != "macro mean"]
    assert f"an AP of {100 * own['ap'].mean():.0f} %" in sentences[0]
    gap = done.found["planted/dropout-k2"].gap
    (found,) = dropped(parts)
    rows = gap[gap["generator"] == found.where].set_index("mask")
    assert f"finds {100 * rows.loc['top-k', 'fake_accuracy_05']:.0f} % of the fakes" in sentences[1]
    assert f"({100 * rows.loc['baseline', 'fake_accuracy_05']:.0f} % with them)" in sentences[1]
    assert found.table.loc["one", "right_top"] == pytest.approx(
        gap[(gap["mask"] == "top-k") & (gap["generator"] == "one")]["real_accuracy_05"].iloc[0]
    )


def test_results_say_where_they_are_missing(tmp_path: Path, studied) -> None:
    with pytest.raises(UserError, match="no folder"):
        report([tmp_path / "none"])
    with pytest.raises(UserError, match="holds no result"):
        report([tmp_path])
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match="no result there has tables"):
        report([tmp_path])
    (tmp_path / "view.json").write_text('{"title": ')
    with pytest.raises(UserError, match=r"view\.json cannot be read"):
        report([tmp_path])
    (tmp_path / "view.json").write_text('{"title": "x"}')
    with pytest.raises(UserError, match="'shown' is missing"):
        report([tmp_path])
    # What an earlier version saved has no view: tables and pictures as they lie there.
    pd.DataFrame({"generator": ["one"], "ap": [0.5]}).to_csv(tmp_path / "evaluation.csv")
    (tmp_path / "view.json").unlink()
    (part,) = read([tmp_path])
    assert part.result == "Evaluation"
    assert part.tables[0].rows[0][1:] == ["one", "0.5"]


def test_the_same_results_make_the_same_page(studied):
    _, out, _ = studied
    assert report([out]).html() == report([out]).html()


@pytest.fixture
def page(browser, studied):
    _, out, _ = studied
    tab = browser.page()
    tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab.goto((out / "index.html").as_uri())
    yield tab
    assert tab.requests_outside == tab.complaints == []
    tab.context.close()


def test_the_first_screen(page, studied):
    done, _, _ = studied
    assert page.title() == "What does planted look at?"
    answers = page.locator(".answer li").all_inner_texts()
    assert answers == answer(read([done.folder]))
    picture = page.locator(".answer img")
    assert picture.evaluate("one => one.complete && one.naturalWidth") > 100
    box = picture.bounding_box()
    assert box["y"] + 100 < page.viewport_size["height"]
    assert page.locator("nav a").count() > 10
    for link in page.locator("nav a").all():
        assert page.locator(f"[id='{link.get_attribute('href')[1:]}']").count() == 1
    screenshot(page, "report")


def test_pictures_are_there_and_names_do_no_harm(page):
    for picture in page.locator("main img").all():
        picture.evaluate("one => { for (let up = one; up; up = up.parentElement) up.open = true }")
        picture.scroll_into_view_if_needed()
        assert picture.evaluate("async one => { await one.decode(); return one.naturalWidth }") > 50
        assert len(picture.get_attribute("alt")) > 10
    assert page.locator("main img[src^='data:image/svg']").count() > 4
    assert HOSTILE in page.locator("body").inner_text()
    assert page.evaluate("document.scripts.length") == 1


def test_tables_sort_filter_fold_and_copy(page):
    box = page.locator("section .table").first
    header = box.locator("thead th", has_text="AP").first
    at = header.evaluate("one => one.cellIndex")

    def column() -> list[str]:
        rows = box.locator("tbody tr:visible").all()
        return [row.locator("th, td").nth(at).inner_text() for row in rows]

    before = column()
    numbers = [float(re.match(r"[\d.]+", cell)[0]) for cell in before]
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    assert [float(re.match(r"[\d.]+", cell)[0]) for cell in column()] == sorted(numbers)
    header.locator("button").press("Enter")
    assert [float(re.match(r"[\d.]+", c)[0]) for c in column()] == sorted(numbers, reverse=True)
    header.locator("button").click()
    assert column() == before
    box.locator("input").fill("macro")
    assert len(column()) == 1
    box.locator(".copy").click()
    box.locator("[role=status]", has_text="1 rows copied").wait_for()
    copied = pd.read_csv(io.StringIO(page.evaluate("navigator.clipboard.readText()")))
    assert copied.iloc[:, 0].tolist() == ["macro mean"]
    box.locator("input").fill("")
    assert column() == before
    long = page.locator(".table:has(.unfold)").first
    long.evaluate("one => { for (let up = one; up; up = up.parentElement) up.open = true }")
    rows = long.locator("tbody tr").count()
    assert long.locator("tbody tr:visible").count() < rows
    long.locator(".unfold").click()
    assert long.locator("tbody tr:visible").count() == rows


def test_a_figure_is_enlarged_and_put_back(page):
    button = page.locator("section .zoom").first
    button.focus()
    page.keyboard.press("Enter")
    large = page.locator("dialog.large")
    assert large.is_visible()
    small = large.locator("img").bounding_box()["width"]
    large.locator("img").click()
    assert large.locator("img").bounding_box()["width"] > small
    page.keyboard.press("Escape")
    assert not large.is_visible()
    assert button.evaluate("one => one === document.activeElement")


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False)])
def test_everybody_can_read_it(browser, studied, width, dark):
    _, out, _ = studied
    page = browser.page(width=width, height=844, dark=dark)
    page.goto((out / "index.html").as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
    assert accessible(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    screenshot(page, f"report-{width}{'-dark' * dark}")
    page.context.close()


def test_it_goes_to_paper_whole(page):
    rows = page.locator("tbody tr").count()
    page.emulate_media(media="print")
    content = page.pdf()  # Chromium tells the page before it prints
    assert content.startswith(b"%PDF")
    assert page.locator("tbody tr:not([hidden])").count() == rows
    assert not page.locator("nav").is_visible()
