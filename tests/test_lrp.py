"""LRP as users call it: any architecture, a private copy, honest errors."""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision.models as zoo
from efficientnet_pytorch import EfficientNet
from torch import Tensor, nn

from forensift.detectors import npr
from forensift.errors import UserError
from forensift.lrp import LRP, CanonisationError, LayerWithoutRule

from .lrp_reference import fingerprint, relative_error


class Functional(nn.Module):
    """What people write by hand: functions, methods, sizes, gates, constants."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.act = nn.ReLU(inplace=True)  # one module, used three times
        self.twice = nn.Conv2d(8, 8, 3, padding=1)
        self.side = nn.Conv2d(8, 4, 3, padding=2, dilation=2, groups=2)
        self.squeeze = nn.Conv2d(12, 12, 1)
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.head = nn.Linear(12, 6)
        self.head_norm = nn.BatchNorm1d(6)
        self.logits = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.stem(x)))
        y = self.act(self.twice(self.twice(x)))
        x += y
        x = F.leaky_relu(x, 0.1, inplace=True) * self.scale - 0.1
        x = torch.cat([x, F.silu(self.side(x))], dim=1)
        gate = self.squeeze(F.adaptive_avg_pool2d(x, 1)).sigmoid()
        x = gate * x
        x = F.dropout(F.max_pool2d(x, 2), 0.5, self.training)
        x = x.mean([2, 3]).view(x.size(0), -1)
        return self.logits(self.act(self.head_norm(self.head(x))))


def small_efficientnet(image_size: int | None) -> nn.Module:
    return EfficientNet.from_name("efficientnet-b0", num_classes=1, image_size=image_size)


def small_vgg(batch_norm: bool) -> nn.Module:
    """torchvision's VGG with few channels; its classifier of 120 M numbers is never made."""
    features = zoo.vgg.make_layers([8, "M", 16, "M"], batch_norm)
    with torch.device("meta"):
        model = zoo.VGG(features, init_weights=False)
    model.classifier = nn.Sequential(
        nn.Linear(16 * 49, 32), nn.ReLU(True), nn.Dropout(), nn.Linear(32, 4)
    )
    return model


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, int]] = {  # name: build, size, layers
    "resnet18": (lambda: zoo.resnet18(num_classes=1), 33, 20),
    "resnet50": (lambda: zoo.resnet50(num_classes=2), 32, 53),
    "vgg11": (lambda: small_vgg(False), 20, 2),
    "vgg11_bn": (lambda: small_vgg(True), 20, 2),
    "densenet121": (lambda: zoo.densenet121(num_classes=1), 32, 120),
    "densenet, checkpointed": (
        lambda: zoo.DenseNet(4, (2, 2), 8, memory_efficient=True, num_classes=1), 32, 10,
    ),
    "efficientnet-b0": (lambda: small_efficientnet(None), 37, 49),
    "efficientnet-b0, static": (lambda: small_efficientnet(32), 32, 49),
    "torchvision efficientnet": (lambda: zoo.efficientnet_b0(num_classes=1), 32, 49),
    "mobilenet": (lambda: zoo.mobilenet_v2(num_classes=1), 32, 52),
    "npr": (npr.build, 21, 23),
    "functional": (Functional, 13, 3),
}  # fmt: skip


def network(name: str) -> tuple[Any, int, int]:
    """A network with BatchNorm statistics that are not those of a fresh one."""
    build, size, layers = NETWORKS[name]
    torch.manual_seed(0)
    model = build()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
            nn.init.normal_(module.running_mean, 0, 0.2)  # type: ignore[arg-type]
            nn.init.uniform_(module.weight, 0.5, 1.2)
            nn.init.normal_(module.bias, 0, 0.1)
    return model.eval(), size, layers


@pytest.mark.parametrize("name", NETWORKS)
def test_every_architecture(name: str) -> None:
    model, size, layers = network(name)
    model.double()
    batch = torch.randn(2, 3, size, size, dtype=torch.float64)
    before = fingerprint(model)
    lrp = LRP(model)
    found = lrp(batch, budget=True)
    assert fingerprint(model) == before
    with torch.no_grad():
        expected = model(batch)
    torch.testing.assert_close(found.logits, expected)
    assert lrp.report.difference is not None
    assert lrp.report.difference < 1e-7
    assert len(found.feature_maps) >= layers
    names = dict(model.named_modules())
    for layer, relevance in found.feature_maps.items():
        module = names[layer.split("@")[0]]
        assert isinstance(module, nn.Conv2d)
        assert relevance.shape[:2] == (2, module.out_channels)
        assert torch.isfinite(relevance).all()
    assert found.pixels is not None
    assert found.pixels.shape == batch.shape
    # whatever is not absorbed on the way arrives at the pixels
    assert found.budget is not None
    assert float(found.pixels.sum()) == pytest.approx(2 - found.budget["absorbed"].sum(), abs=1e-6)
    assert not found.pixels.requires_grad
    # float32 takes other kernels and other memory layouts
    single = LRP(model.float())(batch.float())
    assert single.pixels is not None
    assert relative_error(single.pixels, found.pixels) < 2e-2


def test_batch_equals_singles_and_sizes_are_free() -> None:
    model, _, _ = network("resnet18")
    model.double()
    lrp = LRP(model)
    for shape in ((3, 3, 40, 33), (3, 3, 47, 64)):
        batch = torch.randn(shape, dtype=torch.float64)
        together = lrp(batch)
        for i in range(len(batch)):
            alone = lrp(batch[i : i + 1])
            torch.testing.assert_close(alone.pixels[0], together.pixels[i], rtol=1e-6, atol=1e-12)
            for layer, relevance in alone.feature_maps.items():
                torch.testing.assert_close(
                    relevance[0], together.feature_maps[layer][i], rtol=1e-6, atol=1e-12
                )


def test_the_unfolded_copy_is_let_go_after_the_first_batch() -> None:
    model, size, _ = network("resnet18")
    lrp = LRP(model)
    copied = weakref.ref(lrp._unchecked.layer4[1].conv2)  # type: ignore[union-attr,index]
    lrp(torch.randn(1, 3, size, size))
    gc.collect()
    assert copied() is None


def test_starts() -> None:
    model, size, _ = network("functional")
    model.double()
    lrp = LRP(model)
    batch = torch.randn(4, 3, size, size, dtype=torch.float64)
    default = lrp(batch)
    best = default.logits.argmax(1)
    start = F.one_hot(best, 3).double()
    torch.testing.assert_close(lrp(batch, start=start).pixels, default.pixels)
    torch.testing.assert_close(lrp(batch, start=-2 * start).pixels, -2 * default.pixels)
    with pytest.raises(UserError, match=r"start has shape \(4, 1\)"):
        lrp(batch, start=start[:, :1])


def test_relevance_stays_nonnegative_through_a_relu_network() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3),
        nn.ReLU(), nn.Conv2d(8, 1, 3),
    )  # fmt: skip
    found = LRP(model)(torch.randn(2, 3, 20, 21), start=torch.rand(2, 25))
    assert found.pixels is not None
    assert float(found.pixels.min()) >= 0
    assert all(float(r.min()) >= 0 for r in found.feature_maps.values())


def test_zplus_conserves_and_budget_says_what_biases_take() -> None:
    torch.manual_seed(2)
    model: Any = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(8, 1),
    ).double()  # fmt: skip
    found = LRP(model)(torch.randn(1, 3, 12, 12, dtype=torch.float64), budget=True)
    assert found.budget is not None
    table = found.budget.set_index("layer")
    assert list(table.columns) == [
        "rule", "arriving", "passed_on", "bias", "absorbed", "share",
    ]  # fmt: skip
    assert table.index[0] == "6"
    assert table.index[-1] == "0"
    share = float(model[6].bias.detach()[0] / found.logits[0, 0])
    assert float(table.loc["6", "share"]) == pytest.approx(share, rel=1e-2)
    assert float(table.loc["2", "absorbed"]) == pytest.approx(0, abs=1e-9)


def test_reduce_layers_and_pixels() -> None:
    model, size, _ = network("resnet18")
    lrp = LRP(model)
    batch = torch.randn(2, 3, size, size)
    whole = lrp(batch)
    seen: list[str] = []

    def positive_sums(layer: str, relevance: Tensor) -> Tensor:
        seen.append(layer)
        return relevance.clamp(min=0).sum((2, 3))

    small = lrp(batch, reduce=positive_sums)
    assert seen[0] == "layer4.1.conv2"
    assert seen[-1] == "conv1"
    assert list(small.feature_maps) == list(whole.feature_maps) == lrp.layers
    for layer, sums in small.feature_maps.items():
        expected = whole.feature_maps[layer].clamp(min=0).sum((2, 3))
        torch.testing.assert_close(sums, expected)
    part = lrp(batch, pixels=False, layers=["layer2.0.conv1", "layer3.0.downsample.0"])
    assert part.pixels is None
    assert list(part.feature_maps) == ["layer2.0.conv1", "layer3.0.downsample.0"]
    for layer, relevance in part.feature_maps.items():
        torch.testing.assert_close(relevance, whole.feature_maps[layer])
    with pytest.raises(UserError, match="no feature maps named layer9"):
        lrp(batch, layers=["layer9"])


def test_kept_relevance_is_not_overwritten_later() -> None:
    model, size, _ = network("resnet18")
    lrp = LRP(model)
    batch = torch.randn(2, 3, size, size)
    copies: dict[str, Tensor] = {}

    def remember(layer: str, relevance: Tensor) -> Tensor:
        copies[layer] = relevance.clone()
        return relevance

    for layer, relevance in lrp(batch, reduce=remember).feature_maps.items():
        assert torch.equal(relevance, copies[layer])


def test_from_feature_map() -> None:
    model, size, _ = network("resnet18")
    model.double()
    lrp = LRP(model)
    batch = torch.randn(3, 3, size, size, dtype=torch.float64)
    found = lrp.from_feature_map(batch, "layer1.0.conv2", [1, 5, 7])
    seen: list[Tensor] = []
    hook = model.layer1[0].bn2.register_forward_hook(lambda m, i, o: seen.append(o.clone()))
    with hook, torch.no_grad():
        model(batch)
    for i, channel in enumerate([1, 5, 7]):
        y, x = found.positions[i]
        assert float(found.maxima[i]) == pytest.approx(float(seen[0][i, channel].max()))
        assert float(seen[0][i, channel, y, x]) == pytest.approx(float(found.maxima[i]))
    assert torch.equal(found.positive, found.maxima > 0)
    same = lrp.from_feature_map(batch[1:2], "layer1.0.conv2", 5)
    torch.testing.assert_close(same.pixels[0], found.pixels[1])
    with pytest.raises(UserError, match="channels 0 … 63"):
        lrp.from_feature_map(batch, "layer1.0.conv2", 64)


def test_input_rules() -> None:
    rules = LRP(network("resnet18")[0]).report.rules.set_index("layer")["rule"]
    assert rules["conv1"] == "box"
    assert (rules == "box").sum() == 1
    for name, settings in (
        ("resnet18", {"input_rule": "zplus"}), ("densenet121", {}), ("efficientnet-b0", {}),
    ):  # fmt: skip
        rules = LRP(network(name)[0], **settings).report.rules["rule"]
        assert "box" not in set(rules)
    with pytest.raises(CanonisationError, match="none of auto"):
        LRP(nn.Conv2d(3, 1, 1), input_rule="zbox")
    with pytest.raises(CanonisationError, match="reads the pixels"):
        LRP(nn.Sequential(nn.ReLU(), nn.Conv2d(3, 1, 1)), input_rule="box")


def test_report() -> None:
    report = LRP(network("efficientnet-b0")[0]).report
    assert len(report.merged) == 49
    assert ("_conv_stem", "_bn0") in report.merged
    assert len(report.gates) == 16
    assert len(report.constant_convolutions) == 32
    assert all("_se_" in layer for layer in report.constant_convolutions)
    assert "49 BatchNorms folded" in str(report)
    report = LRP(network("densenet121")[0]).report
    assert len(report.unfolded) == 62
    nonneg = LRP(network("resnet18")[0]).report.rules.query("rule == 'z+'")["input_nonneg"]
    assert nonneg.all()


class _Function(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cumsum(super().forward(x), 1)


class _Branches(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.sum() > 0 else x


class _Product(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight) * x


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (_Function(3, 3, 1), LayerWithoutRule, "cumsum"),
        (_Branches(3, 3, 1), CanonisationError, "cannot trace _Branches"),
        (_Product(3, 3, 1), LayerWithoutRule, "sigmoid gate"),
        (nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)),
         LayerWithoutRule, "no running statistics"),
        (nn.ReLU(), CanonisationError, "no parameters"),
        (nn.Conv2d(3, 1, 1).half(), CanonisationError, "float16"),
    ],
)  # fmt: skip
def test_what_has_no_rule_is_named(model: nn.Module, error: type, message: str) -> None:
    before = fingerprint(model)
    with pytest.raises(error, match=message) as caught:
        LRP(model)
    assert isinstance(caught.value, ValueError)
    assert fingerprint(model) == before


def test_hooks_are_refused_and_left_alone() -> None:
    model = nn.Sequential(nn.Conv2d(3, 1, 1))
    with model[0].register_forward_hook(lambda *_: None):
        before = fingerprint(model)
        with pytest.raises(CanonisationError, match="forward hooks"):
            LRP(model)
        assert fingerprint(model) == before


def test_an_exception_inside_leaves_the_model_alone() -> None:
    model, size, _ = network("resnet18")
    model.train()
    before = fingerprint(model)
    lrp = LRP(model)
    batch = torch.randn(1, 3, size, size)

    def fail(layer: str, relevance: Tensor) -> Tensor:
        raise RuntimeError(layer)

    with pytest.raises(RuntimeError, match=r"layer4\.1\.conv2"):
        lrp(batch, reduce=fail)
    for bad in (batch[0], batch[:0], batch.double()):
        with pytest.raises(UserError):
            lrp(bad)
    with contextlib.suppress(RuntimeError):
        lrp(torch.randn(1, 5, size, size))
    assert fingerprint(model) == before
    assert model.training
    # training mode is read as evaluation mode
    expected = model.eval()(batch).detach()
    torch.testing.assert_close(lrp(batch).logits, expected, rtol=1e-3, atol=1e-3)


def test_a_copy_that_computes_something_else_is_refused() -> None:
    class Shifty(nn.Conv2d):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            type(self).calls += 1
            return F.conv2d(x, self.weight, self.bias) * type(self).calls

    lrp = LRP(Shifty(3, 1, 1))
    with pytest.raises(CanonisationError, match="differ from the original's"):
        lrp(torch.randn(1, 3, 4, 4))


def test_agrees_with_zennit_on_a_relu_network() -> None:
    attribution = pytest.importorskip("zennit.attribution")
    composites = pytest.importorskip("zennit.composites")
    torch.manual_seed(3)
    model: Any = nn.Sequential(
        nn.Conv2d(3, 6, 3, bias=False), nn.ReLU(), nn.Conv2d(6, 8, 3, bias=False), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * 16, 2),
    ).double()  # fmt: skip
    batch = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    start = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    found = LRP(model)(batch, start=start).pixels
    with attribution.Gradient(model=model, composite=composites.EpsilonPlus()) as explainer:
        _, expected = explainer(batch.requires_grad_(), start)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
