"""Slow twins of the relevance rules, seeded reference networks, and the model fingerprint.

The twins share nothing with ``forensift.lrp``: an operation's matrix comes from its Jacobian, one
image at a time, in float64, and the formulas are written out with it.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

DATA = Path(__file__).parent / "data" / "lrp"
HOOKS = ["_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"]


def fingerprint(model: nn.Module) -> dict[Any, Any]:
    """Everything about a model that an explanation may not change."""
    seen: dict[Any, Any] = {"keys": tuple(model.state_dict())}
    for name, module in model.named_modules():
        seen[name, "object"] = id(module), type(module), module.training
        seen[name, "hooks"] = tuple(len(getattr(module, hooks)) for hooks in HOOKS)
        seen[name, "attributes"] = frozenset(module.__dict__)
        for key, t in (*module._parameters.items(), *module._buffers.items()):
            if t is not None:
                t = id(t), t.data_ptr(), t._version, t.requires_grad, t.grad is None
            seen[name, key] = t
    return seen


def matrix(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The (outputs, inputs) matrix of a linear function of one image x."""
    jacobian = torch.autograd.functional.jacobian(function, x)
    return jacobian.reshape(-1, x.numel())


def per_image(rule: Callable[[Tensor, Tensor], Tensor], x: Tensor, relevance: Tensor) -> Tensor:
    """Apply a rule of one image to each image of a batch."""
    return torch.stack([rule(a, r) for a, r in zip(x, relevance, strict=True)])


def slow_zplus(linear: Callable[[Tensor], Tensor], x: Tensor, relevance: Tensor) -> Tensor:
    """z⁺ with both input signs; linear: the layer without its bias, of one image."""

    def rule(a: Tensor, r: Tensor) -> Tensor:
        terms = matrix(linear, a) * a.flatten()  # (outputs, inputs): every w·x on its own
        positive = terms.clamp(min=0)
        z = positive.sum(1)
        z = z + 1e-12 * (z == 0)
        return (positive / z[:, None] * r.flatten()[:, None]).sum(0).view_as(a)

    return per_image(rule, x, relevance)


def slow_box(
    linear: Callable[[Tensor], Tensor], x: Tensor, relevance: Tensor, low: float, high: float
) -> Tensor:
    """z^B with scalar bounds; every term is w·x − w⁺·l − w⁻·h."""

    def rule(a: Tensor, r: Tensor) -> Tensor:
        w = matrix(linear, a)
        terms = w * a.flatten() - w.clamp(min=0) * low - w.clamp(max=0) * high
        return (terms / stabilised(terms.sum(1))[:, None] * r.flatten()[:, None]).sum(0).view_as(a)

    return per_image(rule, x, relevance)


def slow_epsilon(
    function: Callable[[Tensor], Tensor], x: Tensor, relevance: Tensor, bias: Tensor | None = None
) -> Tensor:
    """ε for a linear function of one image, its bias (one number an output) in the denominator."""

    def rule(a: Tensor, r: Tensor) -> Tensor:
        terms = matrix(function, a) * a.flatten()
        z = terms.sum(1) if bias is None else terms.sum(1) + bias
        return (terms / stabilised(z)[:, None] * r.flatten()[:, None]).sum(0).view_as(a)

    return per_image(rule, x, relevance)


def stabilised(z: Tensor) -> Tensor:
    """1e-6 where z = 0, plus 1e-6 · sign z, as the method's table says."""
    return z + 1e-6 * (z == 0) + 1e-6 * torch.sign(z)


class _Custom(torch.autograd.Function):
    """A value with relevance for a gradient: ``back`` turns R of the value into R of the inputs."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, back: Callable[[Tensor], Any], *inputs: Tensor) -> Tensor:
        ctx.back = back
        return value.clone()

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> Any:
        shares = ctx.back(relevance)
        return (None, None, *(shares if isinstance(shares, tuple) else (shares,)))


def _vector_product(function: Callable[[Tensor], Tensor], x: Tensor, s: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad(function(leaf), leaf, s)[0]


def slow_efficientnet(network: Any, batch: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Logits, pixel relevance and relevance of every map of an efficientnet-pytorch network.

    Its forward pass written out by hand, each layer with its rule, R = 1 at the only logit.
    """
    outputs: dict[str, Tensor] = {}

    def conv_bn(name: str, conv: Any, norm: Any, x: Tensor) -> Tensor:
        gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        weight = conv.weight * gain[:, None, None, None]
        sizes = zip(x.shape[2:], conv.kernel_size, conv.stride, strict=True)
        total = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in sizes]

        def run(v: Tensor, w: Tensor) -> Tensor:
            (top, left) = (t // 2 for t in total)
            v = F.pad(v, [left, total[1] - left, top, total[0] - top])
            return F.conv2d(v, w, None, tuple(conv.stride), 0, 1, conv.groups)

        def back(r: Tensor) -> Tensor:
            plus, minus = x.detach().clamp(min=0), x.detach().clamp(max=0)
            wp, wm = weight.detach().clamp(min=0), weight.detach().clamp(max=0)
            z = run(plus, wp) + run(minus, wm)
            s = r / (z + 1e-12 * (z == 0))
            return plus * _vector_product(lambda v: run(v, wp), plus, s) + minus * _vector_product(
                lambda v: run(v, wm), minus, s
            )

        y = run(x, weight) + (norm.bias - norm.running_mean * gain)[:, None, None]
        outputs[name] = _Custom.apply(y.detach(), back, x)
        return outputs[name]

    def swish(x: Tensor) -> Tensor:
        return _Custom.apply((x * torch.sigmoid(x)).detach(), lambda r: r, x)

    def add(a: Tensor, b: Tensor) -> Tensor:
        def back(r: Tensor) -> tuple[Tensor, Tensor]:
            s = r / stabilised(a.detach() + b.detach())
            return a.detach() * s, b.detach() * s

        return _Custom.apply((a + b).detach(), back, a, b)

    def epsilon(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        def back(r: Tensor) -> Tensor:
            s = r / stabilised(function(x.detach()))
            return x.detach() * _vector_product(function, x, s)

        return _Custom.apply(function(x).detach(), back, x)

    pixels = batch.clone().requires_grad_()
    x = swish(conv_bn("_conv_stem", network._conv_stem, network._bn0, pixels))
    for i, block in enumerate(network._blocks):
        entry = x
        if block._block_args.expand_ratio != 1:
            x = swish(conv_bn(f"_blocks.{i}._expand_conv", block._expand_conv, block._bn0, x))
        x = swish(conv_bn(f"_blocks.{i}._depthwise_conv", block._depthwise_conv, block._bn1, x))
        squeezed = block._se_reduce(x.detach().mean((2, 3), keepdim=True))
        gate = torch.sigmoid(block._se_expand(squeezed * torch.sigmoid(squeezed)))
        x = _Custom.apply((gate * x).detach(), lambda r: r, x)
        x = conv_bn(f"_blocks.{i}._project_conv", block._project_conv, block._bn2, x)
        if x.shape == entry.shape and block._block_args.stride in (1, [1]):
            x = add(x, entry)
    x = swish(conv_bn("_conv_head", network._conv_head, network._bn1, x))
    logits = epsilon(network._fc, epsilon(lambda v: v.mean((2, 3)), x))
    found = torch.autograd.grad(logits.sum(), [pixels, *outputs.values()])
    return logits.detach(), found[0], dict(zip(outputs, found[1:], strict=True))


def reference(name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The meta data and arrays of one reference file, ``resnet50`` or ``efficientnet_b0``.

    They are of the first of the two images that :func:`seeded_images` gives. Of EfficientNet-B0
    there is what ``test_lrp_published`` can compare.
    Sums over feature maps were made in float64 and are kept in float32 (6e-8 relative).
    """
    with np.load(DATA / f"lrp_{name}_seed0.npz") as file:
        arrays = {key: file[key] for key in file.files if key != "meta"}
        return json.loads(str(file["meta"])), arrays


def seeded_network(meta: dict[str, Any]) -> Any:
    """The network that a reference file was made with; float32 numbers, evaluation mode."""
    network: nn.Module
    if meta["arch"] == "resnet50":
        from torchvision.models import resnet50

        network = resnet50(weights=None, num_classes=1)
    else:
        from efficientnet_pytorch import EfficientNet

        network = EfficientNet.from_name(meta["arch"], num_classes=1, image_size=None)
    low, high = meta["bn_weight_range"]
    state = network.state_dict()
    for name, old in state.items():
        random = np.random.RandomState(zlib.crc32(f"{meta['seed']}:{name}".encode()))
        shape = tuple(old.shape)
        if name.endswith("num_batches_tracked"):
            continue
        if name.endswith("running_mean"):
            value = 0.2 * random.standard_normal(shape)
        elif name.endswith("running_var"):
            value = random.uniform(0.5, 1.5, shape)
        elif name.endswith("weight") and len(shape) == 1:
            value = random.uniform(low, high, shape)
        elif name.endswith("weight"):
            value = random.standard_normal(shape) * math.sqrt(2 / np.prod(shape[1:]))
        else:
            value = (0.01 if "fc" in name.split(".")[-2] else 0.1) * random.standard_normal(shape)
        state[name] = torch.from_numpy(np.asarray(value, dtype=np.float32))
    network.load_state_dict(state)
    return network.eval()


def seeded_images(meta: dict[str, Any]) -> Tensor:
    """The images of a reference file, (N, 3, H, W) float32."""
    random = np.random.RandomState(zlib.crc32(f"{meta['seed']}:images".encode()))
    return torch.from_numpy(random.standard_normal(meta["shape"]).astype(np.float32))


def relative_error(found: Any, expected: Any) -> float:
    """Relative L2 error; 0 where both are zero."""
    found = np.asarray(found, dtype=np.float64)
    expected = np.asarray(expected, dtype=np.float64)
    scale = np.linalg.norm(expected)
    return float(np.linalg.norm(found - expected) / scale) if scale else float(np.abs(found).max())
