"""What the feature maps of a network are: channels of convolutions, and neurons of MLPs."""

from __future__ import annotations

import math

from torch import Tensor, nn

from ..records import FeatureMap

_ACTIVATION = ("relu", "gelu", "silu", "swish", "mish", "tanh", "activation")
_TOKENS = ("layernorm", "rmsnorm")


def mlp_neurons(network: nn.Module) -> dict[str, int]:
    """Return the modules whose outputs are the neurons of a transformer's MLPs, with their number.

    The neurons are those between two linear layers of one module, after the activation; of a gated
    MLP (SwiGLU) after the product, which goes through the first dropout. In a network without
    LayerNorm or RMSNorm linear layers make vectors, no maps.
    """
    kinds = [type(module).__name__.lower() for module in network.modules()]
    if not any(token in kind for kind in kinds for token in _TOKENS):
        return {}
    found: dict[str, int] = {}
    for name, module in network.named_modules():
        children = dict(module.named_children())
        linear = [child for child in children.values() if isinstance(child, nn.Linear)]
        active = [
            one
            for one, child in children.items()
            if any(part in type(child).__name__.lower() for part in _ACTIVATION)
        ]
        if len(linear) < 2 or len(active) != 1:
            continue
        width = linear[-1].in_features
        gated = len(linear) == 3 or linear[0].out_features == 2 * width
        dropouts = [one for one, child in children.items() if isinstance(child, nn.Dropout)]
        own = dropouts[:1] if gated else active
        if own:
            found[f"{name}.{own[0]}" if name else own[0]] = width
    return found


def find_feature_maps(
    network: nn.Module, *, without: tuple[str, ...] = ()
) -> tuple[FeatureMap, ...]:
    """Return every feature map of ``network``, in module order.

    These are the output channels of its 2-D convolutions, and the neurons of its MLPs after their
    activation (see :func:`mlp_neurons`). A convolution whose own name is in ``without`` is left out
    (squeeze-excite gates).
    """
    neurons = mlp_neurons(network)
    widths = {
        name: neurons.get(name) or module.out_channels  # type: ignore[union-attr]
        for name, module in network.named_modules()
        if name in neurons
        or (isinstance(module, nn.Conv2d) and name.rsplit(".", 1)[-1] not in without)
    }
    return tuple(
        FeatureMap(name, channel, int(width))  # type: ignore[arg-type]
        for name, width in widths.items()
        for channel in range(int(width))  # type: ignore[arg-type]
    )


def token_grid(tokens: int, height: int, width: int) -> tuple[int, int]:
    """Return rows and columns of the grid that the last of ``tokens`` lie on in an image.

    The tokens before them are no place in the image: class and register tokens. A patch has a whole
    number of pixels a side, of which that is taken that leaves the fewest tokens over.
    """
    least = math.isqrt(height * width // max(tokens, 1)) or 1
    grids = [(height // side, width // side) for side in range(least, least + height)]
    fits = [grid for grid in grids if 0 < grid[0] * grid[1] <= tokens]
    return max(fits, key=lambda grid: grid[0] * grid[1], default=(1, 1))


def as_maps(output: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return neurons (N, T, C) or (N, h, w, C) as maps (N, C, h, w) of images of ``shape`` (N, …).

    Class and register tokens, which come first, are left out. What a network partitions into
    windows, a batch of its own, is put together again, window below window.
    """
    if output.dim() == 2:
        return output[:, :, None, None]
    if output.dim() == 4:
        whole = output.reshape(shape[0], -1, *output.shape[2:])
        return whole.movedim(-1, 1)
    whole = output.reshape(shape[0], -1, output.shape[-1])
    grid = token_grid(whole.shape[1], *shape[-2:])
    return whole[:, whole.shape[1] - grid[0] * grid[1] :].unflatten(1, grid).movedim(-1, 1)


def as_row(output: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return neurons (N, T, C) or (N, h, w, C) as (N, C, 1, T), all tokens in their order."""
    return output.reshape(shape[0], -1, output.shape[-1]).movedim(-1, 1)[:, :, None]
