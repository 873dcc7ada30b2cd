"""Networks for wide tables, and what can be read off their gradients. Needs torch, which is imported where it is used."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from locum.core.errors import need

if TYPE_CHECKING:
    import torch

__all__ = [
    "CLIP", "convolutional_parts", "dense_parts", "grid_side", "integrated_gradients", "mean_jacobian", "prepared",
    "self_attention", "shares",
]  # fmt: skip

_FLOAT = NDArray[np.float64]
_INT = NDArray[np.intp]
CLIP = 5.0  # standard deviations; a column that is seldom anything but one value would swamp all others
_CHANNELS = (16, 8, 8)
_ROWS = 64  # in one pass for gradients


def _torch() -> Any:
    return need("torch", "a network for wide tables", "nets")


# ---------------------------------------------------------------------- modules
def prepared(order: _INT, center: _FLOAT, scale: _FLOAT) -> torch.nn.Module:
    """Raw rows of shape (n, d) to standardised ones in the order the network was trained with, shape (n, d)."""
    torch = _torch()

    class Prepared(torch.nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("order", torch.as_tensor(order))
            self.register_buffer("center", torch.as_tensor(center, dtype=torch.float32))
            self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float32))

        def forward(self, x: Any) -> Any:
            return ((x - self.center) / self.scale).clamp(-CLIP, CLIP)[:, self.order]

    return Prepared()


def shares() -> torch.nn.Module:
    """Scores of shape (n, k) to probabilities: the sigmoid of each, divided by their sum."""
    torch = _torch()

    class Shares(torch.nn.Module):  # type: ignore[name-defined]
        def forward(self, scores: Any) -> Any:
            each = torch.sigmoid(scores) + 1e-12
            return each / each.sum(dim=1, keepdim=True)

    return Shares()


def self_attention(
    d: int, k: int, *, heads: int, hidden: int, dropout: float, rank: int | None, softmax: bool
) -> torch.nn.Module:
    """The self-attention network; rows of shape (n, d) to scores of shape (n, k).

    With ``rank`` the matrix of each head is a diagonal and a product of two thin matrices, so that it grows with d and not
    with its square.
    """
    torch = _torch()

    class SelfAttention(torch.nn.Module):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            reach = 1.0 / math.sqrt(d)

            def drawn(*shape: int) -> Any:
                return torch.nn.Parameter(torch.empty(*shape).uniform_(-reach, reach))

            self.bias = drawn(heads, 1, d)
            if rank is None:
                self.weight = drawn(heads, d, d)
            else:
                self.diagonal = drawn(heads, d)
                self.left, self.right = drawn(heads, d, rank), drawn(heads, rank, d)
            self.head = torch.nn.Sequential(
                torch.nn.Linear(d, hidden), torch.nn.Dropout(dropout), torch.nn.SELU(), torch.nn.Linear(hidden, k)
            )

        def attention(self, x: Any) -> Any:
            """:math:`W_k x + c_k` of each head, shape (heads, n, d)."""
            if rank is None:
                return x @ self.weight.transpose(1, 2) + self.bias
            return x * self.diagonal[:, None] + x @ self.right.transpose(1, 2) @ self.left.transpose(1, 2) + self.bias

        def own(self) -> Any:
            """The diagonal of each head's matrix, shape (heads, d)."""
            if rank is None:
                return torch.diagonal(self.weight, dim1=1, dim2=2)
            return self.diagonal + torch.einsum("hdr,hrd->hd", self.left, self.right)

        def forward(self, x: Any) -> Any:
            found = self.attention(x)
            return self.head(((found.softmax(dim=-1) if softmax else found) * x).mean(dim=0))

    return SelfAttention()


def dense_parts(d: int, code: int, hidden: tuple[int, ...]) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Encoder and decoder of linear layers with rectifiers between them."""
    nn = _torch().nn

    def chain(sizes: list[int]) -> Any:
        layers: list[Any] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    sizes = [d, *hidden, code]
    return chain(sizes), chain(sizes[::-1])


def grid_side(d: int) -> int:
    """Side of the smallest square grid for d columns that can be halved three times."""
    return 8 * math.ceil(math.sqrt(d) / 8)


def convolutional_parts(d: int) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Encoder and decoder over a square grid of the columns, filled up with zeros."""
    torch = _torch()
    nn, side = torch.nn, grid_side(d)
    small = side // 8

    class Grid(nn.Module):  # type: ignore[name-defined]
        def forward(self, x: Any) -> Any:
            return nn.functional.pad(x, (0, side * side - d)).reshape(-1, 1, side, side)

    class Columns(nn.Module):  # type: ignore[name-defined]
        def forward(self, grid: Any) -> Any:
            return grid.flatten(1)[:, :d]

    encoder: list[Any] = [Grid()]
    for before, after in zip((1, *_CHANNELS[:-1]), _CHANNELS, strict=True):
        encoder += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
    decoder: list[Any] = [nn.Unflatten(1, (_CHANNELS[-1], small, small))]
    for before, after in zip(_CHANNELS[::-1], (*_CHANNELS[-2::-1], _CHANNELS[0]), strict=True):
        decoder += [nn.Upsample(scale_factor=2), nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    # Targets are standardised, hence of both signs, so the last layer is linear.
    return nn.Sequential(*encoder, nn.Flatten()), nn.Sequential(*decoder, nn.Conv2d(_CHANNELS[0], 1, 3, padding=1), Columns())


# ---------------------------------------------------------------------- gradients
def integrated_gradients(network: torch.nn.Module, X: _FLOAT, baseline: _FLOAT, *, steps: int = 32) -> _FLOAT:
    """Integrated gradients of each row's largest output, shape (n, d), by the midpoint rule.

    They sum, up to the error of the rule, to that output less what the network gives for the baseline of shape (d,).
    """
    torch = _torch()
    start, out = torch.as_tensor(baseline, dtype=torch.float32), []
    for rows in _blocks(torch, X):
        with torch.no_grad():
            wanted = network(rows).argmax(dim=1)
        total = torch.zeros_like(rows)
        for step in range(steps):
            point = (start + (step + 0.5) / steps * (rows - start)).requires_grad_(True)
            said = network(point).gather(1, wanted[:, None]).sum()
            total += torch.autograd.grad(said, point)[0]
        out.append((total / steps * (rows - start)).double().numpy())
    return np.concatenate(out)


def mean_jacobian(network: torch.nn.Module, X: _FLOAT) -> _FLOAT:
    """Mean over rows of the absolute derivative of each output by each input, shape (outputs, d)."""
    torch = _torch()
    total: Any = 0.0
    for block in _blocks(torch, X):
        rows = block.requires_grad_(True)
        said = network(rows)
        total = total + np.stack(
            [
                torch.autograd.grad(said[:, c].sum(), rows, retain_graph=True)[0].abs().sum(dim=0).double().numpy()
                for c in range(said.shape[1])
            ]
        )
    return np.asarray(total / len(X))


def _blocks(torch: Any, X: _FLOAT) -> Any:
    return torch.as_tensor(np.ascontiguousarray(X), dtype=torch.float32).split(_ROWS)
