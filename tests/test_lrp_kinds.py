"""LRP explains the network that it is given, however that is written: float64, by the matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision.models as zoo
import torchvision.ops
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

import forensift as ff
from forensift.detectors import observed
from forensift.errors import UserError
from forensift.lrp import LRP, CanonisationError, LayerWithoutRule

from .lrp_reference import _Custom, relative_error, slow_epsilon, slow_zplus

Written = Callable[[Any, Tensor], Tensor]


def awake(network: Any, seed: int = 0) -> Any:
    """Float64, evaluation, and numbers of both signs wherever a norm or a parameter has any."""
    draw = torch.Generator().manual_seed(seed)
    for module in network.modules():
        for name, tensor in (*module._buffers.items(), *module._parameters.items()):
            if tensor is None or not tensor.is_floating_point():
                continue
            low = 0.5 if "var" in name else -1.0
            tensor.data.copy_(torch.rand(tensor.shape, generator=draw) * (1.5 - low) + low)
    return network.double().eval()


# ---- operations with their relevance for a gradient; z⁺ and ε by explicit matrices


def conv(x: Tensor, weight: Tensor, bias: Tensor | None = None, **how: Any) -> Tensor:
    value, x0, weight = F.conv2d(x, weight, bias, **how), x.detach(), weight.detach()
    linear = lambda a: F.conv2d(a[None], weight, **how)[0]  # noqa: E731
    return _Custom.apply(value.detach(), lambda r: slow_zplus(linear, x0, r), x)


def epsilon(x: Tensor, function: Callable[[Tensor], Tensor], bias: Tensor | None = None) -> Tensor:
    x0 = x.detach()
    value = torch.stack([function(a) for a in x0])
    value = value if bias is None else value + bias.detach()
    return _Custom.apply(value, lambda r: slow_epsilon(function, x0, r, bias), x)


def linear(x: Tensor, layer: Any) -> Tensor:
    weight = layer.weight.detach()
    return epsilon(x, lambda a: a @ weight.T, layer.bias.detach())


def mean(x: Tensor) -> Tensor:
    return epsilon(x, lambda a: a.mean((1, 2)))


def passed(x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    return _Custom.apply(function(x).detach(), lambda r: r, x)


def relu(x: Tensor) -> Tensor:
    return passed(x, F.relu)


def plus(a: Tensor, b: Tensor) -> Tensor:
    z = (a + b).detach()
    safe = z + torch.where(z < 0, -1e-6, 1e-6)

    def back(r: Tensor) -> tuple[Tensor, Tensor]:
        return a.detach() * r / safe, b.detach() * r / safe

    return _Custom.apply(z, back, a, b)


def numbers(norm: Any) -> tuple[Tensor, Tensor]:
    gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return gain.detach(), (norm.bias - norm.running_mean * gain).detach()


def conv_norm(x: Tensor, layer: Any, gain: Tensor, shift: Tensor, **how: Any) -> Tensor:
    return conv(x, layer.weight * gain[:, None, None, None], layer.bias * gain + shift, **how)


def agrees(network: Any, written: Written, size: tuple[int, int] = (6, 5), **settings: Any) -> LRP:
    """Relevance of two images equals that of the network written out, also in float32."""
    x = torch.randn(2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    pixels = x.clone().requires_grad_()
    logits = written(network, pixels)
    with torch.no_grad():
        torch.testing.assert_close(logits, network(x.clone()))
    start = F.one_hot(logits.argmax(1), logits.shape[1]).double()
    (expected,) = torch.autograd.grad(logits, pixels, start)
    lrp = LRP(network, **settings)
    found = lrp(x)
    torch.testing.assert_close(found.logits, logits.detach())
    assert relative_error(found.pixels, expected) < 1e-9
    single = LRP(network.float(), **settings)(x.float()).pixels
    assert relative_error(single, expected) < 1e-3
    network.double()
    return lrp


# ---- what is written in place


class Block(nn.Module):
    """x + f(x), where f begins with an activation that may work in place; ``act`` writes it."""

    def __init__(self, act: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.stem, self.inner = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.relu, self.fc = nn.ReLU(inplace=True), nn.Linear(4, 2)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        out = self.inner(self.act(self, x))
        return self.fc((out + x).mean((2, 3)))


def written_in_place(net: Any, x: Tensor) -> Tensor:
    r = relu(conv(x, net.stem.weight, net.stem.bias, padding=1))
    return linear(mean(plus(conv(r, net.inner.weight, net.inner.bias), r)), net.fc)


def unassigned(net: Any, x: Tensor) -> Tensor:
    net.relu(x)
    return x


def through_a_view(net: Any, x: Tensor) -> Tensor:
    flat = x.flatten(2)
    x.relu_()
    return flat.view(x.shape)


def through_dropout(net: Any, x: Tensor) -> Tensor:
    F.dropout(x, training=False).relu_()
    return x


@pytest.mark.parametrize(
    "act",
    [
        lambda net, x: net.relu(x),
        unassigned,
        lambda net, x: F.relu(x, inplace=True),
        lambda net, x: F.relu(x, True),
        lambda net, x: F.relu_(x),
        lambda net, x: torch.relu_(x),
        lambda net, x: x.relu_(),
        through_a_view,
        through_dropout,
        lambda net, x: net.relu(input=x),
    ],
)
def test_what_is_read_after_it_was_written_over(act: Any) -> None:
    agrees(awake(Block(act)), written_in_place)


def test_a_sum_in_place_changes_what_is_read_later() -> None:
    class Summed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)
            self.fc = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x)
            same = x
            x += self.b(x)
            return self.fc((self.b(same) + x).mean((2, 3)))

    def written(net: Any, x: Tensor) -> Tensor:
        x = conv(x, net.a.weight, net.a.bias)
        x = plus(x, conv(x, net.b.weight, net.b.bias))
        return linear(mean(plus(conv(x, net.b.weight, net.b.bias), x)), net.fc)

    agrees(awake(Summed()), written)


def test_writing_over_a_part_is_refused() -> None:
    class Part(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            x = super().forward(x)
            x[:, :1].relu_()
            return x.mean((2, 3))

    with pytest.raises(LayerWithoutRule, match="writes over a part of a tensor that is read again"):
        LRP(Part(3, 4, 1))


# ---- affine maps of channels


class Affine(nn.Module):
    """A convolution, a ReLU, a second, and in between what ``first`` and ``second`` do."""

    def __init__(self, first: Any = None, second: Any = None) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 2, padding=1)
        self.fc, self.norm = nn.Linear(4, 2), nn.BatchNorm2d(4)
        self.gain, self.shift = nn.Parameter(torch.ones(4, 1, 1)), nn.Parameter(torch.ones(4, 1, 1))
        self.first = first or (lambda net, x: x)
        self.second = second or (lambda net, x: x)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self, self.a(x))
        x = self.b(self.second(self, torch.relu(x)))
        return self.fc(torch.relu(x).mean((2, 3)))


def frozen(net: Any) -> nn.Module:
    layer = torchvision.ops.FrozenBatchNorm2d(4, eps=net.norm.eps).double()
    state = net.norm.state_dict()
    layer.load_state_dict({k: v for k, v in state.items() if k != "num_batches_tracked"})
    return layer


def end(net: Any, x: Tensor) -> Tensor:
    return linear(mean(relu(x)), net.fc)


def scaled(scale: float) -> Callable[[Any], tuple[Tensor, Tensor]]:
    return lambda net: (torch.full_like(net.shift[:, 0, 0], scale), net.shift[:, 0, 0])


def unit(scale: float, shift: float) -> Callable[[Any], tuple[Tensor, Tensor]]:
    return lambda net: tuple(torch.full_like(net.shift[:, 0, 0], one) for one in (scale, shift))


LEARNT: dict[str, tuple[Any, Callable[[Any], tuple[Tensor, Tensor]]]] = {
    "BatchNorm": (lambda net, x: net.norm(x), lambda net: numbers(net.norm)),
    "functional": (
        lambda net, x: F.batch_norm(
            input=x, running_mean=net.norm.running_mean, running_var=net.norm.running_var,
            weight=net.norm.weight, bias=net.norm.bias, eps=net.norm.eps,
        ),
        lambda net: numbers(net.norm),
    ),
    "by hand": (
        lambda net, x: (x - net.norm.running_mean[None, :, None, None])
        / (net.norm.running_var + net.norm.eps).sqrt()[None, :, None, None]
        * net.norm.weight.view(1, -1, 1, 1) + net.norm.bias.view(1, -1, 1, 1),
        lambda net: numbers(net.norm),
    ),
    "scale": (lambda net, x: x * net.gain, lambda net: (net.gain[:, 0, 0], 0 * net.gain[:, 0, 0])),
    "in place": (
        lambda net, x: x.mul_(net.gain).add_(net.shift),
        lambda net: (net.gain[:, 0, 0], net.shift[:, 0, 0]),
    ),
    "bias": (lambda net, x: net.shift + x, scaled(1.0)),
    "minus": (lambda net, x: 1 - x, unit(-1.0, 1.0)),
    "alpha": (lambda net, x: torch.sub(net.shift, x, alpha=2), scaled(-2.0)),
    "negated": (lambda net, x: -x, unit(-1.0, 0.0)),
}  # fmt: skip


@pytest.mark.parametrize("name", LEARNT)
def test_an_affine_map_behind_a_convolution_is_folded(name: str) -> None:
    how, of = LEARNT[name]

    def written(net: Any, x: Tensor) -> Tensor:
        x = relu(conv_norm(x, net.a, *of(net)))
        return end(net, conv(x, net.b.weight, net.b.bias, padding=1))

    lrp = agrees(awake(Affine(first=how)), written)
    assert [layer for layer, _ in lrp.report.merged] == ["a"]


@pytest.mark.parametrize("name", LEARNT)
def test_an_affine_map_before_a_convolution_is_folded(name: str) -> None:
    how, of = LEARNT[name]

    def written(net: Any, x: Tensor) -> Tensor:
        x = relu(conv(x, net.a.weight, net.a.bias))
        gain, shift = (one[:, None, None].detach() for one in of(net))
        taken, weight = x.detach(), net.b.weight.detach()
        scaled = lambda a: F.conv2d(a[None] * gain, weight, padding=1)[0]  # noqa: E731
        value = F.conv2d(taken * gain + shift, weight, net.b.bias.detach(), padding=1)
        return end(net, _Custom.apply(value, lambda r: slow_zplus(scaled, taken, r), x))

    lrp = agrees(awake(Affine(second=how)), written)
    assert [layer for layer, _ in lrp.report.merged] == ["b"]


def test_frozen_and_synchronised_batchnorm_are_batchnorm() -> None:
    net = awake(Affine())
    x = torch.randn(2, 3, 6, 5, dtype=torch.float64)
    found = []
    for kind in (net.norm, frozen(net), nn.SyncBatchNorm.convert_sync_batchnorm(net).norm):
        net.norm = kind
        net.first = lambda net, x: net.norm(x)
        found.append(LRP(net.eval())(x).pixels)
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])


class Behind(nn.Module):
    """Two convolutions joined by ``join``, then BatchNorm."""

    def __init__(self, join: Callable[[Tensor, Tensor], Tensor], width: int = 4) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, width, 3, padding=1), nn.Conv2d(3, width, 5, padding=2)
        self.norm, self.fc = nn.BatchNorm2d(4), nn.Linear(4, 2)
        self.join = join

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.norm(self.join(self.a(x), self.b(x)))).mean((2, 3)))


def test_a_norm_is_folded_through_a_concatenation() -> None:
    def written(net: Any, x: Tensor) -> Tensor:
        gain, shift = numbers(net.norm)
        parts = [
            conv_norm(x, layer, gain[keep], shift[keep], padding=layer.padding)
            for layer, keep in ((net.a, slice(0, 2)), (net.b, slice(2, 4)))
        ]
        return end(net, torch.cat(parts, 1))

    net = awake(Behind(lambda a, b: torch.cat((a, b), axis=1), width=2))
    assert agrees(net, written).report.merged == [("a", "norm"), ("b", "norm")]
    agrees(awake(Behind(lambda a, b: torch.cat(tensors=[a, b], dim=-3), 2)), written)


def test_a_norm_is_folded_through_a_sum() -> None:
    def written(net: Any, x: Tensor) -> Tensor:
        gain, shift = numbers(net.norm)
        a = conv_norm(x, net.a, gain, shift, padding=1)
        return end(net, plus(a, conv_norm(x, net.b, gain, 0 * shift, padding=2)))

    agrees(awake(Behind(lambda a, b: a + b)), written)


def test_a_weighted_sum_of_branches() -> None:
    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.fc = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(torch.sub(self.a(x), self.b(x), alpha=0.5).mean((2, 3)))

    def written(net: Any, x: Tensor) -> Tensor:
        b = passed(conv(x, net.b.weight, net.b.bias), lambda b: -0.5 * b)
        return linear(mean(plus(conv(x, net.a.weight, net.a.bias), b)), net.fc)

    agrees(awake(Weighted()), written)


def test_a_norm_is_folded_through_an_average_pool() -> None:
    def written(net: Any, x: Tensor) -> Tensor:
        x = conv_norm(x, net.a, *numbers(net.norm), padding=1)
        return end(net, epsilon(x, lambda a: F.avg_pool2d(a[None], 2)[0]))

    agrees(awake(Behind(lambda a, b: F.avg_pool2d(input=a, kernel_size=2))), written)


@pytest.mark.parametrize("rising", [True, False])
def test_a_norm_behind_a_max_pool(rising: bool) -> None:
    """Folded where it keeps the order; else z⁺ of a depthwise convolution."""

    def written(net: Any, x: Tensor) -> Tensor:
        gain, shift = numbers(net.norm)
        if rising:
            return end(net, F.max_pool2d(conv_norm(x, net.a, gain, shift, padding=1), 2))
        x = F.max_pool2d(conv(x, net.a.weight, net.a.bias, padding=1), 2)
        return end(net, conv(x, torch.diag(gain)[:, :, None, None], shift))

    net = awake(Behind(lambda a, b: F.max_pool2d(a, 2)))
    if rising:
        net.norm.weight.data.abs_()
    agrees(net, written)


def test_a_norm_behind_an_activation_is_a_depthwise_convolution() -> None:
    def written(net: Any, x: Tensor) -> Tensor:
        gain, shift = numbers(net.norm)
        x = relu(conv(x, net.a.weight, net.a.bias, padding=1))
        return end(net, conv(x, torch.diag(gain)[:, :, None, None], shift))

    lrp = agrees(awake(Behind(lambda a, b: torch.relu(a))), written)
    assert lrp.report.unfolded == ["norm"]


def test_a_norm_in_the_head() -> None:
    class Head(nn.Module):
        def __init__(self, again: bool) -> None:
            super().__init__()
            self.a, self.fc, self.last = nn.Conv2d(3, 4, 3), nn.Linear(4, 5), nn.Linear(5, 2)
            self.norm, self.again = nn.BatchNorm1d(5), again

        def forward(self, x: Tensor) -> Tensor:
            x = self.norm(torch.relu(self.fc(self.a(x).mean((2, 3)))))
            return self.last(torch.relu(x) if self.again else x)

    def begin(net: Any, x: Tensor) -> Tensor:
        return relu(linear(mean(conv(x, net.a.weight, net.a.bias)), net.fc))

    def before_a_layer(net: Any, x: Tensor) -> Tensor:
        gain, shift = numbers(net.norm)
        weight = net.last.weight.detach()
        bias = weight @ shift + net.last.bias.detach()
        return epsilon(begin(net, x), lambda a: (a * gain) @ weight.T, bias)

    def between_activations(net: Any, x: Tensor) -> Tensor:
        gain, shift = numbers(net.norm)
        return linear(relu(epsilon(begin(net, x), lambda a: a * gain, shift)), net.last)

    agrees(awake(Head(again=False)), before_a_layer)
    agrees(awake(Head(again=True)), between_activations)


def test_a_norm_behind_a_grouped_transposed_convolution() -> None:
    class Up(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.up = nn.Conv2d(3, 4, 1), nn.ConvTranspose2d(4, 6, 2, groups=2)
            self.norm, self.fc = nn.BatchNorm2d(6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(torch.relu(self.norm(self.up(self.a(x)))).mean((2, 3)))

    def written(net: Any, x: Tensor) -> Tensor:
        gain, shift = (one[:, None, None] for one in numbers(net.norm))
        x = conv(x, net.a.weight, net.a.bias)
        taken, weight = x.detach(), net.up.weight.detach()
        scaled = lambda a: F.conv_transpose2d(a[None], weight, groups=2)[0] * gain  # noqa: E731
        value = net.up(taken).detach() * gain + shift
        return end(net, _Custom.apply(value, lambda r: slow_zplus(scaled, taken, r), x))

    agrees(awake(Up()), written)


@pytest.mark.parametrize("tiny", [1e-30, 1e-40, 1e-42])
def test_very_small_weights(tiny: float) -> None:
    net = Affine(first=lambda net, x: net.norm(x))
    awake(net)
    net.norm.weight.data[1], net.norm.bias.data[1], net.fc.weight.data[:, 1] = tiny, 5.0, 3.0
    x = torch.randn(2, 3, 6, 5, dtype=torch.float64)
    expected = LRP(net)(x).pixels
    found = LRP(net.float())(x.float()).pixels
    assert expected is not None
    assert torch.isfinite(expected).all()
    assert relative_error(found, expected) < 1e-4


# ---- keyword arguments

KEYWORDS: dict[str, tuple[Written, Written]] = {
    "convolution": (lambda net, x: net.conv(input=x), lambda net, x: net.conv(x)),
    "norm": (lambda net, x: net.norm(input=net.conv(x)), lambda net, x: net.norm(net.conv(x))),
    "pool": (
        lambda net, x: F.max_pool2d(input=net.conv(x), kernel_size=2),
        lambda net, x: F.max_pool2d(net.conv(x), 2),
    ),
    "sum": (
        lambda net, x: torch.add(input=net.conv(x), other=net.norm(net.conv(x))),
        lambda net, x: net.conv(x) + net.norm(net.conv(x)),
    ),
    "method": (lambda net, x: net.conv(x).div(other=-2.0), lambda net, x: net.conv(x) / -2),
    "reshape": (
        lambda net, x: torch.flatten(input=net.conv(x), start_dim=2).unsqueeze(dim=-1),
        lambda net, x: net.conv(x).flatten(2)[..., None],
    ),
    "functional": (
        lambda net, x: F.conv2d(input=x, weight=net.conv.weight, padding="same", bias=None),
        lambda net, x: F.conv2d(x, net.conv.weight, None, 1, 1),
    ),
    "split": (
        lambda net, x: torch.chunk(input=net.conv(x), chunks=2, dim=1)[0].repeat(1, 2, 1, 1),
        lambda net, x: net.conv(x)[:, :2].repeat(1, 2, 1, 1),
    ),
    "dropout": (
        lambda net, x: F.dropout(input=net.conv(x), training=False), lambda net, x: net.conv(x)
    ),
}  # fmt: skip


class Worded(nn.Module):
    def __init__(self, body: Written) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(input=torch.mean(input=self.body(self, x), axis=(2, 3)))


@pytest.mark.parametrize("name", KEYWORDS)
def test_keyword_arguments(name: str) -> None:
    x = torch.randn(2, 3, 6, 5, dtype=torch.float64)
    one, two = (LRP(awake(Worded(body)))(x).pixels for body in KEYWORDS[name])
    torch.testing.assert_close(one, two)


# ---- the box behind anything


class Framed(nn.Module):
    def __init__(self, inner: nn.Module, frame: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.frame = inner, frame

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.frame(x))


@pytest.fixture(scope="module")
def resnet() -> Any:
    torch.manual_seed(0)
    return zoo.resnet18(num_classes=1).double().eval()


@pytest.mark.parametrize(
    "frame",
    [
        lambda x: x.contiguous(),
        lambda x: x.to(torch.float64),
        lambda x: F.dropout(x, training=False).clone(),
        lambda x: x[:, [0, 1, 2]],
        lambda x: x.clamp(-9, max=9.0),
    ],
)
def test_the_box_holds_behind_what_changes_nothing(resnet: Any, frame: Any) -> None:
    x = torch.randn(1, 3, 33, 33, dtype=torch.float64)
    framed = LRP(Framed(resnet, frame))
    torch.testing.assert_close(framed(x).pixels, LRP(resnet)(x).pixels)
    assert "box" in set(framed.report.rules["rule"])


def test_the_box_moves_with_a_normalisation(resnet: Any) -> None:
    x = torch.rand(1, 3, 33, 33, dtype=torch.float64)
    framed = Framed(resnet, lambda x: (x - 0.5) / 0.25)
    expected = LRP(resnet, box=(-2.0, 2.0))((x - 0.5) / 0.25).pixels
    torch.testing.assert_close(LRP(framed, box=(0.0, 1.0))(x).pixels, expected)
    # without a box, the default is that of normalised values, whoever normalises
    expected = LRP(resnet)((x - 0.5) / 0.25).pixels
    torch.testing.assert_close(LRP(framed)(x).pixels, expected)


@pytest.mark.parametrize("pad", [nn.ZeroPad2d(3), lambda x: F.pad(x, [3, 3, 3, 3])])
def test_the_box_holds_behind_padding(resnet: Any, pad: Any) -> None:
    x = torch.randn(1, 3, 33, 33, dtype=torch.float64)
    expected = LRP(resnet)(x).pixels
    twin = zoo.resnet18(num_classes=1).double().eval()
    twin.load_state_dict(resnet.state_dict())
    twin.conv1.padding = (0, 0)
    torch.testing.assert_close(LRP(Framed(twin, pad))(x).pixels, expected)


def test_a_detector_brings_its_box(resnet: Any) -> None:
    preset = ff.Preset("half", mean=(0.5,) * 3, std=(0.5,) * 3)
    detector = ff.own_detector(resnet.float(), preset=preset)
    x = torch.rand(1, 3, 33, 33)
    expected = LRP(resnet, box=(-1.0, 1.0))(x).pixels
    torch.testing.assert_close(LRP(detector)(x).pixels, expected)
    resnet.double()


# ---- computed weights and wrappers


class Standardised(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        flat = self.weight.reshape(1, self.out_channels, -1)
        weight = F.batch_norm(flat, None, None, training=True).reshape_as(self.weight)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


def normed(how: Callable[[nn.Module], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        how(nn.Conv2d(3, 4, 3)), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten()
    ).double()


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    "how",
    [
        spectral_norm,
        weight_norm,
        parametrizations.spectral_norm,
        parametrizations.weight_norm,
        parametrizations.orthogonal,
        lambda layer: prune.random_unstructured(layer, "weight", 0.5),
    ],
)
def test_weights_computed_on_each_call(how: Any) -> None:
    net: Any = normed(how)
    x = torch.randn(2, 3, 7, 6, dtype=torch.float64)
    net(x).sum().backward()  # training leaves results behind that cannot be copied deeply
    net.eval()
    plain: Any = normed(lambda layer: layer)
    with torch.no_grad():
        expected = net(x)
        plain.load_state_dict({
            f"{name}.{key}": getattr(layer, key).detach()
            for name, layer in (("0", net[0]), ("2", net[2])) for key in ("weight", "bias")
        })  # fmt: skip
    found = LRP(net)(x)
    torch.testing.assert_close(found.logits, expected)
    torch.testing.assert_close(found.pixels, LRP(plain)(x).pixels)
    assert list(found.feature_maps) == ["0", "2"]


def test_standardised_weights_keep_the_convolutions_name() -> None:
    net = nn.Sequential(Standardised(3, 4, 3), nn.ReLU(), nn.Flatten()).double().eval()
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    plain: Any = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten()).double()
    with torch.no_grad():
        flat = net[0].weight.flatten(1)
        spread = (flat.var(1, unbiased=False) + 1e-5).sqrt()[:, None]
        plain[0].weight.copy_(((flat - flat.mean(1, keepdim=True)) / spread).view(4, 3, 3, 3))
        plain[0].bias.copy_(net[0].bias)
    found, expected = LRP(net)(x), LRP(plain)(x)
    torch.testing.assert_close(found.pixels, expected.pixels)
    assert list(found.feature_maps) == ["0"]


@pytest.mark.parametrize(
    "wrap", [nn.DataParallel, torch.optim.swa_utils.AveragedModel, torch.compile]
)
def test_wrappers_are_taken_off(wrap: Any) -> None:
    net = normed(lambda layer: layer).eval()
    x = torch.randn(2, 3, 7, 6, dtype=torch.float64)
    expected = LRP(net)(x)
    twice = wrap(nn.DataParallel(net))
    for wrapped in (wrap(net), twice, Framed(wrap(net), torch.clone)):
        found = LRP(wrapped)(x)
        torch.testing.assert_close(found.pixels, expected.pixels)


def test_scripted_networks_are_refused_with_the_mend() -> None:
    scripted = torch.jit.script(normed(lambda layer: layer))
    for network in (scripted, nn.Sequential(scripted)):
        with pytest.raises(CanonisationError, match="give the module that it was made of"):
            LRP(network)


# ---- one convolution called twice is one layer


class Twice(nn.Module):
    """One convolution on two views; all evidence comes from the first, or from both."""

    def __init__(self, view: Callable[[Tensor], Tensor], second: float = 0.0) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(8, 1)
        self.view = view
        with torch.no_grad():
            self.fc.weight.abs_()
            self.fc.weight[:, 4:] *= second

    def forward(self, x: Tensor) -> Tensor:
        views = [torch.relu(self.conv(t)).mean((2, 3)) for t in (x, self.view(x))]
        return self.fc(torch.cat(views, 1))


@pytest.mark.parametrize(
    "view", [lambda x: x - F.avg_pool2d(x, 3, 1, 1), lambda x: x[..., ::2, 1:]]
)
def test_a_feature_map_is_a_channel_over_all_calls(view: Any) -> None:
    torch.manual_seed(0)
    net = Twice(view, second=1.0).double().eval()
    x = torch.randn(2, 3, 6, 8, dtype=torch.float64)
    lrp = LRP(net)
    assert lrp.layers == ["conv"]
    relevance = lrp(x).feature_maps["conv"]
    with torch.no_grad():
        calls = [net.conv(t) for t in (x, view(x))]
        pooled = torch.cat([torch.relu(one).mean((2, 3)) for one in calls], 1)
    # ε of the linear layer, the mean and the ReLU: what arrives at each call's channels
    shares = slow_epsilon(
        lambda a: a @ net.fc.weight.T.detach(), pooled, torch.ones(2, 1).double(), net.fc.bias
    )
    torch.testing.assert_close(
        relevance.sum((2, 3)), shares[:, :4] + shares[:, 4:], rtol=1e-4, atol=0
    )
    with observed(net, ["conv"], lambda _, output: output.clone()) as seen:
        net(x)
    assert seen["conv"].shape == relevance.shape
    largest = torch.stack([one.amax((2, 3)) for one in calls]).amax(0)
    torch.testing.assert_close(seen["conv"].amax((2, 3)), largest)
    for channel in range(4):
        found = lrp.from_feature_map(x, "conv", channel)
        torch.testing.assert_close(found.maxima, largest[:, channel])
        row, column = found.positions.T
        at = seen["conv"][torch.arange(2), channel, row, column]
        torch.testing.assert_close(at, found.maxima)
    with pytest.raises(UserError, match=r"once; 'conv' gave .*choose another `layer`"):
        ff.explain(
            ff.own_detector(Twice(view, 1.0), preset=ff.Preset("native")),
            torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "gradcam",
        )  # fmt: skip


# ---- what is no feature map


def images_of(folder: Any) -> Any:
    import numpy as np
    from PIL import Image

    for kind, high in (("0_real", 255), ("1_fake", 256)):
        for number in range(3):
            path = folder / "one" / kind / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(number + high).integers(0, high, (16, 16, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    return ff.scan(folder)


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 1)
        nn.init.constant_(self.fc.bias, 5.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.conv(x)).mean((2, 3)))


class Unused(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Conv2d(4, 2, 1)


class Patches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 1, 1)
        nn.init.constant_(self.out.bias, 5.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.conv(x))).mean((2, 3))


class Functional(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(self.conv.weight.detach())
        del self.conv

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(F.conv2d(x, self.weight)).mean((2, 3)))


def test_maps_that_the_logit_does_not_depend_on(tmp_path: Any) -> None:
    torch.manual_seed(0)
    detector = ff.own_detector(Unused(), preset=ff.Preset("native"))
    images = images_of(tmp_path)
    found = ff.rank(detector, images)
    assert found.facts["not_used"] == ["unused"]
    assert (found.table.query("layer == 'unused'")["omega"] == 0).all()
    assert found.table.query("layer == 'conv'")["omega"].sum() > 0.1
    assert len(ff.dropout(detector, images, found, k=2, draws=2).table)


def test_the_convolution_that_gives_the_logits_is_no_feature_map(tmp_path: Any) -> None:
    torch.manual_seed(0)
    detector = ff.own_detector(Patches(), preset=ff.Preset("native"))
    assert detector.layers == {"conv": 4}
    assert set(ff.rank(detector, images_of(tmp_path)).table["layer"]) == {"conv"}


def test_a_network_without_convolution_modules_has_nothing_to_rank(tmp_path: Any) -> None:
    detector = ff.own_detector(Functional(), preset=ff.Preset("native"))
    with pytest.raises(UserError, match=r"no feature maps to rank.*as modules"):
        ff.rank(detector, images_of(tmp_path))


# ---- one policy of precision


def test_precision_is_full_and_settings_come_back() -> None:
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    seen = []

    class Looking(Plain):
        def forward(self, x: Tensor) -> Tensor:
            if not isinstance(x, torch.fx.Proxy):
                now = cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark, cudnn.deterministic
                seen.append(now)
            return super().forward(x)

    before = cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark, cudnn.deterministic
    try:
        cudnn.allow_tf32 = matmul.allow_tf32 = cudnn.benchmark = cudnn.deterministic = True
        detector = ff.own_detector(Looking(), preset=ff.Preset("native"))
        seen.clear()
        pixels = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
        detector.outputs(pixels)
        for method in ("lrp", "gradcam", "gradient"):
            ff.explain(detector, pixels, method)
        assert len(seen) >= 4
        assert set(seen) == {(False, False, True, True)}
        assert cudnn.allow_tf32
        assert matmul.allow_tf32
    finally:
        cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark, cudnn.deterministic = before
