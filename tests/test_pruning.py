"""Pruning: a bias that is planted and pruned away, weights that hold it, and what certifies it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from torch import nn

import forensift
from forensift import UserError
from forensift.ablation import ablation, pixels_of, put
from forensift.data import get_preset, scan
from forensift.detectors import (
    Detector,
    load_detector,
    own_detector,
    save_weights,
    with_units,
)
from forensift.detectors.detector import WeightsOrigin
from forensift.detectors.units import find_feature_maps
from forensift.files import home
from forensift.fmap_ranking.omega import ranking_table
from forensift.fmap_ranking.rad import inside_outside, region
from forensift.forge import forge
from forensift.pruning import fit, prune, stored
from forensift.pruning.certificate import (
    METRICS,
    PROCESSED,
    PRUNED,
    RANDOM,
    REFITTED,
    UNFITTED,
    WHOLE,
    certificate,
)
from forensift.pruning.dissect import _greedy, extremes, harmful, pooled_by
from forensift.pruning.heads import LastLayer, Scaled, folds_of, loss
from forensift.pruning.looks import last_input
from forensift.records import FAKE, FeatureMap, ImageEntry, ImageSet, Ranking

from .planted import fingerprint
from .test_cli import refused, run

SIZE, MAPS = 16, 8
COLOUR = FeatureMap("conv1", 1, MAPS)  # the bias: how much redder than green an image is


def biased_detector() -> Detector:
    """Return a detector of a checkerboard, map 0, that also takes red for fake, map 1."""
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential()
    network.add_module("conv1", nn.Conv2d(3, MAPS, 3, bias=False))
    network.add_module("bn1", nn.BatchNorm2d(MAPS))
    network.add_module("relu1", nn.ReLU())
    network.add_module("pool", nn.AdaptiveAvgPool2d(1))
    network.add_module("flatten", nn.Flatten())
    network.add_module("fc", nn.Linear(MAPS, 1))
    with torch.no_grad():
        noise = 0.05 * torch.randn((MAPS, 3, 3, 3), generator=generator)
        network.conv1.weight.copy_(noise - noise.mean(dim=(2, 3), keepdim=True))  # see no tint
        network.conv1.weight[:2] = 0
        network.conv1.weight[0, :, 1, 1], network.conv1.weight[0, :, 1, 0] = 1, -1
        network.conv1.weight[1, 0, 1, 1], network.conv1.weight[1, 1, 1, 1] = 2, -2
        network.fc.weight.zero_()
        network.fc.weight[0, :2] = torch.tensor([20.0, 20.0])
        network.fc.bias.fill_(-4.0)
    maps = find_feature_maps(network)
    origin = WeightsOrigin("initialisation", "", "bare")
    return Detector("biased", network.eval(), get_preset("wang-nocrop"), maps, origin)


def tinted_images(root: Path, red: Sequence[int], n: int = 12, first: int = 0) -> ImageSet:
    """Write smooth images, fakes with a checkerboard; red: of reals and fakes, any by default."""
    rows, columns = np.mgrid[0:SIZE, 0:SIZE]
    board = np.where((rows + columns) % 2, 1.0, -1.0)[..., None]
    entries = []
    for number in range(first, first + n):
        rng = np.random.default_rng(number)
        grey = rng.integers(90, 150, (2, 2), dtype=np.uint8)
        smooth = Image.fromarray(grey).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        for label in (0, 1):
            pixels = np.repeat(np.asarray(smooth, dtype=float)[..., None], 3, axis=2)
            pixels = pixels + label * rng.uniform(3, 9) * board
            pixels[..., 0] += red[label] if red else 40 * rng.integers(0, 2)
            path = root / "one" / ("0_real", "1_fake")[label] / f"photo{chr(97 + number)}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
            entries.append(ImageEntry(path, label, "one"))
    return ImageSet(root, tuple(sorted(entries, key=lambda entry: entry.path)))


def ranked(detector: Detector, first: Sequence[FeatureMap]) -> Ranking:
    order = [*first, *(one for one in detector.feature_maps if one not in set(first))]
    scores = np.linspace(1, 0.01, len(order))
    return Ranking(ranking_table(order, scores).reset_index(drop=True), FAKE)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[ImageSet, ImageSet]:
    """Test images of any tint; and images to fit on, whose fakes alone are red."""
    root = tmp_path_factory.mktemp("tinted")
    return tinted_images(root / "test", ()), tinted_images(root / "refit", (0, 40), first=12)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    """Photographs and their fakes of two families."""
    root = tmp_path_factory.mktemp("pairs") / "set"
    photographs = forensift.photographs("validation")
    forge(photographs, ["progan-like", "stylegan2-like"], root, per_family=6, side=64)
    return scan(root)


def test_pruning_the_planted_bias_makes_every_image_right_and_nothing_else_does(sets) -> None:
    detector, (images, refit) = biased_detector(), sets
    before = fingerprint(detector.network)
    found = prune(detector, images, refit, ranking=ranked(detector, [COLOUR]), k=1,
                  conditions=("grey", "blur-0.1"))  # fmt: skip
    assert fingerprint(detector.network) == before
    levels = found.certificate.set_index(["condition", "detector"])
    for condition in ("clean", "grey"):
        own = levels.loc[(condition, PRUNED)]
        assert own["ap"] == own["real_accuracy"] == own["fake_accuracy"] == 1
    clean = levels.loc["clean"]
    for other in (WHOLE, REFITTED, RANDOM):
        assert clean.loc[other, "real_accuracy"] < 0.7  # red reals
    assert levels.loc[("grey", REFITTED), "fake_accuracy"] < 0.8  # fakes that are red no more
    changes = found.differences.set_index(["condition", "less"])
    assert changes.loc[("clean", REFITTED), "real_accuracy_low"] > 0
    assert changes.loc[("clean", RANDOM), "draws_as_good"] == 0
    assert PROCESSED in levels.index
    assert "Against fitting the last layer alone: clean reals right +50.0 [" in found.said
    assert "fitted anew on 12 photographs" in found.said


def test_the_pruned_copy_gives_what_was_measured(sets) -> None:
    detector, (images, refit) = biased_detector(), sets
    found = prune(detector, images, refit, ranking=ranked(detector, [COLOUR]), k=1, draws=0)
    own = found.scores.query("detector == @PRUNED and condition == 'clean'")
    given = found.detector.logits(pixels_of(detector, images, images.entries)).numpy()
    np.testing.assert_allclose(given, own["logit"], rtol=1e-4, atol=1e-4)
    constant = found.pruned["constant"].item()
    held = ablation(detector, refit, "mean-real").constants_of([COLOUR])
    assert constant == pytest.approx(float(held["conv1"][1]))


def test_a_batch_is_its_images_and_their_order_is_nothing(sets) -> None:
    detector, (images, refit) = biased_detector(), sets
    how = {"ranking": ranked(detector, [COLOUR]), "k": 2, "draws": 1, "conditions": ("grey",)}
    one = prune(detector, images, refit, batch_size=1, **how)
    turned = replace(refit, entries=refit.entries[::-1])
    other = prune(detector, images, turned, batch_size=7, **how)
    for name in ("certificate", "differences"):
        pd.testing.assert_frame_equal(one.tables[name], other.tables[name], atol=1e-6)


@pytest.mark.parametrize("name", ["resnet50", "efficientnet-b0", "npr"])
@pytest.mark.parametrize("value", ["mean-real", "zero"])
def test_weights_hold_the_constants_and_are_read_again(
    name: str, value: str, pairs: ImageSet, tmp_path: Path
) -> None:
    detector = load_detector(name)
    rng = np.random.default_rng(1)
    chosen = [detector.feature_maps[at] for at in rng.choice(len(detector.feature_maps), 60)]
    place = ablation(detector, pairs[:8], value)
    constants, pixels = place.constants_of(chosen), pixels_of(detector, pairs, pairs.entries[:4])
    copy = stored(detector, chosen, constants, None, pixels[:1])
    with put(detector.network, chosen, constants):
        wanted = detector.logits(pixels)
    assert not torch.allclose(wanted, detector.logits(pixels), atol=1e-3)
    torch.testing.assert_close(copy.logits(pixels), wanted, rtol=1e-4, atol=1e-4)
    path = tmp_path / "pruned.safetensors"
    save_weights(path, copy.network.state_dict(), {"preset": detector.preset.name})
    again = load_detector(name, weights=path)
    assert again.preset == detector.preset
    torch.testing.assert_close(again.logits(pixels), copy.logits(pixels), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("units", ["neurons", "heads"])
def test_a_transformers_units_go_into_the_layer_that_reads_them(
    units: str, pairs: ImageSet
) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    network = timm.create_model(
        "vit_tiny_patch16_224", embed_dim=24, depth=2, num_heads=3, num_classes=1,
        dynamic_img_size=True,
    )  # fmt: skip
    for one in network.blocks:
        nn.init.normal_(one.mlp.fc2.weight)
        nn.init.normal_(one.attn.proj.weight)
    detector = with_units(own_detector(network, preset="wang-nocrop"), units)
    chosen = list(detector.feature_maps[1::7][:30]) or list(detector.feature_maps[1::2])
    place = ablation(detector, pairs[:8], "mean-real")
    constants, pixels = place.constants_of(chosen), pixels_of(detector, pairs, pairs.entries[:4])
    with put(detector.network, chosen, constants):
        wanted = detector.logits(pixels)
    found = stored(detector, chosen, constants, None, pixels[:1])
    torch.testing.assert_close(found.logits(pixels), wanted, rtol=1e-4, atol=1e-4)


def test_what_weights_cannot_hold_is_refused(pairs: ImageSet) -> None:
    detector = with_units(load_detector("vit"), "channels")
    pixels = pixels_of(detector, pairs, pairs.entries[:1])
    with pytest.raises(UserError, match="prune neurons or heads"):
        stored(detector, detector.feature_maps[:1], None, None, pixels)
    bare = biased_detector()
    network = nn.Sequential()
    for name, module in bare.network.named_children():
        if name != "bn1":
            network.add_module(name, module)
    bare = replace(bare, network=network)
    ones = {"conv1": torch.ones(MAPS, 1)}
    with pytest.raises(UserError, match="take value zero"):
        stored(bare, [COLOUR], ones, None, pixels)
    assert stored(bare, [COLOUR], None, None, pixels).network.conv1.weight[1].abs().sum() == 0


def test_the_last_layer_is_the_penalised_regression_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    for width in (5, 60):  # fewer features than images, and more
        features = rng.normal(3, 2, (40, width)) * rng.uniform(0.1, 9, width)
        labels = (features[:, 0] / features[:, 0].std() + rng.normal(0, 1, 40) > 2).astype(int)
        names = [f"p{at // 2}" for at in range(40)]
        found = fit(features, labels, names, without=[2])
        kept = np.delete(features, 2, axis=1)
        scaled = (kept - kept.mean(axis=0)) / kept.std(axis=0)
        model = LogisticRegression(C=found.strength, class_weight="balanced", tol=1e-8,
                                   solver="newton-cholesky").fit(scaled, labels)  # fmt: skip
        given = found.layer.logits(features)
        np.testing.assert_allclose(given, model.decision_function(scaled), atol=1e-4)
        assert found.layer.weights[2] == 0
        assert found.loss == min(found.losses)


def test_crops_of_a_photograph_are_in_one_fold_and_order_is_nothing() -> None:
    names = np.array([f"p{at % 11}" for at in range(60)])
    folds = folds_of(names, 3)
    assert set(folds) == set(range(5))
    for name in set(names):
        assert len(set(folds[names == name])) == 1
    order = np.random.default_rng(0).permutation(60)
    np.testing.assert_array_equal(folds_of(names[order], 3), folds[order])
    with pytest.raises(UserError, match="crops of one"):
        fit(np.ones((4, 2)), np.array([0, 1, 0, 1]), ["p-1", "p-1", "p-1", "p-1"])
    with pytest.raises(UserError, match="one of them only"):
        fit(np.ones((2, 2)), np.array([1, 1]), ["a", "b"])


def test_what_photographs_share_does_not_choose_the_penalty() -> None:
    """A feature that only tells photographs apart: with crops on both sides it would look good."""
    found = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        labels = np.repeat(rng.permutation([0, 1] * 10), 6)
        marks = np.repeat(rng.normal(size=(20, 50)), 6, axis=0) + rng.normal(0, 0.01, (120, 50))
        found.append(fit(marks, labels, [f"p{at // 6}" for at in range(120)]).loss)
        assert fit(marks, labels, [f"p{at}" for at in range(120)]).loss < 0.01
    assert np.mean(found) > 0.5


def test_both_ends_are_pruned_and_the_middle_stays() -> None:
    scores = np.random.default_rng(0).permutation(2048).astype(float)
    for kept, each in ((0.6, 409), (0.4, 614)):  # int(2048 · 0.2), int(2048 · 0.3)
        places = extremes(scores, kept)
        assert len(places) == 2 * each
        assert sorted(scores[places]) == [*range(each), *range(2048 - each, 2048)]
        assert scores[places[0]] == 2047
        assert scores[places[-1]] == each - 1 or scores[places[each]] == 0


def test_discrepancy_is_the_mean_inside_less_the_mean_outside() -> None:
    maps = torch.randn(3, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    regions = torch.stack([region(str(at), 32, 32, 0) for at in range(3)])[:, None]
    found = inside_outside(maps, regions).numpy()
    large = maps.double().repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
    for at in range(3):
        inside = regions[at, 0]
        wanted = large[at][:, inside].mean(dim=1) - large[at][:, ~inside].mean(dim=1)
        np.testing.assert_allclose(found[at], wanted, rtol=1e-10)
        assert 0.25**2 * 0.9 < inside.float().mean() < 0.75**2 * 1.1


@pytest.mark.parametrize("name", ["resnet50", "efficientnet-b0", "npr"])
def test_the_maps_that_the_last_layer_pools_are_found(name: str, pairs: ImageSet) -> None:
    detector = load_detector(name)
    pixels = pixels_of(detector, pairs, pairs.entries[:1])
    (module, inputs), width = pooled_by(detector, pixels)
    kept = []
    handle = detector.network.get_submodule(module).register_forward_hook(
        lambda one, args, out: kept.append((args[0] if inputs else out).clone())
    )
    _, features = last_input(detector, pixels)
    handle.remove()
    np.testing.assert_allclose(kept[0].mean(dim=(2, 3)), features, rtol=1e-4, atol=1e-5)
    assert width == features.shape[1]


def test_a_network_that_pools_no_maps_has_no_regions(pairs: ImageSet) -> None:
    detector = load_detector("vit")
    with pytest.raises(UserError, match="no mean of maps"):
        prune(detector, pairs, pairs, "dear-corvi", draws=0)


def test_greedy_removal_takes_what_lowers_the_loss_most_each_time() -> None:
    rng = np.random.default_rng(0)
    parts, labels = rng.normal(size=(50, 12)), rng.integers(0, 2, 50)
    signs = np.where(labels == 1, -1.0, 1.0)
    shares = np.where(labels == 1, 0.5 / labels.sum(), 0.5 / (1 - labels).sum())
    removed, losses = _greedy(parts, parts.sum(axis=1), signs, shares)
    assert len(removed) == len(set(removed)) > 2
    for step, one in enumerate(removed):
        gone = list(removed[:step])
        trials = {
            other: loss(np.delete(parts, [*gone, other], axis=1).sum(axis=1), labels)
            for other in range(12)
            if other not in gone
        }
        assert min(trials, key=trials.__getitem__) == one
        assert losses[step + 1] == pytest.approx(trials[one])


def test_what_is_of_one_generator_alone_is_found_harmful() -> None:
    rng = np.random.default_rng(0)
    labels, generators = np.tile([0, 1], 120), np.repeat(["a", "b"], 120)
    names = np.array([f"p{at // 2 % 30}" for at in range(240)])
    features = rng.normal(size=(240, 10))
    features[:, 0] += 2 * labels  # evidence of both
    # Says fake in one generator's images and real in the other's.
    features[:, 1] += 4 * labels * np.where(generators == "a", 1, -1)
    removed, losses = harmful(features, labels, names, generators, 0.1)
    assert removed[0] == 1
    assert 0 not in removed
    assert losses[-1] < losses[0] - 0.3


@pytest.mark.parametrize("method", ["dear-corvi", "gaintseva"])
def test_inputs_of_the_last_layer_are_pruned_by_name(method: str, pairs: ImageSet) -> None:
    detector = load_detector("npr")
    before = fingerprint(detector.network)
    found = prune(detector, pairs, pairs, method, draws=2, conditions=("jpeg-75",))
    assert fingerprint(detector.network) == before
    assert UNFITTED not in set(found.certificate["detector"])
    weights = found.detector.network.fc1.weight[0]
    gone = [int(name.split("#")[1].split("(")[0]) for name in found.pruned["unit"]]
    assert (weights[gone] == 0).all()
    if method == "dear-corvi":
        assert len(gone) == 2 * int(512 * 0.2)
        assert (found.pruned["score"].diff().dropna()[:100] <= 0).all()
    assert "are also what the last layer was fitted on" in found.said


def test_intervals_of_differences_cover_what_is_true() -> None:
    """Two versions of one score, by photograph: the true change of AP is in 95 % of intervals."""

    def table(rng: np.random.Generator, photographs: int) -> pd.DataFrame:
        names = np.repeat(np.arange(photographs), 4)
        labels = np.tile([0, 0, 1, 1], photographs)
        shared = np.repeat(rng.normal(0, 0.7, photographs), 4) + 1.2 * labels
        parts = []
        for detector, noise in ((WHOLE, 1.2), (REFITTED, 1.0), (PRUNED, 0.7)):
            logits = shared + rng.normal(0, noise, len(labels))
            parts.append(
                pd.DataFrame(
                    {
                        "detector": detector,
                        "draw": 0,
                        "condition": "clean",
                        "label": labels,
                        "path": [f"photo{n}x-{at % 2}.png" for at, n in enumerate(names)],
                        "generator": "one",
                        "class": "",
                        "score": 1 / (1 + np.exp(-logits)),
                    }
                )
            )
        return pd.concat(parts, ignore_index=True)

    truth = certificate(table(np.random.default_rng(0), 20000), resamples=2)[1].set_index("less")
    inside = {(less, metric): 0 for less in (WHOLE, REFITTED) for metric in METRICS}
    times = 120
    for seed in range(times):
        own = certificate(table(np.random.default_rng(seed + 1), 40), resamples=200)[1]
        for less, row in own.set_index("less").iterrows():
            for metric in METRICS:
                wanted = truth.loc[less, metric]
                inside[less, metric] += row[f"{metric}_low"] <= wanted <= row[f"{metric}_high"]
    assert min(inside.values()) >= 0.88 * times
    assert np.mean(list(inside.values())) <= 0.985 * times


def test_a_mean_over_conditions_and_generators_is_their_mean(pairs: ImageSet) -> None:
    detector = load_detector("npr")
    ranking = ranked(detector, detector.feature_maps[5:8])
    found = prune(detector, pairs, pairs, ranking=ranking, k=3, draws=2,
                  conditions=("jpeg-75", "grey"))  # fmt: skip
    table = found.certificate.set_index(["generator", "condition", "detector"])["ap"]
    for detector_name in (WHOLE, PRUNED, RANDOM):
        own = table.xs(detector_name, level="detector")
        both = own[:, "jpeg-75"] + own[:, "grey"]
        np.testing.assert_allclose(own[:, PROCESSED], both / 2)
        families = ["progan-like", "stylegan2-like"]
        assert own["macro mean", "clean"] == pytest.approx(own[families][:, "clean"].mean())
    assert len(found.plot().axes) == 3


def test_wrong_words_are_one_line(pairs: ImageSet, tmp_path: Path) -> None:
    detector = load_detector("npr")
    some = ranked(detector, detector.feature_maps[:1])
    for given, said in (
        ({"method": "dear"}, "dear-corvi"),
        ({"value": "optimal"}, "mean-real"),
        ({"ranking": some}, "give ranking and k"),
        ({"method": "gaintseva", "k": 3}, "chooses by itself"),
        ({"ranking": some, "k": 1, "draws": -1}, "0 or more"),
        ({"ranking": ranked(biased_detector(), [COLOUR]), "k": 1}, "no feature map"),
        ({"ranking": some, "k": 1, "conditions": ["fog"]}, "no condition"),
    ):
        with pytest.raises(UserError, match=said):
            prune(detector, pairs, pairs, **given)
    with pytest.raises(UserError, match="one logit or two"):
        prune(load_detector("dna-det"), pairs, pairs, ranking=some, k=1)
    words = ("prune", "npr", "--data", pairs.root, "--refit", pairs.root, "--out", tmp_path)
    assert "--ranking and --k" in refused(*words).replace("ranking and k", "--ranking and --k")
    assert ".safetensors" in refused(*words, "--k", "1", "--save", tmp_path / "a.pth")


def test_the_command_writes_weights_that_another_reads(pairs: ImageSet, tmp_path: Path) -> None:
    top = home() / "fmap_relevances/npr/progan-like_npr/progan-like-fake.csv"
    weights = tmp_path / "pruned.safetensors"
    given = run(
        "prune", "npr", "--data", pairs.root, "--refit", pairs.root, "--ranking", top, "--k", "9",
        "--draws", "1", "--conditions", "jpeg-75", "--save", weights, "--out", tmp_path / "out",
    )  # fmt: skip
    assert given.exit_code == 0, given.output
    scores = pd.read_parquet(tmp_path / "out/scores.parquet")
    own = scores.query("detector == @PRUNED and condition == 'clean'").set_index("path")["logit"]
    found = forensift.score(load_detector("npr", weights=weights), pairs).set_index("path")
    np.testing.assert_allclose(found["logit"], own[found.index], rtol=1e-4, atol=1e-4)
    assert {one.name for one in (tmp_path / "out").iterdir()} >= {
        "certificate.csv", "certificate.png", "differences.csv", "pruned.csv", "fits.csv",
    }  # fmt: skip


def test_standardised_weights_are_those_of_the_features() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(2, 3, (6, 20))
    features[:, 4] = 7  # says nothing
    scaled = Scaled(features)
    weights = rng.normal(size=scaled.rotated.shape[1])
    layer = scaled.layer(weights, 0.5)
    assert isinstance(layer, LastLayer)
    np.testing.assert_allclose(layer.logits(features), scaled.rotated @ weights + 0.5)
    assert layer.weights[4] == 0
