"""What a method hands back, and which output it explains."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..detectors import Detector
from ..errors import UserError

Target = int | str | Sequence[int] | Tensor | None
SIDES = ("fake", "real", "decision")


@dataclass(frozen=True)
class RawExplanation:
    """Raw, signed explanations of one batch.

    logits: (N, K); targets: int64 (N,), the output explained for each image; signs: (N,) +1, or −1
    where minus the logit is explained; relevance: (N, 3, H, W), or (N, H, W) for Grad-CAM, in no
    fixed unit: only signs and ratios within an image mean much.
    """

    logits: Tensor
    targets: Tensor
    signs: Tensor
    relevance: Tensor


def chosen(logits: Tensor, target: Target) -> tuple[Tensor, Tensor]:
    """Return what to explain of each image: the output, int64 (N,), and its sign, ±1 (N,).

    target: one class for all images or one for each; None is the only logit, or the arg-max class.
        Of a single logit also a word: 'fake' (the logit itself), 'real' (minus the logit) or
        'decision' (whichever of the two is positive).

    Raises:
        UserError: a class outside the network's outputs, another number of them than images, or a
            word for a network of several outputs.
    """
    number, outputs = logits.shape
    signs = torch.ones_like(logits[:, 0])
    if target is None:
        return logits.argmax(dim=1), signs
    if isinstance(target, str):
        if target not in SIDES or outputs > 1:
            raise UserError(
                f"target {target!r}: of one logit choose {', '.join(SIDES)}; this network has "
                f"{outputs} outputs"
            )
        if target == "decision":
            signs = torch.where(logits[:, 0] < 0, -signs, signs)
        return logits.argmax(dim=1), -signs if target == "real" else signs
    targets = torch.as_tensor(target, dtype=torch.int64, device=logits.device).reshape(-1)
    if len(targets) not in (1, number):
        raise UserError(f"{len(targets)} targets for {number} images")
    if len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < outputs:
        raise UserError(f"target {target}: the network's outputs are 0 … {outputs - 1}")
    return targets.expand(number), signs


def recorded(network: nn.Module, batch: Tensor, target: Target) -> tuple[Tensor, RawExplanation]:
    """Run a batch with autograd recording; the network's parameters need no gradients.

    Returns the pixels, a leaf that wants gradients, and a raw explanation whose ``relevance`` is
    the signed sum of the target logits, a scalar at the head of the graph.
    """
    pixels = batch.detach().clone().requires_grad_()
    logits = network(pixels.clone()).reshape(len(batch), -1)
    targets, signs = chosen(logits.detach(), target)
    total = (logits.gather(1, targets[:, None])[:, 0] * signs).sum()
    return pixels, RawExplanation(logits.detach(), targets, signs, total)


def named_target(detector: Detector, target: Target) -> Target:
    """Return a class's number for its name or digits; anything else as it is.

    Of a detector with several classes 'real' is the real one, whatever its name, and 'decision'
    the one with the largest logit.

    Raises:
        UserError: there is no class of that name.
    """
    if not isinstance(target, str):
        return target
    if target.isdecimal():
        return int(target)
    if not detector.classes:
        return target
    names = [name.lower() for name in detector.classes]
    places = [place for place, name in enumerate(names) if name == target.lower()]
    if len(places) == 1:
        return places[0]
    if target == "decision":
        return None
    if target == "real" and detector.real is not None:
        return detector.real
    word = re.compile(rf"\b{re.escape(target)}\b", re.IGNORECASE)
    near = [name for name in detector.classes if word.search(name)][:5]
    few = len(names) <= 20
    hint = f"; there are {', '.join(detector.classes)}" if few else ""
    hint = f"; close are {', '.join(near)}" if near and not few else hint
    many = f"{len(places)} classes are" if places else "no class is"
    raise UserError(f"{detector.name}: {many} called {target!r}{hint}")


def target_name(detector: Detector, output: int, sign: int) -> str:
    """Return what an output stands for."""
    if detector.classes:
        return detector.classes[output]
    return "fake" if sign > 0 else "real"
