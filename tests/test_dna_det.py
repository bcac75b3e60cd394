"""DNA-Det: golden values, checkpoints, losses, balanced batches, training, attribution."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics import f1_score, recall_score

from forensift.data import get_preset, scan
from forensift.detectors import load_detector, read_checkpoint, save_weights
from forensift.detectors.dna_det import CLOSED, IN_THE_WILD, build, recognises
from forensift.errors import UserError
from forensift.evaluation.source_attribution import (
    attribute,
    class_metrics,
    confusion_table,
    evaluate_source_attribution,
    result_lines,
    without_repeats,
)
from forensift.lrp import LRP
from forensift.training.contrastive import (
    AutomaticWeighting,
    ProjectionHead,
    supervised_contrastive,
)
from forensift.training.dna_det import (
    RECIPES,
    DNASettings,
    DNATask,
    classification_loss,
    warm_start,
)
from forensift.training.dna_det_data import BalancedBatches, by_class, crops_of
from forensift.training.engine import run

from .test_detectors import fill, wave_image

FAMILIES = ("blurred", "doubled")


@pytest.fixture(scope="module")
def image_set(tmp_path_factory):
    """Reals of noise that two families share, and fakes: blurred ones, and ones of 2 × 2 cells."""
    root = tmp_path_factory.mktemp("families")
    rng = np.random.default_rng(0)
    for number in range(8):
        real = Image.fromarray(rng.integers(0, 256, (48, 48, 3)).astype(np.uint8))
        half = real.resize((24, 24), Image.Resampling.BOX)
        fakes = {
            "blurred": half.resize((48, 48), Image.Resampling.BILINEAR),
            "doubled": half.resize((48, 48), Image.Resampling.NEAREST),
        }
        for family, fake in fakes.items():
            for kind, image in (("0_real", real), ("1_fake", fake)):
                (root / family / kind).mkdir(parents=True, exist_ok=True)
                image.save(root / family / kind / f"{number}.png")
    return scan(root)


def small(**changes) -> DNASettings:
    values = {
        "width": 4,
        "preset": "dna-det-48",
        "crops": 2,
        "crop_size": 32,
        "batch_size": 4,
        "learning_rate": 3e-3,
        "epoch_steps": 3,
        "max_steps": 6,
    }
    return DNASettings(**(values | changes))


# --- network -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("classes", "parameters"), [(5, 5_897_349), (11, 5_900_427), (170, 5_981_994)]
)
def test_parameters_are_the_published_ones(classes, parameters):
    network = build(classes)
    assert sum(one.numel() for one in network.parameters()) == parameters
    assert len(network.state_dict()) == 58


def test_golden_logits_and_probabilities():
    with torch.no_grad():
        logits = fill(build(5))(wave_image(64))
    golden = [0.0126070, 0.0741954, 0.0461662, -0.0392416, -0.0960434]
    assert logits[0].tolist() == pytest.approx(golden, rel=1e-4)
    golden = [0.2022584, 0.2151068, 0.2091613, 0.1920388, 0.1814348]
    assert logits.softmax(dim=1)[0].tolist() == pytest.approx(golden, rel=1e-4)


def test_sizes_and_names_of_the_published_table():
    network, seen = build(5, width=8).eval(), []
    for block in network.main:
        block.register_forward_hook(lambda module, args, out: seen.append(tuple(out.shape[1:])))
    network(torch.zeros(1, 3, 64, 64))
    channels = [8, 8, 16, 16, 32, 32, 64, 64]
    assert seen == [(c, s, s) for c, s in zip(channels, (32, 32, 16, 16, 8, 8, 4, 4), strict=True)]
    keys = list(network.state_dict())
    assert keys[0] == "main.0.main.0.weight"
    assert keys[55] == "main.7.main.1.num_batches_tracked"
    assert keys[56:] == ["classification_head.1.weight", "classification_head.1.bias"]


@pytest.mark.parametrize("classes", [5, 11, 7])
@pytest.mark.parametrize("width", [4, 8])
def test_published_files_load_with_classes_and_width_from_their_shapes(tmp_path, classes, width):
    network = build(classes, width).eval()
    torch.save(network.state_dict(), tmp_path / "model.pth")
    detector = load_detector("dna-det", weights=tmp_path / "model.pth")
    names = {5: CLOSED, 11: IN_THE_WILD}.get(classes, tuple(f"class {n}" for n in range(7)))
    assert (detector.classes, detector.real) == (names, 0)
    assert len(detector.feature_maps) == 30 * width
    pixels = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        wanted = network(pixels.float() / 127.5 - 1)
    assert torch.allclose(detector.outputs(pixels), wanted, atol=1e-5)
    fakes = wanted[:, 1:].logsumexp(dim=1) - wanted[:, 0]
    assert torch.allclose(detector.logits(pixels), fakes, atol=1e-5)


def test_classes_and_preset_come_from_the_header(tmp_path):
    facts = {"classes": json.dumps(["a", "real", "b"]), "preset": "dna-det-64"}
    save_weights(tmp_path / "w.safetensors", build(3, 4).state_dict(), facts)
    detector = load_detector("dna-det", weights=tmp_path / "w.safetensors")
    assert (detector.classes, detector.real) == (("a", "real", "b"), 1)
    assert detector.preset.name == "dna-det-64"
    facts["classes"] = json.dumps(["real", "b"])
    save_weights(tmp_path / "w.safetensors", build(3, 4).state_dict(), facts)
    with pytest.raises(UserError, match="names 2 classes, but the network has 3"):
        load_detector("dna-det", weights=tmp_path / "w.safetensors")


def test_wrong_or_partial_checkpoints_are_refused_with_their_keys(tmp_path):
    state = build(5, 4).state_dict()
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    assert recognises(shapes)
    assert not recognises(shapes | {"main.7.main.0.weight": (32, 16, 3, 3)})
    del state["main.3.main.1.bias"]
    torch.save(state | {"projection.0.weight": torch.zeros(2)}, tmp_path / "part.pth")
    with pytest.raises(UserError, match=r"main\.3\.main\.1\.bias.*projection\.0\.weight"):
        load_detector("dna-det", weights=tmp_path / "part.pth")
    torch.save(build(5, 4).state_dict(), tmp_path / "dna.pth")
    with pytest.raises(UserError, match="weights of dna-det, not of npr"):
        load_detector("npr", weights=tmp_path / "dna.pth")


def test_relevance_of_a_class_logit_is_traced():
    torch.manual_seed(0)
    network = build(5, 4).eval()
    found = LRP(network)(torch.randn(2, 3, 32, 32))
    assert found.logits.shape == (2, 5)
    assert found.feature_maps["main.7.main.0"].shape == (2, 32, 2, 2)
    assert torch.isfinite(found.pixels).all()


def test_presets_square_and_upscale():
    wide = Image.fromarray(np.random.default_rng(0).integers(0, 256, (130, 200, 3), dtype=np.uint8))
    part = wide.crop((36, 1, 164, 129))
    expected = part.resize((512, 512), Image.Resampling.BICUBIC)
    assert np.array_equal(get_preset("dna-det").geometry(wide), expected)
    square = wide.crop((0, 0, 100, 100))
    first = square.resize((128, 128), Image.Resampling.BICUBIC)
    chain = first.resize((96, 96), Image.Resampling.BICUBIC)
    assert np.array_equal(get_preset("dna-det-in-the-wild-96").geometry(square), chain)
    assert get_preset("dna-det-in-the-wild").sides == (128, 512)
    keys = {get_preset(f"dna-det{name}").shape_key() for name in ("", "-96", "-in-the-wild-96")}
    assert len(keys) == 3
    with pytest.raises(UserError, match="dna-det-SIZE"):
        get_preset("dna-det-8")


# --- losses ------------------------------------------------------------------------------------


def test_supervised_contrastive_loss_is_the_golden_one():
    features = torch.sin(torch.arange(60, dtype=torch.float64)).reshape(12, 5)
    features = torch.nn.functional.normalize(features, dim=1)
    labels = torch.tensor([0, 1, 0, 1]).repeat_interleave(3)
    loss = supervised_contrastive(features, labels)
    assert loss.item() == pytest.approx(14.46944, rel=1e-6)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    assert supervised_contrastive(features[order], labels[order]).item() == pytest.approx(14.46944)


def test_contrastive_loss_agrees_with_its_definition_and_skips_the_lonely():
    torch.manual_seed(0)
    z = torch.nn.functional.normalize(torch.randn(6, 4, dtype=torch.float64), dim=1)
    z.requires_grad_()
    y = [0, 0, 1, 1, 1, 2]
    total, anchors = 0.0, 0
    for a in range(6):
        others = [k for k in range(6) if k != a]
        norm = torch.logsumexp(torch.stack([z[a] @ z[k] / 0.5 for k in others]), 0)
        positives = [p for p in others if y[p] == y[a]]
        if positives:
            total -= sum(z[a] @ z[p] / 0.5 - norm for p in positives) / len(positives)
            anchors += 1
    loss = supervised_contrastive(z, torch.tensor(y), 0.5)
    assert loss.item() == pytest.approx((total / anchors).item())
    loss.backward()
    assert torch.isfinite(z.grad).all()


def test_projections_have_length_one():
    head = ProjectionHead(512)
    assert sum(one.numel() for one in head.parameters()) == 328_320
    assert torch.allclose(head(torch.randn(3, 512)).norm(dim=1), torch.ones(3))


def test_automatic_weighting():
    weighting = AutomaticWeighting()
    one = torch.tensor(1.0)
    assert weighting((one, one)).item() == pytest.approx(2.386294, rel=1e-6)
    optimiser = torch.optim.SGD(weighting.parameters(), 0.01)
    for _ in range(2000):
        optimiser.zero_grad()
        weighting((one, 4 * one)).backward()
        optimiser.step()
    # Its minimum: L (1 + p²) = 2 p⁴.
    p = weighting.p.detach().double()
    assert (2 * p**4 / (1 + p**2)).tolist() == pytest.approx([1, 4], rel=1e-3)


@pytest.mark.parametrize(("classes", "least"), [(5, 0.904832), (11, 1.543041)])
def test_the_double_softmax_cannot_reach_zero(classes, least):
    certain = 1e4 * torch.eye(classes)
    labels = torch.arange(classes)
    published = classification_loss(certain, labels, double_softmax=True).item()
    assert published == pytest.approx(least, rel=1e-6)
    assert classification_loss(certain, labels).item() == 0


# --- data --------------------------------------------------------------------------------------


def test_classes_are_real_and_the_generators(image_set):
    found = by_class(image_set)
    assert list(found) == ["real", *FAMILIES]
    assert [len(entries) for entries in found.values()] == [8, 8, 8]  # shared reals count once
    assert list(by_class(image_set, ("doubled", "real"))) == ["doubled", "real"]
    with pytest.raises(UserError, match=r"no images of class 'sd'; there are \['real', 'blurred'"):
        by_class(image_set, ("real", "sd"))
    with pytest.raises(UserError, match="two or more"):
        by_class(image_set, ("real",))


def test_batches_are_balanced_and_keyed(image_set):
    classes = by_class(image_set)
    classes["doubled"] = classes["doubled"][:3]

    def batches(seed: int) -> BalancedBatches:
        preset = get_preset("dna-det-48")
        return BalancedBatches(classes, preset, crops=3, side=32, batch_size=3, seed=seed)

    data = batches(0)
    assert data.steps_an_epoch == 2  # 8 items of the largest class, the last 2 fill no batch
    crops, labels = data[7]
    assert (crops.dtype, crops.shape) == (torch.uint8, (3, 9, 3, 32, 32))
    assert labels.tolist() == [0, 1, 2] * 3
    again = batches(0)[7]
    assert torch.equal(again[0], crops)
    assert not torch.equal(batches(1)[7][0], crops)
    doubled = crops[0, 2].numpy()
    same = [(doubled[:, y::2, x::2][:, :15, :15] == doubled[:, y::2, x + 1 :: 2][:, :15, :15]).all()
            for y in (0, 1) for x in (0, 1)]  # fmt: skip
    assert any(same)  # a crop of a fake of 2 × 2 cells
    with pytest.raises(UserError, match="8 images a class do not fill a batch of 9"):
        BalancedBatches(classes, data.preset, crops=1, side=32, batch_size=9, seed=0)


def test_crops_fall_everywhere_and_must_fit():
    image = Image.fromarray(np.arange(100, dtype=np.uint8).reshape(10, 10)).convert("RGB")
    crops = crops_of(image, 400, 8, np.random.default_rng(0))
    assert crops.shape == (400, 8, 8, 3)
    assert {int(crop[0, 0, 0]) for crop in crops} == {
        10 * y + x for y in range(3) for x in range(3)
    }
    with pytest.raises(UserError, match="crops of 16 pixels do not fit into images of 10 × 10"):
        crops_of(image, 1, 16, np.random.default_rng(0))


# --- training ----------------------------------------------------------------------------------


def test_recipes_hold_the_published_values():
    def values(name: str) -> tuple:
        one = RECIPES[name]
        return one.batch_size, one.learning_rate, one.decay_steps, one.metric, one.preset

    assert values("dna-det-celeba") == (32, 1e-4, 500, "accuracy", "dna-det")
    assert values("dna-det-lsun") == (32, 1e-3, 2500, "accuracy", "dna-det")
    wild = (16, 1e-3, 2500, "macro_f1", "dna-det-in-the-wild")
    assert values("dna-det-in-the-wild") == wild
    assert values("dna-det-pretrain") == (128, 1e-4, 500, "macro_f1", "dna-det")
    published = [one for name, one in RECIPES.items() if "small" not in name]
    assert [one.epochs for one in published] == [30, 30, 30, 50]
    for one in published:
        assert (one.width, one.crops, one.crop_size, one.temperature) == (64, 16, 64, 0.07)
        assert (one.decay, one.patience, one.seed, one.contrastive) == (0.9, 20, 0, True)
        assert not one.double_softmax  # an option, not the default


def test_a_training_learns_saves_its_classes_and_resumes_to_the_bit(image_set, tmp_path):
    settings = small(max_steps=24, epoch_steps=8, start="high-pass")
    state = torch.get_rng_state()
    history = run(DNATask(image_set, image_set, settings), tmp_path / "whole", workers=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert history["accuracy"].iloc[-1] == 1
    assert history["loss_classes"].iloc[-1] < history["loss_classes"].iloc[0]
    run(DNATask(image_set, image_set, settings), tmp_path / "cut", workers=0, stop_after=2)
    later = run(DNATask(image_set, image_set, settings), tmp_path / "cut", workers=0)
    pd.testing.assert_frame_equal(later.drop(columns="seconds"), history.drop(columns="seconds"))
    one, other = (
        read_checkpoint(tmp_path / name / "dna-det.safetensors")[0] for name in ("whole", "cut")
    )
    assert set(one) == set(build(3, 4).state_dict())  # neither projection head nor weighting
    assert all(torch.equal(one[key], other[key]) for key in one)
    detector = load_detector("dna-det", weights=tmp_path / "whole" / "dna-det.safetensors")
    assert detector.classes == ("real", *FAMILIES)
    assert detector.preset.name == "dna-det-48"
    table = attribute(detector, image_set)
    assert len(table) == 24  # 8 reals that both families share, 16 fakes
    assert (table["truth"] == table["predicted"]).all()
    assert (table.filter(like="p:").sum(axis=1) - 1).abs().max() < 1e-12


def test_the_plain_baseline_is_the_same_network_without_contrastive_loss(image_set):
    plain, published = (DNATask(image_set, image_set, small(contrastive=c)) for c in (False, True))
    assert [len(one.optimisers()[0].param_groups) for one in (plain, published)] == [1, 2]
    for key, value in published.network.state_dict().items():
        assert torch.equal(plain.network.state_dict()[key], value)
    batch = plain.data()[0]
    torch.manual_seed(0)
    classes = plain.loss(batch, "cpu")
    torch.manual_seed(0)
    total = published.loss(batch, "cpu")
    contrastive = published.losses(batch, "cpu")["loss_contrastive"].item()
    weighted = (classes.item() + contrastive) / 2 + 2 * np.log(2)
    assert total.item() == pytest.approx(weighted, rel=1e-5)


def test_crop_groups_go_through_the_network_one_after_another(image_set):
    one = DNATask(image_set, image_set, small())
    one.learner.train()
    one.loss(one.data()[0], "cpu")
    assert int(one.network.main[0].main[1].num_batches_tracked) == 2  # crops, not images × crops


def test_rates_step_with_every_step(image_set):
    one = DNATask(image_set, image_set, small(learning_rate=1e-3, decay_steps=2500))
    assert one.rates(0, 0) == one.rates(2, 2499) == pytest.approx([1e-3, 1e-2])
    assert one.rates(0, 2500) == pytest.approx([9e-4, 9e-3])
    assert one.rates(9, 5000) == pytest.approx([8.1e-4, 8.1e-3])


def test_the_patience_and_the_rounding_of_the_metric(image_set):
    one = DNATask(image_set, image_set, small(patience=1))
    assert one.score({"accuracy": 0.87654}) == (0.8765,)
    with torch.no_grad():  # calls everything real
        one.network.classification_head[1].bias[0] = 1e4
    one.learner.eval()
    whole, ended = one.held_out, []
    for images in (whole[:16], whole[:16], whole, whole, whole[:16], whole, whole):
        one.held_out = images
        ended.append((round(one.validate("cpu")["accuracy"], 3), one.ended()))
    half, third = (0.5, False), (0.333, False)
    assert ended == [half, half, third, (0.333, True), half, third, (0.333, True)]
    other = DNATask(image_set, image_set, small(patience=1))
    other.restore(one.state())
    assert other.ended()


def test_a_warm_start_takes_what_fits_and_refuses_the_rest(image_set, tmp_path):
    with pytest.raises(UserError, match="no such weights file"):
        DNATask(image_set, image_set, small(start=str(tmp_path / "missing.pth")))
    before = build(170, 4)
    torch.save(before.state_dict(), tmp_path / "pretrained.pth")
    network = build(3, 4)
    left = warm_start(network, tmp_path / "pretrained.pth")
    assert left == ["classification_head.1.weight", "classification_head.1.bias"]
    assert torch.equal(network.main[7].main[0].weight, before.main[7].main[0].weight)
    with pytest.raises(UserError, match="no convolution fits"):
        warm_start(build(3, 8), tmp_path / "pretrained.pth")


def test_pre_training_tells_transformations_apart_and_can_be_started_from(image_set, tmp_path):
    root = tmp_path / "photographs" / "any" / "0_real"
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(2):
        pixels = rng.integers(0, 256, (130, 140, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{number}.png")
    photographs = scan(tmp_path / "photographs")
    settings = small(
        pretrain=True, batch_size=2, preset="dna-det-32", epoch_steps=1, max_steps=1, crops=1
    )
    one = DNATask(photographs, photographs, settings)
    assert one.network(torch.zeros(1, 3, 32, 32)).shape == (1, 170)
    history = run(one, tmp_path / "out", workers=0)
    assert {"accuracy", "macro_f1"} < set(history)
    path = tmp_path / "out" / "dna-det-pretrain.safetensors"
    warm = DNATask(image_set, image_set, small(start=str(path)))
    state = read_checkpoint(path)[0]
    assert torch.equal(warm.network.main[0].main[0].weight, state["main.0.main.0.weight"])
    with pytest.raises(UserError, match="pre-training needs real images"):
        DNATask(image_set.only(label=1), image_set, settings)


# --- attribution -------------------------------------------------------------------------------


def table_of(truth: list[str], predicted: list[str]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "path": [f"{number}.png" for number in range(len(truth))],
            "label": [int(one != "real") for one in truth],
            "generator": truth,
            "truth": truth,
            "predicted": predicted,
        }
    )


def test_macro_means_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 4, 60), rng.integers(0, 5, 60)  # class 4 has no image
    confusion = np.zeros((5, 5))
    np.add.at(confusion, (truth, predicted), 1)
    found = class_metrics(confusion)
    for name, score in (("f1", f1_score), ("recall", recall_score)):
        there = score(truth, predicted, average="macro", labels=range(4), zero_division=0)
        assert found[f"macro_{name}"] == pytest.approx(there)
        default = score(truth, predicted, average="macro", zero_division=0)
        assert found[f"macro_{name}_published"] == pytest.approx(default)
    assert np.isnan(found["recall"][4])


def test_one_stray_prediction_halves_the_published_macro_recall():
    table = table_of(["a"] * 4, ["a", "a", "a", "b"])
    found = evaluate_source_attribution(table, ("real", "a", "b")).set_index("metric")
    assert found.loc["accuracy", "value"].iloc[0] == 0.75
    assert found.loc["macro_recall_published", "value"] == 0.375
    assert found.loc["macro_recall", "value"] == 0.75


def test_attribution_table_has_intervals_per_class_and_generator():
    truth = ["real"] * 20 + ["a"] * 20 + ["b"] * 10
    predicted = ["real"] * 18 + ["a"] * 2 + ["a"] * 15 + ["real"] * 5 + ["b"] * 10
    table = table_of(truth, predicted)
    classes = ("real", "a", "b", "c")
    found = evaluate_source_attribution(table, classes, resamples=200)
    recall = found[found["metric"] == "recall"].set_index("class")
    assert recall["value"].to_dict() == {"real": 0.9, "a": 0.75, "b": 1.0}
    assert recall["n"].to_dict() == {"real": 20, "a": 20, "b": 10}
    assert (found["low"] <= found["value"]).all()
    assert (found["value"] <= found["high"]).all()
    by_photograph = np.arange(50) % 10
    clustered = evaluate_source_attribution(table, classes, resamples=200, clusters=by_photograph)
    assert clustered["value"].equals(found["value"])
    again = evaluate_source_attribution(table, classes, resamples=200)
    pd.testing.assert_frame_equal(again, found)
    counts = confusion_table(table, classes).set_index("truth")
    assert counts.loc["a"].to_dict() == {"real": 5, "a": 15, "b": 0, "c": 0}


def test_result_lines_are_path_tab_number():
    table = table_of(["real", "a"], ["a", "real"])
    assert result_lines(table, ("real", "a")) == "0.png\t1\n1.png\t0\n"


def test_other_generators_count_as_a_class_only_where_one_says_so(image_set, tmp_path):
    facts = {"classes": json.dumps(["real", "blurred"]), "preset": "dna-det-48"}
    torch.manual_seed(0)
    save_weights(tmp_path / "w.safetensors", build(2, 4).state_dict(), facts)
    detector = load_detector("dna-det", weights=tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="generator 'doubled' is no class of dna-det"):
        attribute(detector, image_set)
    table = attribute(detector, image_set, sources={"doubled": "blurred"})
    assert set(table.loc[table["label"] == 1, "truth"]) == {"blurred"}
    assert len(without_repeats(image_set)) == 24
    torch.save(load_network_of_one_logit(), tmp_path / "npr.pth")
    with pytest.raises(UserError, match="no classes"):
        attribute(load_detector("npr", weights=tmp_path / "npr.pth"), image_set)


def load_network_of_one_logit() -> dict[str, torch.Tensor]:
    from forensift.detectors.npr import NPR

    return NPR().state_dict()
