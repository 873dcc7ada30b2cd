"""Gaussian processes that were observed with their gradients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from botorch.models.model import Model
from botorch.posteriors.gpytorch import GPyTorchPosterior
from gpytorch.distributions import MultivariateNormal
from numpy.typing import NDArray
from scipy.optimize import minimize

from locum.optimize._process import Process

__all__ = ["GradientModel", "covariance", "fitted_with_gradients"]

_LEAST_NOISE = 1e-6  # of the variance of the values; gradients likewise


def _profile(kernel: str, square: Any) -> tuple[Any, Any, Any]:
    """The kernel as a function of the squared scaled distance, and its first two derivatives."""
    if kernel == "rbf":
        value = (-square / 2).exp()
        return value, -value / 2, value / 4
    r = math.sqrt(5) * square.clamp_min(1e-20).sqrt()  # "matern52"
    fall = (-r).exp()
    return (1 + r + r**2 / 3) * fall, -5 / 6 * (1 + r) * fall, 25 / 12 * fall


def covariance(kernel: str, A: Any, X: Any, lengths: Any, left: bool, right: bool) -> Any:
    """Covariance of unit variance between rows, with gradients on either side where asked.

    Parameters
    ----------
    kernel : {"rbf", "matern52"}
    A : torch.Tensor of shape (..., a, d)
    X : torch.Tensor of shape (..., x, d)
    lengths : torch.Tensor of shape (d,)
    left, right : bool
        Whether each row stands for its value and d slopes, in this order, or for its value alone.

    Returns
    -------
    torch.Tensor of shape (..., a * (1 + d) or a, x * (1 + d) or x)
    """
    d = A.shape[-1]
    apart = (A[..., :, None, :] - X[..., None, :, :]) / lengths
    value, first, second = _profile(kernel, (apart**2).sum(-1))
    ramp = 2 * first[..., None] * apart / lengths  # slope of the kernel in the row on the left
    if not (left or right):
        return value
    if left and right:
        inner = -4 * second[..., None, None] * (apart / lengths)[..., :, None] * (apart / lengths)[..., None, :]
        inner = inner - 2 * first[..., None, None] * torch.diag(lengths**-2)
        top = torch.cat([value[..., None], -ramp], dim=-1)[..., None, :]
        block = torch.cat([top, torch.cat([ramp[..., None], inner], dim=-1)], dim=-2)  # (..., a, x, 1 + d, 1 + d)
        a, x = block.shape[-4:-2]
        return block.transpose(-3, -2).reshape(*block.shape[:-4], a * (1 + d), x * (1 + d))
    if right:
        return torch.cat([value[..., None], -ramp], dim=-1).flatten(-2)
    return torch.cat([value[..., None], ramp], dim=-1).transpose(-2, -1).flatten(-3, -2)


class GradientProcess(Process):
    """A process whose observations are values and gradients.

    Parameters
    ----------
    kernel : str
    rows : torch.Tensor of shape (n, d)
    seen : torch.Tensor of shape (n, 1 + d)
    settings : dict
        "lengths" of shape (d,), and "mean", "variance", "noise", "slope_noise", of values as they are.
    """

    def __init__(self, kernel: str, rows: Any, seen: Any, settings: dict[str, Any]) -> None:
        self.kernel, self.settings, self.seen = kernel, settings, seen
        n, d = rows.shape
        fresh = torch.cat([settings["noise"].reshape(1), settings["slope_noise"].expand(d)])
        level = torch.cat([settings["mean"].reshape(1), torch.zeros(d, dtype=rows.dtype)])
        super().__init__(rows, (seen - level).reshape(-1), fresh.repeat(n), 1 + d, fresh)

    def _covariance(self, A: Any, X: Any, left: bool, right: bool) -> Any:
        return self.settings["variance"] * covariance(self.kernel, A, X, self.settings["lengths"], left, right)

    def prior_mean(self, A: Any) -> Any:
        return self.settings["mean"].expand(A.shape[:-1])

    def value_value(self, A: Any, B: Any) -> Any:
        return self._covariance(A, B, False, False)

    def value_seen(self, A: Any, X: Any) -> Any:
        return self._covariance(A, X, False, True)

    def seen_seen(self, X: Any, Z: Any) -> Any:
        return self._covariance(X, Z, True, True)

    def log_likelihood(self) -> Any:
        """Of what was seen."""
        residual = self.root @ (self.root.mT @ self.weights)
        return -(residual @ self.weights) / 2 - self.root.diagonal().log().sum() - len(residual) / 2 * math.log(2 * math.pi)


class GradientModel(Model):
    """A `GradientProcess` as a BoTorch model of the value.

    Parameters
    ----------
    process : GradientProcess
    """

    def __init__(self, process: GradientProcess) -> None:
        super().__init__()
        self.process = process

    @property
    def num_outputs(self) -> int:
        return 1

    @property
    def batch_shape(self) -> torch.Size:
        return torch.Size()

    def posterior(
        self, X: Any, output_indices: Any = None, observation_noise: Any = False, posterior_transform: Any = None
    ) -> Any:
        process, (q, d) = self.process, X.shape[-2:]
        white = process.of_values(X.reshape(-1, d)).reshape(-1, *X.shape[:-1])
        spread = process.value_value(X, X) - torch.einsum("n...i,n...j->...ij", white, white)
        noise = process.fresh[0] if observation_noise else 1e-10 * process.settings["variance"]
        found = GPyTorchPosterior(MultivariateNormal(process.mean(X), spread + noise * torch.eye(q, dtype=X.dtype)))
        return found if posterior_transform is None else posterior_transform(found)

    def believing(self, X: Any) -> GradientModel:
        """A model that has seen its own means, gradients included, at X."""
        process = self.process
        with torch.no_grad():
            prior = torch.cat([process.settings["mean"].reshape(1), torch.zeros(X.shape[-1], dtype=X.dtype)])
            mean = process.seen_seen(X, process.train) @ process.weights
            seen = torch.cat([process.seen, mean.reshape(len(X), -1) + prior])
            return GradientModel(GradientProcess(process.kernel, torch.cat([process.train, X]), seen, process.settings))


def fitted_with_gradients(
    rows: NDArray[np.float64], values: NDArray[np.float64], gradients: NDArray[np.float64], kernel: str, noise: float | None
) -> GradientModel:
    """A process with settings at the mode of their posterior: lengths as in the process of values alone."""
    d, spread = rows.shape[1], float(values.std()) or 1.0
    X = torch.as_tensor(rows)
    seen = torch.as_tensor(np.column_stack([(values - values.mean()) / spread, gradients / spread]))
    known = None if noise is None else max(noise / spread**2, _LEAST_NOISE)
    centre = math.sqrt(2) + 0.5 * math.log(d)  # of the logarithm of a length
    likely = torch.tensor([centre] * d + [0.0, 0.0, -8.0, -8.0], dtype=X.dtype)
    width = torch.tensor([math.sqrt(3)] * d + [1.0, 2.0, 3.0, 3.0], dtype=X.dtype)

    def settings(flat: Any) -> dict[str, Any]:
        level = flat[d + 2].exp() + _LEAST_NOISE if known is None else torch.tensor(known, dtype=X.dtype)
        return {
            "lengths": flat[:d].exp(), "mean": flat[d], "variance": flat[d + 1].exp(), "noise": level,
            "slope_noise": flat[d + 3].exp() + _LEAST_NOISE,
        }  # fmt: skip

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        at = torch.tensor(flat, requires_grad=True)
        try:
            likelihood = GradientProcess(kernel, X, seen, settings(at)).log_likelihood()
        except torch.linalg.LinAlgError:
            return 1e10, np.zeros_like(flat)
        total = -likelihood + (((at - likely) / width) ** 2).sum() / 2
        (slope,) = torch.autograd.grad(total, at)
        return float(total.detach()), slope.numpy()

    start = np.array([max(centre - 3, -1.0)] * d + [0.0, 0.0, -8.0, -8.0])
    limits = [(-4.0, 6.0)] * d + [(-5.0, 5.0), (-6.0, 8.0), (-13.0, 2.0), (-13.0, 6.0)]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=limits, options={"maxiter": 200})
    with torch.no_grad():
        one = settings(torch.tensor(found.x))
        scales = {"lengths": 1.0, "mean": spread, "variance": spread**2, "noise": spread**2, "slope_noise": spread**2}
        one = {name: value * scales[name] for name, value in one.items()}
        one["mean"] = one["mean"] + float(values.mean())
        back = torch.as_tensor(np.column_stack([values, gradients]))
        return GradientModel(GradientProcess(kernel, X, back, one))
