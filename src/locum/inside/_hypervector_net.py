"""The network from a pooled state to a vector of signs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

__all__ = ["HypervectorNet", "sign_loss"]

Tensor = torch.Tensor


class _Residual(nn.Module):
    """A layer added to what goes into it, times a scale that is learned; not added where the width changes."""

    def __init__(self, before: int, after: int, dropout: float) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(before, after), nn.GELU(), nn.LayerNorm(after), nn.Dropout(dropout))
        self.scale = nn.Parameter(torch.ones(())) if before == after else None

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if self.scale is None else x + self.scale * self.layer(x)


class HypervectorNet(nn.Module):
    """States of shape (n, width) to logits of signs, shape (n, dim).

    Parameters
    ----------
    width, dim : int
    hidden : sequence of int
    dropout : float
    centre, scale : tensor of shape (width,)
        Taken off the states, and what they are then divided by.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, width: int, hidden: Sequence[int], dim: int, dropout: float, centre: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("centre", centre)
        self.register_buffer("scale", scale)
        blocks = [_Residual(a, b, dropout) for a, b in pairwise(hidden)]
        self.body = nn.Sequential(nn.Linear(width, hidden[0]), nn.LayerNorm(hidden[0]), nn.GELU(), *blocks)
        self.head = nn.Sequential(nn.LayerNorm(hidden[-1]), nn.Linear(hidden[-1], dim))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body((x - self.centre) / self.scale))
        return logits


def sign_loss(logits: Tensor, signs: Tensor, faithful: bool) -> Tensor:
    """Cross-entropy of signs, and a tenth of the squared error of their hyperbolic tangents; a sign of 0 is half of each."""
    said = torch.tanh(logits)
    asked = said if faithful else 2.0 * logits  # tanh(l) is the mean of a sign whose log-odds are 2 l
    entropy = nn.functional.binary_cross_entropy_with_logits(asked, (signs + 1.0) / 2.0)
    return entropy + 0.1 * nn.functional.mse_loss(said, signs)
