"""Why an operation has no relevance rule, where there is more to say than that it is unknown."""

from __future__ import annotations

from torch import nn

OTHER_METHODS = "methods without rules: gradient, and gradcam where there are maps"
ADD_ONE = (
    "add one to MODULE_RULES or FUNCTION_RULES of forensift.lrp.operations, or set lrp_rule on "
    "the module"
)

ATTENTION = (
    "attention multiplies tensors that both depend on the pixels, and β = 0 has no rule for that"
)
_STATISTICS = "it divides by statistics of the image itself, so it is no fixed map of each channel"
_PRODUCT = "it multiplies tensors that both depend on the pixels"
_NAMES = {
    _STATISTICS: (
        "LayerNorm", "GroupNorm", "InstanceNorm1d", "InstanceNorm2d", "LocalResponseNorm",
        "RMSNorm", "layer_norm", "group_norm", "instance_norm", "local_response_norm", "rms_norm",
        "normalize",
    ),
    _PRODUCT: ("matmul", "bmm", "einsum", "baddbmm", "RNN", "LSTM", "GRU"),
}  # fmt: skip


def attends(kind: str) -> bool:
    """Whether an operation of this type, a class or a function, is attention by its own name."""
    return "attention" in kind.rpartition(".")[2].lower()


def normalises_itself(network: nn.Module) -> bool:
    """Whether a network attends, or normalises an image by statistics of that image."""
    kinds = [type(module).__qualname__ for module in network.modules()]
    norms = ("layernorm", "rmsnorm", "groupnorm")
    return any(
        attends(kind) or reason(kind) or any(norm in kind.lower() for norm in norms)
        for kind in kinds
    )


def reason(kind: str) -> str:
    """Return why an operation of this type cannot have a rule; empty where nothing is known."""
    if attends(kind):
        return ATTENTION
    own = kind.rpartition(".")[2]
    return next((why for why, names in _NAMES.items() if own in names), "")
