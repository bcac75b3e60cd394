"""The demo, small: every stage on real photographs, and what it leaves on disk."""

from __future__ import annotations

import html
import json
import re

import pandas as pd
import pytest

from forensift import views
from forensift.evaluation import MACRO
from forensift.figures import plot_ap_curve, plot_dropout, plot_omega
from forensift.sensitivity import UNSEEN
from forensift.studies.demo import Scale, demo
from forensift.studies.demo.asked import Measured

FAMILIES = ("progan-like", "dcgan-like")
SCALE = Scale(
    pairs=15, rank_pairs=15, side=48, draws=3, maps=3, transfer_pairs=6, explained=2,
    modes=("rgb", "grey"),
)  # fmt: skip
STAGES = (
    "ranking", "evaluation", "dropout-k40", "dropout-k8", "dropout-causal", "colour",
    "median-test",
    "patches-progan-like", "patches-dcgan-like", "embedding", "explanation", "faithfulness",
    "asked", "transfer",
)  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo")
    said: list[str] = []
    done = demo(out, detectors=("npr",), families=FAMILIES, scale=SCALE, ks=(8,), say=said.append)
    done.save(out)
    return done, said


def test_every_family_and_mask_is_in_the_tables(small):
    done, _ = small
    study = done.studies["npr"]
    assert set(study["evaluation"].table["generator"]) == {*FAMILIES, MACRO}
    table = pd.read_csv(done.folder / "npr" / "dropout-k8" / "dropout.csv")
    assert set(table["generator"]) == set(FAMILIES)
    counts = table[table["generator"] == FAMILIES[0]]["mask"].value_counts()
    assert counts["random-k"] == counts["random-k-layer-matched"] == 3
    assert {"baseline", "top-k", "low-k", "lowest-non-zero"} <= set(counts.index)


def test_the_whole_network_sees_the_test_images_once_a_colour_mode(small):
    done, _ = small
    passes = done.facts["network_passes_over_test_images"]["npr"]
    assert passes == 45  # 15 reals that both families share, and 30 fakes: once in each mode


def test_every_stage_has_its_tables_figures_and_sentence(small):
    done, _ = small
    study = done.studies["npr"]
    assert tuple(study) == STAGES
    assert tuple(done.whole) == ("spectra", "robustness")
    page = (done.folder / "index.html").read_text()
    shown, plain = html.unescape(page), page.replace("&#39;", "'").replace("&#34;", '"')
    results = (done.folder / "results.md").read_text()
    every = [(f"npr/{stage}", one) for stage, one in study.items()]
    for folder, result in [*every, ("robustness", done.whole["robustness"])]:
        view = views.view_of(result)
        for name in view.figures:
            assert (done.folder / folder / f"{name}.png").stat().st_size > 3000
            assert f"{view.title}: {name.replace('_', ' ').replace('-', ' ')}" in shown
        for name, tidy in view.tables.items():
            path = done.folder / folder / name
            if path.with_suffix(".parquet").exists():
                written = pd.read_parquet(path.with_suffix(".parquet"))
            else:
                written = pd.read_csv(path.with_suffix(".csv"))
            assert len(written) == len(tidy)
            assert list(written.columns) == list(tidy.columns)
        assert view.said
        assert view.said in results
        assert html.escape(view.said.split(". ")[0], quote=False) in plain
        manifest = json.loads((done.folder / folder / "manifest.json").read_text())
        assert manifest["said"] == view.said
    sections = re.findall(r'<section id="([^"]+)"', page)
    assert len(sections) == len(STAGES) + 2  # and spectra and robustness, of all
    assert all(f'href="#{one}"' in page for one in sections)


def test_the_signed_effect_is_in_the_table_the_page_and_the_sentence(small):
    done, _ = small
    result = done.studies["npr"]["dropout-k8"]
    shown = views.view_of(result).shown[0]
    tops = shown.rows[shown.rows["mask"] == "top-k"]
    assert tops["fakes' logit"].str.fullmatch(r"[+-]\d+\.\d\d").all()
    assert "mean logit of fakes" in result.said
    for name in ("index.html", "results.md"):
        assert "mean logit of fakes" in (done.folder / name).read_text()


def test_what_was_asked_stands_beside_what_was_measured(small):
    done, _ = small
    study = done.studies["npr"]
    table = study["asked"].table.set_index("what")
    ap = study["evaluation"].table.set_index("generator")["ap"]
    measured = table.loc["AP on the training family"]
    assert measured["measured"] == f"{100 * ap['progan-like']:.1f}"
    assert measured["met"] == ("yes" if 100 * ap["progan-like"] >= 98 else "no")
    causal = study["dropout-causal"]
    own = causal.gap[causal.gap["generator"] == UNSEEN].set_index("mask")
    measured = table.loc["reals right"]
    assert measured["measured"] == f"{100 * own.loc['top-k', 'real_accuracy_05']:.1f}"
    assert causal.facts["ranking_by"] == "pursuit"
    worse = study["evaluation"].table.assign(ap=0.5)
    judged = Measured.of(
        type("", (), {"table": worse, "facts": {"detector": ""}}), {}, None, "progan-like"
    ).table
    assert judged["met"].tolist() == ["no", "no"]


def test_the_manifest_says_how(small):
    done, said = small
    manifest = json.loads((done.folder / "manifest.json").read_text())
    assert manifest["seed"] == 0
    assert len(manifest["detectors"]["npr"]) == 64
    assert set(manifest["seconds"]) >= {"sweep", "rank", "dropout", "whole"}
    assert any("LRP" in line for line in said)
    assert not list(done.folder.rglob("*.part"))


def test_figures_show_the_numbers_of_their_tables(small):
    done, _ = small
    study = done.studies["npr"]
    result = study["dropout-k40"]
    heat = plot_dropout(result.summary)
    texts = {text.get_position(): text.get_text() for text in heat.axes[0].texts}
    names = [label.get_text().removesuffix(" (seen)") for label in heat.axes[0].get_yticklabels()]
    for mask, across in (("baseline", 0.5), ("top-k", 1.5)):
        own = result.summary[result.summary["mask"] == mask].set_index("generator")
        column = "ap" if mask == "baseline" else "change_ap"
        for name, value in own[column].items():
            text = texts[across, names.index(str(name)) + 0.5].replace("−", "-")
            assert float(text) == pytest.approx(100 * value, abs=0.51)
    falls = [float(own.loc[name, "change_ap"]) for name in names if name in own.index]
    families = sum(not str(name).startswith("macro") for name in own.index)
    assert falls[:families] == sorted(falls[:families])
    curve = plot_ap_curve(result.curve, 40)
    shown = [axes for axes in curve.axes if axes.get_visible()]
    assert len(shown) == result.curve["generator"].nunique()
    omega = plot_omega(study["ranking"].of["fake"].table, 8)
    counts = [bar.get_width() for bar in omega.axes[1].patches]
    assert sum(counts) == 8
