"""Gaussian processes as linear algebra: means, covariances, and what an observation would change, all differentiable."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from gpytorch.kernels import Kernel, MaternKernel, RBFKernel, ScaleKernel

from locum.optimize._input_warp import bent
from locum.optimize.goal import Aim

__all__ = ["PlainProcess", "Process", "Update", "WarpedKernel", "root_of"]

_JITTERS = (0.0, 1e-10, 1e-8, 1e-6)  # of the mean of the diagonal, one tried after another


def root_of(matrix: Any) -> Any:
    """Lower Cholesky factors of covariances of shape (..., n, n), which rounding may have left just short of one."""
    unit = torch.eye(matrix.shape[-1], dtype=matrix.dtype)
    scale = matrix.detach().diagonal(dim1=-2, dim2=-1).mean(dim=-1)[..., None, None]
    for jitter in _JITTERS:
        root, failed = torch.linalg.cholesky_ex(matrix + jitter * scale * unit)
        if not failed.any():
            return root
    return torch.linalg.cholesky(matrix)  # which says what is wrong


class Process(ABC):
    """A Gaussian process f that was observed at some rows; an observation may be more than the value.

    Parameters
    ----------
    train : torch.Tensor of shape (n, d)
    residual : torch.Tensor of shape (n * o,)
        Observations less their prior means.
    noise : torch.Tensor of shape (n * o,)
        Its variance in them.
    numbers : int
        o, the numbers that an observation gives; the value stands first.
    fresh : torch.Tensor of shape (o,)
        Noise of a new observation.
    """

    def __init__(self, train: Any, residual: Any, noise: Any, numbers: int, fresh: Any) -> None:
        self.train, self.numbers, self.fresh = train, numbers, fresh
        self.root = root_of(self.seen_seen(train, train) + noise.diag())
        self.weights = torch.cholesky_solve(residual[:, None], self.root)[:, 0]

    @abstractmethod
    def prior_mean(self, A: Any) -> Any:
        """Of f at rows (..., d), shape (...)."""

    @abstractmethod
    def value_value(self, A: Any, B: Any) -> Any:
        """Prior covariance of f at (..., a, d) and (..., b, d), shape (..., a, b)."""

    @abstractmethod
    def value_seen(self, A: Any, X: Any) -> Any:
        """Prior covariance of f at (..., a, d) and observations without noise at (..., x, d), shape (..., a, x * o)."""

    @abstractmethod
    def seen_seen(self, X: Any, Z: Any) -> Any:
        """Prior covariance of observations without noise, shape (..., x * o, z * o)."""

    # ------------------------------------------------------------------ the posterior
    def mean(self, A: Any) -> Any:
        """Posterior mean of f at rows (..., d), shape (...)."""
        flat = A.reshape(-1, A.shape[-1])
        return (self.prior_mean(flat) + self.value_seen(flat, self.train) @ self.weights).reshape(A.shape[:-1])

    def _whitened(self, seen: Any) -> Any:
        return torch.linalg.solve_triangular(self.root, seen, upper=False)

    def of_values(self, A: Any) -> Any:
        """Whitened covariance of the observations with f at flat rows (a, d), shape (n * o, a)."""
        return self._whitened(self.value_seen(A, self.train).mT)

    def of_seen(self, X: Any) -> Any:
        """Whitened covariance of the observations with new ones at flat rows (x, d), shape (n * o, x * o)."""
        return self._whitened(self.seen_seen(self.train, X))

    def covariance(self, aim: Aim, A: Any) -> Any:
        """Posterior covariance of the goal at decisions (m, d), shape (m, m)."""
        m, k = len(A), len(aim.weights)
        flat = aim.expand(A).reshape(m * k, -1)
        white = self.of_values(flat)
        whole = (self.value_value(flat, flat) - white.mT @ white).reshape(m, k, m, k)
        w = whole.new_tensor(aim.weights)
        return torch.einsum("ikjl,k,l->ij", whole, w, w)

    def goal_mean(self, aim: Aim, A: Any) -> Any:
        """Posterior mean of the goal at decisions (..., d), shape (...)."""
        return aim.mean(self.mean(aim.expand(A)))


class Update:
    """What new observations would do to the mean of the goal: a + B z with z standard normal.

    Parameters
    ----------
    process : Process
    aim : Aim
    decisions : torch.Tensor of shape (m, d)
    """

    def __init__(self, process: Process, aim: Aim, decisions: Any) -> None:
        self.process, self.aim, self.decisions = process, aim, decisions
        m, k = len(decisions), len(aim.weights)
        with torch.no_grad():
            self._flat = aim.expand(decisions).reshape(m * k, -1)
            self.mean = process.goal_mean(aim, decisions)
            self._white = aim.mean(process.of_values(self._flat).reshape(-1, m, k))  # (n * o, m)

    def at(self, X: Any) -> tuple[Any, Any]:
        """B for observations at X of shape (b, q, d), shape (b, m, q * o); and the root of their covariance."""
        process, (b, q, d) = self.process, X.shape
        o = process.numbers
        white = process.of_seen(X.reshape(b * q, d))  # (n * o, b * q * o)
        prior = process.value_seen(self._flat, X.reshape(b * q, d))  # (m * k, b * q * o)
        prior = self.aim.mean(prior.reshape(len(self.decisions), len(self.aim.weights), -1).mT)
        cross = (prior - self._white.mT @ white).reshape(-1, b, q * o).permute(1, 0, 2)
        each = white.reshape(-1, b, q * o)
        spread = process.seen_seen(X, X) - torch.einsum("nbi,nbj->bij", each, each)
        noise = torch.diag_embed(process.fresh.repeat(q).expand(b, -1))
        root = root_of(spread + noise)
        return _right(root, cross), root

    def itself(self, X: Any, root: Any) -> tuple[Any, Any]:
        """Mean of the goal at the decisions of X itself, shape (b, q), and B for them, shape (b, q, q * o)."""
        process, aim, (b, q, d) = self.process, self.aim, X.shape
        rows = aim.expand(X).reshape(b, q * len(aim.weights), d)
        mean = process.goal_mean(aim, X)
        white = process.of_values(rows.reshape(-1, d)).reshape(-1, b, q, len(aim.weights))
        seen = process.of_seen(X.reshape(b * q, d)).reshape(-1, b, q * process.numbers)
        prior = process.value_seen(rows, X).reshape(b, q, len(aim.weights), -1)
        cross = aim.mean(prior.mT) - torch.einsum("nbq,nbj->bqj", aim.mean(white), seen)
        return mean, _right(root, cross)


def _right(root: Any, cross: Any) -> Any:
    """Cross times the inverse of the root's transpose."""
    return torch.linalg.solve_triangular(root, cross.mT, upper=False).mT


def _apart(A: Any, B: Any) -> Any:
    """Squared distances of rows (..., a, d) and (..., b, d), shape (..., a, b)."""
    return ((A.unsqueeze(-2) - B.unsqueeze(-3)) ** 2).sum(dim=-1)


def _matern52(r2: Any) -> Any:
    r = (5.0 * r2 + 1e-20).sqrt()  # the root has no slope at 0
    return (1.0 + r + (5.0 / 3.0) * r2) * (-r).exp()


def _matern32(r2: Any) -> Any:
    r = (3.0 * r2 + 1e-20).sqrt()
    return (1.0 + r) * (-r).exp()


class WarpedKernel(Kernel):
    """A kernel of bent rows; beyond the rows that it was fitted to, and the unit cube, they are taken as at its faces.

    Parameters
    ----------
    base : gpytorch Kernel
    powers : torch.Tensor of shape (d, 2)
    low, high : torch.Tensor of shape (d,)
        What is taken as 0 and 1.
    """

    def __init__(self, base: Kernel, powers: Any, low: Any, high: Any) -> None:
        super().__init__()
        self.base = base
        for name, given in (("powers", powers), ("low", low), ("high", high)):
            self.register_buffer(name, given)

    def bend(self, rows: Any) -> Any:
        return bent(((rows - self.low) / (self.high - self.low)).clamp(0.0, 1.0), self.powers)

    def forward(self, x1: Any, x2: Any, diag: bool = False, **params: Any) -> Any:
        return self.base.forward(self.bend(x1), self.bend(x2), diag=diag, **params)


def _direct(kernel: Any, scale: Any) -> tuple[Any, Any, Any, Any]:
    """Correlation of squared scaled distances, lengths, variance and bend of a kernel; None for one not known here.

    The same numbers as the kernel gives, at a fraction of the time that its graph takes for few rows.
    """
    height, bend = scale**2, None
    if isinstance(kernel, WarpedKernel):
        bend, kernel = kernel.bend, kernel.base
    if isinstance(kernel, ScaleKernel):
        height, kernel = height * kernel.outputscale.detach().reshape(()), kernel.base_kernel
    found = None
    if type(kernel) is MaternKernel:
        found = {2.5: _matern52, 1.5: _matern32}.get(kernel.nu)
    elif type(kernel) is RBFKernel:
        found = _rbf
    if found is None or kernel.active_dims is not None or kernel.batch_shape:
        return None, None, None, None
    return found, kernel.lengthscale.detach().double(), height.double(), bend


def _rbf(r2: Any) -> Any:
    return (-0.5 * r2).exp()


class PlainProcess(Process):
    """A single-output BoTorch model whose observations are values with noise.

    Parameters
    ----------
    model : botorch SingleTaskGP
    """

    def __init__(self, model: Any) -> None:
        self.model = model.eval()
        change = getattr(model, "outcome_transform", None)
        one = torch.ones(1, dtype=torch.float64)
        # A process of standardised values is one of the values themselves, shifted and stretched.
        self.scale = change.stdvs.detach().reshape(()) if change is not None else one[0]
        self.shift = change.means.detach().reshape(()) if change is not None else 0 * one[0]
        self._correlation, self._lengths, self._height, self._bend = _direct(model.covar_module, self.scale)
        with torch.no_grad():
            train, values = model.train_inputs[0], model.train_targets
            noise = model.likelihood.noise.detach().reshape(-1) * self.scale**2
            each = noise.expand(len(train)) if noise.numel() == 1 else noise
            residual = values * self.scale + self.shift - self.prior_mean(train)
            super().__init__(train, residual, each, 1, noise.mean()[None])

    def prior_mean(self, A: Any) -> Any:
        return self.model.mean_module(A) * self.scale + self.shift

    def value_value(self, A: Any, B: Any) -> Any:
        if self._correlation is None:
            return self.model.covar_module(A, B).to_dense() * self.scale**2
        if self._bend is not None:
            A, B = self._bend(A), self._bend(B)
        return self._correlation(_apart(A / self._lengths, B / self._lengths)) * self._height

    def marginal(self, A: Any) -> tuple[Any, Any]:
        """Posterior mean and variance of f at flat rows (a, d), each of shape (a,)."""
        cross = self.value_seen(A, self.train)
        white = self._whitened(cross.mT)
        prior = self._height if self._correlation is not None else self.value_value(A[:, None], A[:, None])[:, 0, 0]
        return self.prior_mean(A) + cross @ self.weights, (prior - (white**2).sum(dim=0)).clamp_min(1e-12 * self.scale**2)

    def value_seen(self, A: Any, X: Any) -> Any:
        return self.value_value(A, X)

    def seen_seen(self, X: Any, Z: Any) -> Any:
        return self.value_value(X, Z)
