"""Matching pursuit by the Gram matrix of a dictionary, with gradients that retrace its steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from locum.inside._codes import Codes, SparseCodes, gather_sum
from locum.inside._encoders import Encoder

__all__ = ["PursuitEncoder", "pursue"]

Tensor = torch.Tensor
_CACHE = 160_000  # correlations of so many (row, atom) pairs stay in the cache of a core
_ROWS_BACK = 256


def pursue(
    x: Tensor, atoms: Tensor, k: int, *, gram: Tensor | None = None, tau: float = 0.0, enough: Tensor | None = None,
    dropped: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Atoms chosen for each row, and how much of each, step by step.

    Parameters
    ----------
    x : tensor of shape (n, m)
        Centred rows.
    atoms : tensor of shape (p, m)
        Of length 1.
    k : int
        Steps.
    gram : tensor of shape (p, p) or None
        Inner products of atoms; made where None.
    tau : float
        A row stops where its residual is shorter.
    enough : tensor of shape (n,) or None
        Squared lengths of residuals at which rows stop.
    dropped : tensor of shape (p,) or None
        Atoms that may not be chosen.

    Returns
    -------
    index, value : tensors of shape (n, k)
        The value is 0 in steps that a row did not take.
    """
    gram = atoms @ atoms.T if gram is None else gram
    index = torch.zeros(len(x), k, dtype=torch.long, device=x.device)
    value = torch.zeros(len(x), k, dtype=x.dtype, device=x.device)
    stop = torch.full((len(x),), tau * tau, dtype=x.dtype, device=x.device) if enough is None else enough.clamp(min=tau * tau)
    rows = len(x) if x.is_cuda else max(1, _CACHE // len(atoms))
    for start in range(0, len(x), rows):
        part = slice(start, start + rows)
        _pursue_few(x[part], atoms, gram, stop[part], dropped, index[part], value[part])
    return index, value


def _pursue_few(
    x: Tensor, atoms: Tensor, gram: Tensor, stop: Tensor, dropped: Tensor | None, index: Tensor, value: Tensor
) -> None:
    fit = x @ atoms.T
    if dropped is not None:
        fit[:, dropped] = -torch.inf
    left = x.square().sum(dim=1)
    for t in range(index.shape[1]):
        best, at = fit.max(dim=1)
        size = torch.where(left > stop, best.clamp_(min=0.0), 0.0)
        if not bool(size.any()):
            break
        index[:, t], value[:, t] = at, size
        left = left - size.square()
        if t + 1 < index.shape[1]:
            fit.addcmul_(gram[at], size[:, None], value=-1.0)


class _Retraced(torch.autograd.Function):
    """Values of the steps of a pursuit; backward goes through the residuals from the last one, which need not be stored."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, atoms: Tensor, index: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(x, atoms, index, value)
        return value

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, atoms, index, value = ctx.saved_tensors
        to_x, to_atoms = torch.empty_like(x), torch.zeros_like(atoms)
        n = len(index)
        rows = n if x.is_cuda else _ROWS_BACK
        for start in range(0, n, rows):
            part = slice(start, start + rows)
            to_x[part] = _retrace(x[part], atoms, index[part], value[part], grads[0][part], to_atoms)
        return to_x, to_atoms, None, None


def _retrace(x: Tensor, atoms: Tensor, index: Tensor, value: Tensor, grad: Tensor, to_atoms: Tensor) -> Tensor:
    """With r the residual before a step, a = r·d and r' = r - a d: gradients of a, r' and d are sent back to r and d."""
    n, k = index.shape
    ends = torch.arange(0, n * k + 1, k, device=x.device)
    after = x - gather_sum(ends, index.reshape(-1), value.reshape(-1), atoms)
    to_after = torch.zeros_like(x)
    for t in range(k - 1, -1, -1):
        size, atom = value[:, t, None], atoms[index[:, t]]
        taken = (size > 0).to(x.dtype)
        to_size = (grad[:, t, None] - (to_after * atom).sum(dim=1, keepdim=True)) * taken
        before = torch.addcmul(after, size, atom)
        to_atoms.index_add_(0, index[:, t], to_size * before - size * to_after)
        to_after = torch.addcmul(to_after, to_size, atom)
        after = before
    return to_after


class PursuitEncoder(Encoder):
    """Greedy choice of one atom after the other, each fitted to what those before left over."""

    def __init__(self, atoms: Tensor, k: int, tau: float, dropout: float, until: float) -> None:
        super().__init__()
        self.k, self.tau, self.dropout, self.until = k, tau, dropout, until
        self._dropping = False

    def at(self, share: float) -> None:
        self._dropping = self.dropout > 0 and share < self.until

    def learn(self, x: Tensor, atoms: Tensor) -> tuple[Codes, Tensor]:
        out = torch.rand(len(atoms), device=x.device) < self.dropout if self._dropping else None
        return self._retraced(x, atoms, out), x.new_zeros(())

    def differentiable(self, x: Tensor, atoms: Tensor) -> Codes:
        return self._retraced(x, atoms, None)

    def _retraced(self, x: Tensor, atoms: Tensor, dropped: Tensor | None) -> SparseCodes:
        with torch.no_grad():
            index, value = pursue(x, atoms, self.k, tau=self.tau, dropped=dropped)
        return SparseCodes.of_equal_length(index, _Retraced.apply(x, atoms, index, value), len(atoms))

    def codes(self, x: Tensor, atoms: Tensor) -> SparseCodes:
        index, value = pursue(x, atoms, self.k, tau=self.tau)
        return SparseCodes.of_equal_length(index, value, len(atoms))

    def ranked(self, x: Tensor, atoms: Tensor, k: int) -> tuple[Tensor, Tensor]:
        return pursue(x, atoms, k, tau=self.tau)

    def pre(self, x: Tensor, atoms: Tensor, rows: Tensor) -> Tensor:
        return x @ atoms[rows].T

    def fold(self, into: float, out: float) -> None:
        self.tau /= out

    def restart(self, rows: Tensor, directions: Tensor, alive: Tensor) -> list[tuple[nn.Parameter, Tensor]]:
        return []
