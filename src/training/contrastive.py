"""Supervised contrastive learning, and the automatic weighting of several losses."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

TEMPERATURE = 0.07
PROJECTED = 128


class ProjectionHead(nn.Sequential):
    """Linear – ReLU – Linear to PROJECTED numbers, for the contrastive loss alone.

    Takes pooled features (N, F), returns vectors of length 1, (N, PROJECTED).
    """

    def __init__(self, features: int) -> None:
        super().__init__(
            nn.Linear(features, features), nn.ReLU(inplace=True), nn.Linear(features, PROJECTED)
        )

    def forward(self, pooled: Tensor) -> Tensor:
        return normalize(super().forward(pooled), dim=1)


def supervised_contrastive(
    projections: Tensor, labels: Tensor, temperature: float = TEMPERATURE
) -> Tensor:
    """Return the supervised contrastive loss L_out (Khosla et al. 2020, eq. 2).

    projections: (N, D), each of length 1; labels: (N,). For each anchor, − the mean over all others
    of its class of the log-softmax (over all others) of their similarity / temperature; the mean
    over the anchors. An anchor that is alone in its class has no positive and does not count; where
    none counts, the loss is 0.
    """
    similarity = projections @ projections.T / temperature
    alone = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    similarity = similarity.masked_fill(alone, -torch.inf)
    log_probability = similarity - similarity.logsumexp(dim=1, keepdim=True)
    positive = (labels[:, None] == labels[None, :]) & ~alone
    count = positive.sum(dim=1)
    total = torch.where(positive, log_probability, 0.0).sum(dim=1)
    return -(total / count.clamp(min=1)).sum() / (count > 0).sum().clamp(min=1)


class AutomaticWeighting(nn.Module):
    """Σ Lᵢ / (2 pᵢ²) + log(1 + pᵢ²), with learnt p, 1 at first (Liebel and Körner 2018)."""

    def __init__(self, losses: int = 2) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.ones(losses))

    def forward(self, losses: Sequence[Tensor]) -> Tensor:
        squares = self.p**2
        return (torch.stack(list(losses)) / (2 * squares) + torch.log1p(squares)).sum()
