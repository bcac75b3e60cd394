"""What the feature maps of a network are: channels of convolutions, and units of a transformer."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

from torch import Tensor, nn

from ..errors import UserError
from ..records import FeatureMap

if TYPE_CHECKING:
    from .detector import Detector

Kind = Literal["neurons", "heads", "channels"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_ACTIVATION = ("relu", "gelu", "silu", "swish", "mish", "tanh", "activation")
_TOKENS = ("layernorm", "rmsnorm")


@dataclass(frozen=True)
class Unit:
    """What the feature maps of a transformer's layer are.

    kind: "neurons", an MLP's after its activation; "heads", of attention, in what goes into the
    linear layer that mixes them; "channels", of what leaves a block. width: how many there are.
    """

    kind: Kind
    width: int

    @property
    def inputs(self) -> bool:
        """Whether the maps are in what goes into the module, not in what comes out."""
        return self.kind == "heads"

    def values(self, tokens: Tensor) -> Tensor:
        """Return a number a unit and token (N, …, width): of a head, the length of its vector."""
        return self._heads(tokens).norm(dim=-1) if self.kind == "heads" else tokens

    def relevance(self, tokens: Tensor) -> Tensor:
        """Return the relevance (N, …, width) of units: of a head, the sum over its vector."""
        return self._heads(tokens).sum(dim=-1) if self.kind == "heads" else tokens

    def starts(self, tokens: Tensor, begin: Tensor) -> Tensor:
        """Return the relevance of tokens for that of units: of a head, as its squared numbers."""
        if self.kind != "heads":
            return begin
        squares = self._heads(tokens).square()
        shares = squares / squares.sum(-1, keepdim=True).clamp(min=1e-30)
        return (shares * begin[..., None]).flatten(-2)

    def by_map(self, tokens: Tensor) -> Tensor:
        """Return a view (width, N, …, d) of tokens: d numbers a token of a head, else one."""
        if self.kind == "heads":
            return self._heads(tokens).movedim(-2, 0)
        return tokens.movedim(self._axis(tokens), 0)[..., None]

    def maps(self, tokens: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return a number a unit and token as maps (N, width, h, w) of images of ``shape``."""
        if tokens.dim() == 4 and self._axis(tokens) == 1:
            return tokens
        return as_maps(tokens, shape)

    def row(self, tokens: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return a number a unit and token as (N, width, 1, T), all tokens in their order."""
        if tokens.dim() == 4 and self._axis(tokens) == 1:
            return tokens.flatten(2)[:, :, None]
        return tokens.reshape(shape[0], -1, self.width).movedim(-1, 1)[:, :, None]

    def _heads(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (self.width, -1))

    def _axis(self, tokens: Tensor) -> int:
        return -1 if tokens.shape[-1] == self.width else 1


def by_map(output: Tensor, unit: Unit | None) -> Tensor:
    """Return a view (width, N, …, d) of a layer's output: maps (N, C, h, w), or a unit's tokens."""
    return output.movedim(1, 0)[..., None] if unit is None else unit.by_map(output)


def token_units(network: nn.Module) -> dict[str, Unit]:
    """Return the modules whose outputs or inputs are units of a transformer.

    Neurons are those between two linear layers of one module, after the activation; of a gated MLP
    (SwiGLU) after the product, which goes through the first dropout. Heads are of a module that
    says how many it has (``num_heads``) and mixes them in its last linear layer; torch's own
    MultiheadAttention calls no module there. Channels are of the module that an MLP is in. In a
    network without LayerNorm or RMSNorm linear layers make vectors, no maps: there are none.
    """
    kinds = [type(module).__name__.lower() for module in network.modules()]
    if not any(token in kind for kind in kinds for token in _TOKENS):
        return {}
    found: dict[str, Unit] = {}
    for name, module in network.named_modules():
        children = dict(module.named_children())
        linear = {one: child for one, child in children.items() if isinstance(child, nn.Linear)}
        last = list(linear)[-1] if linear else ""
        heads = getattr(module, "num_heads", None)
        if isinstance(heads, int) and last and not isinstance(module, nn.MultiheadAttention):
            if linear[last].in_features % heads == 0:
                found[_path(name, last)] = Unit("heads", heads)
            continue
        own = _neurons(children, list(linear.values()))
        if own:
            found[_path(name, own)] = Unit("neurons", linear[last].in_features)
            if name:
                block = name.rpartition(".")[0]
                found.setdefault(block, Unit("channels", linear[last].out_features))
    found.pop("", None)
    return found


def _path(name: str, own: str) -> str:
    return f"{name}.{own}" if name else own


def _neurons(children: dict[str, nn.Module], linear: list[nn.Linear]) -> str | None:
    """Return the child whose output is an MLP's neurons, None where this is no MLP."""
    active = [
        one
        for one, child in children.items()
        if any(part in type(child).__name__.lower() for part in _ACTIVATION)
    ]
    if len(linear) < 2 or len(active) != 1 or linear[0].in_features <= 3:
        return None  # of two or three numbers: of a position, not of an image
    dropouts = [one for one, child in children.items() if isinstance(child, nn.Dropout)]
    gated = len(linear) == 3 or linear[0].out_features == 2 * linear[-1].in_features
    return next(iter(dropouts), None) if gated else active[0]


def find_feature_maps(
    network: nn.Module, *, without: tuple[str, ...] = (), units: Kind = "neurons"
) -> tuple[FeatureMap, ...]:
    """Return every feature map of ``network``, in module order.

    These are the output channels of its 2-D convolutions and the neurons of its MLPs after their
    activation; or, of other ``units``, these alone. A convolution whose own name is in ``without``
    is left out (squeeze-excite gates).
    """
    widths = {name: one.width for name, one in token_units(network).items() if one.kind == units}
    for name, module in network.named_modules():
        own = name.rsplit(".", 1)[-1]
        if units == "neurons" and isinstance(module, nn.Conv2d) and own not in without:
            widths[name] = module.out_channels
    return tuple(
        FeatureMap(name, channel, widths[name])
        for name, _ in network.named_modules()
        if name in widths
        for channel in range(widths[name])
    )


def with_units(detector: Detector, units: Kind) -> Detector:
    """Return the same detector with other units of its transformer as its feature maps.

    Raises:
        UserError: no such kind, or a network that has none.
    """
    if units not in KINDS:
        raise UserError(f"no units {units!r}; there are {', '.join(KINDS)}")
    if units == "neurons":
        return detector
    maps = find_feature_maps(detector.network, units=units)
    if not maps:
        raise UserError(
            f"{detector.name} has no {units}: "
            "these are of transformers whose attention is a module with num_heads and a linear "
            "layer after it"
            if units == "heads"
            else f"{detector.name} has no {units}: these are of the blocks of transformers"
        )
    return replace(detector, feature_maps=maps)


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
