"""Run a canonised network forwards and its relevance backwards, without autograd.

A plan is the list of the network's operations in execution order, each with its rule. Values are
dropped after their last use, so what stays is what the rules need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx

from .rules import Rule, Saved
from .token_rules import SharedSum

Values = dict[fx.Node, Any]


@dataclass
class Step:
    """One operation of the network.

    layer: the name that the report uses (module name, or the graph's name for functions);
    rule: None where no relevance passes (sizes, the branch of a gate); run: the operation itself,
    used where there is no rule, or its in-place form; parents: the nodes that receive relevance,
    in the rule's order; feature_map: the name of the convolution whose feature maps this makes, if
    it does (a module called twice has two steps);
    last_use: nodes whose value nothing after this step needs; overwrites: ``run`` may write the
    output over the input.
    """

    node: fx.Node
    layer: str
    rule: Rule | None
    run: Callable[..., Any]
    parents: tuple[fx.Node, ...] = ()
    feature_map: str | None = None
    last_use: tuple[fx.Node, ...] = ()
    overwrites: bool = False


Tape = list[tuple[Step, Saved]]  # what a forward pass leaves: the steps run, what rules saved


@dataclass(frozen=True)
class Passage:
    """One step's relevance balance, summed over the batch in float64; bias: the bias's share."""

    layer: str
    rule: str
    arriving: float
    passed_on: float
    bias: float = 0.0


class Plan:
    """The operations of a canonised network.

    pixels, output: the graph's input and the node of the logits; constants: values that do not
    depend on the pixels; accounts: those that receive relevance, as a class token and a table of
    positions do, with their names. held: what the last pass left there, a sum over the batch by
    name; growth: the largest |R| at each residual sum of that pass, from the logits down.
    """

    def __init__(
        self,
        steps: list[Step],
        pixels: fx.Node,
        output: fx.Node,
        constants: Values,
        accounts: Mapping[fx.Node, str],
    ) -> None:
        self.steps = steps
        self.pixels = pixels
        self.output = output
        self.constants = constants
        self.accounts = accounts
        self.held: dict[str, float] = {}
        self.growth: list[float] = []
        self._schedule()

    @property
    def feature_maps(self) -> list[str]:
        """Names of the convolutions that relevance reaches, in the order of their first call."""
        return list(dict.fromkeys(step.feature_map for step in self.steps if step.feature_map))

    def calls(self, layer: str) -> list[Step]:
        """Return the steps that make the feature maps of a convolution, one a call."""
        return [step for step in self.steps if step.feature_map == layer]

    def forward(self, batch: Tensor, layer: str | None = None) -> tuple[Tape, list[Tensor]]:
        """Run the network on ``batch``, up to the last call of ``layer`` where one is given.

        Returns the tape and the logits, alone in a list, or the outputs of the layer's calls.
        """
        calls = len(self.calls(layer)) if layer else 0
        found: list[Tensor] = []
        values: Values = {**self.constants, self.pixels: batch}
        tape: Tape = []
        result: Any = batch
        for step in self.steps:
            args = fx.node.map_arg(step.node.args, values.__getitem__)
            kwargs = fx.node.map_arg(step.node.kwargs, values.__getitem__)
            if step.rule is None:
                result = step.run(*args, **kwargs)
            elif step.overwrites:
                result = step.run(*args, **kwargs)
                tape.append((step, None))
            else:
                result, saved = step.rule.forward(*args, **kwargs)
                tape.append((step, saved))
            if layer and step.feature_map == layer:
                last = len(found) == calls - 1
                found.append(result if last else result.clone())  # else it may be overwritten
                if last:
                    return tape, found
            values[step.node] = result
            for node in step.last_use:
                values.pop(node, None)
        return tape, [values[self.output]]

    def backward(
        self,
        tape: Tape,
        start: Mapping[fx.Node, Tensor],
        wanted: Iterable[str] = (),
        pixels: bool = True,
        arrived: Callable[[str, list[Tensor]], None] | None = None,
        budget: list[Passage] | None = None,
    ) -> Tensor | None:
        """Carry relevance back from nodes; return that of the pixels (None if not asked).

        arrived(layer, [R a call]) is called as soon as the relevance of a wanted convolution's
        feature maps is complete, in the order of its calls.
        The walk ends where no wanted layer is left and the pixels are not asked for. Consumes the
        tape.
        """
        arriving = dict(start)
        self.held, self.growth = {}, []
        owned: set[fx.Node] = set()  # nodes whose relevance nobody else holds
        left = {layer: len(self.calls(layer)) for layer in wanted}
        parts: dict[str, list[Tensor]] = {}
        while tape and (pixels or left):
            step, saved = tape.pop()
            here = arriving.pop(step.node, None)
            if here is None or step.rule is None:
                continue
            if step.feature_map in left:
                calls = [here, *parts.pop(step.feature_map, [])]
                if len(calls) < left[step.feature_map]:
                    parts[step.feature_map] = calls
                else:
                    del left[step.feature_map]
                    if arrived is not None:
                        arrived(step.feature_map, calls)
                if not (pixels or left):
                    break
            if isinstance(step.rule, SharedSum):
                self.growth.append(float(here.abs().max()))
            shares = step.rule.backward(saved, here)
            if budget is not None:
                passed = sum(float(share.double().sum()) for share in shares)
                arrived_here, bias = float(here.double().sum()), step.rule.bias(saved, here)
                budget.append(Passage(step.layer, step.rule.name, arrived_here, passed, bias))
            for parent, share in zip(step.parents, shares, strict=True):
                self._add(arriving, owned, parent, share, here)
            del saved, shares
        if budget is not None:
            for node, name in self.accounts.items():
                if node in arriving:
                    total = float(arriving[node].double().sum())
                    self.held[name] = self.held.get(name, 0.0) + total
        found = arriving.get(self.pixels)
        return found if pixels else None

    @staticmethod
    def _add(
        arriving: dict[fx.Node, Tensor],
        owned: set[fx.Node],
        node: fx.Node,
        share: Tensor,
        source: Tensor,
    ) -> None:
        """Add a share to what has arrived at a node, in place only in memory that is ours."""
        if node not in arriving:
            arriving[node] = share
            if share.untyped_storage().data_ptr() != source.untyped_storage().data_ptr():
                owned.add(node)
        elif node in owned:
            arriving[node].add_(share)
        else:
            arriving[node] = arriving[node] + share
            owned.add(node)

    def _schedule(self) -> None:
        """Find each value's last use, and where an activation may overwrite its input."""
        last: dict[fx.Node, Step] = {}
        made: dict[fx.Node, Step] = {}
        for step in self.steps:
            made[step.node] = step
            for node in step.node.all_input_nodes:
                last[node] = step
        for step in self.steps:
            step.last_use = tuple(
                node
                for node in step.node.all_input_nodes
                if last[node] is step and node is not self.output and node not in self.constants
            )
            source = made.get(step.parents[0]) if step.parents else None
            step.overwrites = (
                step.rule is not None
                and step.rule.overwrite is not None
                and source is not None
                and source.rule is not None
                and source.rule.fresh
                and set(source.node.users) == {step.node}
            )
