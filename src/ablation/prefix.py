"""Keep what a network makes of some images up to the first replaced map, and run only the rest.

With the pixels the same, whatever happens before the first layer that holds a replaced feature map
is the same too. One pass keeps what every module gave; later passes hand that on for the modules
that ended before that layer was reached, the outermost first, and run the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..detectors import Detector
from ..records import FeatureMap


@dataclass(frozen=True)
class _Call:
    """One call of a module; start, end: when, on a clock that each event moves on."""

    module: nn.Module
    start: int
    end: int
    output: Any


class Prefix:
    """The activations of one batch in a detector's network.

    logits: of 'fake' (N,), of the whole network, float32 on the CPU. Outputs that are neither
    tensors nor tuples of them are not kept: such modules run again.
    """

    def __init__(self, detector: Detector, pixels: Tensor) -> None:
        """pixels: uint8 (N, 3, H, W)."""
        self.detector, self.pixels = detector, pixels
        self._modules = dict(detector.network.named_modules())
        self._calls: list[_Call] = []
        self._exact: dict[int, bool] = {}  # by when a pass is taken up: whether that is exact
        with self._recorded():
            self.logits = detector.logits(pixels)
        self._calls.sort(key=lambda call: call.start)

    @contextmanager
    def upto(self, feature_maps: Iterable[FeatureMap]) -> Iterator[None]:
        """While the block runs, the network takes up the pass at the first layer of these maps.

        Only for the pixels that this was made of. The first time at a layer it is compared with the
        whole network; where they differ (a module that changes its input in place, and is not asked
        for its output) every pass is whole.
        """
        layers = {self._modules[layer] for layer in {one.layer for one in feature_maps}}
        begin = next((call.start for call in self._calls if call.module in layers), None)
        if begin is None:  # nothing is replaced, or a layer that is not called
            begin = max((call.end for call in self._calls), default=0) if not layers else 0
        if begin not in self._exact:
            with self._handed_on(begin):
                again = self.detector.logits(self.pixels)
            self._exact[begin] = torch.equal(again, self.logits)
        with self._handed_on(begin if self._exact[begin] else 0):
            yield

    @contextmanager
    def _recorded(self) -> Iterator[None]:
        clock, open_calls, handles = 0, list[int](), []

        def begun(module: nn.Module, args: Any) -> None:
            nonlocal clock
            clock += 1
            open_calls.append(clock)

        def ended(module: nn.Module, args: Any, output: Any) -> None:
            nonlocal clock
            clock += 1
            start = open_calls.pop()
            if module is not self.detector.network:
                self._calls.append(_Call(module, start, clock, _copy(output)))

        try:
            for module in self._modules.values():
                handles.append(module.register_forward_pre_hook(begun))
                handles.append(module.register_forward_hook(ended))
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def _handed_on(self, begin: int) -> Iterator[None]:
        """While the block runs, modules that ended before ``begin`` give what they gave."""
        done: dict[nn.Module, list[_Call]] = {}
        until = 0
        for call in self._calls:
            if until < call.start and call.end < begin and call.output is not None:
                done.setdefault(call.module, []).append(call)
                until = call.end
        passed = [0]
        own = {module: vars(module).get("forward") for module in done}
        for module, calls in done.items():
            module.forward = _given(module.forward, calls, passed)
        try:
            yield
        finally:
            for module, before in own.items():
                del module.forward
                if before is not None:
                    module.forward = before


def _given(run: Callable[..., Any], calls: list[_Call], passed: list[int]) -> Callable[..., Any]:
    """Return a forward that gives the outputs of ``calls`` in turn, then runs."""

    def forward(*args: Any, **options: Any) -> Any:
        call = next((one for one in calls if one.start > passed[0]), None)
        if call is None:
            return run(*args, **options)
        passed[0] = call.end
        return _copy(call.output)

    return forward


def _copy(output: Any) -> Any:
    """Return a copy, for what follows may work in place; None of what cannot be kept."""
    if isinstance(output, Tensor):
        return output.clone()
    if isinstance(output, tuple) and all(isinstance(one, Tensor) for one in output):
        return tuple(one.clone() for one in output)
    return None
