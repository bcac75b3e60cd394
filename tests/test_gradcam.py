"""Guided gates of every activation, Grad-CAM, and both against captum where that is right."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr import GuidedBackprop as CaptumGuided
from captum.attr import GuidedGradCam as CaptumGuidedGradCam
from captum.attr import LayerGradCam
from efficientnet_lite_pytorch import EfficientNet as Lite
from efficientnet_pytorch import EfficientNet
from PIL import Image
from torch import Tensor, nn

from forensift import explain, get_preset
from forensift.detectors import (
    Detector,
    WeightsOrigin,
    load_detector,
    npr,
    read_checkpoint,
)
from forensift.detectors.classifiers import (
    CLASSIFIERS,
    _downloaded,
    load_classifier,
)
from forensift.detectors.units import find_feature_maps
from forensift.errors import UserError
from forensift.explain import (
    METHODS,
    GradCAM,
    Gradient,
    GuidedBackprop,
    GuidedGradCAM,
    default_layer,
    explainer,
    named_target,
    pixel_map,
)
from forensift.explain.heat import heat, scaling_words
from forensift.files import home

from .planted import fingerprint, planted_detector

CATS = range(281, 286)


def network(activation: Callable[[], nn.Module] = nn.ReLU, outputs: int = 4) -> nn.Sequential:
    """A small float64 network whose BatchNorms have moved."""
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), activation(),
        nn.Conv2d(8, 8, 3, padding=1, stride=2), activation(), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1), activation(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, outputs),
    )  # fmt: skip
    layers(torch.randn(4, 3, 16, 16))
    return layers.double().eval()


def pixels(n: int = 3, size: int = 16, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, size, size, dtype=torch.float64, generator=generator)


def resnet18() -> nn.Module:
    from torchvision.models import resnet18  # after forensift, which makes it importable

    torch.manual_seed(0)
    return resnet18(num_classes=5).double().eval()


@pytest.mark.filterwarnings("ignore:Setting backward hooks")
@pytest.mark.parametrize(("make", "layer"), [(network, "6"), (resnet18, "layer4")])
def test_equal_to_captum_on_relu(make: Callable[[], nn.Module], layer: str) -> None:
    model, batch = make(), pixels(size=64)
    target = model(batch).argmax(1)
    theirs = copy.deepcopy(model)
    for module in theirs.modules():  # captum cannot hook in-place ReLUs
        if isinstance(module, nn.ReLU):
            module.inplace = False
    guided = CaptumGuided(theirs).attribute(batch.requires_grad_(), target)
    torch.testing.assert_close(GuidedBackprop(model)(batch).relevance, guided, rtol=1e-12, atol=0)
    where = theirs.get_submodule(layer)
    cam = LayerGradCam(theirs, where).attribute(batch, target)
    found = GradCAM(model, layer, upsampling="nearest")(batch).relevance
    torch.testing.assert_close(found, F.interpolate(cam, batch.shape[2:])[:, 0].detach())
    product = CaptumGuidedGradCam(theirs, where).attribute(batch, target)
    found = GuidedGradCAM(model, layer, upsampling="nearest")(batch).relevance
    assert float(found.abs().max()) > 0
    torch.testing.assert_close(found, product, rtol=1e-10, atol=1e-20)


class Slope(nn.PReLU):
    def __init__(self) -> None:
        super().__init__(8, init=-0.2)  # a negative slope: y > 0 on both sides


ACTIVATIONS = [
    nn.ReLU, nn.SiLU, nn.LeakyReLU, nn.ReLU6, nn.Hardswish, nn.ELU, nn.GELU, nn.Mish, nn.Softplus,
    nn.RReLU, nn.CELU, Slope, lambda: nn.ReLU(inplace=True), lambda: nn.SiLU(inplace=True),
    lambda: nn.LeakyReLU(0.3, inplace=True), lambda: nn.Hardtanh(0, 2),
]  # fmt: skip


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_definition_holds_for_every_activation(activation: Callable[[], nn.Module]) -> None:
    model, batch = network(activation), pixels()
    values, gradients = [batch], []
    for layer in model:  # forwards, keeping what each layer reads
        values.append(copy.deepcopy(layer)(values[-1].detach().clone()).detach())
    flowing = torch.zeros_like(values[-1])
    flowing.scatter_(1, values[-1].argmax(1, keepdim=True), 1)
    for layer, x, y in zip(reversed(model), values[-2::-1], values[::-1], strict=False):
        leaf = x.clone().requires_grad_()
        (flowing,) = torch.autograd.grad(copy.deepcopy(layer)(leaf.clone()), leaf, flowing)
        if isinstance(layer, type(activation())):
            flowing = torch.where((flowing > 0) & (y > 0), flowing, 0)
            gradients.append(flowing)
    assert len(gradients) == 3
    found = GuidedBackprop(model)(batch).relevance
    torch.testing.assert_close(found, flowing, rtol=1e-9, atol=1e-15)
    assert not torch.equal(found, Gradient(model)(batch).relevance)


def test_efficientnet_is_guided_though_other_tools_give_the_plain_gradient() -> None:
    torch.manual_seed(0)
    model = EfficientNet.from_name("efficientnet-b0", num_classes=1, image_size=None).eval()
    batch = pixels(1, 48).float()
    plain, guided = Gradient(model)(batch).relevance, GuidedBackprop(model)(batch).relevance
    assert float((plain - guided).norm() / plain.norm()) > 0.1
    model.set_swish(memory_efficient=False)
    torch.testing.assert_close(GuidedBackprop(model)(batch).relevance, guided, rtol=1e-3, atol=1e-9)


class Written(nn.Module):
    """An activation between two convolutions, as people write them."""

    def __init__(self, act: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = nn.Conv2d(3, 4, 3).double(), nn.Conv2d(4, 1, 3).double()
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.act(self.one(x))).mean((2, 3))


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g: Tensor) -> Tensor:
        return 2 * g * ctx.saved_tensors[0]


def test_functional_activations_are_gated_too() -> None:
    expected = GuidedBackprop(Written(nn.ReLU()))(pixels()).relevance
    for act in (F.relu, torch.relu, lambda x: F.relu_(x), lambda x: x.clamp(min=0)):
        assert torch.equal(GuidedBackprop(Written(act))(pixels()).relevance, expected)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (torch.tanh, "no activation to gate"),
        (lambda x: x, "no activation to gate"),
        (lambda x: x.clamp(-1, 1), "no activation to gate"),
        (lambda x: x * torch.sigmoid(x), "use nn.SiLU"),
        (lambda x: F.relu(x) + torch.sigmoid(x) * x, "use nn.SiLU"),
        (lambda x: F.relu(torch.where(x > 0, x, 0.1 * x)), "WhereBackward0"),
        (lambda x: F.relu(Square.apply(x)), "SquareBackward"),
    ],
)
def test_what_is_not_gated_is_an_error(act: Callable[[Tensor], Tensor], message: str) -> None:
    for method in (GuidedBackprop, GuidedGradCAM):
        with pytest.raises(UserError, match=message):
            method(Written(act))(pixels())
    assert Gradient(Written(act))(pixels()).relevance.abs().sum() > 0


def test_a_squeeze_excite_gate_is_no_swish() -> None:
    def gate(x: Tensor) -> Tensor:
        x = F.relu(x)
        return torch.sigmoid(x.mean((2, 3), keepdim=True)) * x

    assert GuidedBackprop(Written(gate))(pixels()).relevance.abs().sum() > 0


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("make", [resnet18, lambda: npr.build().double().eval()])
def test_a_batch_equals_its_images_and_the_network_is_left_alone(
    make: Callable[[], nn.Module], method: str
) -> None:
    torch.manual_seed(3)
    model, batch = make(), pixels(3, 32)
    model.train()
    before = fingerprint(model)
    attribute = explainer(model, method)
    together = attribute(batch, None)
    assert fingerprint(model) == before
    assert together.relevance.shape == ((3, 32, 32) if method == "gradcam" else (3, 3, 32, 32))
    for place in range(3):
        alone = attribute(batch[place : place + 1], None)
        scale = together.relevance[place].abs().max()
        torch.testing.assert_close(
            alone.relevance[0] / scale, together.relevance[place] / scale, rtol=0, atol=1e-9
        )
    with pytest.raises(UserError, match="outputs are 0"):
        attribute(batch, 99)
    with torch.no_grad():
        assert torch.equal(attribute(batch, None).relevance, together.relevance)
    assert fingerprint(model) == before


@pytest.mark.parametrize("method", list(METHODS))
def test_targets(method: str) -> None:
    model, batch = network(outputs=4), pixels()
    attribute = explainer(model, method)
    best = model(batch).argmax(1)
    assert torch.equal(attribute(batch, None).relevance, attribute(batch, best).relevance)
    other = attribute(batch, 3 if int(best[0]) != 3 else 2)
    assert not torch.equal(other.relevance[0], attribute(batch, None).relevance[0])
    with pytest.raises(UserError, match="4 outputs"):
        attribute(batch, "fake")
    with pytest.raises(UserError, match="2 targets for 3"):
        attribute(batch, [0, 1])


def test_sides_of_one_logit() -> None:
    model, batch = network(outputs=1), pixels(6)
    logits = model(batch)[:, 0]
    model[-1].bias.data -= logits.median().detach()  # some fake, some real
    decided = torch.where(model(batch)[:, 0] < 0, -1.0, 1.0)[:, None, None, None]
    for method in ("gradient", "lrp"):
        attribute = explainer(model, method)
        fake, real = attribute(batch, "fake").relevance, attribute(batch, "real").relevance
        assert torch.equal(fake, -real)
        torch.testing.assert_close(attribute(batch, "decision").relevance, fake * decided)
    lrp = explainer(model, "lrp")
    assert torch.equal(lrp(batch, "decision").relevance, lrp(batch, None).relevance)
    guided = explainer(model, "guided-backprop")
    assert torch.equal(guided(batch, None).relevance, guided(batch, "fake").relevance)
    assert not torch.equal(guided(batch, "real").relevance, -guided(batch, "fake").relevance)


def test_layers_of_grad_cam() -> None:
    assert default_layer(resnet18()) == "layer4"
    assert default_layer(npr.build()) == "layer2"
    assert default_layer(EfficientNet.from_name("efficientnet-b0")) == "_conv_head"
    assert default_layer(planted_detector().network) == "conv2"
    with pytest.raises(UserError, match="no convolution"):
        default_layer(nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(UserError, match="no layer 'layer9'"):
        GradCAM(resnet18(), "layer9")
    with pytest.raises(UserError, match="gave"):
        GradCAM(resnet18(), "fc")(pixels())
    with pytest.raises(UserError, match="upsampling"):
        GradCAM(resnet18(), upsampling="cubic")
    with pytest.raises(UserError, match="has no extent"):
        GradCAM(resnet18(), "avgpool")(pixels())


class PooledHead(nn.Module):
    """The last convolution comes behind the pooling, as in MobileNetV3."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3))
        self.conv_head, self.classifier = nn.Conv2d(16, 32, 1), nn.Linear(32, 1)

    def forward(self, batch: Tensor) -> Tensor:
        pooled = F.adaptive_avg_pool2d(F.relu(self.features(batch)), 1)
        return self.classifier(F.relu(self.conv_head(pooled)).flatten(1))


@pytest.mark.parametrize("kind", [GradCAM, GuidedGradCAM])
def test_a_default_layer_behind_the_pooling_gives_way_to_one_with_a_map(kind) -> None:
    torch.manual_seed(0)
    model, batch = PooledHead().double().eval(), pixels()
    assert default_layer(model) == "conv_head"
    found, asked = kind(model), kind(model, "features.2")
    torch.testing.assert_close(found(batch).relevance, asked(batch).relevance, rtol=0, atol=0)
    assert found.layer == "features.2"
    assert float(found(batch).relevance.std()) > 0


def test_grad_cam_where_the_layer_is_overwritten_in_place() -> None:
    model, batch = resnet18(), pixels(2, 64)
    safe = copy.deepcopy(model)
    kept = []
    with safe.layer4[1].bn2.register_forward_hook(lambda m, a, out: kept.append(out.clone())):
        safe(batch)
    found = GradCAM(model, "layer4.1.bn2", upsampling="nearest")(batch)  # += and ReLU follow
    leaf = kept[0].detach().requires_grad_()
    x = safe.layer4[0](safe.layer3(safe.layer2(safe.layer1(
        safe.maxpool(F.relu(safe.bn1(safe.conv1(batch))))))))  # fmt: skip
    logits = safe.fc(F.relu(leaf + x.detach()).mean((2, 3)))
    (gradient,) = torch.autograd.grad(logits.max(1).values.sum(), leaf)
    cam = (gradient.mean((2, 3), keepdim=True) * leaf).sum(1, keepdim=True)
    expected = F.interpolate(cam, batch.shape[2:])[:, 0].detach()
    torch.testing.assert_close(found.relevance, expected, rtol=1e-9, atol=1e-15)


def test_explain_from_pixels(rng: np.random.Generator) -> None:
    detector = planted_detector()
    given = rng.integers(0, 256, (5, 3, 16, 16), dtype=np.uint8)
    for method in METHODS:
        found = explain(detector, given, method, batch_size=2)
        assert [one.key for one in found] == list("01234")
        assert np.array_equal(np.stack([one.pixels for one in found]), given)
        assert all(one.relevance.dtype == np.float32 for one in found)
        assert all(one.map.shape == (16, 16) for one in found)
        torch.testing.assert_close(
            torch.tensor([one.logit for one in found]), detector.logits(torch.from_numpy(given))
        )
    with pytest.raises(UserError, match="no explanation method 'x'"):
        explain(detector, given, "x")
    with pytest.raises(UserError, match="pixels must be uint8"):
        explain(detector, given.astype(np.float32))
    signed = np.array([[[1.0, -2]], [[3, 4]], [[-5, 6]]], dtype=np.float32)
    assert pixel_map(signed, "lrp").tolist() == [[-1, 8]]
    assert pixel_map(signed, "gradient").tolist() == [[9, 12]]


def test_heat() -> None:
    raw = np.array([[-4.0, 0.0], [1.0, 2.0]], dtype=np.float32)
    drawn, unit = heat(raw, "max")
    assert (drawn.tolist(), unit) == ([[0, 0], [0.5, 1]], 2.0)
    drawn, unit = heat(raw, "signed")
    assert (drawn.tolist(), unit) == ([[-1, 0], [0.25, 0.5]], 4.0)
    ramp = np.arange(101.0).reshape(1, -1)
    drawn, unit = heat(ramp, "percentile-99")
    assert unit == pytest.approx(99)
    assert drawn.max() == 1
    assert heat(-ramp, "max")[1] == 0
    assert not heat(np.zeros((5, 5)), "percentile-99", 5)[0].any()
    lonely = np.zeros((20, 20))
    lonely[3, 3] = 7
    assert heat(lonely, "percentile-50")[1] == 7
    assert not heat(lonely, "max", 5)[0].any()  # the median filter takes single pixels away
    with pytest.raises(UserError, match="scaling"):
        heat(ramp, "percentile-0")
    assert "99th percentile" in scaling_words("percentile-99", 5, "lrp")


@pytest.fixture(scope="module")
def lite0() -> Detector:
    return load_classifier("efficientnet-lite0-imagenet")


def photograph(name: str) -> Image.Image:
    return Image.open(home() / "photos" / f"{name}.jpg").convert("RGB")


def test_lite0_is_the_package_s_network(lite0: Detector) -> None:
    theirs = Lite.from_name("efficientnet-lite0").eval()
    path = CLASSIFIERS["efficientnet-lite0-imagenet"][1]()
    theirs.load_state_dict(read_checkpoint(path)[0])
    batch = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(lite0.network(batch), theirs(batch))
    assert lite0.classes[285] == "Egyptian cat"
    assert lite0.preset.name == "imagenet"


def share_inside(found: np.ndarray, box: tuple[int, int, int, int]) -> tuple[float, float]:
    """Return the share of positive relevance in (left, top, right, bottom) and of the area."""
    left, top, right, bottom = box
    positive = np.maximum(found, 0)
    area = (right - left) * (bottom - top) / found.size
    return float(positive[top:bottom, left:right].sum() / positive.sum()), area


def test_chelsea_is_a_cat_and_the_relevance_lies_on_her(lite0: Detector) -> None:
    seen = np.array(lite0.preset.geometry(photograph("chelsea"))).transpose(2, 0, 1)[None]
    assert int(lite0.outputs(torch.from_numpy(seen)).argmax()) in CATS
    # the whole photograph; its centre crop shows nothing but cat
    whole = photograph("chelsea").resize((224, 149), Image.Resampling.BILINEAR)
    given = np.array(whole).transpose(2, 0, 1)[None]
    animal, face = (15, 0, 184, 149), (60, 37, 174, 137)  # eyes, nose and muzzle
    for method in ("lrp", "guided-gradcam"):
        (found,) = explain(lite0, given, method)
        assert found.target in CATS
        share, area = share_inside(found.map, animal)
        assert share > area + 0.1, method
        share, area = share_inside(found.map, face)
        assert share > 1.5 * area, method


@pytest.mark.parametrize("place", range(4))
def test_the_cat_is_found_among_four_photographs(lite0: Detector, place: int) -> None:
    names = ["coffee", "rocket", "flower"]
    names.insert(place, "chelsea")
    tiles = [lite0.preset.geometry(photograph(name)).resize((112, 112)) for name in names]
    mosaic = Image.new("RGB", (224, 224))
    for at, tile in enumerate(tiles):
        mosaic.paste(tile, (at % 2 * 112, at // 2 * 112))
    given = np.array(mosaic).transpose(2, 0, 1)[None]
    left, top = place % 2 * 112, place // 2 * 112
    for method in ("lrp", "guided-gradcam"):
        (found,) = explain(lite0, given, method, target="Egyptian cat")
        assert share_inside(found.map, (left, top, left + 112, top + 112))[0] > 0.6, method
    (plain,) = explain(lite0, given, "gradient", target=285)
    assert share_inside(plain.map, (left, top, left + 112, top + 112))[0] < 0.4


def test_classifier_names_and_targets(lite0: Detector) -> None:
    assert named_target(lite0, "egyptian CAT") == named_target(lite0, "285") == 285
    with pytest.raises(UserError, match="close are tiger cat"):
        named_target(lite0, "cat")
    assert named_target(planted_detector(), "real") == "real"
    with pytest.raises(UserError, match=r"no detector is called .*classifiers resnet50-imagenet"):
        load_detector("resnet51")
    with pytest.raises(UserError, match="decides nothing"):
        lite0.decide(torch.zeros(1, 1000))


def test_classifier_weights_from_files(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = EfficientNet.from_name("efficientnet-b0").eval()
    path = tmp_path / "efficientnet-b0.pth"
    torch.save(theirs.state_dict(), path)
    loaded = load_detector("efficientnet-b0-imagenet", weights=path)
    assert loaded.real is None
    batch = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    assert loaded.outputs(batch).shape == (1, 1000)
    (found,) = explain(loaded, batch, "guided-gradcam", target=7)
    assert found.target_name == loaded.classes[7]
    with pytest.raises(UserError, match="another network"):
        load_detector("resnet50-imagenet", weights=path)


def test_a_download_that_fails_says_what_to_do(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"x-00000000.pth cannot be downloaded.*--weights FILE"):
        _downloaded("resnet50-imagenet", "http://127.0.0.1:9/x-00000000.pth")


def test_detector_of_a_swish_network_is_explained() -> None:
    torch.manual_seed(0)
    model = EfficientNet.from_name("efficientnet-b0", num_classes=1, image_size=None).eval()
    detector = Detector(
        "mine", model, get_preset("wang-nocrop"), find_feature_maps(model),
        WeightsOrigin("initialisation", "", "bare"),
    )  # fmt: skip
    given = np.random.default_rng(0).integers(0, 256, (2, 3, 48, 40), dtype=np.uint8)
    for method in METHODS:
        assert [one.map.shape for one in explain(detector, given, method)] == [(48, 40)] * 2
