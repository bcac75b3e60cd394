"""LRP of transformers: rules against Jacobians, graphs with the same parts held constant, accounts,
and the networks that detectors are made of today."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.functional import jacobian
from torchvision import models as zoo

from forensift.ablation import put
from forensift.data import Preset
from forensift.detectors import own_detector
from forensift.detectors.activations import observed
from forensift.detectors.units import (
    as_maps,
    find_feature_maps,
    token_grid,
    token_units,
    with_units,
)
from forensift.errors import UserError
from forensift.lrp import LRP, export
from forensift.lrp.token_rules import (
    Attention,
    Halves,
    Mixed,
    Normalised,
    SharedMap,
    SharedSum,
    Sharing,
    Softmax,
    TokenLinear,
    held_group_norm,
    held_layer_norm,
    held_rms_norm,
)
from forensift.records import FeatureMap

from .lrp_reference import fingerprint

timm = pytest.importorskip("timm")


def neurons_of(network: nn.Module) -> dict[str, int]:
    units = token_units(network)
    return {layer: unit.width for layer, unit in units.items() if unit.kind == "neurons"}


D = torch.float64
EPSILON, MAGNITUDE = Sharing(False, 1e-14), Sharing()


def rand(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=D)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(3)


# ---- rules against Jacobians


def shared_by_jacobian(
    function: Callable[[Tensor], Tensor], x: Tensor, relevance: Tensor, magnitude: bool
) -> Tensor:
    """Return R_i = Σ_o t_oi R_o / Σ_i t_oi for z = J x: t_oi = J_oi x_i, or its magnitude."""
    terms = jacobian(function, x).reshape(relevance.numel(), x.numel()) * x.reshape(1, -1)
    terms = terms.abs() if magnitude else terms
    below = terms.sum(1, keepdim=True)
    return ((terms / below) * relevance.reshape(-1, 1)).sum(0).reshape(x.shape)


@pytest.mark.parametrize("magnitude", [True, False])
def test_a_mean_shares_as_its_jacobian_says(magnitude: bool) -> None:
    x, relevance = rand(2, 5, 3), rand(2, 3)
    rule = SharedMap(MAGNITUDE if magnitude else EPSILON, torch.mean)
    _, saved = rule.forward(x, 1)
    (found,) = rule.backward(saved, relevance)
    assert torch.allclose(
        found, shared_by_jacobian(lambda x: x.mean(1), x, relevance, magnitude), rtol=1e-9
    )


@pytest.mark.parametrize("factor", [1, -1, 0.5])
@pytest.mark.parametrize("magnitude", [True, False])
def test_a_sum_shares_with_a_constant_too(magnitude: bool, factor: float) -> None:
    a, b, relevance = rand(2, 4, 3), rand(4, 3), rand(2, 4, 3)
    rule = SharedSum(MAGNITUDE if magnitude else EPSILON, factor)
    z, saved = rule.forward(a, b)
    assert torch.equal(z, a + factor * b)
    to_a, to_b = rule.backward(saved, relevance)
    assert to_b.shape == b.shape
    terms = [a, (factor * b).expand(2, 4, 3)]
    terms = [one.abs() for one in terms] if magnitude else terms
    assert torch.allclose(to_a, terms[0] / sum(terms) * relevance, rtol=1e-9)
    assert torch.allclose(to_b, (terms[1] / sum(terms) * relevance).sum(0), rtol=1e-9)
    assert torch.allclose(to_a.sum() + to_b.sum(), relevance.sum())


def test_shares_by_magnitude_never_exceed_what_came() -> None:
    a, relevance = rand(3, 7), rand(3, 7)
    to_a, to_b = SharedSum(MAGNITUDE).backward((a, 1e-9 - a), relevance)
    assert (to_a.abs() <= relevance.abs()).all()
    assert torch.allclose(to_a + to_b, relevance)


def test_a_linear_layer_of_tokens_is_a_1x1_convolution_and_of_vectors_epsilon() -> None:
    weight, bias, x, relevance = rand(4, 24), rand(4), rand(2, 3, 24), rand(2, 3, 4)
    rule = TokenLinear(weight, bias, nonneg=False)
    y, saved = rule.forward(x)
    assert torch.equal(y, F.linear(x, weight, bias))
    terms = (x[:, :, None] * weight).clamp(min=0)  # (N, T, out, in)
    expected = (terms / terms.sum(-1, keepdim=True) * relevance[..., None]).sum(2)
    (found,) = rule.backward(saved, relevance)
    assert torch.allclose(found, expected, rtol=1e-9)
    vectors = x[:, 0]
    y, saved = rule.forward(vectors)
    (found,) = rule.backward(saved, relevance[:, 0])
    expected = (vectors[:, None] * weight / y[..., None] * relevance[:, 0, :, None]).sum(1)
    assert torch.allclose(found, expected, rtol=1e-4)  # ε = 1e-6
    absorbed = float(relevance[:, 0].sum() - found.sum())
    assert rule.bias(saved, relevance[:, 0]) == pytest.approx(absorbed, rel=1e-4)


@pytest.mark.parametrize(
    ("function", "held", "args"),
    [
        (F.layer_norm, held_layer_norm, ((6,), rand(6), rand(6), 1e-5)),
        (F.layer_norm, held_layer_norm, ((6,),)),
        (F.rms_norm, held_rms_norm, ((6,), rand(6), 1e-6)),
        (F.group_norm, held_group_norm, (3, rand(6), rand(6), 1e-5)),
    ],
)
def test_a_normalisation_with_its_deviation_held(function: Any, held: Any, args: Any) -> None:
    x, relevance = rand(2, 6, 6), rand(2, 6, 6)
    y = function(x, *args)
    assert torch.allclose(held(x, *args), y, rtol=1e-12)
    rule = Normalised(EPSILON, function, held)
    _, saved = rule.forward(x, *args)
    (found,) = rule.backward(saved, relevance)
    terms = jacobian(lambda leaf: _with_deviation_of(held, x, args, leaf), x)
    assert isinstance(terms, Tensor)
    expected = x * torch.einsum("abc,abcdef->def", relevance / y, terms)
    assert torch.allclose(found, expected, rtol=1e-8)
    taken = rule.bias(saved, relevance)
    assert float(relevance.sum()) == pytest.approx(float(found.sum()) + taken, rel=1e-8)
    (same,) = Normalised(MAGNITUDE, function, held).backward(None, relevance)
    assert same is relevance


def _with_deviation_of(held: Any, x: Tensor, args: Any, leaf: Tensor) -> Tensor:
    """Return the map that is linear in leaf: y(x) + its slope at x with the deviation held."""
    step = 1e-3  # exact for a linear map
    return held(x, *args) + (_slope(held, x, args, leaf - x, step))


def _slope(held: Any, x: Tensor, args: Any, way: Tensor, step: float) -> Tensor:
    return torch.func.jvp(lambda one: held(one, *args), (x,), (way,))[1]


@pytest.mark.parametrize("magnitude", [True, False])
@pytest.mark.parametrize("masked", [None, "bool", "float", "causal"])
def test_attention_is_linear_in_its_values(magnitude: bool, masked: str | None) -> None:
    q, k, v, relevance = rand(2, 2, 5, 3), rand(2, 2, 5, 3), rand(2, 2, 5, 4), rand(2, 2, 5, 4)
    mask = torch.ones(5, 5, dtype=torch.bool).tril()
    given: tuple[Any, ...] = {
        None: (), "bool": (mask,), "float": (rand(5, 5),), "causal": (None, 0.0, True),
    }[masked]  # fmt: skip
    rule = Attention(MAGNITUDE if magnitude else EPSILON)
    y, saved = rule.forward(q, k, v, *given)
    scores = q @ k.transpose(-1, -2) / math.sqrt(3)
    if masked in ("bool", "causal"):
        scores = scores.masked_fill(~mask, -math.inf)
    elif masked == "float":
        scores = scores + given[0]
    weights = scores.softmax(-1)
    assert torch.allclose(y, weights @ v, rtol=1e-9)
    (found,) = rule.backward(saved, relevance)
    expected = shared_by_jacobian(lambda v: weights @ v, v, relevance, magnitude)
    assert torch.allclose(found, expected, rtol=1e-8)
    written = Mixed(MAGNITUDE if magnitude else EPSILON, 1, True)
    _, saved = written.forward(weights, v)
    assert torch.allclose(written.backward(saved, relevance)[0], expected, rtol=1e-8)


def test_attnlrp_halves_and_goes_through_the_softmax() -> None:
    q, k, v, relevance = rand(1, 1, 4, 3), rand(1, 1, 4, 3), rand(1, 1, 4, 2), rand(1, 1, 4, 2)
    rule = Attention(EPSILON, shared=True)
    _, saved = rule.forward(q, k, v)
    to_q, to_k, to_v = rule.backward(saved, relevance)
    halves = Halves(EPSILON, torch.matmul)
    scores = q @ k.transpose(-1, -2) / math.sqrt(3)
    weights, kept = Softmax().forward(scores, -1)
    to_weights, expected_v = halves.backward(halves.forward(weights, v)[1], relevance)
    assert torch.allclose(to_v, expected_v, rtol=1e-9)
    assert torch.allclose(to_v.sum(), relevance.sum() / 2)
    slope = torch.diag_embed(weights) - weights[..., :, None] * weights[..., None, :]
    expected = scores * torch.einsum("...ij,...i->...j", slope, to_weights / weights)
    (to_scores,) = Softmax().backward(kept, to_weights)
    assert torch.allclose(to_scores, expected, rtol=1e-8)
    expected_q, expected_k = halves.backward(
        halves.forward(q / math.sqrt(3), k.transpose(-1, -2))[1], to_scores
    )
    assert torch.allclose(to_q, expected_q, rtol=1e-7)
    assert torch.allclose(to_k, expected_k.transpose(-1, -2), rtol=1e-7)


# ---- whole networks against a graph with the same parts held constant


class Block(nn.Module):
    def __init__(self, width: int, heads: int, bias: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = (nn.LayerNorm(width, bias=bias) for _ in range(2))
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias), nn.Linear(width, width, bias)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width, bias), nn.GELU(), nn.Linear(4 * width, width, bias)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.norm1(x))
        return x + self.mlp(self.norm2(x))

    def attend(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    def held(self, x: Tensor, shared: bool) -> Tensor:
        """Return the same with everything held constant that the ε rules hold constant."""
        norm = held_layer_norm
        y = norm(x, x.shape[-1:], self.norm1.weight, self.norm1.bias)
        q, k, v = self.qkv(y).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = halved(q) @ halved(k.transpose(-1, -2)) / math.sqrt(q.shape[-1])
        weights = scores.softmax(-1)
        mixed = halved(weights) @ halved(v) if shared else weights.detach() @ v
        x = x + self.proj(mixed.transpose(1, 2).flatten(2))
        y = self.mlp[0](norm(x, x.shape[-1:], self.norm2.weight, self.norm2.bias))
        return x + self.mlp[2](y * (F.gelu(y) / y).detach())


def halved(x: Tensor) -> Tensor:
    """Return x, whose gradient is halved."""
    return 0.5 * x + (0.5 * x).detach()


class ViT(nn.Module):
    def __init__(self, depth: int = 2, width: int = 12, heads: int = 2, bias: bool = True) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, 4, 4, bias=bias)
        self.cls_token = nn.Parameter(torch.randn(1, 1, width))
        self.pos_embed = nn.Parameter(0.5 * torch.randn(1, 17, width))
        self.blocks = nn.ModuleList(Block(width, heads, bias) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width, bias=bias), nn.Linear(width, 1, bias)
        self.double().eval()

    def tokens(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        return torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed

    def forward(self, x: Tensor) -> Tensor:
        x = self.tokens(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])

    def held(self, x: Tensor, shared: bool) -> Tensor:
        x = self.tokens(x)
        for block in self.blocks:
            x = block.held(x, shared)
        return self.head(held_layer_norm(x, x.shape[-1:], self.norm.weight, self.norm.bias)[:, 0])


@pytest.mark.parametrize("attention", ["cp", "attnlrp"])
def test_epsilon_tends_to_input_times_gradient_of_the_held_graph(attention: str) -> None:
    network, x = ViT(), rand(2, 3, 16, 16).clamp(-2, 2)
    before = fingerprint(network)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of growth: this network is random
        lrp = LRP(network, composite="epsilon,epsilon=1e-15", attention=attention)
        found = lrp(x, budget=True)
    leaf = x.clone().requires_grad_()
    held = network.held(leaf, attention == "attnlrp")
    assert torch.allclose(held, network(x), rtol=1e-9)
    (gradient,) = torch.autograd.grad((held / held.detach()).sum(), leaf)
    expected = (x * gradient).detach()
    assert float((found.pixels - expected).norm() / expected.norm()) <= 1e-10
    assert found.accounts is not None
    assert found.accounts.sum() == pytest.approx(2.0, rel=1e-9)
    assert abs(found.accounts["biases"]) > 1e-3
    assert fingerprint(network) == before


def test_without_biases_and_constants_the_pixels_get_all() -> None:
    network, x = ViT(depth=3, width=24, bias=False), rand(2, 3, 16, 16).clamp(-2, 2)
    nn.init.zeros_(network.pos_embed)
    nn.init.zeros_(network.cls_token)
    found = LRP(network, "zplus", composite="beta0,epsilon=1e-15")(x, budget=True)
    assert found.pixels is not None
    assert found.accounts is not None
    for sums in found.pixels.sum((1, 2, 3)):
        assert float(sums) == pytest.approx(1.0, rel=1e-9)
    assert found.accounts.drop("pixels").abs().max() < 1e-9


@pytest.mark.parametrize("composite", ["beta0", "epsilon", "gamma", "epsilon-gamma-box"])
def test_the_accounts_sum_to_the_start(composite: str) -> None:
    network, x = ViT(), rand(3, 3, 16, 16).clamp(-2, 2)
    start = torch.tensor([[1.0], [-2.0], [0.5]], dtype=D)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        accounts = LRP(network, composite=composite)(x, start, budget=True).accounts
    assert accounts is not None
    assert list(accounts.index) == ["pixels", "cls_token", "pos_embed", "biases", "stabilisers"]
    assert accounts.sum() == pytest.approx(-0.5, rel=1e-9)


def test_a_batch_is_its_images_and_two_networks_do_not_meet() -> None:
    network, other = ViT(), ViT(depth=1)
    x = rand(3, 3, 16, 16).clamp(-2, 2)
    lrp, second = LRP(network), LRP(other)
    whole = lrp(x)
    assert second(x).pixels is not None
    for place in range(3):
        single = lrp(x[place : place + 1])
        assert torch.allclose(single.pixels, whole.pixels[place : place + 1], rtol=1e-9)
        for layer, maps in single.feature_maps.items():
            assert torch.allclose(maps, whole.feature_maps[layer][place : place + 1], rtol=1e-9)


def test_growth_is_at_most_half_a_block_on_24_and_a_warning_elsewhere() -> None:
    network, x = ViT(depth=24), rand(1, 3, 16, 16).clamp(-2, 2)
    lrp = LRP(network)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lrp(x)
    assert lrp.report.growth is not None
    assert lrp.report.growth <= 1.5
    with torch.no_grad():
        for block in network.blocks:  # what a block adds cancels what came
            block.proj.weight.zero_()
            block.proj.bias.zero_()
            block.mlp[2].weight.zero_()
        network.blocks[0].mlp[2].bias.copy_(-0.999 * network.tokens(x)[0, 0])
        for block in network.blocks[1:]:
            block.mlp[2].bias.zero_()
    small = ViT(depth=1)
    with torch.no_grad():
        small.blocks[0].proj.weight.zero_()
        small.blocks[0].proj.bias.zero_()
        small.blocks[0].mlp[2].weight.zero_()
        small.blocks[0].mlp[2].bias.copy_(-0.99 * small.tokens(x)[0, 0])
    with pytest.warns(UserWarning, match="grows .* × a block"):
        LRP(small, composite="epsilon")(x)


# ---- feature maps


def test_neurons_on_tokens_are_maps() -> None:
    network = ViT(depth=2, width=12)
    assert neurons_of(network) == {"blocks.0.mlp.1": 48, "blocks.1.mlp.1": 48}
    names = [str(one) for one in find_feature_maps(network)]
    assert len(names) == 12 + 2 * 48
    assert names[12] == "blocks.0.mlp.1.#0(T=48)"
    lrp, x = LRP(network), rand(2, 3, 16, 16).clamp(-2, 2)
    assert lrp.layers == []  # a network that takes 16 × 16 pixels, which nothing says before
    found = lrp(x)
    assert lrp.layers == ["patch", "blocks.0.mlp.1", "blocks.1.mlp.1"]
    assert {name: tuple(maps.shape) for name, maps in found.feature_maps.items()} == {
        "patch": (2, 12, 4, 4), "blocks.0.mlp.1": (2, 48, 4, 4), "blocks.1.mlp.1": (2, 48, 4, 4),
    }  # fmt: skip
    rows = lrp(x, reduce=lambda layer, maps: maps.clone()).feature_maps["blocks.0.mlp.1"]
    assert rows.shape == (2, 48, 1, 17)
    maps = found.feature_maps["blocks.0.mlp.1"]
    assert torch.equal(rows[:, :, 0, 1:], maps.flatten(2))
    assert rows[:, :, 0, 0].abs().max() > 0  # the class token's own
    single = lrp.from_feature_map(x, "blocks.0.mlp.1", [3, 7])
    with torch.no_grad():
        tokens = network.tokens(x)
        block = network.blocks[0]
        tokens = tokens + block.attend(block.norm1(tokens))
        values = block.mlp[1](block.mlp[0](block.norm2(tokens)))[:, 1:]
    assert torch.allclose(single.maxima, torch.stack([values[0, :, 3], values[1, :, 7]]).amax(1))
    assert torch.equal(
        single.positions[:, 0] * 4 + single.positions[:, 1],
        torch.stack([values[0, :, 3], values[1, :, 7]]).argmax(1),
    )


class Attends(nn.Module):
    """A block's attention as timm, open_clip and transformers write it: a module with num_heads."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.num_heads, self.qkv, self.proj = block.heads, block.qkv, block.proj

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Headed(Block):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width, heads)
        self.attn = Attends(self)
        del self.qkv, self.proj

    def attend(self, x: Tensor) -> Tensor:
        return self.attn(x)


def headed() -> ViT:
    network = ViT(depth=2, width=12)
    network.blocks = nn.ModuleList(Headed(12, 3) for _ in range(2))
    return network.double().eval()


def test_heads_and_channels_are_units_too() -> None:
    network, x = headed(), rand(2, 3, 16, 16).clamp(-2, 2)
    units = token_units(network)
    assert {layer: (unit.kind, unit.width) for layer, unit in units.items()} == {
        f"blocks.{i}{own}": unit
        for i in range(2)
        for own, unit in (
            ("", ("channels", 12)), (".attn.proj", ("heads", 3)), (".mlp.1", ("neurons", 48)),
        )
    }  # fmt: skip
    neurons = own_detector(network.float(), preset=Preset("16", crop=16))
    network.double()
    for kind, layer, width in (("heads", "blocks.1.attn.proj", 3), ("channels", "blocks.0", 12)):
        detector = with_units(neurons, kind)  # type: ignore[arg-type]
        assert set(detector.layers.values()) == {width}
        lrp = LRP(detector)
        found = lrp(x.float(), budget=True)
        assert set(found.feature_maps) == {"patch", *detector.layers}
        assert found.feature_maps[layer].shape == (2, width, 4, 4)
        rows = lrp(x.float(), reduce=lambda layer, maps: maps.clone()).feature_maps[layer]
        assert rows.shape == (2, width, 1, 17)
        single = lrp.from_feature_map(x.float(), layer, 1)
        with observed(network, [layer], lambda _, maps: maps.amax((2, 3))) as seen:
            network(x)
        assert torch.allclose(single.maxima.double(), seen[layer][:, 1], rtol=1e-4)
    rows = LRP(with_units(neurons, "channels"))(
        x.float(), reduce=lambda layer, maps: maps.clone()
    ).feature_maps
    # Between blocks there is nothing but their channels, so that both hold all relevance.
    sums = [float(rows[f"blocks.{i}"].sum()) for i in range(2)]
    assert sums[0] == pytest.approx(sums[1], rel=1e-3)
    with pytest.raises(UserError, match="no units 'tokens'; there are neurons, heads, channels"):
        with_units(neurons, "tokens")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["neurons", "heads", "channels"])
def test_a_dropped_unit_is_zero_on_every_token(kind: str) -> None:
    network, x = headed(), rand(2, 3, 16, 16).clamp(-2, 2)
    layer = {"neurons": "blocks.1.mlp.1", "heads": "blocks.1.attn.proj", "channels": "blocks.0"}
    unit = token_units(network)[layer[kind]]
    before = network(x)
    with put(network, [FeatureMap(layer[kind], 1, unit.width)]):
        without = network(x)
    with torch.no_grad():
        if kind == "neurons":
            network.blocks[1].mlp[2].weight[:, 1] = 0
        elif kind == "heads":
            network.blocks[1].attn.proj.weight[:, 4:8] = 0
        tokens = network.tokens(x)
        for place, block in enumerate(network.blocks):
            tokens = block(tokens)
            if kind == "channels" and place == 0:
                tokens[..., 1] = 0
        expected = network.head(network.norm(tokens)[:, 0])
    assert torch.allclose(without, expected, rtol=1e-9)
    assert not torch.allclose(without, before)


@pytest.mark.parametrize(
    ("tokens", "size", "grid"),
    [
        (197, (224, 224), (14, 14)), (201, (224, 224), (14, 14)), (50, (224, 224), (7, 7)),
        (257, (224, 224), (16, 16)), (261, (224, 224), (16, 16)), (1374, (518, 518), (37, 37)),
        (577, (336, 336), (24, 24)), (1 + 4 * 8, (64, 128), (4, 8)), (1, (224, 224), (1, 1)),
    ],
)  # fmt: skip
def test_the_grid_leaves_class_and_register_tokens_out(
    tokens: int, size: tuple[int, int], grid: tuple[int, int]
) -> None:
    assert token_grid(tokens, *size) == grid
    output = torch.arange(tokens, dtype=D).view(1, tokens, 1)
    maps = as_maps(output, (1, 3, *size))
    assert maps.shape == (1, 1, *grid)
    assert maps.flatten().tolist() == list(range(tokens - grid[0] * grid[1], tokens))


# ---- the networks that detectors are made of

BACKBONES: dict[str, tuple[int, Callable[[], nn.Module]]] = {
    "vit_b_16": (32, lambda: zoo.VisionTransformer(32, 16, 2, 2, 32, 64, num_classes=2)),
    "swin_t": (56, lambda: zoo.SwinTransformer([4, 4], 16, [2], [2], [7, 7], num_classes=2)),
    "convnext_tiny": (64, lambda: zoo.ConvNeXt(
        [zoo.convnext.CNBlockConfig(16, 32, 2), zoo.convnext.CNBlockConfig(32, None, 1)],
        num_classes=2,
    )),
    "vit": (64, lambda: timm.create_model(
        "vit_tiny_patch16_224", img_size=64, depth=2, num_classes=2)),
    "deit, two tokens": (64, lambda: timm.create_model(
        "deit_tiny_distilled_patch16_224", img_size=64, depth=2, num_classes=2)),
    "dinov2": (56, lambda: timm.create_model(
        "vit_small_patch14_dinov2", img_size=56, depth=2, num_classes=2)),
    "dinov2, registers": (56, lambda: timm.create_model(
        "vit_small_patch14_reg4_dinov2", img_size=56, depth=2, num_classes=2)),
    "clip": (64, lambda: timm.create_model(
        "vit_base_patch16_clip_quickgelu_224", img_size=64, depth=2, embed_dim=96, num_heads=3,
        num_classes=2)),
    "siglip": (64, lambda: timm.create_model(
        "vit_base_patch16_siglip_224", img_size=64, depth=2, embed_dim=96, num_heads=3,
        num_classes=2)),
    "eva02": (56, lambda: timm.create_model(
        "eva02_tiny_patch14_224", img_size=56, depth=2, num_classes=2)),
    "convnext": (64, lambda: timm.create_model(
        "convnext_tiny", depths=(1, 1, 1, 1), dims=(8, 8, 16, 16), num_classes=2)),
    "swin": (56, lambda: timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=56, depths=(2, 1), embed_dim=16,
        num_heads=(2, 2), num_classes=2)),
    "maxvit": (64, lambda: timm.create_model(
        "maxvit_rmlp_pico_rw_256", img_size=64, depths=(1, 1), embed_dim=(32, 64), num_classes=2)),
}  # fmt: skip


def awake(network: nn.Module) -> nn.Module:
    """Return the network with its heads, tokens and tables away from zero."""
    for parameter in network.parameters():
        if parameter.abs().max() < 1e-4:
            nn.init.normal_(parameter, std=0.05)
    return network.eval()


@pytest.mark.parametrize("name", BACKBONES)
def test_backbones(name: str) -> None:
    size, build = BACKBONES[name]
    network = awake(build())
    single = torch.randn(2, 3, size, size).clamp(-2, 2)
    before = fingerprint(network)
    rough = LRP(network)
    found = rough(single)
    assert fingerprint(network) == before
    assert rough.report.difference is not None
    assert rough.report.difference <= 1e-4
    exact = LRP(network.double())
    precise = exact(single.double(), budget=True)
    assert exact.report.difference is not None
    assert exact.report.difference <= 1e-7
    assert precise.accounts is not None
    assert precise.accounts.sum() == pytest.approx(2.0, rel=1e-9)
    assert found.pixels is not None
    distance = (found.pixels - precise.pixels).norm() / precise.pixels.norm()
    assert float(distance) < 1e-3
    layers = dict.fromkeys(one.layer for one in find_feature_maps(network))
    assert set(exact.layers) <= set(layers)
    neurons = neurons_of(network)
    assert set(neurons) <= set(exact.layers)
    for layer, maps in precise.feature_maps.items():
        assert maps.dim() == 4
        assert layer not in neurons or maps.shape[1] == neurons[layer]


def test_images_of_another_size_are_planned_anew() -> None:
    network = awake(BACKBONES["convnext"][1]())
    lrp = LRP(network)
    for size in (64, 96):
        found = lrp(torch.randn(1, 3, size, size))
        assert found.pixels is not None
        assert lrp.size == (size, size)
    fixed = LRP(awake(BACKBONES["vit"][1]()))
    with pytest.raises(UserError, match="images of 80 × 80 pixels"):
        fixed(torch.randn(1, 3, 80, 80))


def test_an_export_serves_networks_of_one_structure_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    own = export._exported

    def counted(*given: Any) -> Any:
        made.append(own(*given))
        return made[-1]

    monkeypatch.setattr(export, "_EXPORTS", {})
    monkeypatch.setattr(export, "_exported", counted)
    x, networks = rand(2, 3, 16, 16).clamp(-2, 2), [ViT(), ViT()]
    found = [LRP(one)(x) for one in (*networks, networks[0])]
    assert len(made) == 1
    assert torch.equal(found[0].pixels, found[2].pixels)
    export._EXPORTS.clear()
    assert torch.equal(LRP(networks[1])(x).pixels, found[1].pixels)
    assert not torch.allclose(found[0].pixels, found[1].pixels)
    for block in networks[1].blocks:
        block.heads = 3  # decides what is computed, and is no weight
    assert torch.allclose(LRP(networks[1])(x).logits, networks[1](x), rtol=1e-9)
    monkeypatch.setattr(Block, "attend", lambda self, x: self.proj(x))
    assert torch.allclose(LRP(networks[0])(x).logits, networks[0](x), rtol=1e-9)
    assert len(made) == 4


def test_attention_is_a_setting() -> None:
    with pytest.raises(UserError, match="none of cp, attnlrp"):
        LRP(ViT(), attention="rollout")


class Wrapped(nn.Module):
    """A vision tower that returns an output object, with a head: logits."""

    def __init__(self, tower: nn.Module, width: int) -> None:
        super().__init__()
        self.tower, self.head = tower, nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        found = self.tower(x)
        found = found if isinstance(found, Tensor) else found.pooler_output
        return self.head(F.normalize(found, dim=-1)).sum(dim=1, keepdim=True)


def test_the_tower_of_transformers() -> None:
    library = pytest.importorskip("transformers")
    config = library.CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        image_size=32, patch_size=8,
    )  # fmt: skip
    network = Wrapped(library.CLIPVisionModel(config), 32).double().eval()
    lrp = LRP(network)
    found = lrp(rand(2, 3, 32, 32), budget=True)
    assert found.accounts is not None
    assert found.accounts.sum() == pytest.approx(2.0, rel=1e-9)
    neurons = neurons_of(network)
    assert len(neurons) == 2
    assert set(neurons) < set(lrp.layers)
    assert found.feature_maps[next(iter(neurons))].shape == (2, 64, 4, 4)


def test_the_tower_of_open_clip() -> None:
    library = pytest.importorskip("open_clip.transformer")
    tower = library.VisionTransformer(
        image_size=32, patch_size=8, width=32, layers=2, heads=2, mlp_ratio=2.0, output_dim=16
    )
    network = Wrapped(tower, 16).double().eval()
    lrp = LRP(network)
    found = lrp(rand(2, 3, 32, 32), budget=True)
    assert found.accounts is not None
    assert found.accounts.sum() == pytest.approx(2.0, rel=1e-9)
    assert len(neurons_of(network)) == 2
    assert set(neurons_of(network)) < set(lrp.layers)


REFERENCE = """
import sys, torch, types, warnings
from pathlib import Path
warnings.simplefilter("ignore")
import forensift.torchvision_guard
import lxt
for name in ("efficient", "efficient/models"):  # their __init__ asks for language models
    package = types.ModuleType(f"lxt.{name.replace('/', '.')}")
    package.__path__ = [str(Path(lxt.__file__).parent / name)]
    sys.modules[package.__name__] = package
from torchvision.models import vision_transformer
from lxt.efficient.models.vit_torch import cp_LRP
given = torch.load(sys.argv[1])
for kind, patch in cp_LRP.items():
    patch(kind)
network = vision_transformer.VisionTransformer(32, 8, 2, 2, 32, 64, num_classes=2).double().eval()
network.load_state_dict(given["state"])
leaf = given["x"].requires_grad_()
logits = network(leaf)
best = logits.gather(1, given["target"])
best.sum().backward()
torch.save({"pixels": (leaf * leaf.grad / best[:, :, None, None]).detach()}, sys.argv[2])
"""


def test_it_agrees_with_the_reference_implementation(tmp_path: Any) -> None:
    pytest.importorskip("lxt")
    network = awake(zoo.VisionTransformer(32, 8, 2, 2, 32, 64, num_classes=2)).double()
    x = rand(2, 3, 32, 32).clamp(-2, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = LRP(network, composite="epsilon,epsilon=1e-12")(x)
    given, made = tmp_path / "given.pt", tmp_path / "made.pt"
    target = found.logits.argmax(1, keepdim=True)
    torch.save({"state": network.state_dict(), "x": x, "target": target}, given)
    # It patches classes of the process, hence one of its own.
    subprocess.run([sys.executable, "-c", REFERENCE, str(given), str(made)], check=True)
    expected = torch.load(made)["pixels"]
    assert float((found.pixels - expected).norm() / expected.norm()) <= 1e-5
