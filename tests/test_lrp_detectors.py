"""LRP and all that stands on it for the detectors of the papers, and for backbones of one's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
import torchvision.models as zoo
from efficientnet_pytorch.utils import Conv2dDynamicSamePadding
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

import forensift as ff
from forensift.cli.app import app
from forensift.detectors import Detector, get_architecture, head, observed, save_weights
from forensift.errors import UserError
from forensift.explain import default_layer
from forensift.histograms import median_test
from forensift.lrp import IMAGENET_BOX, LRP, LayerWithoutRule, pixel_range
from forensift.patches import patches
from forensift.records import ImageSet

from .lrp_reference import fingerprint, relative_error, slow_epsilon, slow_zplus
from .test_lrp_rules import relevance_through

# ---- rules


def awaken(network: Any) -> Any:
    """Give a fresh network BatchNorm statistics that are not those of a fresh one; evaluation."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
            nn.init.normal_(module.running_mean, 0, 0.2)  # type: ignore[arg-type]
            nn.init.uniform_(module.weight, 0.5, 1.2)
            nn.init.normal_(module.bias, 0, 0.1)
    return network.eval()


def unbiased(layer: nn.Module) -> Callable[[Tensor], Tensor]:
    """One image through the layer, less what the bias adds."""
    return lambda a: (layer(a[None]) - layer(torch.zeros_like(a)[None]))[0]


def at_largest(logits: Tensor) -> Tensor:
    return F.one_hot(logits.argmax(1), logits.shape[1]).double()


@torch.no_grad()
def folded(convolution: Any, norm: Any) -> nn.Conv2d:
    """A convolution that does what the two do."""
    kernel, steps = convolution.kernel_size, convolution.stride
    width = convolution.out_channels
    both = nn.Conv2d(convolution.in_channels, width, kernel, steps, convolution.padding).double()
    gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    both.weight.copy_(convolution.weight * gain[:, None, None, None])
    both.bias.copy_((convolution.bias - norm.running_mean) * gain + norm.bias)  # type: ignore[union-attr]
    return both


@torch.no_grad()
def slow_dna_det(network: Any, batch: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Pixel relevance, and that of every map, of the largest logit: block by block."""
    inputs, layers, x = [], [], batch
    for block in network.main:
        layers.append(folded(block.main[0], block.main[1]))
        inputs.append(x)
        x = F.leaky_relu(layers[-1](x), 0.2)
    pooled = x.mean((2, 3))
    linear = network.classification_head[1]
    logits = linear(pooled)
    r = slow_epsilon(lambda a: a @ linear.weight.T, pooled, at_largest(logits), linear.bias)
    r = slow_epsilon(lambda a: a.mean((1, 2)), x, r)
    maps = {}
    for place in range(len(layers) - 1, -1, -1):
        maps[f"main.{place}.main.0"] = r  # the activation passes it on
        r = slow_zplus(unbiased(layers[place]), inputs[place], r)
    return r, maps


def test_dna_det_matches_its_slow_twin() -> None:
    torch.manual_seed(0)
    network = awaken(get_architecture("dna-det").build(width=2)).double()
    batch = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    lrp = LRP(network)
    found = lrp(batch)
    pixels, maps = slow_dna_det(network, batch)
    assert relative_error(found.pixels, pixels) < 1e-8
    assert list(found.feature_maps) == list(reversed(maps))
    for layer, expected in maps.items():
        assert relative_error(found.feature_maps[layer], expected) < 1e-8
    assert len(lrp.report.merged) == 8
    assert not lrp.report.unfolded


class Signals(nn.Module):
    """Three small backbones, their features stacked to one signal, and DeepFeatureX's kind of head.

    A convolution, ReLU and only then BatchNorm: the next convolution takes that in.
    """

    def __init__(self) -> None:
        super().__init__()
        for branch in ("model1", "model2", "model3"):
            layers = (nn.Conv2d(3, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d((2, 3)), nn.Flatten())
            self.add_module(branch, nn.Sequential(*layers))
        self.convs = nn.Sequential(
            nn.Conv1d(3, 4, 3, 2, padding=1), nn.ReLU(), nn.BatchNorm1d(4),
            nn.Conv1d(4, 5, 3, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.pool = nn.AdaptiveAvgPool1d(1)
        self.classifier = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.stack([self.model1(x), self.model2(x), self.model3(x)], dim=1)
        return self.classifier(torch.flatten(self.pool(self.convs(x)), 1))


@torch.no_grad()
def slow_signals(network: Any, batch: Tensor) -> Tensor:
    branches = [network.model1, network.model2, network.model3]
    maps = [F.relu(branch[0](batch)) for branch in branches]
    stacked = torch.stack([branch(batch) for branch in branches], 1)
    first, _, norm, second, _ = network.convs
    between = norm(F.relu(first(stacked)))
    last = F.relu(second(between))
    pooled = last.mean(2)
    linear = network.classifier
    r = slow_epsilon(lambda a: a @ linear.weight.T, pooled, at_largest(linear(pooled)), linear.bias)
    r = slow_epsilon(lambda a: a.mean(1), last, r)
    gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    taken = F.relu(first(stacked))  # the second convolution of gain · x, its shift like a bias
    r = slow_zplus(
        lambda a: F.conv1d(a[None] * gain[:, None], second.weight, padding=1)[0], taken, r
    )
    r = slow_zplus(unbiased(first), stacked, r)  # ReLU passes it on
    pixels = torch.zeros_like(batch)
    for place, (branch, x) in enumerate(zip(branches, maps, strict=True)):
        here = r[:, place].view(len(batch), 2, 2, 3)
        here = slow_epsilon(lambda a: F.adaptive_avg_pool2d(a, (2, 3)), x, here)
        pixels += slow_zplus(unbiased(branch[0]), batch, here)
    return pixels


def test_stacked_backbones_match_their_slow_twin() -> None:
    torch.manual_seed(1)
    network = awaken(Signals()).double()
    batch = torch.randn(2, 3, 8, 9, dtype=torch.float64)
    lrp = LRP(network)
    found = lrp(batch, budget=True)
    assert relative_error(found.pixels, slow_signals(network, batch)) < 1e-8
    assert lrp.report.merged == [("convs.3", "convs.2")]
    assert not lrp.report.unfolded
    # a signal's channels are no maps of the image
    assert lrp.layers == ["model1.0", "model2.0", "model3.0"]
    assert found.pixels is not None
    assert found.budget is not None
    assert float(found.pixels.sum()) == pytest.approx(2 - found.budget["absorbed"].sum(), abs=1e-9)


class _Halves(nn.Module):
    """The same channels by other words."""

    def __init__(self, cut: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.other = nn.Conv2d(2, 2, 1)
        self.cut = cut

    def forward(self, x: Tensor) -> Tensor:
        one, two = self.cut(self.conv(x))
        return torch.cat([two, self.other(one)], 1).flatten(1)


@pytest.mark.parametrize(
    "cut",
    [
        lambda x: x.chunk(2, dim=1),
        lambda x: torch.chunk(x, 2, 1),
        lambda x: torch.split(x, [2, 2], dim=1),
        lambda x: x.split(2, 1),
        lambda x: x.view(x.size(0), 2, 2, x.size(2), x.size(3)).unbind(1),
    ],
)
def test_what_is_split_gets_its_own_relevance(cut: Callable[[Tensor], Any]) -> None:
    def relevance(how: Callable[[Tensor], Any]) -> Tensor:
        torch.manual_seed(2)
        network = _Halves(how).double()
        batch = torch.randn(2, 3, 5, 6, dtype=torch.float64)
        found = LRP(network)(batch, start=torch.randn(2, 48, dtype=torch.float64)).pixels
        assert found is not None
        return found

    expected = relevance(lambda x: (x[:, :2], x[:, 2:]))
    torch.testing.assert_close(relevance(cut), expected, rtol=1e-12, atol=1e-14)


def test_a_split_that_is_used_whole_is_refused() -> None:
    class Whole(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat(super().forward(x).chunk(2, 1), 0)

    with pytest.raises(LayerWithoutRule, match=r"chunk.*parts are not taken one by one"):
        LRP(Whole(3, 4, 1))


def test_a_channel_shuffle_by_hand_is_that_of_torch() -> None:
    class Shuffle(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            number, width, height, across = x.size()
            x = x.view(number, 2, width // 2, height, across)
            return torch.transpose(x, 1, 2).contiguous().view(number, width, height, across)

    torch.manual_seed(3)
    keep = nn.Conv2d(4, 4, 1, groups=4, bias=False).double()
    nn.init.ones_(keep.weight)
    x = torch.rand(2, 4, 3, 5, dtype=torch.float64) + 0.1
    r = torch.randn_like(x)
    by_hand = relevance_through(nn.Sequential(keep, Shuffle()), x, r)
    torch.testing.assert_close(by_hand, r[:, [0, 2, 1, 3]])
    by_torch = relevance_through(nn.Sequential(keep, nn.ChannelShuffle(2)), x, r)
    torch.testing.assert_close(by_hand, by_torch)


def test_a_functional_batchnorm_is_folded_as_a_module_is() -> None:
    class Functional(nn.BatchNorm2d):
        def forward(self, x: Tensor) -> Tensor:
            torch._assert(x.ndim == 4, "four dimensions")  # as timm does
            active = (self.running_mean is None) and (self.running_var is None)
            mean, variance = self.running_mean, self.running_var
            return F.batch_norm(
                x, mean, variance, self.weight, self.bias, active, 0.1, self.eps
            ).relu()

    torch.manual_seed(4)
    plain = awaken(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())).double()
    other = nn.Sequential(nn.Conv2d(3, 4, 3), Functional(4)).double().eval()
    other.load_state_dict(plain.state_dict())
    batch = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    start = torch.rand(2, 48, dtype=torch.float64)
    one, two = LRP(nn.Sequential(plain, nn.Flatten())), LRP(nn.Sequential(other, nn.Flatten()))
    torch.testing.assert_close(two(batch, start).pixels, one(batch, start).pixels)
    assert len(two.report.merged) == len(one.report.merged) == 1
    assert not two.report.unfolded
    unstable = nn.Sequential(nn.Conv2d(3, 4, 3), Functional(4, track_running_stats=False)).eval()
    with pytest.raises(LayerWithoutRule, match=r"batch_norm.*it is active in evaluation mode"):
        LRP(unstable)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (5, 2), (1, 2), (4, 1)])
def test_same_padding_of_timm_is_that_of_efficientnet_pytorch(kernel: int, stride: int) -> None:
    layers = pytest.importorskip("timm.layers")
    torch.manual_seed(5)
    one = Conv2dDynamicSamePadding(2, 3, kernel, stride).double()
    two = layers.Conv2dSame(2, 3, kernel, stride).double()
    two.load_state_dict(one.state_dict())
    x = torch.randn(2, 2, 7, 6, dtype=torch.float64)
    r = torch.randn_like(one(x))
    found, expected = relevance_through(two, x, r), relevance_through(one, x, r)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    assert relative_error(found, slow_zplus(unbiased(one), x, r)) < 1e-10


def test_a_gate_may_be_spread_over_the_image_first() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3, bias=False)
            self.gate = nn.Conv1d(1, 1, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:  # as timm's efficient channel attention
            x = self.conv(x)
            y = self.gate(x.mean((2, 3)).view(x.shape[0], 1, -1))
            return (x * y.view(x.shape[0], -1, 1, 1).sigmoid().expand_as(x)).flatten(1)

    torch.manual_seed(6)
    network = Gated().double()
    batch = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    r = torch.randn(2, 4, 3, 4, dtype=torch.float64)
    lrp = LRP(network)
    found = lrp(batch, start=r.flatten(1))
    torch.testing.assert_close(found.feature_maps["conv"], r)
    assert relative_error(found.pixels, slow_zplus(unbiased(network.conv), batch, r)) < 1e-10
    assert lrp.report.constant_convolutions == ["gate"]


def test_every_backbone_that_reads_the_pixels_has_the_box() -> None:
    network = get_architecture("deepfeaturex").build(backbone="resnet18")
    rules = LRP(network).report.rules.set_index("layer")["rule"]
    assert list(rules[rules == "box"].index) == [f"model{i}.conv1" for i in (1, 2, 3)]
    assert LRP(Signals(), input_rule="box").report.rules["rule"].tolist().count("box") == 3


def test_the_box_is_the_presets() -> None:
    assert pixel_range(ff.get_preset("wang-nocrop")) == IMAGENET_BOX
    assert pixel_range(ff.Preset("half", mean=(0.5,) * 3, std=(0.5,) * 3)) == (-1.0, 1.0)


# ---- backbones

BACKBONES: dict[str, tuple[int, int]] = {  # name: size, layers with feature maps
    "mnasnet0_5": (64, 52), "mobilenet_v3_small": (33, 34), "shufflenet_v2_x0_5": (33, 56),
    "squeezenet1_1": (33, 26), "regnet_y_400mf": (33, 53),
    "timm:mobilenetv3_small_050": (33, 35), "timm:tf_mobilenetv3_small_minimal_100": (33, 35),
    "timm:regnetx_002": (33, 44),
}  # fmt: skip


@pytest.mark.parametrize("name", BACKBONES)
def test_backbones(name: str) -> None:
    size, layers = BACKBONES[name]
    torch.manual_seed(0)
    if name.startswith("timm:"):
        network = pytest.importorskip("timm").create_model(name[5:], num_classes=2)
    else:
        network = zoo.get_model(name, weights=None, num_classes=2)
    network = awaken(network).double()
    batch = torch.randn(2, 3, size, size, dtype=torch.float64)
    before = fingerprint(network)
    lrp = LRP(network)
    found = lrp(batch, budget=True)
    assert fingerprint(network) == before
    with torch.no_grad():
        torch.testing.assert_close(found.logits, network(batch))
    assert len(lrp.layers) == layers
    assert found.pixels is not None
    assert found.budget is not None
    assert float(found.pixels.sum()) == pytest.approx(2 - found.budget["absorbed"].sum(), abs=1e-6)
    assert found.pixels.abs().sum() > 0
    for place in range(2):
        alone = lrp(batch[place : place + 1])
        torch.testing.assert_close(alone.pixels[0], found.pixels[place], rtol=1e-6, atol=1e-12)


# ---- detectors, and every verb on them


@dataclass
class Case:
    detector: Detector
    images: ImageSet
    weights: Path


OPTIONS: dict[str, dict[str, Any]] = {
    "dna-det": {"width": 2}, "lgrad": {"stages": 1},
    "deepfeaturex": {"backbone": "shufflenet_v2_x0_5"},
}  # fmt: skip
PRESETS = {"dna-det": "dna-det-64", "lgrad": "lgrad-gradients", "deepfeaturex": "deepfeaturex"}
SIZE = 48


@torch.no_grad()
def teach(network: Any, batch: Tensor, labels: Tensor, classes: int, real: int) -> None:
    """Make a fresh network tell the images of a batch apart: by its statistics and last layer."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.momentum = None
            module.training = True
    network(batch)
    network.eval()
    for module in network.modules():
        module.training = False
    name = head(network)
    with observed(network, [name], lambda _, value: value.detach().clone(), inputs=True) as seen:
        network(batch)
    wanted = torch.full((len(batch), classes), -4.0)
    wanted[labels == 1, (real + 1) % classes] = 4.0
    if classes > 1:
        wanted[labels == 0, real] = 4.0
    linear = network.get_submodule(name)
    linear.bias.zero_()
    solved = torch.linalg.lstsq(seen[name].double(), wanted.double(), driver="gelsd").solution
    linear.weight.copy_(solved.T)


def case(name: str, root: Path) -> Case:
    """A small detector that decides six images right, and these."""
    for number in range(3):
        for label, kind in enumerate(("0_real", "1_fake")):
            path = root / "set" / "one" / kind / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng(10 * number + label)
            pixels = rng.integers(60 * label, 150 + 100 * label, (SIZE, SIZE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
    images = ff.scan(root / "set")
    architecture = get_architecture(name)
    torch.manual_seed(0)
    network = architecture.build(**OPTIONS[name])
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    facts = {"backbone": OPTIONS[name]["backbone"]} if name == "deepfeaturex" else {}
    classes, real = architecture.classes_of(architecture.options_of(shapes, facts))
    weights = root / f"{name}.safetensors"
    save_weights(weights, network.state_dict(), facts)
    blank = ff.load_detector(name, weights=weights, preset=PRESETS[name])
    pixels = torch.stack([_decoded(blank, entry.path) for entry in images])
    labels = torch.tensor([entry.label for entry in images])
    teach(network, blank.preset.normalise(pixels), labels, max(1, len(classes)), real)
    save_weights(weights, network.state_dict(), facts)
    detector = ff.load_detector(name, weights=weights, preset=PRESETS[name])
    assert ((detector.logits(pixels) > 0) == (labels == 1)).all()
    return Case(detector, images, weights)


def _decoded(detector: Detector, path: Path) -> Tensor:
    with Image.open(path) as opened:
        return torch.from_numpy(np.array(detector.preset.geometry(opened))).permute(2, 0, 1)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Case]:
    return {name: case(name, tmp_path_factory.mktemp(name)) for name in OPTIONS}


@pytest.mark.parametrize("name", OPTIONS)
def test_lrp_of_a_detector(cases: Mapping[str, Case], name: str) -> None:
    detector, images = cases[name].detector, cases[name].images
    pixels = torch.stack([_decoded(detector, entry.path) for entry in images.entries[1:4]])
    batch = detector.preset.normalise(pixels).double()
    network = detector.network.double()
    try:
        before = fingerprint(network)
        lrp = LRP(network)
        found = lrp(batch, budget=True)
        assert fingerprint(network) == before
        assert set(lrp.layers) == set(detector.layers)
        assert found.pixels is not None
        assert found.budget is not None
        left = 3 - found.budget["absorbed"].sum()
        assert float(found.pixels.sum()) == pytest.approx(left, abs=1e-6)
        for place in range(3):
            alone = lrp(batch[place : place + 1]).pixels[0]  # type: ignore[index]
            torch.testing.assert_close(alone, found.pixels[place], rtol=1e-5, atol=1e-10)
    finally:
        network.float()


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("method", ["lrp", "gradcam", "guided-gradcam"])
def test_explain(cases: Mapping[str, Case], name: str, method: str) -> None:
    detector, images = cases[name].detector, cases[name].images
    before = fingerprint(detector.network)
    found = ff.explain(detector, images, method)
    assert fingerprint(detector.network) == before
    assert [one.path for one in found] == [entry.path for entry in images]
    for one, entry in zip(found, images, strict=True):
        assert one.map.shape == one.pixels.shape[1:]
        # Grad-CAM's positive part for 'fake' may well be nothing on a real image
        assert np.abs(one.relevance).max() > 0 or (method == "guided-gradcam" and one.logit < 0)
        if detector.classes:
            outputs = detector.outputs(torch.from_numpy(one.pixels)[None])[0]
            assert one.target == int(outputs.argmax())
            assert (one.target == detector.real) == (entry.label == 0)
            assert one.logit == pytest.approx(float(outputs.max()), abs=1e-3)
        side = "fake" if one.logit > 0 else "real"
        assert one.target_name == (detector.classes[one.target] if detector.classes else side)
    asked = ff.explain(detector, images.only(label=1), method, target="real")
    if detector.classes:
        assert {one.target for one in asked} == {detector.real}
        assert {one.target_name for one in asked} == {detector.classes[detector.real]}
    else:
        assert {one.target_name for one in asked} == {"real"}


def test_default_layers_of_grad_cam(cases: Mapping[str, Case]) -> None:
    found = {name: default_layer(one.detector.network) for name, one in cases.items()}
    assert found == {
        "dna-det": "main.7.main.0",
        "lgrad": "layer1",
        "deepfeaturex": "model1.conv5.0,model2.conv5.0,model3.conv5.0",
    }
    wrapped = nn.Module()
    wrapped.add_module("body", zoo.resnet18(num_classes=1))
    assert default_layer(wrapped) == "body.layer4"
    detector, images = cases["deepfeaturex"].detector, cases["deepfeaturex"].images
    three = ff.explain(detector, images, "gradcam", target=0)
    alone = [
        ff.explain(detector, images, "gradcam", target=0, layer=f"model{branch}.conv5.0")
        for branch in (1, 2, 3)
    ]
    for place, one in enumerate(three):  # the maps of the backbones together are those of a layer
        total = sum(single[place].relevance for single in alone)
        np.testing.assert_allclose(one.relevance, total, rtol=1e-3, atol=1e-6)
    with pytest.raises(UserError, match="maps of several sizes"):
        ff.explain(detector, images, "gradcam", layer="model1.conv1.0,model2.conv5.0")


@pytest.mark.parametrize("name", OPTIONS)
def test_every_verb(cases: Mapping[str, Case], name: str) -> None:
    detector, images = cases[name].detector, cases[name].images
    before = fingerprint(detector.network)
    ranking = ff.rank(detector, images)
    assert len(ranking.table) == len(detector.feature_maps)
    assert ranking.counts["used"] == 3
    reals = ff.rank(detector, images, label=0)
    assert reals.counts["used"] == 3
    layers = ranking.table.assign(
        layer=[str(one).rpartition(".#")[0] for one in ranking.feature_maps()]
    )
    assert layers.groupby("layer")["omega"].sum().max() <= 1 + 1e-5
    dropped = ff.dropout(detector, images, ranking, k=2, draws=2).table
    assert {"baseline", "top-k"} <= set(dropped["mask"])
    coloured = ff.colour(detector, images, ("rgb", "grey")).table
    assert set(coloured["mode"]) == {"rgb", "grey"}
    tested = median_test(detector, images, ranking, k=2)
    assert len(tested.table) == 2
    cut = patches(detector, images, ranking, k=2, n=1).table
    assert set(cut["feature_map"]) == {str(one) for one in ranking.feature_maps()[:2]}
    embedded = ff.embed(detector, images, ranking=ranking, k=2, perplexity=1.5)
    assert len(embedded.table)
    assert fingerprint(detector.network) == before


def test_faithfulness_of_a_detector_with_classes(cases: Mapping[str, Case]) -> None:
    one = cases["dna-det"]
    found = ff.faithfulness(
        one.detector, one.images, methods=("lrp", "gradcam"), n=1, steps=2, draws=1, cell=32,
        shares=(1.0,),
    )  # fmt: skip
    probabilities = found.curves["probability"]
    assert probabilities.between(0, 1).all()
    assert probabilities.max() > 0.9  # of the class that is decided for


def test_on_the_command_line(cases: Mapping[str, Case], tmp_path: Path) -> None:
    one = cases["dna-det"]

    def run(*words: object) -> str:
        result = CliRunner().invoke(app, [str(word) for word in words])
        assert result.exit_code in (0, 2), result.output
        return result.stderr if result.exit_code else result.stdout

    given = ("--weights", one.weights, "--preset", "dna-det-64", "--device", "cpu")
    path = one.images.only(label=1).entries[0].path
    out = tmp_path / "explained"
    run("explain", "dna-det", path, *given, "--target", "mmdgan", "--out", out)
    row = pd.read_csv(out / "explained.csv").iloc[0]
    assert (row["target"], row["target_name"]) == (2, "MMDGAN")
    refusal = run("explain", "dna-det", path, *given, "--target", "stylegan", "--out", out)
    assert "no class is called 'stylegan'; there are real, ProGAN, MMDGAN" in refusal
    run("rank", "dna-det", "--data", one.images.root, *given, "--out", tmp_path / "ranked")
    table = pd.read_csv(tmp_path / "ranked" / "set-fake.csv")
    assert len(table) == len(one.detector.feature_maps)
    refusal = run(
        "rank", "dna-det", "--data", one.images.root, *given, "--start", "published",
        "--out", tmp_path / "other",
    )  # fmt: skip
    assert "dna-det has 5 classes: the published start needs one logit" in refusal
