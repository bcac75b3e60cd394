"""Put something else in the place of feature maps while a network runs, without a copy of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..detectors.units import Unit, by_map, token_units
from ..errors import UserError
from ..records import FeatureMap

# Layer → (width, d): what stands in a map's place on all of space; d numbers for a head's vector.
Constants = Mapping[str, Tensor]


@contextmanager
def put(
    network: nn.Module,
    feature_maps: Iterable[FeatureMap],
    constants: Constants | None = None,
    *,
    from_first_half: bool = False,
) -> Iterator[None]:
    """While the block runs, the feature maps hold something else in every call of their layer.

    constants: for each layer (width, d), or (N, width, d) where each image has its own; a layer
        without any, and all by default, hold zero.
    from_first_half: the second half of a batch takes the maps of the first instead, image by image
        (activation patching).

    The place is the output of the convolution, before BatchNorm, as published; a unit of a
    transformer is replaced on every token. The network is as it was when the block ends, also after
    an error. Constants may carry gradients.

    Raises:
        UserError: the network has no such layer or channel.
    """
    channels: dict[str, list[int]] = {}
    for feature_map in feature_maps:
        channels.setdefault(feature_map.layer, []).append(feature_map.channel)
    modules, units = dict(network.named_modules()), token_units(network)
    handles = []
    try:
        for layer, chosen in channels.items():
            module: Any = modules.get(layer)
            unit = units.get(layer)
            convolution = isinstance(module, nn.Conv2d)
            if max(chosen) >= (module.out_channels if convolution else unit.width if unit else 0):
                raise UserError(f"the network has no feature map {layer}.#{max(chosen)}")
            rows = torch.tensor(sorted(set(chosen)))
            given = None if from_first_half else constants.get(layer) if constants else None
            write = partial(_write, unit, rows, given, from_first_half)
            if unit is not None and unit.inputs:
                handles.append(
                    module.register_forward_pre_hook(partial(_before, write), prepend=True)
                )
            else:
                handles.append(module.register_forward_hook(partial(_after, write), prepend=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _before(write: Any, module: nn.Module, args: Any) -> Any:
    return (write(args[0].clone()), *args[1:])  # others may read it


def _after(write: Any, module: nn.Module, args: Any, output: Any) -> Any:
    if isinstance(output, tuple):
        return (write(output[0]), *output[1:])
    return write(output)


def _write(
    unit: Unit | None, rows: Tensor, given: Tensor | None, halves: bool, output: Tensor
) -> Tensor:
    """Return the output with other numbers in the maps ``rows``; in place where nothing is lost."""
    if output.requires_grad or (given is not None and given.requires_grad):
        output = output.clone()  # a gradient may need it as it was
    rows = rows.to(output.device)
    maps = by_map(output, unit)
    if halves:
        half = output.shape[0] // 2
        maps[rows, half:] = maps[rows, :half]
        return output
    if given is None:
        maps[rows] = 0
        return output
    values = given.to(output.device, output.dtype)
    # one for all images, or one each: (width, 1 or N, d)
    values = (values[:, None] if values.dim() == 2 else values.movedim(1, 0))[rows]
    if values.shape[1] > 1 and values.shape[1] != output.shape[0]:
        # windows or crops of an image are images of the batch, one after another
        values = values.repeat_interleave(output.shape[0] // values.shape[1], dim=1)
    between = [1] * (maps.dim() - 3)
    maps[rows] = values.reshape(*values.shape[:2], *between, values.shape[2])
    return output
