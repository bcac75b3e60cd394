"""``forensift rank`` and then ``forensift dropout`` on what it wrote, and their refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from forensift.cli.app import app
from forensift.fmap_ranking import load_ranking, rank, rankings
from forensift.lrp import LRP
from forensift.records import REAL, ImageSet

from .conftest import write_image
from .planted import planted_detector, planted_images

PLUGIN = """
import torch
from tests.planted import planted_detector

def planted():
    return planted_detector()

def all_fake():  # every real is wrong
    return biased(1000.0)

def all_real():
    return biased(-1000.0)

def undecided():
    found = planted_detector()
    with torch.no_grad():
        found.network.fc.weight.zero_()
        found.network.fc.bias.zero_()
    return found

def one_sided():  # all relevance is for the decision, and turned round it is all against it
    found = planted_detector()
    with torch.no_grad():
        found.network.fc.weight.copy_(-30 * found.network.fc.weight.abs())
        found.network.fc.bias.zero_()
    return found

def biased(value):
    found = planted_detector()
    with torch.no_grad():
        found.network.fc.bias.fill_(value)
    return found
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    planted_images(tmp_path / "set")
    (tmp_path / "own.py").write_text(PLUGIN)
    return tmp_path


def run(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.stdout, result.stderr


def on(folder: Path, name: str = "planted") -> list[object]:
    return [f"{folder / 'own.py'}:{name}", "--data", folder / "set", "--device", "cpu"]


def test_another_composite_is_another_ranking_and_says_so(folder: Path) -> None:
    written = {}
    for given in ("beta0", "epsilon-plus,conv1=flat"):
        out = folder / given.replace(",", "-")
        code, said, err = run("rank", *on(folder), "--composite", given, "--out", out)
        assert (code, err) == (0, "")
        manifest = json.loads((out / "manifest.json").read_text())
        assert manifest["composite"] == given
        (csv,) = (path for path in out.glob("*-fake.csv"))
        written[csv.name] = load_ranking(csv)
        assert ("not by the published beta0" in " ".join(said.split())) == (given != "beta0")
        assert written[csv.name].facts["composite"] == given
    assert list(written) == ["set-fake.csv", "set-epsilon-plus_conv1_flat-fake.csv"]
    plain, other = (one.table.set_index(["layer", "channel"])["omega"] for one in written.values())
    assert not np.allclose(plain, other.loc[plain.index])
    code, _, err = run("rank", *on(folder), "--composite", "epsilom", "--out", folder / "no")
    assert code == 2
    assert err.startswith("error: no composite 'epsilom' of LRP rules; there are beta0, epsilon")


def test_rank_then_dropout(folder: Path) -> None:
    ranked, dropped = folder / "ranked", folder / "dropped"
    code, out, err = run("rank", *on(folder), "--out", ranked)
    assert (code, err) == (0, "")
    assert "conv1.#0(T=8)" in out
    assert "12 fakes used, none left out" in out
    assert _tables(ranked) == {
        "set-fake.csv", "set-real.csv", "ranking.parquet", "skipped.csv", "manifest.json"
    }  # fmt: skip
    assert {"omega.png", "omega.pdf"} <= {path.name for path in ranked.iterdir()}
    manifest = json.loads((ranked / "manifest.json").read_text())
    assert manifest["counts"]["fake"]["used"] == 12
    assert manifest["counts"]["real"]["unusable"] == 0
    assert (manifest["start"], manifest["missing"]) == ("predicted", {})
    for kind in ("fake", "real"):
        loaded = load_ranking(ranked / f"set-{kind}.csv")
        assert dict(loaded.counts) == manifest["counts"][kind]
        assert loaded.start == "predicted"
    table = pd.read_parquet(ranked / "ranking.parquet")
    assert set(table["label"]) == {"fake", "real"}
    assert len(table) == 32
    assert table[table["label"] == "fake"]["standard_error"].notna().all()

    code, out, err = run(
        "dropout", *on(folder), "--ranking", ranked / "set-fake.csv", "--k", 2, "--draws", 3,
        "--training-family", "one", "--out", dropped,
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "evidence for fake was removed" in " ".join(out.split())
    assert _tables(dropped) == {
        "dropout.csv", "dropout_summary.csv", "ap_curve.csv", "dropped.csv", "skipped.csv",
        "manifest.json", "scores.parquet", "gap.csv", "gap_curve.csv", "gap_area.csv",
    }  # fmt: skip
    written = pd.read_csv(dropped / "dropout.csv")
    assert written.columns[:10].tolist() == [
        "generator", "mask", "draw", "k", "ap", "real_accuracy", "fake_accuracy", "threshold",
        "mean_logit_real", "mean_logit_fake",
    ]  # fmt: skip
    facts = json.loads((dropped / "manifest.json").read_text())
    assert facts["k"] == 2
    assert facts["used"] == 24
    assert facts["said"] in " ".join(out.split())


def test_a_ranking_of_one_kind(folder: Path) -> None:
    out = folder / "ranked"
    code, _, _ = run(
        "rank", *on(folder), "--label", "fake", "--name", "mine", "--start", "published",
        "--out", out,
    )  # fmt: skip
    assert code == 0
    assert not (out / "mine-real.csv").exists()
    written = load_ranking(out / "mine-fake.csv")
    whole = pd.read_parquet(out / "ranking.parquet")
    assert written.table["omega"].tolist() == whole["omega"].tolist()
    assert written.start == "published"


@pytest.mark.parametrize(("name", "there", "lost"),
                         [("all_fake", "fake", "real"), ("all_real", "real", "fake")])  # fmt: skip
def test_a_label_that_cannot_be_ranked_costs_the_other_nothing(
    folder: Path, name: str, there: str, lost: str
) -> None:
    out = folder / "ranked"
    code, said, err = run("rank", *on(folder, name), "--out", out)
    assert (code, err) == (0, "")
    said = " ".join(said.split())
    assert f"12 {there}s used, none left out" in said
    assert f"No ranking on {lost}s: " in said
    assert "12 wrong prediction" in said
    assert (out / f"set-{there}.csv").is_file()
    assert not (out / f"set-{lost}.csv").exists()
    assert set(pd.read_parquet(out / "ranking.parquet")["label"]) == {there}
    facts = json.loads((out / "manifest.json").read_text())
    assert "12 wrong prediction" in facts["missing"][lost]
    assert facts["counts"][lost]["used"] == 0
    assert facts["counts"][there]["used"] == 12


def test_nothing_that_can_be_ranked_is_an_error(folder: Path) -> None:
    out = folder / "ranked"
    code, _, err = run("rank", *on(folder, "undecided"), "--out", out)
    assert code == 2
    assert err.count("\n") == 1
    assert "no fake image is predicted right" in err
    assert "no real image is predicted right" in err
    assert "--min-confidence" in err
    assert not (out / "manifest.json").exists()


def test_omega_of_0_everywhere_is_drawn_and_said(folder: Path) -> None:
    out = folder / "ranked"
    words = ("--label", "real", "--start", "published", "--min-confidence", 0.5)
    code, said, err = run("rank", *on(folder, "one_sided"), *words, "--out", out)
    assert (code, err) == (0, "")
    assert "On reals no feature map of the 16 has positive relevance." in " ".join(said.split())
    assert not load_ranking(out / "set-real.csv").table["omega"].any()
    assert (out / "omega.png").stat().st_size > 1000


def test_a_ranking_of_reals_is_refused_by_every_verb_that_takes_maps_from_it(folder: Path) -> None:
    real = _csv(folder).rename(folder / "set-real.csv")
    for verb, more in (("dropout", ["--draws", 1]), ("median-test", []), ("patches", []),
                       ("embed", [])):  # fmt: skip
        words = (*on(folder), "--ranking", real, "--k", 1, *more, "--out", folder / verb)
        code, _, err = run(verb, *words)
        assert (verb, code) == (verb, 2)
        assert err == "error: the ranking is of reals: give the one of fakes (SET-fake.csv)\n"


def test_unusable_images_are_counted_for_their_label(folder: Path) -> None:
    reals = sorted((folder / "set" / "one" / "0_real").iterdir())
    reals[0].write_bytes(b"")
    write_image(folder / "set" / "one" / "1_fake" / "tiny.png", (1, 1))
    out = folder / "ranked"
    code, _, _ = run("rank", *on(folder), "--max-skipped", 0.2, "--out", out)
    assert code == 0
    counts = json.loads((out / "manifest.json").read_text())["counts"]
    assert counts["real"]["unusable"] == 1
    assert counts["fake"]["unusable"] == 0
    assert sum(counts["real"].values()) == 12
    assert sum(counts["fake"].values()) == 13


def test_unreadable_images_are_named_even_where_the_run_ends(folder: Path) -> None:
    path = next((folder / "set" / "one" / "1_fake").iterdir())
    path.write_bytes(b"")
    for verb in (["rank"], ["dropout"]):
        out = folder / verb[0]
        more = [] if verb == ["rank"] else ["--ranking", _csv(folder), "--k", 1, "--draws", 1]
        code, _, err = run(*verb, *on(folder), *more, "--out", out)
        assert code == 2
        assert err.startswith("error: 1 of ")
        assert err.count("\n") == 1
        assert path.name in (out / "skipped.csv").read_text()
        assert not (out / "manifest.json").exists()


def test_bad_input_is_exit_code_2_and_one_line(folder: Path) -> None:
    data = [*on(folder), "--out", folder / "out"]
    cases = {
        "k = 99": ["dropout", *data, "--ranking", _csv(folder), "--k", 99],
        "conv9": ["dropout", *data, "--ranking", _csv(folder, "conv9"), "--k", 1],
        "No such file": ["dropout", *data, "--ranking", folder / "none.csv", "--k", 1],
        "--ks 1,b": ["dropout", *data, "--ranking", _csv(folder), "--k", 1, "--ks", "1,b"],
        "--label x": ["rank", *data, "--label", "x"],
        "no start": ["rank", *data, "--start", "x"],
        "min confidence": ["rank", *data, "--min-confidence", 2],
    }
    for message, words in cases.items():
        code, _, err = run(*words)
        assert code == 2, message
        assert message in err
        assert err.count("\n") == 1


# --- the same from Python -----------------------------------------------------------------------


def test_a_ranking_is_a_result(tmp_path: Path) -> None:
    detector, images = planted_detector(), planted_images(tmp_path / "set")
    one = rank(detector, images, label="real")
    first = one.said.split(". ")[0].rstrip(".")
    assert repr(one) == f"<Ranking: {first}; tables ranking>"
    assert "conv1.#0(T=8)" in one._repr_html_()
    assert one.said.startswith("On reals the top 1 of 16 feature maps hold ")
    assert one.plot(k=3).axes[0].lines[-1].get_label() == "k = 3"
    assert (one == rank(detector, images, label="real")) is False  # and no error
    assert len({one, one}) == 1
    table = one.tables["ranking"]
    assert table["key"].tolist() == [str(feature_map) for feature_map in one.feature_maps()]
    assert table["rank"].tolist() == list(range(1, 17))
    loaded = load_ranking(one.save(tmp_path / "saved") / "ranking-real.csv")
    assert (loaded.label, loaded.start) == (REAL, one.start)
    assert dict(loaded.counts) == dict(one.counts)
    assert loaded.feature_maps() == one.feature_maps()
    np.testing.assert_array_equal(loaded.table["omega"], one.table["omega"])
    both = rankings(detector, images, name="mine")
    assert set(both.tables["ranking"]["label"]) == {"fake", "real"}
    assert (both.save(tmp_path / "both") / "mine-real.csv").is_file()


def test_a_batch_without_images_of_a_label_costs_no_pass_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector, images = planted_detector(), planted_images(tmp_path, ("one",), n=7)
    mixed = ImageSet(images.root, images.entries[::2] + images.entries[1::2])
    passes: list[int] = []
    explain = LRP.__call__

    def counted(self: LRP, batch: torch.Tensor, **options: object) -> object:
        passes.append(len(batch))
        return explain(self, batch, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(LRP, "__call__", counted)
    rankings(detector, mixed, batch_size=4)
    # 7 fakes and then 7 reals: the second batch of four holds images of both.
    assert passes == [4, 4, 4, 4, 2]


def _tables(folder: Path) -> set[str]:
    names = {path.name for path in folder.iterdir() if path.suffix not in (".png", ".pdf", ".svg")}
    return names - {"view.json"}


def _csv(folder: Path, layer: str = "conv1") -> Path:
    path = folder / f"{layer}-fake.csv"
    rows = [f"{layer}.#{c}(T=8),{1 / (1 + c)}" for c in range(8)]
    path.write_text("\n".join(["key,mean_relevance", *rows]) + "\n")
    return path
