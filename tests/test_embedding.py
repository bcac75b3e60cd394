"""Features of an image set, their t-SNE, and how far reals and fakes are apart in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from forensift.data import batches
from forensift.embedding import (
    CHANNELS,
    PENULTIMATE,
    FeatureLook,
    drawn,
    embed,
    project,
    separation,
    weighted,
)
from forensift.errors import UserError
from forensift.figures import plot_embedding, save
from forensift.fmap_ranking.omega import ranking_table
from forensift.records import FAKE, REAL, FeatureMap, ImageEntry, ImageSet, Ranking
from forensift.sweep import sweep

from .planted import fingerprint, planted_detector, planted_images


def planted_ranking(k: int = 3) -> Ranking:
    maps = [FeatureMap("conv2", 0, 8), FeatureMap("conv1", 0, 8), FeatureMap("conv1", 3, 8)]
    omega = np.array([0.6, 0.3, 0.05])
    return Ranking(ranking_table(maps[:k], omega[:k]).reset_index(drop=True), FAKE)


def clusters(rng: np.random.Generator, n: int = 30, apart: float = 20.0) -> tuple:
    labels = np.repeat([REAL, FAKE], n)
    return rng.standard_normal((2 * n, 6)) + apart * labels[:, None], labels


def test_weighted_features_are_omega_times_the_standard_score(rng: np.random.Generator) -> None:
    channels = rng.standard_normal((50, 4)) * [1.0, 1e6, 1e-6, 0.0] + [0.0, 5.0, 1.0, 7.1]
    omega = np.array([0.5, 0.2, 0.1, 0.9])
    found = weighted(channels, omega)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(found.std(axis=0), [0.5, 0.2, 0.1, 0.0], rtol=1e-9)
    by_hand = omega[1] * (channels[7, 1] - channels[:, 1].mean()) / channels[:, 1].std()
    assert found[7, 1] == pytest.approx(by_hand)
    # The scale and offset of a map do not matter, its ω does.
    np.testing.assert_allclose(weighted(3 * channels[:, :2] + 1, omega[:2]), found[:, :2])


@pytest.mark.parametrize("pooling", ["max", "mean"])
def test_one_pass_sees_both_kinds(tmp_path: Path, pooling) -> None:
    detector, images = planted_detector(), planted_images(tmp_path, ("one",))
    before = fingerprint(detector.network)
    maps = planted_ranking().feature_maps()
    look = FeatureLook(detector, maps, pooling)
    passed: list[int] = []
    handle = detector.network.register_forward_pre_hook(
        lambda module, args: passed.append(len(args[0]))
    )
    done = sweep(images, [look], batch_size=100)
    handle.remove()
    assert passed == [12]
    (batch,) = batches(images, detector.preset, 100, skipped=[])
    seen = {name: look.statistic.of(batch.ids, name) for name in ("penultimate", "channels")}
    assert done.used.entries == images.entries
    assert fingerprint(detector.network) == before
    network = detector.network
    with torch.no_grad():
        conv1 = network.conv1(detector.preset.normalise(batch.pixels))
        conv2 = network.conv2(network.relu1(network.bn1(conv1)))
        penultimate = network.relu2(conv2).mean((2, 3))
    chosen = torch.stack([conv2[:, 0], conv1[:, 0], conv1[:, 3]], dim=1).flatten(2)
    pooled = chosen.amax(2) if pooling == "max" else chosen.mean(2)
    np.testing.assert_allclose(seen["penultimate"], penultimate.numpy(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(seen["channels"], pooled.numpy(), rtol=1e-4, atol=1e-6)
    logits = seen["penultimate"] @ network.fc.weight.detach().numpy()[0] - 6.0
    np.testing.assert_allclose(logits, detector.logits(batch.pixels).numpy(), rtol=1e-4, atol=1e-5)


def test_without_feature_maps_there_are_no_channels(tmp_path: Path) -> None:
    detector, images = planted_detector(), planted_images(tmp_path, ("one",), n=1)
    look = FeatureLook(detector)
    sweep(images, [look])
    ids = [images.image_id(entry) for entry in images]
    assert look.statistic.of(ids, "channels").shape == (2, 0)
    with pytest.raises(UserError, match="no pooling 'median'"):
        FeatureLook(detector, (), "median")  # type: ignore[arg-type]


def test_images_of_equal_pixels_have_equal_contents_whatever_their_files(tmp_path: Path) -> None:
    detector, images = planted_detector(), planted_images(tmp_path, ("one",), n=2)
    bitmap = images.entries[0].path.with_suffix(".bmp")
    Image.open(images.entries[0].path).save(bitmap)
    whole = ImageSet(tmp_path, (*images.entries, ImageEntry(bitmap, REAL, "one")))
    look = FeatureLook(detector)
    sweep(whole, [look])
    ids = [whole.image_id(entry) for entry in whole]
    contents = look.statistic.of(ids, "content")
    assert contents[0] == contents[-1]
    assert len(set(contents)) == 4
    only = FeatureLook(detector, images=images)
    sweep(whole, [only])
    assert [one for _, one in only.statistic.result()] == ids[:-1]


def test_tsne_states_what_it_did_and_repeats(rng: np.random.Generator) -> None:
    features, labels = clusters(rng)
    first = project(features, seed=3)
    assert first.points.shape == (60, 2)
    facts = first.facts
    assert facts["perplexity"] == pytest.approx(59 / 3)  # 30 is too much for 60 images
    assert facts["perplexity_asked"] is None
    assert (facts["init"], facts["seed"], facts["images"]) == ("pca", 3, 60)
    assert facts["dimensions"] == 6
    assert facts["kl_divergence"] > 0
    assert 0.8 < facts["trustworthiness"] <= 1
    np.testing.assert_array_equal(project(features, seed=3).points, first.points)
    apart = separation(first.points, labels)
    assert apart["knn_accuracy"] == 1
    published = project(features, settings="dna-det")
    assert (published.facts["perplexity"], published.facts["init"]) == (15, "random")
    assert published.facts["learning_rate"] == 200
    assert project(features, perplexity=5).facts["perplexity"] == 5
    assert project(features[:, :1]).facts["init"] == "random"


def test_tsne_refuses_what_it_cannot_draw(rng: np.random.Generator) -> None:
    features = rng.standard_normal((20, 4))
    with pytest.raises(UserError, match=r"perplexity 15: 20 images that differ allow 1 … 6\.333"):
        project(features, settings="dna-det")
    with pytest.raises(UserError, match=r"perplexity 0\.5"):
        project(features, perplexity=0.5)
    with pytest.raises(UserError, match="no settings 'x'"):
        project(features, settings="x")
    with pytest.raises(UserError, match="got 4"):
        project(features[:4])
    with pytest.raises(UserError, match="same features"):
        project(np.ones((9, 3)))
    with pytest.raises(UserError, match="not finite"):
        project(np.full((9, 3), np.inf))
    assert project(features[:5]).facts["perplexity"] == pytest.approx(4 / 3)


def test_separation_against_brute_force(rng: np.random.Generator) -> None:
    features, labels = clusters(rng, n=20, apart=0.8)
    found = separation(features, labels, neighbours=7)
    right = 0
    for row in range(40):
        distance = np.linalg.norm(features - features[row], axis=1)
        distance[row] = np.inf
        votes = labels[np.argsort(distance)[:7]]
        right += int((votes.sum() >= 4) == (labels[row] == FAKE))
    assert found["knn_accuracy"] == right / 40
    assert found["knn_accuracy_low"] < right / 40 < found["knn_accuracy_high"]
    assert (found["n_real"], found["n_fake"], found["chance"]) == (20, 20, 0.5)
    assert -1 <= found["silhouette"] <= 1
    far = separation(*clusters(rng))
    assert far["knn_accuracy"] == 1
    assert far["silhouette"] > 0.8


def test_separation_of_nothing_is_near_chance(rng: np.random.Generator) -> None:
    labels = np.repeat([REAL, FAKE], 100)
    found = separation(rng.standard_normal((200, 4)), labels)
    assert 0.35 < found["knn_accuracy"] < 0.65
    assert abs(found["silhouette"]) < 0.05


def test_separation_of_few(rng: np.random.Generator) -> None:
    features = rng.standard_normal((6, 2))
    assert separation(features, np.array([0, 1] * 3), neighbours=6)["neighbours"] == 5
    assert separation(features, np.array([0, 1] * 3), neighbours=4)["neighbours"] == 3
    one_label = separation(features, np.ones(6, dtype=int))
    assert np.isnan(one_label["knn_accuracy"])
    assert one_label["chance"] == 1
    assert np.isnan(separation(features[:2], np.array([0, 1]))["silhouette"])


def test_embed_finds_what_is_planted(tmp_path: Path) -> None:
    detector, images = planted_detector(), planted_images(tmp_path, n=10)
    before = fingerprint(detector.network)
    # Not the maximum: on these small images that lies where the padding makes an edge.
    found = embed(detector, images, ranking=planted_ranking(), k=3, pooling="mean")
    assert fingerprint(detector.network) == before
    assert found.table.columns.tolist() == [
        "path", "label", "generator", "class", "kind", "x", "y",
    ]  # fmt: skip
    assert found.table["kind"].value_counts().to_dict() == {PENULTIMATE: 40, CHANNELS: 40}
    assert found.neighbours["generator"].tolist() == ["one", "two", "all"] * 2
    assert (found.neighbours["knn_accuracy"] == 1).all()
    # Both generators' reals are the same: they count once, and stand at one point.
    assert found.facts["images_that_differ"] == 30
    assert found.quality["images"].tolist() == [30, 30]
    assert found.neighbours["n_real"].tolist() == [10, 10, 10] * 2
    assert found.neighbours["n_fake"].tolist() == [10, 10, 20] * 2
    reals = found.table[(found.table["label"] == REAL) & (found.table["kind"] == PENULTIMATE)]
    one, two = (reals[reals["generator"] == name] for name in ("one", "two"))
    np.testing.assert_array_equal(one[["x", "y"]].to_numpy(), two[["x", "y"]].to_numpy())
    assert set(found.features) == {PENULTIMATE, CHANNELS}
    assert found.features[CHANNELS].shape == (40, 3)


def test_embed_does_not_hang_on_the_order_of_images(tmp_path: Path) -> None:
    detector, images = planted_detector(), planted_images(tmp_path)
    first = embed(detector, images, batch_size=4)
    again = embed(detector, ImageSet(images.root, images.entries[::-1]), batch_size=4)
    assert first.table["path"].tolist() == again.table["path"].tolist()
    np.testing.assert_allclose(first.features[PENULTIMATE], again.features[PENULTIMATE], rtol=1e-5)
    assert first.quality["trustworthiness"][0] == pytest.approx(
        again.quality["trustworthiness"][0], abs=0.05
    )


def test_embed_refusals_and_unreadable_images(tmp_path: Path) -> None:
    detector, images = planted_detector(), planted_images(tmp_path)
    with pytest.raises(UserError, match="both a ranking and k"):
        embed(detector, images, k=3)
    with pytest.raises(UserError, match="1 or more"):
        embed(detector, images, per_group=0)
    with pytest.raises(UserError, match="no settings"):
        embed(detector, images, settings="x")
    with pytest.raises(UserError, match="holds no images"):
        embed(detector, ImageSet(tmp_path, ()))
    images.entries[0].path.write_bytes(b"")
    with pytest.raises(UserError, match="cannot be used"):
        embed(detector, images)
    skipped: list = []
    found = embed(detector, images, max_skipped=0.1, skipped=skipped)
    assert len(skipped) == 1
    assert len(found.table) == 23


def test_images_are_drawn_by_seed_and_name() -> None:
    entries = tuple(
        ImageEntry(Path(f"/set/{generator}/{label}/{number}.png"), label, generator)
        for generator in ("a", "b")
        for label in (REAL, FAKE)
        for number in range(30)
    )
    images = ImageSet(Path("/set"), entries)
    assert drawn(images, None, 0) is images
    some = drawn(images, 10, 0)
    assert len(some) == 40
    assert some == drawn(ImageSet(images.root, entries), 10, 0)
    names = {
        generator: {e.path.name for e in some.only(label=REAL, generator=generator)}
        for generator in ("a", "b")
    }
    assert names["a"] == names["b"]  # reals that generators share stay shared
    assert drawn(images, 10, 1) != some
    assert [e for e in entries if e in set(some.entries)] == list(some.entries)


def picture(tmp_path: Path, generators: tuple[str, ...], by: str = "generator"):
    detector, images = planted_detector(), planted_images(tmp_path, generators, n=4)
    found = embed(detector, images)
    quality = found.quality.to_dict("records")[0]
    return plot_embedding(found.table, quality, by=by, title="planted"), quality


def test_figure_of_few_generators(tmp_path: Path) -> None:
    figure, quality = picture(tmp_path / "set", ("one", "two", "four"))
    said = figure.get_supxlabel()
    assert f"perplexity {quality['perplexity']:.3g}" in said
    assert f"{quality['trustworthiness']:.3f}" in said
    assert f"KL divergence {quality['kl_divergence']:.2f}" in said
    labels = [text.get_text().strip() for text in figure.legends[0].get_texts()]
    assert labels == [
        "real", "fake", "generator", "four", "one", "two", "several (one image)",
    ]  # fmt: skip
    assert len(figure.axes) == 1
    assert figure.axes[0].get_legend() is None  # it is outside
    written = save(figure, tmp_path, "tsne")
    with Image.open(written[1]) as drawn_figure:
        assert drawn_figure.width > 1000
    assert b"/FontFile2" in written[0].read_bytes()


def test_figure_of_many_generators_has_a_panel_each(tmp_path: Path) -> None:
    figure, _ = picture(tmp_path / "set", tuple("abcdefghi"))
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in shown] == list("abcdefghi")
    save(figure, tmp_path, "tsne")


def test_figure_without_classes(tmp_path: Path) -> None:
    figure, _ = picture(tmp_path, ("one",), by="class")
    labels = [text.get_text().strip() for text in figure.legends[0].get_texts()]
    assert labels == ["real", "fake", "class", "none"]
