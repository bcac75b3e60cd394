"""The demo, small: every stage on real photographs, and what it leaves on disk."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from forensift.evaluation import MACRO
from forensift.figures import plot_ap_curve, plot_dropout, plot_omega
from forensift.studies import Scale, demo, write_index, write_results
from forensift.studies.demo.rows import asked_rows, dropout_rows, evaluation_rows

FAMILIES = ("progan-like", "dcgan-like")
SCALE = Scale(
    pairs=15, rank_pairs=15, side=48, draws=3, maps=3, transfer_pairs=6, explained=2,
    modes=("rgb", "grey"),
)  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo")
    said: list[str] = []
    done = demo(out, detectors=("npr",), families=FAMILIES, scale=SCALE, ks=(8,), say=said.append)
    write_index(done, out / "index.html")
    write_results(done, out / "results.md")
    return done, said


def test_every_family_and_mask_is_in_the_tables(small):
    done, _ = small
    study = done.studies[0]
    assert set(study.evaluation["generator"]) == {*FAMILIES, MACRO}
    table = pd.read_csv(done.folder / "npr" / "dropout-k8.csv")
    assert set(table["generator"]) == set(FAMILIES)
    counts = table[table["generator"] == FAMILIES[0]]["mask"].value_counts()
    assert counts["random-k"] == counts["random-k-layer-matched"] == 3
    assert {"baseline", "top-k", "low-k", "lowest-non-zero"} <= set(counts.index)


def test_the_whole_study_decodes_each_image_once(small):
    done, _ = small
    images = done.facts["images"]
    assert done.facts["images_decoded"] <= sum(images.values())
    assert done.facts["images_asked_for"] > 3 * done.facts["images_decoded"]


def test_every_stage_has_its_section_sentence_and_figures(small):
    done, _ = small
    titles = [section.title for section in done.studies[0].sections]
    assert titles == [
        "Evaluation",
        "Relevance",
        "8 feature maps dropped",
        "Asked and measured",
        "Colour",
        "Which maps respond to colour",
        "What the maps look at",
        "How images lie",
        "Transfer matrix",
        "Attribution, and whether to trust it",
    ]
    page = (done.folder / "index.html").read_text()
    results = (done.folder / "results.md").read_text()
    for section in done.studies[0].sections:
        for name, _ in section.figures:
            assert (done.folder / "npr" / name).stat().st_size > 5000
            assert f"npr/{name}" in page
        if section.said:
            assert section.said in results


def test_the_signed_effect_is_in_the_table_the_page_and_the_sentence(small):
    done, _ = small
    study = done.studies[0]
    shown = dropout_rows(study.dropouts[8].summary)
    assert shown.loc[shown["mask"] == "top-k", "fakes' logit"].str.match(r"[+-]\d").all()
    assert "mean logit of fakes" in study.sentences[8]
    for name in ("index.html", "results.md"):
        assert "mean logit of fakes" in (done.folder / name).read_text()


def test_what_was_asked_stands_beside_what_was_measured(small):
    done, _ = small
    table = asked_rows(done.studies[0].evaluation, done.studies[0].dropouts).set_index("")
    evaluation = done.studies[0].evaluation.set_index("generator")
    measured = table.loc["AP on the training family", "measured"]
    assert measured == f"{100 * evaluation.loc['progan-like', 'ap']:.1f}"
    assert set(table["met"]) <= {"yes", "no", ""}
    assert len(evaluation_rows(done.studies[0].evaluation)) == len(FAMILIES) + 1


def test_the_files_are_there_and_the_manifest_says_how(small):
    done, said = small
    names = {path.name for path in (done.folder / "npr").iterdir()}
    wanted = {"evaluation.csv", "scores.csv", "progan-like-fake.csv", "dropout-k8.csv"}
    wanted |= {"omega.pdf", "omega.png", "dropout-k8.pdf", "ap_curve.csv", "ap_curve.pdf"}
    assert wanted <= names
    manifest = json.loads((done.folder / "manifest.json").read_text())
    assert manifest["seed"] == 0
    assert len(manifest["detectors"]["npr"]) == 64
    assert any("LRP" in line for line in said)
    assert not list(done.folder.rglob("*.part"))


def test_figures_show_the_numbers_of_their_tables(small):
    done, _ = small
    study = done.studies[0]
    result = study.dropouts[8]
    heat = plot_dropout(result.summary)
    ap = [float(text.get_text()) for text in heat.axes[0].texts]
    expected = 100 * result.summary.loc[result.summary["mask"] == "top-k", "ap"]
    generators = len(expected)
    assert ap[generators : 2 * generators] == pytest.approx(expected.tolist(), abs=0.5)
    curve = plot_ap_curve(result.curve, 8)
    assert len(curve.axes) == result.curve["generator"].nunique()
    omega = plot_omega(study.rankings["fake"].table, 8)
    counts = [bar.get_width() for bar in omega.axes[1].patches]
    assert sum(counts) == 8
