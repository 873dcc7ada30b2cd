"""Codes of a batch, sparse or dense, and products with a dictionary that cost what is active."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

__all__ = ["Codes", "DenseCodes", "SparseCodes", "ends_of", "gather_sum", "scatter_outer", "select"]

Tensor = torch.Tensor


def gather_sum(offsets: Tensor, index: Tensor, value: Tensor, rows: Tensor) -> Tensor:
    """Sums of rows, weighted: line b adds ``value[j] * rows[index[j]]`` for j from offsets[b] to offsets[b + 1]."""
    if not len(index):
        return rows.new_zeros(len(offsets) - 1, rows.shape[1])
    return functional.embedding_bag(index, rows, offsets, mode="sum", per_sample_weights=value, include_last_offset=True)


def scatter_outer(offsets: Tensor, index: Tensor, value: Tensor, lines: Tensor, n: int) -> Tensor:
    """The transpose of `gather_sum`: row i adds ``value[j] * lines[b]`` wherever index[j] is i, shape (n, width)."""
    with torch.enable_grad():
        rows = lines.new_zeros(n, lines.shape[1], requires_grad=True)
        if not len(index):
            return rows.detach()
        return torch.autograd.grad(gather_sum(offsets, index, value, rows), rows, lines)[0]


class SparseCodes:
    """Codes of which only the active entries are kept, line by line.

    Parameters
    ----------
    offsets : tensor of shape (n + 1,)
        Where the entries of each line begin and end.
    index, value : tensors of shape (active,)
    width : int
        Number of latents.
    """

    def __init__(self, offsets: Tensor, index: Tensor, value: Tensor, width: int) -> None:
        self.offsets, self.index, self.value, self.width = offsets, index, value, width

    @classmethod
    def of_equal_length(cls, index: Tensor, value: Tensor, width: int) -> SparseCodes:
        """From tables of shape (n, k), of which entries that are 0 are dropped."""
        n, k = index.shape
        active = value > 0
        if bool(active.all()):
            ends = torch.arange(0, n * k + 1, k, device=index.device)
            return cls(ends, index.reshape(-1), value.reshape(-1), width)
        return cls(ends_of(active.sum(dim=1)), index[active], value[active], width)

    def sparse(self) -> SparseCodes:
        return self

    def decode(self, atoms: Tensor) -> Tensor:
        return gather_sum(self.offsets, self.index, self.value, atoms)

    def part(self, start: int, stop: int) -> SparseCodes:
        """The latents from `start` to `stop`, the others as if they were 0."""
        inside = (self.index >= start) & (self.index < stop)
        lengths = functional.pad(inside.cumsum(0), (1, 0))[self.offsets]
        return SparseCodes(lengths, self.index[inside], self.value[inside], self.width)

    def fired(self) -> Tensor:
        return torch.bincount(self.index, minlength=self.width) > 0

    def largest(self) -> Tensor:
        """The largest code of each latent, shape (width,)."""
        return self.value.new_zeros(self.width).scatter_reduce(0, self.index, self.value.detach(), "amax")

    def l0(self) -> float:
        return len(self.index) / (len(self.offsets) - 1)


class DenseCodes:
    """Codes as a table of shape (n, width)."""

    def __init__(self, value: Tensor) -> None:
        self.value = value

    def sparse(self) -> SparseCodes:
        active = self.value > 0
        index = active.nonzero()[:, 1]
        return SparseCodes(ends_of(active.sum(dim=1)), index, self.value[active], self.value.shape[1])

    def decode(self, atoms: Tensor) -> Tensor:
        return self.value @ atoms

    def part(self, start: int, stop: int) -> DenseCodes:
        kept = torch.zeros_like(self.value)
        kept[:, start:stop] = self.value[:, start:stop]
        return DenseCodes(kept)

    def fired(self) -> Tensor:
        return (self.value > 0).any(dim=0)

    def largest(self) -> Tensor:
        return self.value.detach().amax(dim=0)

    def l0(self) -> float:
        return float((self.value > 0).sum()) / len(self.value)


Codes = SparseCodes | DenseCodes


def decode_prefixes(codes: Codes, atoms: Tensor, ends: Sequence[int]) -> list[Tensor]:
    """Reconstructions, without the bias, from the latents before each end; one product for each group between two ends."""
    if len(ends) == 1:
        return [codes.decode(atoms)]
    found: list[Tensor] = []
    for start, stop in zip((0, *ends[:-1]), ends, strict=True):
        piece = codes.part(start, stop).decode(atoms)
        found.append(piece if not found else found[-1] + piece)
    return found


def ends_of(lengths: Tensor) -> Tensor:
    """Where lines of such lengths begin and end, one after the other."""
    return functional.pad(lengths.cumsum(0), (1, 0))


class _Selected(torch.autograd.Function):
    """Entries of ``x W' + b`` picked beforehand; backward touches those alone, not the (n, width) table."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, offsets: Tensor, index: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, offsets, index)
        return value

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, offsets, index = ctx.saved_tensors
        grad = grads[0].contiguous()
        to_x = gather_sum(offsets, index, grad, weight) if ctx.needs_input_grad[0] else None
        to_weight = scatter_outer(offsets, index, grad, x, len(weight))
        to_bias = grad.new_zeros(len(weight)).index_add_(0, index, grad)
        return to_x, to_weight, to_bias, None, None, None


def select(x: Tensor, weight: Tensor, bias: Tensor, picked: SparseCodes) -> SparseCodes:
    """Codes that were picked from ``x W' + b`` without gradients, with gradients."""
    value = _Selected.apply(x, weight, bias, picked.offsets, picked.index, picked.value.detach())
    return SparseCodes(picked.offsets, picked.index, value, picked.width)
