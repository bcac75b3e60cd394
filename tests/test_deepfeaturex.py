"""DeepFeatureX Net: network, checkpoints, guidance, the four trainings, the protocols."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from forensift.cli.app import app
from forensift.data import batching, get_preset, read_image, scan
from forensift.data.conditions import parse_condition
from forensift.data.photos import photograph_name
from forensift.detectors import deepfeaturex as dfx
from forensift.detectors import load_detector, save_weights
from forensift.errors import UserError
from forensift.figures import plot_confusion_matrix
from forensift.lrp import LRP
from forensift.records import FAKE, REAL, ImageEntry, ImageSet
from forensift.studies.deepfeaturex import (
    FILTERS,
    Families,
    as_binary,
    generalisation,
    measure,
    numbers,
    predictions,
    study,
    write_filtered,
    write_sets,
)
from forensift.training.deepfeaturex import FOLDERS, base_task, complete_task, train_all
from forensift.training.deepfeaturex_data import ClassBatches, balanced_split, distinct, drawn_rest
from forensift.training.deepfeaturex_task import DFXSettings
from forensift.training.guidance import (
    BASE,
    TEST,
    architecture_of,
    class_of,
    make_guidance,
    of_stage,
    read_guidance,
)

from .conftest import write_image

SMALL = "shufflenet_v2_x0_5"

# §6.1 of the facts: base model of two classes, complete model.
PARAMETERS = {
    "resnet18": (11_177_538, 35_556_867),
    "resnet34": (21_285_698, 65_881_347),
    "resnet50": (23_512_130, 72_551_427),
    "resnet101": (42_504_258, 129_527_811),
    "resnet152": (58_147_906, 176_458_755),
    "densenet121": (6_955_906, 22_888_899),
    "densenet161": (26_476_418, 81_443_331),
    "densenet169": (12_487_810, 39_480_771),
    "densenet201": (18_096_770, 56_306_115),
    "vit_b_16": (85_800_194, 259_423_299),
    "vit_b_32": (87_456_770, 264_393_027),
}
LENGTHS = {
    "resnet18": 512, "resnet50": 2048, "densenet121": 1024, "densenet161": 2208,
    "densenet169": 1664, "densenet201": 1920, "vit_b_16": 768, "vit_l_16": 1024,
    "googlenet": 1024, "inception_v3": 2048, "efficientnet_b0": 1280, "efficientnet_b4": 1792,
    "mobilenet_v3_small": 1024, "mnasnet0_5": 1280, SMALL: 1024,
}  # fmt: skip


def count(network: nn.Module) -> int:
    return sum(one.numel() for one in network.parameters())


def filled(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the deterministic weights of appendix B.2: by place in the state dict and index."""
    out = {}
    for e, (key, value) in enumerate(state.items()):
        if not value.is_floating_point():
            out[key] = value
            continue
        k = np.arange(value.numel(), dtype=np.float64)
        if key.endswith("running_var"):
            new = 1 + 0.5 * np.sin(k + e)
        elif key.endswith(("running_mean", "bias")):
            new = 0.1 * np.sin(k + e)
        elif value.dim() >= 2:
            new = np.sin(0.7 * k + e) * np.sqrt(2 / (value.numel() / value.shape[0]))
        else:
            new = 1 + 0.25 * np.sin(k + e)
        out[key] = torch.from_numpy(new.reshape(tuple(value.shape))).float()
    return out


@pytest.fixture(scope="module")
def network() -> dfx.DeepFeatureX:
    torch.manual_seed(0)
    return dfx.DeepFeatureX(SMALL).eval()


# --- the network


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts_are_the_published_ones(name: str) -> None:
    with torch.device("meta"):
        base, one = dfx.base_model(name), dfx.backbone(name)[0]
    whole = 3 * count(one) + 2_027_331
    assert (count(base), whole) == PARAMETERS[name]


def test_the_complete_network_is_three_backbones_and_the_head() -> None:
    with torch.device("meta"):
        whole = dfx.build("resnet18")
    assert count(whole) == PARAMETERS["resnet18"][1]
    assert count(whole.convs) == 2_024_256  # type: ignore[arg-type]
    assert count(whole.classifier) == 3_075  # type: ignore[arg-type]


@pytest.mark.parametrize("name", LENGTHS)
def test_feature_length_is_found_in_the_backbone(name: str) -> None:
    with torch.device("meta"):
        assert dfx.backbone(name)[1] == LENGTHS[name]


def test_golden_value_of_the_head(network: dfx.DeepFeatureX) -> None:
    heads = [key for key in network.state_dict() if key.startswith(("convs.", "classifier."))]
    assert heads[0] == "convs.0.weight"
    copy = dfx.DeepFeatureX(SMALL).eval()
    copy.load_state_dict(filled({key: copy.state_dict()[key] for key in heads}), strict=False)
    k = np.arange(3 * 2048, dtype=np.float64)
    features = torch.from_numpy(np.abs(np.sin(0.01 * k + 0.3)).reshape(1, 3, 2048)).float()
    expected = [-0.0474457, 0.0512947, 0.1003426]
    assert copy.head(features)[0].tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("length", "inner"), [(2048, 510), (1024, 254), (512, 126)])
def test_lengths_inside_the_head(network: dfx.DeepFeatureX, length: int, inner: int) -> None:
    assert network.convs(torch.zeros(2, 3, length)).shape == (2, 1024, inner)


def test_order_in_the_head_is_convolution_relu_norm(network: dfx.DeepFeatureX) -> None:
    kinds = [type(one).__name__ for one in network.convs]
    assert kinds == ["Conv1d", "ReLU", "BatchNorm1d"] * 4 + ["Conv1d", "ReLU"]


def test_backbones_stay_in_evaluation_mode(network: dfx.DeepFeatureX) -> None:
    network = dfx.DeepFeatureX(SMALL)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network.train()
    assert network.training
    assert network.convs.training
    for branch in dfx.BRANCHES:
        assert not any(one.training for one in network.get_submodule(branch).modules())
    network(torch.randn(4, 3, 64, 64))
    after = network.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before if key.startswith("model"))
    assert not torch.equal(before["convs.2.running_mean"], after["convs.2.running_mean"])


def test_it_can_be_traced_and_explained(network: dfx.DeepFeatureX) -> None:
    torch.fx.symbolic_trace(network)
    relevance = LRP(network)(torch.randn(2, 3, 64, 64))
    assert relevance.logits.shape == (2, 3)
    assert relevance.pixels.shape == (2, 3, 64, 64)
    assert "model2.conv1.0" in relevance.feature_maps


@pytest.mark.parametrize(("name", "said"), [("squeezenet1_1", "no linear"), ("resnet51", "resnet")])
def test_a_backbone_that_does_not_fit_is_refused(name: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        dfx.backbone(name)


# --- checkpoints


def test_published_checkpoint_goes_round(tmp_path: Path, network: dfx.DeepFeatureX) -> None:
    torch.manual_seed(1)
    written = dfx.DeepFeatureX("resnet18").eval()
    torch.save(written.state_dict(), tmp_path / "res18.pt")
    loaded = load_detector("deepfeaturex", weights=tmp_path / "res18.pt")
    assert loaded.classes == ("dm_generated", "gan_generated", "real")
    assert loaded.real == 2
    assert loaded.preset.squash == (256, 256)
    assert {key: value.dtype for key, value in loaded.network.state_dict().items()} == {
        key: value.dtype for key, value in written.state_dict().items()
    }
    pixels = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        expected = written(loaded.preset.normalise(pixels))
    assert torch.allclose(loaded.outputs(pixels), expected, atol=1e-5)
    log_odds = expected[:, :2].logsumexp(1) - expected[:, 2]
    assert torch.allclose(loaded.logits(pixels), log_odds, atol=1e-5)


def test_header_names_backbone_and_preset(tmp_path: Path, network: dfx.DeepFeatureX) -> None:
    path = tmp_path / "ours.safetensors"
    facts = {"backbone": SMALL, "preset": "deepfeaturex-native"}
    save_weights(path, network.state_dict(), facts, bits=8)
    loaded = load_detector("deepfeaturex", weights=path)
    assert loaded.preset.name == "deepfeaturex-native"
    assert isinstance(loaded.network, dfx.DeepFeatureX)
    assert loaded.network.length == 1024
    assert path.stat().st_size < 4_500_000


def test_partial_and_foreign_checkpoints_are_refused_with_their_keys(
    tmp_path: Path, network: dfx.DeepFeatureX
) -> None:
    state = dict(dfx.DeepFeatureX("resnet18").state_dict())
    del state["model2.layer1.0.conv1.weight"], state["convs.12.bias"]
    torch.save(state, tmp_path / "partial.pt")
    with pytest.raises(UserError, match=r"missing: model2\.layer1\.0\.conv1\.weight, convs\.12\.b"):
        load_detector("deepfeaturex", weights=tmp_path / "partial.pt")
    torch.save(dfx.base_model("resnet18").state_dict(), tmp_path / "base.pt")
    with pytest.raises(UserError, match="missing"):
        load_detector("deepfeaturex", weights=tmp_path / "base.pt")


def test_base_model_of_the_published_format(tmp_path: Path) -> None:
    model = dfx.base_model("resnet18").eval()
    torch.save(model.state_dict(), tmp_path / "res18.pt")
    with pytest.raises(UserError, match="which class"):
        dfx.load_base_model(tmp_path / "res18.pt")
    loaded = dfx.load_base_model(tmp_path / "res18.pt", main="gan_generated")
    assert loaded.classes == ("rest", "gan_generated")
    assert loaded.real == 0
    assert dfx.load_base_model(tmp_path / "res18.pt", main="real").real == 1
    pixels = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    with torch.no_grad():
        expected = model(loaded.preset.normalise(pixels))
    assert torch.allclose(loaded.outputs(pixels), expected, atol=1e-5)


def test_presets() -> None:
    image = Image.new("RGB", (300, 200))
    assert get_preset("deepfeaturex").geometry(image).size == (256, 256)
    assert get_preset("deepfeaturex-vit").geometry(image).size == (224, 224)
    assert get_preset("deepfeaturex-native").geometry(image).size == (300, 200)


# --- data


FAKES = ("progan-like", "ddpm-like")


@pytest.fixture
def world(tmp_path: Path) -> ImageSet:
    """Twelve photographs, two crops each; reals shared; a bright and a dark family of fakes."""
    root = tmp_path / "world"
    for generator, change in zip(FAKES, (60, -60), strict=True):
        for number in range(12):
            for crop in range(2):
                name = f"photo{number}-{crop:03d}.png"
                real = write_image(root / generator / "0_real" / name, (40, 40), 2 * number + crop)
                pixels = np.asarray(Image.open(real)).astype(int) + change
                fake = root / generator / "1_fake" / name
                fake.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(fake)
    return scan(root)


def three_classes(root: Path, n: int = 4) -> ImageSet:
    """Write the published layout: two GANs, one diffusion model, reals."""
    for at, folder in enumerate(
        ("dm_generated/Glide", "gan_generated/BigGAN", "gan_generated/StarGAN", "real/real")
    ):
        for number in range(n):
            write_image(root / folder / f"img{at}x{number}.png", seed=10 * at + number)
    return scan(root)


def test_classes_of_both_layouts(world: ImageSet, tmp_path: Path) -> None:
    found = {(entry.generator, entry.label): class_of(entry) for entry in world}
    assert found == {
        ("ddpm-like", 0): "real",
        ("ddpm-like", 1): "dm_generated",
        ("progan-like", 0): "real",
        ("progan-like", 1): "gan_generated",
    }
    published = three_classes(tmp_path / "datasets")
    assert published.layout == "deepfeaturex"
    assert {architecture_of(one): class_of(one) for one in published} == {
        "Glide": "dm_generated",
        "BigGAN": "gan_generated",
        "StarGAN": "gan_generated",
        "real": "real",
    }
    assert class_of(ImageEntry(Path("x.png"), 1, "mine"), diffusion=("mine",)) == "dm_generated"


def test_guidance_keeps_photographs_together_and_is_keyed(world: ImageSet) -> None:
    table = make_guidance(world, seed=3)
    assert list(table.columns) == ["label", "image_path", "model"]
    assert set(table["model"]) == {"progan-like", "ddpm-like", "real"}
    shown = [photograph_name(Path(path).stem) for path in table["image_path"]]
    assert table.groupby(shown)["label"].nunique().max() == 1
    again = make_guidance(ImageSet(world.root, world.entries[::-1]), seed=3)
    pd.testing.assert_frame_equal(again.iloc[::-1].reset_index(drop=True), table)
    assert not make_guidance(world, seed=4)["label"].equals(table["label"])
    named = make_guidance(world, seed=3, by="name")
    names = [Path(path).stem for path in named["image_path"]]
    assert named.groupby(names)["label"].nunique().max() == 1
    assert named.groupby(shown)["label"].nunique().max() > 1
    alone = make_guidance(world, seed=3, by="image")
    assert alone.groupby(shown)["label"].nunique().max() > 1


def test_guidance_shares(tmp_path: Path) -> None:
    entries = tuple(ImageEntry(tmp_path / f"{n}.png", 0, "x") for n in range(4000))
    labels = make_guidance(ImageSet(tmp_path, entries), by="image")["label"]
    assert labels.value_counts(normalize=True).sort_index().tolist() == pytest.approx(
        [0.4, 0.4, 0.2], abs=0.03
    )


@pytest.mark.parametrize("prefix", ["", "/", "ROOT/"])
def test_guidance_paths_in_all_published_forms(
    world: ImageSet, tmp_path: Path, prefix: str
) -> None:
    table = make_guidance(world)
    prefix = prefix.replace("ROOT", str(world.root))
    table["image_path"] = prefix + table["image_path"]
    table.to_csv(tmp_path / "guidance.csv", index=False)
    read = read_guidance(tmp_path / "guidance.csv")
    found = of_stage(world, read, TEST)
    assert len(found) == (table["label"] == TEST).sum() > 0


def test_guidance_that_does_not_fit_is_refused(world: ImageSet, tmp_path: Path) -> None:
    table = make_guidance(world)
    with pytest.raises(UserError, match="not in the guidance"):
        of_stage(world, table.iloc[1:], BASE)
    table.assign(label=7).to_csv(tmp_path / "wrong.csv", index=False)
    with pytest.raises(UserError, match="row 2: label '7'"):
        read_guidance(tmp_path / "wrong.csv")
    with pytest.raises(UserError, match="photograph, name, image"):
        make_guidance(world, by="both")


def test_shared_reals_count_once(world: ImageSet) -> None:
    once = distinct(world)
    assert len(once.only(label=0)) == 24
    assert len(once.only(label=1)) == 48


def test_what_stands_against_a_class_is_a_share_of_each_architecture(tmp_path: Path) -> None:
    images = three_classes(tmp_path, n=30)
    classes = [class_of(entry) for entry in images]
    drawn = drawn_rest(images, classes, "dm_generated", 0.1, seed=0)
    folders = pd.Series([path.parent.name for path in drawn]).value_counts()
    assert folders.to_dict() == {"BigGAN": 3, "StarGAN": 3, "real": 3}
    assert len(drawn_rest(images, classes, "real", 0.04, seed=0)) == 3  # int(1.2) of each
    assert drawn == drawn_rest(images, classes, "dm_generated", 0.1, seed=0)


@pytest.mark.parametrize("by", ["image", "photograph"])
def test_validation_of_the_head_is_balanced(world: ImageSet, by: str) -> None:
    images = [(entry, dfx.CLASSES.index(class_of(entry))) for entry in world]
    training, validation = balanced_split(images, 3, 0.2, 0, by)
    counts = np.bincount([label for _, label in validation])
    assert counts.tolist() == [4, 4, 4]
    shown = {photograph_name(entry.path.stem) for entry, _ in validation}
    if by == "photograph":
        assert not shown & {photograph_name(entry.path.stem) for entry, _ in training}
    else:
        assert len(training) + len(validation) == len(images)


def test_batches_are_keyed_and_see_every_image_once(world: ImageSet) -> None:
    images = [(entry, entry.label) for entry in world]
    preset = get_preset("deepfeaturex-native")

    def make(**options: bool) -> ClassBatches:
        return ClassBatches(images, preset, batch_size=20, seed=1, crop_size=32, **options)

    data = make()
    first = [data[step] for step in range(data.steps)]
    assert sum(len(labels) for _, labels in first) == len(images)
    assert all(pixels.shape[1:] == (3, 32, 32) for pixels, _ in first)
    again = make()
    assert all(torch.equal(again[step][0], first[step][0]) for step in reversed(range(data.steps)))
    assert not torch.equal(data[data.steps][0], first[0][0])


def test_matched_batches_hold_one_image_of_each_class(world: ImageSet) -> None:
    images = distinct(world)
    named = [(entry, dfx.CLASSES.index(class_of(entry))) for entry in images]
    batches = ClassBatches(
        named, get_preset("deepfeaturex-native"), batch_size=6, seed=1, crop_size=16, matched=True
    )
    assert batches.units
    for step in range(batches.steps):
        labels = batches[step][1].tolist()
        assert labels == [0, 1, 2] * (len(labels) // 3)
    alone = [(entry, label) for entry, label in named if label == 2]
    with pytest.raises(UserError, match="matched"):
        ClassBatches(
            [*alone, (alone[0][0].__class__(Path("x/other.png"), 1, "g", ""), 0)],
            get_preset("deepfeaturex-native"), batch_size=6, seed=1, matched=True,
        )  # fmt: skip


def test_matched_images_are_cropped_and_turned_alike(world: ImageSet) -> None:
    pairs = [(entry, entry.label) for entry in world if entry.generator == "progan-like"]
    preset = get_preset("deepfeaturex-native")
    data = ClassBatches(
        pairs, preset, batch_size=2, seed=1, crop_size=16, symmetries=True, matched=True
    )
    pixels, labels = data[0]
    assert sorted(labels.tolist()) == [0, 1]
    real, fake = pixels[labels == 0], pixels[labels == 1]
    assert bool((fake >= real - 1e-6).all())  # each pixel of the fake is brighter


# --- training

QUICK = DFXSettings(
    backbone=SMALL,
    preset="deepfeaturex-native",
    share=0.7,
    batch_size=8,
    learning_rate=1e-3,
    max_steps=4,
    head_steps=2,
    epoch_steps=2,
    crop_size=32,
)


def test_losses_and_weights_are_the_published_ones(world: ImageSet, tmp_path: Path) -> None:
    guidance = make_guidance(world)
    images = distinct(world)
    task = base_task(images, guidance, "gan_generated", QUICK)
    assert task.weights is None
    made = {}
    for main in dfx.CLASSES:
        made[main] = tmp_path / f"{main}.safetensors"
        save_weights(made[main], dfx.base_model(SMALL).state_dict(), {})
    whole = complete_task(images, guidance, made, QUICK)
    assert whole.weights is not None
    assert whole.weights.sum().item() == pytest.approx(2.0)
    assert whole.weights.tolist() == pytest.approx([2 / 3] * 3)  # as many of each class
    (optimiser,) = whole.optimisers()
    assert optimiser.defaults["weight_decay"] == 1e-3
    learnt = sum(one.numel() for one in optimiser.param_groups[0]["params"])
    assert learnt == 2_027_331
    published = DFXSettings()
    assert (published.share, published.learning_rate, published.batch_size) == (0.04, 1e-4, 32)


def test_four_trainings_resume_to_the_same_bits(world: ImageSet, tmp_path: Path) -> None:
    guidance = make_guidance(world)
    state = torch.get_rng_state()
    whole = train_all(world, guidance, QUICK, tmp_path / "whole", workers=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert list(whole) == [*FOLDERS.values(), "complete"]
    for _ in range(2):
        parts = train_all(world, guidance, QUICK, tmp_path / "parts", workers=0, stop_after=1)
    assert list(parts)[-1] == "complete"
    name = "complete/deepfeaturex.safetensors"
    ours, theirs = (
        load_detector("deepfeaturex", weights=tmp_path / run / name).network.state_dict()
        for run in ("whole", "parts")
    )
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    base = dfx.load_base_model(tmp_path / "whole/bm-real/deepfeaturex-base-real.safetensors")
    kept = base.network.state_dict()
    assert all(
        torch.equal(value, kept[key.removeprefix("model3.")])
        for key, value in ours.items()
        if key.startswith("model3.")
    )
    other = DFXSettings(**{**vars(QUICK), "share": 0.5})
    with pytest.raises(UserError, match="other settings"):
        train_all(world, guidance, other, tmp_path / "whole", workers=0)


def test_a_class_without_images_is_refused(world: ImageSet, tmp_path: Path) -> None:
    only = ImageSet(world.root, tuple(e for e in world if e.generator == "progan-like"))
    with pytest.raises(UserError, match="no images of class dm_generated"):
        train_all(only, make_guidance(only), QUICK, tmp_path / "out", workers=0)


# --- protocols


def table_of(truth: list[str], predicted: list[str]) -> pd.DataFrame:
    generators = {"real": "a", "gan_generated": "a", "dm_generated": "b"}
    return pd.DataFrame(
        {
            "path": [f"photo{n}.png" for n in range(len(truth))],
            "label": [int(one != "real") for one in truth],
            "generator": [generators[one] for one in truth],
            "truth": truth,
            "predicted": predicted,
        }
    )


def test_numbers_agree_with_hand_counts() -> None:
    d, g, r = dfx.CLASSES
    table = table_of([d, d, g, g, r, r, r, r], [d, g, g, r, r, r, d, r])
    assert numbers(table)["accuracy"] == 5 / 8
    micro = numbers(table, "micro")
    assert len(set(micro.values())) == 1
    two = as_binary(table)
    assert two["truth"].tolist().count("real") == two["truth"].tolist().count("fake") == 4
    binary = numbers(two, "binary")
    assert binary["recall"] == 3 / 4  # of the reals
    assert binary["precision"] == 3 / 4
    rows = measure(table, dfx.CLASSES, resamples=50).set_index("protocol")
    assert rows.loc["three classes", "balanced_accuracy"] == pytest.approx((0.5 + 0.5 + 0.75) / 3)
    assert rows.loc["three classes, balanced", "n"] == 6
    assert rows.loc["real or fake", "positive"] == "real"


def test_generalisation_sets_hold_what_they_say(world: ImageSet, tmp_path: Path) -> None:
    families = Families(("progan-like",), (), (), ("ddpm-like",))
    assert list(families.sets()) == [
        "inner_gan", "io_gan", "outer_dm", "io_dm", "inner_all", "outer_all", "all",
    ]  # fmt: skip
    counts = write_sets(world, families, tmp_path / "sets")
    assert counts["inner_gan"] == 24
    assert counts["all"] == 48
    again = scan(tmp_path / "sets")
    assert set(again.generators) == set(families.sets())
    assert len(again.only(generator="all", label=0)) == 24
    d, g, r = dfx.CLASSES
    table = table_of([d, g, r, r], [d, r, r, r])
    found = generalisation(table, Families(("a",), (), ("b",), ()), resamples=20)
    rows = found.set_index("set")["accuracy"]
    assert rows["inner_dm"] == 1.0
    assert rows["inner_gan"] == 0.5


def test_filters_do_what_is_published(world: ImageSet, tmp_path: Path) -> None:
    assert len(FILTERS) == 13
    image = Image.open(world.entries[0].path)
    pixels = np.asarray(image)
    assert FILTERS["scaling-50"](image).size == (20, 20)
    assert FILTERS["scaling-200"](image).size == (80, 80)
    halves = pixels.reshape(20, 2, 20, 2, 3).mean(axis=(1, 3))
    assert np.abs(np.asarray(FILTERS["scaling-50"](image)) - halves).max() <= 0.51
    assert np.array_equal(np.asarray(FILTERS["mirror-B"](image)), pixels[::-1, ::-1])
    turned = np.asarray(FILTERS["rotation-45"](image))
    assert turned.shape == pixels.shape
    assert not turned[0, 0].any()
    x = np.arange(-7, 8)
    weights = np.exp(-(x**2) / 32)
    weights /= weights.sum()
    centre = (weights[:, None, None] * pixels[13:28, 13:28]).sum(0)
    centre = (weights[:, None] * centre).sum(0)
    blurred = np.asarray(FILTERS["GaussNoise-15"](image))[20, 20]
    assert np.abs(blurred - centre).max() <= 1
    folders = write_filtered(
        world, tmp_path / "out", ("jpegQF90", "rotation-45"), diffusion=("ddpm-like",)
    )
    assert [one.name for one in folders] == ["testing_dset-jpegQF90", "testing_dset-rotation-45"]
    written = folders[0] / "dm_generated" / "ddpm-like" / "photo0-000.jpg"
    with Image.open(written) as opened:
        assert opened.format == "JPEG"
        assert {layer[1:3] for layer in opened.layer} == {(1, 1)}  # 4:4:4
        stored = np.asarray(opened.convert("RGB"))
    fake = Image.open(world.root / "ddpm-like" / "1_fake" / "photo0-000.png")
    assert np.array_equal(np.asarray(FILTERS["jpegQF90"](fake)), stored)


def test_predictions_of_a_base_model_are_one_against_the_rest(
    world: ImageSet, tmp_path: Path
) -> None:
    path = tmp_path / "base.safetensors"
    facts = {"main": "dm_generated", "backbone": SMALL, "preset": "deepfeaturex-native"}
    save_weights(path, dfx.base_model(SMALL).state_dict(), facts)
    table = predictions(dfx.load_base_model(path), world, diffusion=("ddpm-like",))
    assert table["truth"].value_counts().to_dict() == {"rest": 48, "dm_generated": 24}


def test_confusion_figure_draws_every_cell() -> None:
    counts = pd.DataFrame({"truth": ["a", "b"], "a": [3, 0], "b": [1, 0]})
    texts = [one.get_text() for one in plot_confusion_matrix(counts).axes[0].texts]
    assert texts == ["75 %\n3", "25 %\n1", "0 %\n0", "0 %\n0"]


@pytest.mark.parametrize(
    "name", ["kernel-4", "kernel-1", "area-9", "turn-361", "jpeg444-0", "mirror-2"]
)
def test_conditions_that_are_none_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"no condition .*turn-DEGREES"):
        parse_condition(name)


def test_all_filters_and_detectors_share_one_reading(
    world: ImageSet, network: dfx.DeepFeatureX, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "dfx.safetensors"
    save_weights(path, network.state_dict(), {"backbone": SMALL, "preset": "deepfeaturex-native"})
    detectors = {
        "a": load_detector("deepfeaturex", weights=path),
        "b": load_detector("deepfeaturex"),
    }
    read: list[Path] = []

    def counted(file: Path) -> Image.Image:
        read.append(file)
        return read_image(file)

    monkeypatch.setattr(batching, "read_image", counted)
    families = Families(("progan-like",), (), ("ddpm-like",), ())
    inner = ("progan-like",)
    kept = tuple(one for one in world if one.label == REAL or one.generator in inner)
    known = ImageSet(world.root, kept, world.layout)
    found = study(
        detectors, world, families=families, known=known, filters=("mirror-B", "jpegQF50")
    )
    assert sorted(read) == sorted(one.path for one in distinct(world))
    assert (
        found.robustness["filter"].tolist() == ["clean"] * 2 + ["mirror-B"] * 2 + ["jpegQF50"] * 2
    )
    mirrored = torch.stack(
        [torch.from_numpy(np.asarray(read_image(one.path)).copy()) for one in distinct(known)]
    ).flip(1, 2)
    called = detectors["b"].outputs(mirrored.permute(0, 3, 1, 2).contiguous()).argmax(1).tolist()
    kinds = {REAL: "real", FAKE: class_of(kept[-1], families.diffusion)}
    right = [
        dfx.CLASSES[at] == kinds[one.label] for at, one in zip(called, distinct(known), strict=True)
    ]
    row = found.robustness.set_index(["detector", "filter"]).loc[("b", "mirror-B")]
    assert row["accuracy"] == pytest.approx(np.mean(right))
    assert 0 < np.mean(right) < 1


def test_commands(world: ImageSet, tmp_path: Path, network: dfx.DeepFeatureX) -> None:
    run = CliRunner().invoke
    guidance = tmp_path / "guidance.csv"
    done = run(app, ["deepfeaturex", "guidance", "--data", str(world.root), "--out", str(guidance)])
    assert done.exit_code == 0, done.output
    weights, plain = tmp_path / "dfx.safetensors", tmp_path / "plain.safetensors"
    facts = {"backbone": SMALL, "preset": "deepfeaturex-native"}
    save_weights(weights, network.state_dict(), facts)
    save_weights(plain, dfx.base_model(SMALL, 3).state_dict(), facts)
    out = tmp_path / "out"
    common = ["--data", str(world.root), "--guidance", str(guidance), "--out", str(out)]
    given = ["--weights", str(weights), "--plain", str(plain), "--device", "cpu"]
    done = run(app, ["deepfeaturex", "test", *common, *given])
    assert done.exit_code == 0, done.output
    assert "three classes" in (out / "results.md").read_text()
    hard = pd.read_csv(out / "robustness.csv")
    assert len(hard) == 2 * (1 + len(FILTERS))
    assert (out / "confusion.png").is_file()
    networks = [f"ours={weights}", f"plain={plain}"]
    done = run(app, ["deepfeaturex", "compare", *networks, *common])
    assert done.exit_code == 0, done.output
    compared = pd.read_csv(out / "comparison.csv")
    assert compared["parameters"].tolist() == [count(network), count(dfx.base_model(SMALL, 3))]
    strange = ["--inner-dm", "", "--data", str(world.root), "--weights", str(weights)]
    done = run(app, ["deepfeaturex", "test", *strange, "--out", str(out)])
    assert done.exit_code == 2
    assert "'ddpm-like' a GAN or a diffusion model" in done.output
