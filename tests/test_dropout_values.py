"""What stands in the place of dropped maps: chosen by option, the same for every control."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from forensift.ablation import ablation, load_means, means
from forensift.cli.app import app
from forensift.errors import UserError
from forensift.fmap_ranking import rank, save_ranking, set_of
from forensift.records import FAKE, REAL, ImageSet, Ranking
from forensift.sensitivity import BASELINE, LAYER_MATCHED, LOW, LOWEST_NON_ZERO, TOP, dropout
from forensift.sensitivity.scoring import masked_scores

from .planted import PLANTED, planted_detector, planted_images


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    detector = planted_detector()
    images = planted_images(tmp_path_factory.mktemp("planted"))
    return detector, images, rank(detector, images)


@pytest.mark.parametrize("value", ["mean", "mean-real", "resample", "paired", "optimal"])
def test_every_mask_has_the_same_value_in_its_place(world, value: str) -> None:
    detector, images, ranking = world
    found = dropout(detector, images, ranking, 2, value=value, draws=2, ks=())
    under = ablation(detector, images, value)
    sets = [mask.feature_maps for mask in found.masks]
    expected, _ = masked_scores(detector, images, sets, ablation=under)
    np.testing.assert_allclose(found.logits, expected, rtol=1e-5, atol=1e-6)
    assert set(found.table["value"]) == {value}
    assert found.facts["value"] == value
    plain = dropout(detector, images, ranking, 2, draws=2, ks=())
    assert found.masks == plain.masks
    assert not np.allclose(found.logits[1:], plain.logits[1:])


def test_several_values_are_told_apart_and_cost_one_pass(world) -> None:
    detector, images, ranking = world
    both = dropout(detector, images, ranking, 2, value=("zero", "mean-real"), draws=2, ks=[2])
    for value in ("zero", "mean-real"):
        alone = dropout(detector, images, ranking, 2, value=value, draws=2, ks=[2])
        for name in ("table", "summary", "curve"):
            own = getattr(both, name)
            own = own[own["value"] == value].reset_index(drop=True)
            assert own.equals(getattr(alone, name))
    with pytest.raises(UserError, match="each once"):
        dropout(detector, images, ranking, 2, value=("zero", "zero"))
    with pytest.raises(UserError, match="value 'half' at site 'conv': choose of zero"):
        dropout(detector, images, ranking, 2, value="half")  # type: ignore[arg-type]


def test_a_ranking_of_some_maps_has_no_lowest_ones(world) -> None:
    detector, images, ranking = world
    part = Ranking(ranking.table[:4], FAKE, facts=ranking.facts, by="pursuit")
    found = dropout(detector, images, part, 2, draws=1)
    assert set(found.table["mask"]).isdisjoint({LOW, LOWEST_NON_ZERO})
    assert {BASELINE, TOP, LAYER_MATCHED} <= set(found.table["mask"])
    assert max(found.facts["ks"]) <= 4
    with pytest.raises(UserError, match=r"k = 5: the ranking holds 4"):
        dropout(detector, images, part, 2, draws=1, ks=[5])


def test_means_beside_a_ranking_are_taken(world, tmp_path: Path) -> None:
    detector, images, ranking = world
    reals = ImageSet(images.root, images.only(label=REAL).entries[::2])
    for name in ("set-fake.csv", "set-pursuit.csv", "set-eap-ig.csv", "set.csv"):
        assert set_of(Path("any") / name) == "set"
    save_ranking(ranking, tmp_path / "set-fake.csv")
    csv = str(tmp_path / "set-fake.csv")
    words = [PLANTED, "--data", str(images.root), "--device", "cpu", "--k", "2", "--draws", "1",
             "--ks", "none", "--value", "mean-real", "--ranking", csv]  # fmt: skip

    def said(*more: str) -> str:
        done = CliRunner().invoke(app, ["dropout", *words, *more, "--out", str(tmp_path / "out")])
        assert (done.exit_code, done.stderr) == (0, "")
        return " ".join(done.stdout.split())

    assert "the mean over reals, from the images themselves" in said()
    means(detector, reals).save(tmp_path / "set-means.parquet")
    assert "the mean over reals, from set-means.parquet" in said()
    assert "the mean over reals, from other images" in said("--reference", str(images.root))
    loaded = load_means(tmp_path / "set-means.parquet", detector)
    found = dropout(
        detector, images, ranking, 2, value="mean-real", reference=loaded, draws=1, ks=()
    )
    again = dropout(
        detector, images, ranking, 2, value="mean-real", reference=reals, draws=1, ks=()
    )
    np.testing.assert_allclose(found.logits, again.logits, rtol=1e-5)
