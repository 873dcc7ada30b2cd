"""Alignment maps as networks: exactly invertible, with blocks of coordinates that nodes own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

__all__ = ["Aligned", "Neurons", "RevNet", "Rotation", "first_coordinates"]

Tensor = torch.Tensor


class Neurons(nn.Module):
    """The activation itself."""

    def forward(self, h: Tensor) -> Tensor:
        return h

    def inverse(self, u: Tensor) -> Tensor:
        return u


class Rotation(nn.Module):
    """An orthogonal matrix, kept so by Cayley's transform around a random one."""

    def __init__(self, width: int, dtype: Any = None) -> None:
        super().__init__()
        start = nn.init.orthogonal_(torch.empty(width, width, dtype=torch.float64))
        self.linear = parametrizations.orthogonal(nn.Linear(width, width, bias=False, dtype=dtype), orthogonal_map="cayley")
        with torch.no_grad():
            self.linear.weight = start.to(dtype or torch.get_default_dtype())

    def forward(self, h: Tensor) -> Tensor:
        return self.linear(h)

    def inverse(self, u: Tensor) -> Tensor:
        weight: Any = self.linear.weight
        return u @ weight


class _Coupling(nn.Module):
    """y1 = h1 + F(h2), y2 = h2 + G(y1)."""

    def __init__(self, half: int, width: int, dtype: Any) -> None:
        super().__init__()
        self.f, self.g = (
            nn.Sequential(nn.Linear(half, width, dtype=dtype), nn.ReLU(), nn.Linear(width, half, dtype=dtype)) for _ in range(2)
        )

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        first = first + self.f(second)
        return first, second + self.g(first)

    def inverse(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        second = second - self.g(first)
        return first - self.f(second), second


class RevNet(nn.Module):
    """Coupled halves, block after block."""

    def __init__(self, width: int, blocks: int, hidden: int, dtype: Any = None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Coupling(width // 2, hidden, dtype) for _ in range(blocks))

    def forward(self, h: Tensor) -> Tensor:
        first, second = h.chunk(2, dim=-1)
        for block in self.blocks:
            first, second = block(first, second)
        return torch.cat([first, second], dim=-1)

    def inverse(self, u: Tensor) -> Tensor:
        first, second = u.chunk(2, dim=-1)
        for block in reversed(list(self.blocks)):
            step: Any = block
            first, second = step.inverse(first, second)
        return torch.cat([first, second], dim=-1)


class Aligned(nn.Module):
    """A map and the coordinates of its image that each node owns.

    Parameters
    ----------
    map : Neurons, Rotation or RevNet
    owned : tensor of bool, shape (nodes, width)
    """

    owned: Tensor

    def __init__(self, map: Any, owned: Tensor) -> None:
        super().__init__()
        self.map: Any = map
        self.register_buffer("owned", owned)

    def edited(self, hidden: Tensor, base: Tensor, sources: Tensor, swapped: Tensor) -> Tensor:
        """Activations of the bases with the blocks of nodes that are set taken from their sources, shape (n, width)."""
        n, nodes = sources.shape
        rows = torch.cat([base, sources.T.reshape(-1)])
        with parametrize.cached():
            u = self.map(hidden[rows]).reshape(1 + nodes, n, -1)
            out = u[0]
            for j in range(nodes):
                out = torch.where(swapped[:, j, None] & self.owned[j], u[1 + j], out)
            return self.map.inverse(out)

    @torch.no_grad()
    def drift(self, hidden: Tensor) -> float:
        """Largest error of the inverse, in standard deviations of the activation."""
        with parametrize.cached():
            back = self.map.inverse(self.map(hidden))
        return float((back - hidden).abs().max() / hidden.std().clamp_min(1e-12))


def first_coordinates(sizes: Sequence[int], width: int) -> Tensor:
    """Disjoint blocks from the first coordinate on, shape (nodes, width)."""
    owned, at = torch.zeros(len(sizes), width, dtype=torch.bool), 0
    for j, size in enumerate(sizes):
        owned[j, at : at + size] = True
        at += size
    return owned
