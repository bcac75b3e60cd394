"""Every rule against its slow twin: an explicit matrix, mixed signs, odd shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from forensift.lrp import LRP
from forensift.lrp.operations import same_padding
from forensift.lrp.rules import EpsilonSum, safe_division, stabilise

from .lrp_reference import (
    relative_error,
    slow_box,
    slow_epsilon,
    slow_zplus,
    stabilised,
)

CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "plain": {"kernel_size": 3},
    "padded": {"kernel_size": 3, "padding": 1},
    "strided": {"kernel_size": 3, "stride": 2, "padding": 1},
    "uneven": {"kernel_size": (3, 2), "stride": (1, 2), "padding": (2, 0)},
    "pointwise": {"kernel_size": 1},
    "strided pointwise": {"kernel_size": 1, "stride": 2},
    "padded pointwise": {"kernel_size": 1, "padding": 1},
    "grouped": {"kernel_size": 3, "groups": 2, "padding": 1},
    "depthwise": {"kernel_size": 3, "groups": 4, "out_channels": 8},
    "dilated": {"kernel_size": 3, "dilation": 2, "padding": 2},
    "same": {"kernel_size": 4, "padding": "same"},  # an even kernel is padded unevenly
    "no bias": {"kernel_size": 3, "bias": False},
}


def convolution(settings: dict[str, Any], kind: type = nn.Conv2d) -> Any:
    layer = kind(**{"in_channels": 4, "out_channels": 6, **settings})
    return layer.double()


def without_bias(layer: nn.Module) -> Callable[[Tensor], Tensor]:
    """One image through the layer, less what the bias adds."""
    return lambda a: (layer(a[None]) - layer(torch.zeros_like(a)[None]))[0]


class First(nn.Module):
    """A layer under test, with a sum over everything as the logits: R arrives as given."""

    def __init__(self, layer: nn.Module, nonneg: bool = False) -> None:
        super().__init__()
        self.layer = layer
        self.relu = nn.ReLU() if nonneg else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.relu(x)).flatten(1)


def relevance_through(layer: nn.Module, x: Tensor, r: Tensor, **settings: Any) -> Tensor:
    nonneg = settings.pop("nonneg", False)
    found = LRP(First(layer, nonneg), **settings)(x, start=r.flatten(1))
    assert found.pixels is not None
    return found.pixels


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("nonneg", [False, True])
def test_zplus_matches_the_matrix(name: str, nonneg: bool) -> None:
    torch.manual_seed(len(name))
    layer = convolution(CONVOLUTIONS[name])
    x = torch.randn(2, 4, 7, 6, dtype=torch.float64)
    r = torch.randn_like(layer(x))
    entered = x.clamp(min=0) if nonneg else x
    expected = slow_zplus(without_bias(layer), entered, r)
    found = relevance_through(layer, x, r, nonneg=nonneg)
    assert relative_error(found, expected) < 1e-12
    single = relevance_through(layer.float(), x.float(), r.float(), nonneg=nonneg)
    assert relative_error(single, expected) < 1e-4


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_other_paddings_are_a_step_of_their_own(mode: str) -> None:
    torch.manual_seed(9)
    layer = convolution({"kernel_size": 3, "padding": 1, "padding_mode": mode})
    x = torch.randn(1, 4, 5, 6, dtype=torch.float64)
    r = torch.randn_like(layer(x))
    padded = F.pad(x, [1, 1, 1, 1], mode=mode)
    at_padded = slow_zplus(lambda a: F.conv2d(a[None], layer.weight.detach())[0], padded, r)
    leaf = x.clone().requires_grad_()
    copies = F.pad(leaf, [1, 1, 1, 1], mode=mode)
    expected = torch.autograd.grad(copies, leaf, at_padded)[0]
    assert relative_error(relevance_through(layer, x, r), expected) < 1e-12


def test_functional_layers_follow_the_same_rules() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(6, 2, 3, 3, dtype=torch.float64))
            self.bias = nn.Parameter(torch.randn(6, dtype=torch.float64))

        def forward(self, x: Tensor) -> Tensor:
            scaled = self.weight * 0.5
            return F.conv2d(x, scaled, self.bias, stride=(2, 1), padding=1, groups=2)

    torch.manual_seed(10)
    layer = Functional()
    x = torch.randn(2, 4, 6, 5, dtype=torch.float64)
    r = torch.randn_like(layer(x))
    expected = slow_zplus(without_bias(layer), x, r)
    assert relative_error(relevance_through(layer, x, r), expected) < 1e-12


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1},
        {"kernel_size": 4, "stride": 2, "padding": 1, "groups": 2},
    ],
)
def test_zplus_of_a_transposed_convolution(settings: dict[str, Any]) -> None:
    torch.manual_seed(1)
    layer = convolution(settings, nn.ConvTranspose2d)
    x = torch.randn(1, 4, 4, 3, dtype=torch.float64)
    r = torch.randn_like(layer(x))
    expected = slow_zplus(without_bias(layer), x, r)
    assert relative_error(relevance_through(layer, x, r), expected) < 1e-12


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", ["plain", "strided", "uneven", "same", "strided pointwise"])
def test_box_matches_the_matrix(name: str) -> None:
    torch.manual_seed(2)
    layer = convolution(CONVOLUTIONS[name])
    x = torch.rand(2, 4, 6, 7, dtype=torch.float64) * 3 - 1
    r = torch.randn_like(layer(x))
    expected = slow_box(without_bias(layer), x, r, -1.0, 2.0)
    found = relevance_through(layer, x, r, input_rule="box", box=(-1.0, 2.0))
    assert relative_error(found, expected) < 1e-9


@pytest.mark.parametrize("height", [5, 6, 7, 8])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 2), (1, 2)])
def test_efficientnet_padding_matches_the_matrix(height: int, kernel: int, stride: int) -> None:
    from efficientnet_pytorch.utils import Conv2dDynamicSamePadding, Conv2dStaticSamePadding

    torch.manual_seed(3)
    dynamic = Conv2dDynamicSamePadding(2, 3, kernel, stride).double()
    static = Conv2dStaticSamePadding(2, 3, kernel, stride, image_size=(height, 6)).double()
    static.load_state_dict(dynamic.state_dict())
    x = torch.randn(1, 2, height, 6, dtype=torch.float64)
    r = torch.randn_like(dynamic(x))
    expected = slow_zplus(without_bias(dynamic), x, r)
    for layer in (dynamic, static):
        assert relative_error(relevance_through(layer, x, r), expected) < 1e-12


def test_same_padding_puts_the_odd_one_last() -> None:
    amounts = same_padding((3, 3), (2, 2), (1, 1))
    assert amounts((8, 7)) == [1, 1, 0, 1]


@pytest.mark.parametrize("bias", [True, False])
def test_epsilon_of_a_linear_layer(bias: bool) -> None:
    torch.manual_seed(4)
    layer = nn.Linear(24, 5, bias=bias).double()
    x = torch.randn(3, 2, 3, 4, dtype=torch.float64)
    r = torch.randn(3, 5, dtype=torch.float64)
    expected = slow_epsilon(
        lambda a: a.flatten() @ layer.weight.T, x, r, layer.bias.detach() if bias else None
    )
    found = relevance_through(nn.Sequential(nn.Flatten(), layer), x, r)
    assert relative_error(found, expected) < 1e-9


@pytest.mark.parametrize(
    "layer",
    [
        nn.AdaptiveAvgPool2d(1),
        nn.AdaptiveAvgPool2d((2, 3)),
        nn.AvgPool2d(3, 2, padding=1),
        nn.AvgPool2d(2, ceil_mode=True),
        nn.Upsample(scale_factor=2, mode="nearest"),
    ],
    ids=lambda layer: str(layer),
)
def test_epsilon_of_linear_maps(layer: nn.Module) -> None:
    torch.manual_seed(5)
    keep = nn.Conv2d(2, 2, 1, bias=False).double()  # LRP needs a parameter to know its dtype
    keep.weight.data = torch.eye(2, dtype=torch.float64)[:, :, None, None]
    x = torch.rand(2, 2, 5, 7, dtype=torch.float64) + 0.1  # z+ by the identity then passes R on
    r = torch.randn_like(layer(x))
    expected = slow_epsilon(lambda a: layer(a[None])[0], x, r)
    found = relevance_through(nn.Sequential(keep, layer), x, r)
    assert relative_error(found, expected) < 1e-9


def test_declared_linear_module_goes_through_its_jacobian() -> None:
    class Residual(nn.Module):
        """x less its copy of half the size, as NPR's first step."""

        lrp_rule = "linear"

        def forward(self, x: Tensor) -> Tensor:
            if x.shape[2] > 1:  # would not trace
                x = x - F.interpolate(F.interpolate(x, scale_factor=0.5), scale_factor=2)
            return x * (2 / 3)

    torch.manual_seed(6)
    residual = Residual()
    conv = nn.Conv2d(3, 4, 3, stride=2, padding=1).double()
    x = torch.randn(2, 3, 6, 8, dtype=torch.float64)
    middle = residual(x)
    r = torch.randn_like(conv(middle))
    at_residual = slow_zplus(without_bias(conv), middle, r)
    expected = slow_epsilon(lambda a: residual(a[None])[0], x, at_residual)
    found = relevance_through(nn.Sequential(residual, conv), x, r)
    assert relative_error(found, expected) < 1e-9


@pytest.mark.parametrize("factor", [1, -1])
def test_epsilon_of_a_sum(factor: int) -> None:
    torch.manual_seed(7)
    a, b, r = (torch.randn(3, 4, 5, dtype=torch.float64) for _ in range(3))
    b[0] = -factor * a[0]  # the sum is zero there
    rule = EpsilonSum(factor)
    z, saved = rule.forward(a, b)
    share_a, share_b = rule.backward(saved, r)
    stable = stabilised(a + factor * b)
    torch.testing.assert_close(z, a + factor * b)
    torch.testing.assert_close(share_a, a * r / stable)
    torch.testing.assert_close(share_b, factor * b * r / stable)


def test_sum_with_itself_and_broadcast_inputs() -> None:
    a = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    b = torch.rand(2, 3, 1, 1, dtype=torch.float64)
    rule = EpsilonSum()
    z, saved = rule.forward(a, b)
    share_a, share_b = rule.backward(saved, torch.ones_like(z))
    assert share_a.shape == a.shape
    assert share_b.shape == b.shape
    assert float(share_a.sum() + share_b.sum()) == pytest.approx(z.numel(), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_stabilisers(dtype: torch.dtype) -> None:
    z = torch.tensor([0.0, 2.0, -2.0, 1e-30, -1e-30], dtype=dtype)
    torch.testing.assert_close(stabilise(z), stabilised(z))
    z = torch.tensor([0.0, 2.0, 1e-20], dtype=dtype)
    found = safe_division(torch.tensor([3.0, 3.0, 0.0], dtype=dtype), z)
    assert found.tolist() == [0.0, 1.5, 0.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dead_outputs_pass_nothing_on(dtype: torch.dtype) -> None:
    layer = nn.Conv2d(1, 1, 1).to(dtype)
    layer.weight.data.fill_(-1.0)
    x = torch.rand(1, 1, 3, 3, dtype=dtype) + 0.1  # every product w·x is negative: z = 0
    found = relevance_through(layer, x, torch.ones(1, 9, dtype=dtype))
    assert torch.equal(found, torch.zeros_like(x))


def test_max_pool_gives_to_the_winner() -> None:
    torch.manual_seed(8)
    conv = nn.Conv2d(1, 1, 1, bias=False).double()
    conv.weight.data.fill_(1.0)
    x = torch.rand(1, 1, 4, 6, dtype=torch.float64)
    r = torch.randn(1, 6, dtype=torch.float64)
    found = relevance_through(nn.Sequential(conv, nn.MaxPool2d(2)), x, r)
    for i in range(2):
        for j in range(3):
            block = x[0, 0, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            part = found[0, 0, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            assert float(part.flatten()[block.argmax()]) == pytest.approx(float(r[0, 3 * i + j]))
            assert int((part != 0).sum()) == 1
