"""Layer-wise relevance propagation: the class that users call.

lrp = LRP(detector)                          # or LRP(network, box=(lowest, highest))
relevance = lrp(batch)
relevance.feature_maps["layer1.0.conv1"]     # (N, 64, h, w)
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor, nn

from ..detectors.activations import apart, joined
from ..detectors.detector import Detector
from ..detectors.precision import full_float32
from ..detectors.units import as_maps, as_row, mlp_neurons
from ..errors import UserError
from .canonise import canonise, pixel_range
from .composites import Composite
from .composites import composite as named
from .copies import private_copy, traceable
from .export import sizes_of
from .plan import Passage, Plan
from .refused import normalises_itself
from .report import CanonisationError, LayerWithoutRule, Report, Untraceable
from .rules import pullback

Reduce = Callable[[str, Tensor], Tensor]

ATTENTION = ("cp", "attnlrp")
GROWTH = 1.5  # of the largest |R| a block, above which a warning comes
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-7}  # relative, of the canonised logits


@dataclass(frozen=True)
class Relevance:
    """Relevance of one batch.

    logits: (N, K), the canonised network's; pixels: (N, 3, H, W), None where not asked for;
    feature_maps: module name of the network given → (N, C, h, w), the relevance that arrives at
    the folded convolution's output (or what ``reduce`` made of it), in execution order; of a
    convolution that is called more than once, all calls as one map, see
    :func:`forensift.detectors.activations.joined`; of neurons on the tokens of a transformer, maps
    of the tokens' grid without class and register tokens. budget, accounts: see
    :meth:`LRP.__call__`, None where not asked for. Feature maps may lie in channels-last memory.
    """

    logits: Tensor
    pixels: Tensor | None
    feature_maps: dict[str, Tensor]
    budget: pd.DataFrame | None = None
    accounts: pd.Series | None = None


@dataclass(frozen=True)
class FeatureMapRelevance:
    """Relevance of the pixels for one feature map at its largest value.

    pixels: (N, 3, H, W); maxima: (N,) largest value of the map, of the *folded* convolution's
    output over all its calls; positions: (N, 2) its row and column; positive: (N,) whether that
    value is > 0. Where it is not, no position responds, and the pixels say only why the least
    negative one is so.
    """

    pixels: Tensor
    maxima: Tensor
    positions: Tensor
    positive: Tensor


class LRP:
    """Relevance of pixels and feature maps for any network that torch.fx or torch.export reads.

    The rules are z⁺ (β = 0) for convolutions, z^B at a ResNet's first one, ε for linear layers,
    average pools and residual sums (Bach et al. 2015; Montavon et al. 2017). In a transformer, or
    what else normalises each image by itself, they are z⁺ for linear layers on tokens too, z^B at
    the patches, shares by magnitude for sums and averages, constant weights of attention, and
    normalisations that relevance passes (docs/transformers.md). All work is done on private copies
    in evaluation mode, whatever mode the network is in: the network itself is never called and
    never changed. Later changes of its weights do not reach this object.

    The first batch is the probe: its logits are compared with those of the network as it was
    given, in a copy that nothing was changed in.

    Args:
        network: one input (N, 3, H, W), one tensor of logits out; float32 or float64; or a
            detector, whose preset says what values a pixel can have.
        input_rule: "auto" (the published choice: box for a ResNet's 7×7 stem, z+ elsewhere),
            "zplus" or "box" for the convolution that reads the pixels.
        box: lowest and highest value of what the network reads, for the box rule; a normalisation
            inside the network moves it along. By default that of the detector's preset, and of a
            bare network, at the first convolution, the smallest and largest ImageNet-normalised
            value over the three channels, −2.118 and 2.640.
        composite: the rules of layers with weights, see :mod:`forensift.lrp.composites`; "beta0"
            is the published choice.
        overrides: pattern of layers' names → rule, e.g. ``{"layer1.*": "gamma"}``.
        attention: "cp": the weights of attention are constant; "attnlrp": they receive half.

    Raises:
        LayerWithoutRule: a layer or function has no rule; the message names it.
        CanonisationError: the network can be read in neither way, has forward hooks, or has no
            place for a box.
    """

    def __init__(
        self,
        network: nn.Module | Detector,
        input_rule: str = "auto",
        box: tuple[float, float] | None = None,
        composite: str | Composite = "beta0",
        overrides: Mapping[str, str] | None = None,
        attention: str = "cp",
    ) -> None:
        crop = None
        if isinstance(network, Detector):
            box = pixel_range(network.preset) if box is None else box
            crop = getattr(network.preset, "crop", None)
            network = network.network
        if attention not in ATTENTION:
            raise UserError(f"attention {attention!r} is none of {', '.join(ATTENTION)}")
        self._unchecked: nn.Module | None = private_copy(network)
        parameter = next(self._unchecked.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        self.composite = named(composite, overrides)
        self._settings = input_rule, box, self.composite
        self._attention = attention
        self._exportable: nn.Module | None = None
        self.neurons: dict[str, int] = {}  # of a plan by torch.export
        self.size: tuple[int, int] | None = None  # (height, width), where the plan is of one alone
        self.plan: Plan
        self.report: Report
        try:
            with torch.no_grad():
                self.plan, self.report = canonise(traceable(self._unchecked), *self._settings)
        except CanonisationError as refused:
            self._export(self._unchecked, crop, refused)

    def _export(self, network: nn.Module, crop: int | None, refused: CanonisationError) -> None:
        """Plan a network that torch.fx cannot read, by torch.export."""
        own = any(hasattr(module, "lrp_rule") for module in network.modules())
        tokens = isinstance(refused, LayerWithoutRule) and refused.tokens
        tokens = tokens or isinstance(refused, Untraceable) or normalises_itself(network)
        if own or not tokens:  # a rule of the user's own is one for torch.fx
            raise refused
        for size in sizes_of(network, crop):
            try:
                self._resize(network, size)
            except LayerWithoutRule:
                raise
            except CanonisationError:
                continue
            self._exportable = network
            return
        raise refused

    def _resize(self, network: nn.Module, size: tuple[int, int]) -> None:
        with torch.no_grad():
            self.plan, self.report = canonise(
                traceable(network), *self._settings, size, self._attention
            )
        self.size, self.neurons = size, mlp_neurons(network)

    @property
    def layers(self) -> list[str]:
        """Names of the layers that have feature maps, in the order of their first call.

        These are convolutions and, in transformers, the modules whose outputs are an MLP's neurons.

        Convolutions inside a squeeze-excite gate are not among them: no relevance reaches them.
        Nor are one-dimensional ones (DeepFeatureX's head): their outputs are no maps of the image.
        """
        return self.plan.feature_maps

    def __call__(
        self,
        batch: Tensor,
        start: Tensor | None = None,
        pixels: bool = True,
        layers: Iterable[str] | None = None,
        reduce: Reduce | None = None,
        budget: bool = False,
    ) -> Relevance:
        """Return the relevance of a batch.

        Args:
            batch: (N, 3, H, W) as the network takes it, on its device and in its dtype.
            start: relevance at the logits, (N, K); by default 1 at the only logit, or at the
                largest where there are several.
            pixels: whether to go down to the pixels.
            layers: names of the feature maps wanted, all by default; with ``pixels=False`` the
                pass ends at the first of them.
            reduce: called as ``reduce(layer, R)`` when a layer's relevance (N, C, h, w) is
                complete; what it returns is kept instead of R, so that memory stays small. It
                must not keep or change R. Of neurons on tokens R is (N, C, 1, T) of all tokens,
                class and register tokens first.
            budget: also say where relevance goes: a table with one row an operation from the
                logits down, columns layer, rule, arriving, passed_on (sums over the batch), bias,
                absorbed (arriving − passed_on: the bias's share, the rest the stabiliser's) and
                share (absorbed as a fraction of the start); and the accounts that it ends in:
                pixels, each constant of the network by its name (class and register tokens,
                positions), biases, stabilisers, which sum to the start.

        Raises:
            UserError: the batch does not fit the network, or a layer's name is unknown.
            CanonisationError: the first batch shows that the copy computes something else.
        """
        wanted = self._wanted(layers)
        batch = self._prepared(batch)
        kept: dict[str, Tensor] = {}

        def arrived(layer: str, calls: list[Tensor]) -> None:
            if layer in self.neurons:
                calls = [
                    as_maps(one, batch.shape) if reduce is None else as_row(one, batch.shape)
                    for one in calls
                ]
            relevance = joined(calls)
            kept[layer] = relevance if reduce is None else reduce(layer, relevance)

        with torch.no_grad(), full_float32():
            tape, (output,) = self.plan.forward(batch)
            logits = output.reshape(len(batch), -1)
            self._check(batch, output)
            begin = self._start(logits, start)
            passages: list[Passage] | None = [] if budget else None
            found = self.plan.backward(
                tape, {self.plan.output: begin.reshape(output.shape)}, wanted, pixels, arrived,
                passages,
            )  # fmt: skip
            self._warn_of_growth()
        table, accounts = None, None
        if passages is not None:
            table = _budget_table(passages, float(begin.double().sum()))
            accounts = _accounts(table, found, self.plan.held)
        return Relevance(
            logits,
            found.contiguous() if found is not None else None,
            {layer: kept[layer] for layer in wanted if layer in kept},
            table,
            accounts,
        )

    def from_feature_map(
        self, batch: Tensor, layer: str, channel: int | Sequence[int]
    ) -> FeatureMapRelevance:
        """Return the pixels' relevance for R = 1 at a feature map's largest value.

        Args:
            batch: (N, 3, H, W) as for :meth:`__call__`.
            layer: a name from ``layers``.
            channel: the map's number, one for all images or one for each.

        Raises:
            UserError: unknown layer, channel outside it, or a batch that does not fit.
        """
        (name,) = self._wanted([layer])
        batch = self._prepared(batch)
        with torch.no_grad(), full_float32():
            if self._unchecked is not None:
                self._check(batch, self.plan.forward(batch)[1][0])
            tape, values = self.plan.forward(batch, name)
            maps = values
            if name in self.neurons:
                maps = [as_maps(one, batch.shape) for one in values]
            maxima, positions, begin = _start_at_maximum(joined(maps), layer, channel)
            starts = apart(begin, maps)
            if name in self.neurons:
                starts = [
                    pullback(lambda one: as_maps(one, batch.shape), value, start)
                    for value, start in zip(values, starts, strict=True)
                ]
            nodes = [step.node for step in self.plan.calls(name)]
            found = self.plan.backward(tape, dict(zip(nodes, starts, strict=True)))
        if found is None:
            found = torch.zeros_like(batch)
        return FeatureMapRelevance(found.contiguous(), maxima, positions, maxima > 0)

    def _wanted(self, layers: Iterable[str] | None) -> list[str]:
        known = self.layers
        if layers is None:
            return known
        asked = set(layers)
        if unknown := sorted(asked - set(known)):
            raise UserError(
                f"no feature maps named {', '.join(unknown)}; this network has {', '.join(known)}"
            )
        return [layer for layer in known if layer in asked]

    def _prepared(self, batch: Tensor) -> Tensor:
        if batch.dim() != 4 or len(batch) == 0:
            raise UserError(f"LRP needs images (N, C, H, W), N ≥ 1; got {tuple(batch.shape)}")
        if batch.dtype != self.dtype or batch.device != self.device:
            raise UserError(
                f"the network is {self.dtype} on {self.device}, "
                f"the batch {batch.dtype} on {batch.device}"
            )
        batch = batch.detach()
        size = batch.shape[-2], batch.shape[-1]
        if self._exportable is not None and size != self.size:
            self._resize(self._exportable, size)
        if self.device.type == "cpu" and self.dtype == torch.float32:
            return batch.contiguous(memory_format=torch.channels_last)  # what oneDNN likes best
        return batch

    def _check(self, batch: Tensor, logits: Tensor) -> None:
        """Compare the logits of the first batch with the network's as given, then let that go.

        A float32 network that amplifies rounding may differ by more than the tolerance though
        nothing is wrong; then both are compared again in float64.
        """
        if self._unchecked is None:
            return
        original = self._unchecked
        self.report.difference = _difference(logits, original(batch.clone()))
        if not self.report.difference <= TOLERANCE[self.dtype]:
            exact = copy.deepcopy(original).double()
            wide = batch.double()
            plan, _ = canonise(traceable(exact), *self._settings, self.size, self._attention)
            difference = _difference(plan.forward(wide)[1][0], exact(wide.clone()))
            if not difference <= TOLERANCE[torch.float64]:
                raise CanonisationError(
                    f"the canonised network's logits differ from the original's by "
                    f"{difference:.1e} of their largest magnitude in float64 "
                    f"(allowed {TOLERANCE[torch.float64]:.0e})"
                )
            self.report.ill_conditioned = True
        self._unchecked = None

    def _warn_of_growth(self) -> None:
        """Warn where relevance grows from block to block, as it does where terms cancel."""
        largest, blocks = self.plan.growth, len(self.plan.growth) / 2  # two sums a block
        if blocks < 1 or not largest[0]:
            return
        self.report.growth = (max(largest) / largest[0]) ** (1 / blocks)
        if self.report.growth > GROWTH:
            warnings.warn(
                f"the largest relevance grows {self.report.growth:.2f} × a block (over "
                f"{blocks:g}): sums cancel, and maps of its lower layers are mostly noise; shares "
                "by magnitude (beta0) do not grow",
                stacklevel=4,
            )

    def _start(self, logits: Tensor, start: Tensor | None) -> Tensor:
        if start is None:
            begin = torch.zeros_like(logits)
            return begin.scatter_(1, logits.argmax(dim=1, keepdim=True), 1.0)
        if start.shape != logits.shape:
            raise UserError(f"start has shape {tuple(start.shape)}, logits {tuple(logits.shape)}")
        return start.detach().to(logits)


def _difference(logits: Tensor, expected: Tensor) -> float:
    """Return the largest difference of two logits relative to their largest magnitude."""
    expected = expected.reshape(logits.shape)
    scale = max(float(expected.abs().max()), 1e-30)
    return float((logits - expected).abs().max()) / scale


def _start_at_maximum(
    values: Tensor, layer: str, channel: int | Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the maxima (N,), their positions (N, 2) and R = 1 there, shaped as ``values``."""
    number, width = values.shape[:2]
    channels = [channel] * number if isinstance(channel, int) else list(channel)
    if len(channels) != number or not all(0 <= c < width for c in channels):
        raise UserError(f"{layer} has channels 0 … {width - 1}, {number} images; got {channel}")
    rows = torch.arange(number, device=values.device)
    index = torch.tensor(channels, device=values.device)
    maxima, flat = values[rows, index].flatten(1).max(dim=1)
    y, x = flat // values.shape[3], flat % values.shape[3]
    begin = torch.zeros_like(values)
    begin[rows, index, y, x] = 1.0
    return maxima, torch.stack([y, x], dim=1), begin


def _accounts(table: pd.DataFrame, pixels: Tensor | None, held: Mapping[str, float]) -> pd.Series:
    bias, absorbed = float(table["bias"].sum()), float(table["absorbed"].sum())
    reached = 0.0 if pixels is None else float(pixels.double().sum())
    return pd.Series({"pixels": reached, **held, "biases": bias, "stabilisers": absorbed - bias})


def _budget_table(passages: list[Passage], start: float) -> pd.DataFrame:
    table = pd.DataFrame(passages, columns=["layer", "rule", "arriving", "passed_on", "bias"])
    table["absorbed"] = table["arriving"] - table["passed_on"]
    table["share"] = table["absorbed"] / start if start else float("nan")
    return table
