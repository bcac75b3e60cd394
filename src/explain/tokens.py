"""Maps of networks of tokens: which outputs are a grid over the image, and where it begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError

NORMS = (nn.LayerNorm, nn.RMSNorm)
TOKENS = (*NORMS, nn.MultiheadAttention)
PREFIXES = (0, 1, 2, 4, 5, 8)  # class, distillation and register tokens that networks have
Arrange = Callable[[Tensor], Tensor]  # an output → maps (N, C, h, w)


def of_tokens(network: nn.Module) -> bool:
    """Return whether all convolutions cut the image into patches and what follows are tokens."""
    convolutions = [one for one in network.modules() if isinstance(one, nn.Conv2d)]
    patches = all(one.stride == one.kernel_size != (1, 1) for one in convolutions)
    return bool(convolutions) and patches and any(isinstance(m, TOKENS) for m in network.modules())


class Grid:
    """How the outputs of a network's layers are read as maps of images of one size.

    patches: the size (h, w) of what the embedding of the patches gives, if there is one;
    prefix: class and register tokens before them, where the network says it (timm).
    """

    def __init__(self, network: nn.Module, size: tuple[int, ...]) -> None:
        """size: (H, W) of the images."""
        self.size = size
        self.prefix = next(
            (n for m in network.modules() if isinstance(n := _attribute(m), int)), None
        )
        self.patches: tuple[int, int] | None = None
        for one in network.modules():
            if isinstance(one, nn.Conv2d) and one.stride == one.kernel_size != (1, 1):
                margin = one.padding
                if one.in_channels == 3 and not isinstance(margin, str):
                    h, w = (
                        (size[at] + 2 * margin[at] - one.kernel_size[at]) // one.kernel_size[at] + 1
                        for at in (0, 1)
                    )
                    self.patches = (h, w)
                break

    def arrangement(self, output: Tensor, module: nn.Module) -> Arrange | None:
        """Return how to make maps (N, C, h, w) of an output, None where it has no grid."""
        if output.dim() == 4:
            last = type(module) in NORMS and output.shape[3:] == module.normalized_shape  # type: ignore[comparison-overlap]
            first = self._fits(output.shape[2:])
            if last or (self._fits(output.shape[1:3]) and not first):
                return lambda one: one.permute(0, 3, 1, 2)
            return lambda one: one
        if output.dim() != 3:
            return None
        grid = self._grid(output.shape[1])
        if grid is None:
            return None
        return lambda one: one[:, -grid[0] * grid[1] :].transpose(1, 2).unflatten(2, grid)

    def _fits(self, shape: tuple[int, ...]) -> bool:
        """Whether h and w divide the image alike, to a cell."""
        (height, width), (h, w) = self.size, shape
        return h > 1 and abs(h * width - w * height) < max(height, width)

    def _grid(self, tokens: int) -> tuple[int, int] | None:
        """Return the (h, w) of so many tokens behind class and register tokens."""
        if self.patches is not None:
            h, w = self.patches
            extra = tokens - h * w
            if extra == self.prefix or (self.prefix is None and 0 <= extra <= max(PREFIXES)):
                return h, w
        for extra in PREFIXES if self.prefix is None else dict.fromkeys((self.prefix, 0)):
            h = round(((tokens - extra) * self.size[0] / self.size[1]) ** 0.5)
            if h > 1 and (tokens - extra) % h == 0 and self._fits((h, (tokens - extra) // h)):
                return h, (tokens - extra) // h
        return None


def _attribute(module: nn.Module) -> Any:
    return getattr(module, "num_prefix_tokens", None)


def last_norm(network: nn.Module, image: Tensor) -> str:
    """Return the last normalisation whose tokens on the grid the logits depend on.

    In a network that reads its class token that is the one before the last attention: behind it
    the other tokens lead nowhere. image: (1, 3, H, W).

    Raises:
        UserError: there is none.
    """
    grid = Grid(network, image.shape[2:])
    norms: dict[str, nn.Module] = {
        name: one for name, one in network.named_modules() if isinstance(one, NORMS)
    }
    with torch.enable_grad(), outputs_of(norms) as seen:
        total = network(image.clone().requires_grad_()).abs().sum()
        found = [(name, kept[0]) for name, kept in seen.items() if len(kept) == 1]
        gradients = torch.autograd.grad(total, [one for _, one in found], allow_unused=True)
    for (name, output), gradient in reversed(list(zip(found, gradients, strict=True))):
        arrange = grid.arrangement(output, norms[name])
        if gradient is not None and arrange is not None and arrange(gradient).abs().max() > 0:
            return name
    raise UserError(
        f"{type(network).__name__} has no normalisation over a grid of tokens that the logit "
        "depends on: choose a `layer`"
    )


@contextmanager
def outputs_of(layers: dict[str, nn.Module]) -> Iterator[dict[str, list[Tensor]]]:
    """Yield what layers give in each pass, in the order in which they are first called.

    A layer's output is handed on as a copy, so that what is kept is never written over.
    """
    kept: dict[str, list[Tensor]] = {}

    def keep(module: nn.Module, args: Any, output: Any, layer: str) -> Tensor:
        if not isinstance(output, Tensor):
            raise UserError(f"layer {layer!r} gives no single tensor: choose another `layer`")
        kept.setdefault(layer, []).append(output)
        return output.clone()

    handles = [one.register_forward_hook(partial(keep, layer=name)) for name, one in layers.items()]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()
