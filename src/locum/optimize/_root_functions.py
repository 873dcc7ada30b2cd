"""Posterior means of Gaussian processes, and walks on them. Imports torch: `root` imports it when used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from locum.core.errors import InvalidData

__all__ = ["Pairs", "PosteriorMeans", "paired", "walked"]

_FLOAT = NDArray[np.float64]
_ENTRIES = 1_000_000  # kernel entries held at a time while functions are evaluated: they stay in the processor's cache
_EXACT_ROWS = 11_000  # up to here the kernel matrix is factorised in double precision, which takes 1 GB; beyond in single


class PosteriorMeans:
    r"""Posterior means of Gaussian processes with different scales, fitted to the same rows.

    .. math:: g_f(x) = s_f\, k_f(x, X)\, (s_f K_f + \sigma^2 I)^{-1} y, \qquad k_f(x, x') = \exp(-|x - x'|^2 / 2\ell_f^2)

    Parameters
    ----------
    rows : array-like of shape (n, width)
    values : array-like of shape (n,)
        Centred; far from all rows the functions tend to zero.
    lengthscales, outputscales : sequence of float
        ℓ and s of each function.
    noise : float, default=0.01
        Variance σ² of the values about the function.
    dtype : torch.dtype, default=torch.float32
        In which the functions are evaluated.
    device : torch.device or str, default="cpu"

    Raises
    ------
    InvalidData
        The kernel matrix cannot be factorised.

    Notes
    -----
    Cost: n³/3 operations and n² numbers for each function; then one kernel entry for each function, point and row.
    """

    def __init__(
        self,
        rows: Any,
        values: Any,
        lengthscales: Sequence[float],
        outputscales: Sequence[float],
        *,
        noise: float = 0.01,
        dtype: torch.dtype = torch.float32,
        device: Any = "cpu",
    ) -> None:
        self.lengthscales, self.outputscales = tuple(lengthscales), tuple(outputscales)
        exact = torch.float64 if len(rows) <= _EXACT_ROWS else torch.float32
        X = torch.as_tensor(np.asarray(rows, dtype=float), dtype=exact, device=device)
        y = torch.as_tensor(np.asarray(values, dtype=float), dtype=exact, device=device)
        weights = [_solved(X, y, ell, s, noise) for ell, s in zip(self.lengthscales, self.outputscales, strict=True)]
        X = X.to(dtype)
        self._scaled, self._weighted = [], []
        for a, ell in zip(weights, self.lengthscales, strict=True):
            self._scaled.append(_right(X / ell))
            self._weighted.append(torch.column_stack([X, torch.ones_like(X[:, 0])]) * a.to(dtype)[:, None])

    @property
    def width(self) -> int:
        """Coordinates of a row."""
        return self._weighted[0].shape[1] - 1

    @property
    def like(self) -> dict[str, Any]:
        """Precision and device of the points that it takes."""
        return {"dtype": self._weighted[0].dtype, "device": self._weighted[0].device}

    def __len__(self) -> int:
        return len(self.lengthscales)

    def values(self, points: Tensor) -> Tensor:
        """The functions at points.

        Parameters
        ----------
        points : torch.Tensor of shape (m, width), or (functions, m, width) with points of its own for each function

        Returns
        -------
        torch.Tensor of shape (functions, m)
        """
        return self.values_and_gradients(points)[0]

    def values_and_gradients(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """The functions at points, and their gradients.

        Parameters
        ----------
        points : torch.Tensor of shape (m, width) or (functions, m, width)

        Returns
        -------
        torch.Tensor of shape (functions, m)
        torch.Tensor of shape (functions, m, width)
        """
        if points.ndim == 2:
            points = points.expand(len(self), *points.shape)
        values, gradients = torch.empty_like(points[..., 0]), torch.empty_like(points, memory_format=torch.contiguous_format)
        for f in range(len(self)):
            chunk = max(1, _ENTRIES // self._scaled[f].shape[1])
            for at in range(0, points.shape[1], chunk):
                here = points[f, at : at + chunk]
                sums = self._kernel(f, here) @ self._weighted[f]
                values[f, at : at + chunk] = sums[:, -1]
                gradients[f, at : at + chunk] = (sums[:, :-1] - sums[:, -1:] * here) / self.lengthscales[f] ** 2
        return values, gradients

    def _kernel(self, f: int, points: Tensor) -> Tensor:
        return torch.mm(_left(points / self.lengthscales[f]), self._scaled[f]).exp_()


def _left(scaled: Tensor) -> Tensor:
    """With `_right`: one product gives minus half the squared distances."""
    half = -scaled.square().sum(dim=1, keepdim=True) / 2
    return torch.cat([scaled, half, torch.ones_like(half)], dim=1)


def _right(scaled: Tensor) -> Tensor:
    half = -scaled.square().sum(dim=1, keepdim=True) / 2
    return torch.cat([scaled, torch.ones_like(half), half], dim=1).T.contiguous()


def _solved(X: Tensor, y: Tensor, lengthscale: float, outputscale: float, noise: float) -> Tensor:
    """Weights of the rows, the outputscale in them; never holds more than one matrix of n²."""
    scaled = X / lengthscale
    kernel = X.new_empty(len(X), len(X))
    torch.mm(_left(scaled), _right(scaled), out=kernel)
    kernel.clamp_(max=0.0).exp_().mul_(outputscale)
    kernel.diagonal().copy_(torch.full_like(y, outputscale + noise))
    factor, failed = kernel.mT, torch.zeros((), dtype=torch.int32, device=X.device)
    torch.linalg.cholesky_ex(factor, out=(factor, failed))  # in place, since LAPACK's order of columns is that of mT
    if int(failed):
        raise InvalidData(
            f"the kernel matrix of {len(X)} rows at lengthscale {lengthscale:.3g} cannot be factorised: raise gp_noise=, "
            "lower lengthscale= or outputscale=, or use fewer rows with max_gp_rows="
        )
    # Two solves, since torch.cholesky_solve copies the factor.
    forward = torch.linalg.solve_triangular(factor, y[:, None], upper=False)
    return outputscale * torch.linalg.solve_triangular(factor.mT, forward, upper=True)[:, 0]


@dataclass(frozen=True)
class Pairs:
    """Designs of low and of high value, by one of the functions each.

    Parameters
    ----------
    low, high : torch.Tensor of shape (pairs, width)
    y_low, y_high : torch.Tensor of shape (pairs,)
        What the function says of them.
    kept : float
        Share of the walks whose gap is large enough.
    """

    low: Tensor
    high: Tensor
    y_low: Tensor
    y_high: Tensor
    kept: float

    def __len__(self) -> int:
        return len(self.y_low)


def walked(functions: PosteriorMeans, starts: Tensor, *, steps: int, lr: float) -> tuple[Tensor, Tensor]:
    """Where plain gradient descent and ascent on each function end.

    Parameters
    ----------
    functions : PosteriorMeans
    starts : torch.Tensor of shape (m, width)
    steps : int
    lr : float
        What a gradient is multiplied with.

    Returns
    -------
    torch.Tensor of shape (functions, m, width)
        Lower ends.
    torch.Tensor of shape (functions, m, width)
        Upper ends.

    Notes
    -----
    Cost: 2 m steps kernel entries for each function and row.
    """
    m = len(starts)
    points = starts.repeat(2, 1).expand(len(functions), -1, -1).clone()
    rates = torch.full((2 * m, 1), lr, **functions.like)
    rates[:m] *= -1.0
    for _ in range(steps):
        points += rates * functions.values_and_gradients(points)[1]
    return points[:, :m], points[:, m:]


def paired(functions: PosteriorMeans, starts: Tensor, *, steps: int, lr: float, min_gap: float) -> Pairs:
    """Both ends of the walks from each start on each function, where its values differ by more than `min_gap`.

    Parameters
    ----------
    functions : PosteriorMeans
    starts : torch.Tensor of shape (m, width)
    steps : int
    lr : float
    min_gap : float

    Returns
    -------
    Pairs
    """
    low, high = walked(functions, starts, steps=steps, lr=lr)
    y_low, y_high = functions.values(low), functions.values(high)
    keep = y_high - y_low > min_gap
    return Pairs(low[keep], high[keep], y_low[keep], y_high[keep], float(keep.float().mean()))
