"""Trace by torch.export what torch.fx cannot read, and write its graph in the same plain words.

The export runs the network once on a stand-in batch and notes every tensor operation below the
modules, whatever Python decided on the way: transformers of torchvision, timm, open_clip and
transformers come out alike. The number of images stays free, their size does not.
"""

from __future__ import annotations

import hashlib
import logging
import operator
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.export.graph_signature import InputKind

from ..detectors.building import random_state_kept
from .operations import Known
from .report import CanonisationError
from .trace import split_up

aten = torch.ops.aten


def sliced(
    x: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Tensor:
    """Return x[start:end:step] along ``dim``."""
    return aten.slice.Tensor(x, dim, start, end, step)


def picked(x: Tensor, indices: list[Tensor | None]) -> Tensor:
    """Return the positions of x that index tensors name."""
    return aten.index.Tensor(x, indices)


PLAIN: dict[Any, Callable[..., Any] | str] = {  # operation of an export → what the tables call it
    aten.conv1d.default: F.conv1d, aten.conv2d.default: F.conv2d, aten.conv2d.padding: F.conv2d,
    aten.linear.default: F.linear, aten.layer_norm.default: F.layer_norm,
    aten.group_norm.default: F.group_norm, aten.rms_norm.default: F.rms_norm,
    aten.instance_norm.default: F.instance_norm,
    aten.scaled_dot_product_attention.default: F.scaled_dot_product_attention,
    aten.gelu.default: F.gelu, aten.silu.default: F.silu, aten.relu.default: torch.relu,
    aten.leaky_relu.default: F.leaky_relu, aten.elu.default: F.elu, aten.mish.default: F.mish,
    aten.hardswish.default: F.hardswish, aten.hardsigmoid.default: F.hardsigmoid,
    aten.softplus.default: F.softplus, aten.hardtanh.default: F.hardtanh,
    aten.sigmoid.default: torch.sigmoid, aten.tanh.default: torch.tanh,
    aten.softmax.int: torch.softmax, aten._softmax.default: torch.softmax,
    aten.log_softmax.int: F.log_softmax, aten.matmul.default: torch.matmul,
    aten.bmm.default: torch.bmm, aten.mm.default: torch.matmul,
    aten.add.Tensor: torch.add, aten.sub.Tensor: torch.sub, aten.mul.Tensor: torch.mul,
    aten.div.Tensor: torch.div, aten.neg.default: torch.neg, aten.rsub.Scalar: torch.rsub,
    aten.add.Scalar: torch.add, aten.sub.Scalar: torch.sub, aten.mul.Scalar: torch.mul,
    aten.div.Scalar: torch.div, aten.clamp.default: torch.clamp,
    aten.clamp_min.default: torch.clamp,
    aten.cat.default: torch.cat, aten.stack.default: torch.stack,
    aten.permute.default: torch.permute, aten.transpose.int: torch.transpose,
    aten.movedim.intlist: torch.movedim, aten.flip.default: torch.flip,
    aten.roll.default: torch.roll,
    aten.view.default: torch.reshape, aten._unsafe_view.default: torch.reshape,
    aten.reshape.default: torch.reshape, aten.flatten.using_ints: torch.flatten,
    aten.unsqueeze.default: torch.unsqueeze, aten.squeeze.dim: torch.squeeze,
    aten.squeeze.dims: torch.squeeze, aten.squeeze.default: torch.squeeze,
    aten.expand.default: "expand", aten.repeat.default: "repeat",
    aten.select.int: torch.select, aten.narrow.default: torch.narrow,
    aten.slice.Tensor: sliced, aten.index.Tensor: picked,
    aten.unbind.int: torch.unbind, aten.split.Tensor: torch.split,
    aten.split_with_sizes.default: torch.split, aten.chunk.default: torch.chunk,
    aten.pad.default: F.pad, aten.constant_pad_nd.default: F.pad,
    aten.mean.dim: torch.mean, aten.sum.dim_IntList: torch.sum, aten.amax.default: torch.amax,
    aten.adaptive_avg_pool2d.default: F.adaptive_avg_pool2d,
    aten.adaptive_avg_pool1d.default: F.adaptive_avg_pool1d,
    aten.avg_pool2d.default: F.avg_pool2d, aten.max_pool2d.default: F.max_pool2d,
    aten.pixel_shuffle.default: F.pixel_shuffle, aten.type_as.default: "type_as",
    aten.upsample_bicubic2d.vec: F.interpolate, aten.upsample_bilinear2d.vec: F.interpolate,
    aten.upsample_nearest2d.vec: F.interpolate,
}  # fmt: skip
SAME = frozenset({
    aten.clone.default, aten.alias.default, aten.detach.default, aten.contiguous.default,
    aten.lift_fresh_copy.default, aten.dropout.default,
})  # fmt: skip
CASTS = frozenset({aten._to_copy.default, aten.to.dtype, aten.to.dtype_layout})
READ = {  # how many of its arguments count; the others say how it is computed, or the dtype
    F.layer_norm: 5, F.group_norm: 5, torch.softmax: 2, F.log_softmax: 2,
}  # fmt: skip

KEPT = 4  # exports that are kept, of different structures and sizes of images
_EXPORTS: dict[tuple[str, tuple[int, int], int | None], Any] = {}


def exported(
    twin: nn.Module, size: tuple[int, int], known: Known, images: int | None = None
) -> fx.GraphModule:
    """Return the plain graph of a traceable copy for images of ``size`` (height, width).

    images: how many there are; any number where None is given and the network's code leaves that
    open, as ``x.shape[0]`` does and ``len(x)`` does not.

    Raises:
        CanonisationError: it cannot be exported, or takes no images of that size.
    """
    key = _structure(twin), size, images
    if key not in _EXPORTS:
        _EXPORTS[key] = _exported(twin, size, images)
        while len(_EXPORTS) > KEPT:
            _EXPORTS.pop(next(iter(_EXPORTS)))
    return _plainly(_EXPORTS[key], twin, known)


@dataclass(frozen=True)
class _Export:
    """What an export says of every network of one structure; its weights are not held."""

    graph: fx.Graph
    kinds: Mapping[str, Any]  # placeholder → what it stands for
    constants: Mapping[str, Any]  # made on the way


def _exported(twin: nn.Module, size: tuple[int, int], images: int | None) -> _Export:
    parameter = next(twin.parameters())
    number = images or 2
    batch = torch.zeros(number, 3, *size, dtype=parameter.dtype, device=parameter.device)
    free = None if images else ({0: torch.export.Dim("images", min=1, max=1 << 20)},)
    try:
        with warnings.catch_warnings(), random_state_kept(), _silent():
            warnings.simplefilter("ignore")  # of the export itself, about its own plans
            program = torch.export.export(twin, (batch,), dynamic_shapes=free, strict=False)
            program = program.run_decompositions({})
    except Exception as error:  # of any kind: the network's own code runs
        why = str(error).strip().splitlines() or [type(error).__name__]
        raise CanonisationError(
            f"torch.export cannot read {type(twin).__name__} on images of {size[1]} × {size[0]} "
            f"pixels: {why[0]}"
        ) from error
    constants = {
        spec.target: program.constants[spec.target]
        for spec in program.graph_signature.input_specs
        if spec.kind is InputKind.CONSTANT_TENSOR
    }
    kinds = {one.arg.name: one for one in program.graph_signature.input_specs}
    return _Export(program.graph, kinds, constants)


def _structure(twin: nn.Module) -> str:
    """Return a digest of all that an export depends on: code, plain attributes, shapes.

    No value of a weight decides anything in an export. What an object that is no plain value says
    of itself holds its address, so that a network with such is only ever like itself.
    """
    digest = hashlib.sha256()
    kinds = {type(module) for module in twin.modules()}
    code = {kind: [id(one) for base in kind.__mro__ for one in vars(base).values()]
            for kind in kinds}  # fmt: skip
    for name, module in twin.named_modules(remove_duplicate=False):
        digest.update(f"{name} {type(module)} {code[type(module)]}".encode())
        for key, value in sorted(vars(module).items()):
            if key in ("_parameters", "_buffers"):
                held = {one: (t.shape, t.dtype, t.device) for one, t in value.items()
                        if t is not None}  # fmt: skip
                digest.update(f"{key} {held}".encode())
            elif isinstance(value, Tensor):
                digest.update(f"{key} {value.shape} {value.dtype}".encode())
                digest.update(value.detach().cpu().contiguous().numpy().tobytes())
            elif key != "_modules":
                text = repr(value)
                digest.update(f"{key} {text} {id(value) if '...' in text else ''}".encode())
    return digest.hexdigest()


@contextmanager
def _silent() -> Iterator[None]:
    """Keep the export from logging what its error says too."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _plainly(export: _Export, twin: nn.Module, known: Known) -> fx.GraphModule:
    """Return an export's graph in the words of the tables, with the network's tensors inside."""
    graph, root = fx.Graph(), {}
    copies: dict[fx.Node, Any] = {}
    held = {
        **export.constants,
        **dict(twin.named_buffers(remove_duplicate=False)),
        **dict(twin.named_parameters(remove_duplicate=False)),
    }
    for node in export.graph.nodes:
        if node.op == "placeholder":
            spec = export.kinds[node.name]
            if spec.kind is InputKind.USER_INPUT:
                copies[node] = graph.placeholder("pixels")
                continue
            name = str(spec.target)
            root[name] = held[name].detach()
            copies[node] = graph.get_attr(name)
        elif node.op == "output":
            graph.output(fx.node.map_arg(node.args[0], copies.__getitem__)[0])
        elif node.target in SAME:
            copies[node] = copies[node.args[0]]
            copies[node].meta.setdefault("ends", []).extend(_modules(node))
        elif str(node.target).startswith("aten._assert"):
            continue
        elif node.target is aten._native_batch_norm_legit_no_training.default:
            copies[node] = _batch_norm(graph, node, copies)
        elif node.target is operator.getitem and node.args[0].target is (
            aten._native_batch_norm_legit_no_training.default
        ):
            copies[node] = copies[node.args[0]]
        else:
            copies[node] = _copied(graph, node, copies)
            copies[node].meta["modules"] = _modules(node)
    traced = fx.GraphModule(root, graph)
    split_up(traced, known)
    traced.graph.eliminate_dead_code()
    return traced


def _batch_norm(graph: fx.Graph, node: fx.Node, copies: Mapping[fx.Node, Any]) -> fx.Node:
    x, weight, bias, mean, variance, momentum, eps = fx.node.map_arg(node.args, copies.__getitem__)
    args = (x, mean, variance, weight, bias, False, momentum, eps)
    found = graph.call_function(F.batch_norm, args)
    found.meta["modules"] = _modules(node)
    return found


def _copied(graph: fx.Graph, node: fx.Node, copies: Mapping[fx.Node, Any]) -> fx.Node:
    args, kwargs = fx.node.map_arg((node.args, dict(node.kwargs)), copies.__getitem__)
    if node.target in CASTS:
        dtype = kwargs.get("dtype") or next(a for a in args[1:] if isinstance(a, torch.dtype))
        return graph.call_method("to", (args[0], dtype))
    plain = PLAIN.get(node.target, node.target)
    if isinstance(plain, str):
        return graph.call_method(plain, args)
    if str(node.target).startswith("aten.upsample"):
        return _resized(graph, node, args)
    return graph.call_function(plain, args[: READ.get(plain)], kwargs)


def _resized(graph: fx.Graph, node: fx.Node, args: Any) -> fx.Node:
    mode = next(one for one in ("bicubic", "bilinear", "nearest") if one in str(node.target))
    corners = None if mode == "nearest" else args[2]
    factors = args[-1]
    how = {"size": args[1], "scale_factor": factors if args[1] is None else None, "mode": mode}
    return graph.call_function(F.interpolate, args[:1], {**how, "align_corners": corners})


def _modules(node: fx.Node) -> list[tuple[str, str, str]]:
    """Return the modules that an operation is in, (call, name, kind), from the outermost in."""
    stack = node.meta.get("nn_module_stack", {})
    return [(key, str(path).partition("@")[0], str(kind)) for key, (path, kind) in stack.items()]


@torch.no_grad()
def takes(network: nn.Module, size: tuple[int, int]) -> bool:
    """Return whether a private network runs on images of ``size``."""
    parameter = next(network.parameters())
    batch = torch.zeros(1, 3, *size, dtype=parameter.dtype, device=parameter.device)
    try:
        network(batch)
    except Exception:  # of any kind: the network's own code runs
        return False
    return True


def sizes_of(network: nn.Module, crop: int | None) -> Iterable[tuple[int, int]]:
    """Return sizes (height, width) of images that a network may take, the likeliest first.

    crop: the side that its preset crops to, if it does.
    """
    found: list[Any] = [crop]
    for module in network.modules():
        config = getattr(module, "default_cfg", None) or getattr(module, "config", None)
        for holder, name in (
            (module, "image_size"), (module, "img_size"), (config, "image_size"),
        ):  # fmt: skip
            found.append(getattr(holder, name, None))
        if isinstance(config, dict) and "input_size" in config:
            found.append(config["input_size"][-2:])
    sides = [*found, 224, 256, 384, 336, 128, 64, 32]
    pairs = [
        (one, one) if isinstance(one, int) else tuple(one)
        for one in sides
        if isinstance(one, int) or (isinstance(one, (tuple, list)) and len(one) == 2)
    ]
    return dict.fromkeys(pairs)
