"""Kernels of networks: infinitely wide, linearised at trained weights, and on learned features."""

from __future__ import annotations

import math
from typing import Any

import gpytorch
import torch
from botorch.models import SingleTaskGP
from botorch.models.transforms import Standardize
from gpytorch.constraints import GreaterThan
from gpytorch.kernels import Kernel, MaternKernel, ScaleKernel
from gpytorch.likelihoods import GaussianLikelihood
from gpytorch.means import Mean
from gpytorch.mlls import ExactMarginalLogLikelihood
from gpytorch.priors import GammaPrior

from locum.optimize._bnn_networks import Layers, descended

__all__ = ["InfiniteWidthKernel", "TangentKernel", "deep_kernel", "infinite_width", "linearised"]

_EDGE = 1e-7  # of cosines, which the angle has no slope at
_LEAST_NOISE = 1e-4


class InfiniteWidthKernel(Kernel):
    """Covariance of an infinitely wide network with normal weights, in closed form (Cho and Saul; Lee et al., 1711.00165).

    Parameters
    ----------
    depth : int
        Hidden layers.
    weight, offset : float
        Variances, that of weights to be divided by the number of inputs of a layer.
    activation : {"relu", "erf"}
    """

    is_stationary = False

    def __init__(self, depth: int, weight: float, offset: float, activation: str) -> None:
        super().__init__()
        self.depth, self.weight, self.offset, self.activation = depth, weight, offset, activation

    def forward(self, x1: Any, x2: Any, diag: bool = False, **params: Any) -> Any:
        d = x1.shape[-1]
        across = (x1 * x2).sum(dim=-1) if diag else x1 @ x2.mT
        K = self.offset + self.weight * across / d
        one, two = (self.offset + self.weight * (x**2).sum(dim=-1) / d for x in (x1, x2))
        for _ in range(self.depth):
            a, b = (one, two) if diag else (one.unsqueeze(-1), two.unsqueeze(-2))
            K, one, two = self._step(K, a, b), self._step(one, one, one), self._step(two, two, two)
        return K

    def _step(self, K: Any, a: Any, b: Any) -> Any:
        if self.activation == "erf":
            return self.offset + 2 * self.weight / math.pi * torch.asin(2 * K / ((1 + 2 * a) * (1 + 2 * b)).sqrt())
        size = (a * b).sqrt()
        angle = torch.acos((K / size).clamp(-1 + _EDGE, 1 - _EDGE))
        return self.offset + self.weight / (2 * math.pi) * size * (angle.sin() + (math.pi - angle) * angle.cos())


class TangentKernel(Kernel):
    """Inner products of a network's gradients in its weights, without writing the gradients out.

    Over layers, that of what comes back times one more than that of what goes in.

    Parameters
    ----------
    layers : Layers
    weights : torch.Tensor of shape (1, size)
    prior : float
        Variance of the weights.
    """

    is_stationary = False

    def __init__(self, layers: Layers, weights: Any, prior: float) -> None:
        super().__init__()
        self.layers, self.prior = layers, prior
        self.parts = [(matrix[0], offset[0]) for matrix, offset in layers.split(weights)]

    def _passed(self, X: Any) -> tuple[list[Any], list[Any]]:
        """What goes into each layer (..., n, a), and what comes back to its output (..., n, b)."""
        inside, slopes, h = [X], [], X
        for matrix, offset in self.parts[:-1]:
            z = h @ matrix + offset
            if self.layers.activation == "tanh":
                h = torch.tanh(z)
                slopes.append(1 - h**2)
            elif self.layers.activation == "relu":
                h = torch.relu(z)
                slopes.append((z > 0).to(z))
            else:
                h = z
                slopes.append(torch.ones_like(z))
            inside.append(h)
        back = [torch.ones_like(X[..., :1])]
        for (matrix, _), slope in zip(reversed(self.parts[1:]), reversed(slopes), strict=True):
            back.append((back[-1] @ matrix.mT) * slope)
        return inside, back[::-1]

    def forward(self, x1: Any, x2: Any, diag: bool = False, **params: Any) -> Any:
        (in1, back1), (in2, back2) = self._passed(x1), self._passed(x2)
        total: Any = 0.0
        for a, b, c, e in zip(in1, back1, in2, back2, strict=True):
            if diag:
                total = total + (b * e).sum(dim=-1) * ((a * c).sum(dim=-1) + 1)
            else:
                total = total + (b @ e.mT) * (a @ c.mT + 1)
        return self.prior * total


class _FeatureKernel(Kernel):
    """A kernel on features that a module gives."""

    is_stationary = False

    def __init__(self, features: Any, base: Kernel) -> None:
        super().__init__()
        self.features, self.base = features, base

    def forward(self, x1: Any, x2: Any, diag: bool = False, **params: Any) -> Any:
        return self.base(self.features(x1), self.features(x2), diag=diag, **params)


class _NetworkMean(Mean):
    """A trained network as the mean, in the unit of the values."""

    def __init__(self, layers: Layers, weights: Any, shift: Any, scale: Any) -> None:
        super().__init__()
        self.layers, self.weights, self.shift, self.scale = layers, weights, shift, scale

    def forward(self, x: Any) -> Any:
        said = self.layers(self.weights, x.reshape(-1, x.shape[-1]))[0].reshape(x.shape[:-1])
        return self.shift + self.scale * said


# ---------------------------------------------------------------------- models
def _noise() -> GaussianLikelihood:
    return GaussianLikelihood(noise_prior=GammaPrior(1.1, 0.05), noise_constraint=GreaterThan(_LEAST_NOISE))


def infinite_width(X: Any, Y: Any, kernel: InfiniteWidthKernel) -> SingleTaskGP:
    """A process with that kernel; a constant mean and the noise are fitted."""
    from botorch.fit import fit_gpytorch_mll

    model = SingleTaskGP(X, Y, covar_module=kernel, likelihood=_noise(), outcome_transform=Standardize(1))
    fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    return model


def deep_kernel(X: Any, Y: Any, widths: tuple[int, ...], *, pretrain: int, steps: int, rate: float) -> SingleTaskGP:
    """A Matérn kernel on features of a network, which is trained with a head first, then with the marginal likelihood."""
    parts: list[Any] = []
    for a, b in zip((X.shape[-1], *widths), widths, strict=False):
        parts += [torch.nn.Linear(a, b), torch.nn.Tanh()]
    features, head = torch.nn.Sequential(*parts[:-1]).double(), torch.nn.Linear(widths[-1], 1).double()
    standard = (Y - Y.mean()) / Y.std().clamp_min(1e-12)
    both = [*features.parameters(), *head.parameters()]
    _adam(both, lambda: ((head(torch.tanh(features(X))) - standard) ** 2).mean(), pretrain, 1e-3)
    base = ScaleKernel(
        MaternKernel(nu=2.5, ard_num_dims=widths[-1], lengthscale_prior=GammaPrior(3.0, 6.0)),
        outputscale_prior=GammaPrior(2.0, 0.15),
    ).double()
    kernel = _FeatureKernel(features, base)
    model = SingleTaskGP(X, Y, covar_module=kernel, likelihood=_noise(), outcome_transform=Standardize(1)).train()
    mll = ExactMarginalLogLikelihood(model.likelihood, model)

    def unlikely() -> Any:
        return -mll(model(*model.train_inputs), model.train_targets)

    with gpytorch.settings.cholesky_jitter(double_value=1e-6):
        _adam(list(model.parameters()), unlikely, steps, rate)
    for one in model.parameters():
        one.requires_grad_(False)
    return model.eval()


def _adam(parameters: list[Any], loss: Any, steps: int, rate: float) -> None:
    optimizer = torch.optim.Adam(parameters, lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()


def linearised(
    X: Any, Y: Any, layers: Layers, *, steps: int, decay: float, given: tuple[float, float] | None
) -> tuple[SingleTaskGP, float, float]:
    """A network at its most likely weights, and the normal distribution of its linearisation there; prior and noise variances.

    Where the variances are not given, weights are trained with a fixed decay, and the variances are those of largest evidence.
    """
    shift, scale = Y.mean(), Y.std().clamp_min(1e-12)
    y = ((Y - shift) / scale)[:, 0]

    def loss(weights: Any) -> Any:
        return 0.5 * ((y - layers(weights, X)) ** 2).mean(dim=1)

    if given is not None:
        decay = given[1] / (given[0] * len(y))
    weights = descended(loss, layers.start(1), steps, 0.1 if layers.activation != "relu" else 0.01, decay=decay, cosine=True)
    with torch.no_grad():
        unit = TangentKernel(layers, weights, 1.0)(X, X).to_dense()
        left = y - layers(weights, X)[0]
    prior, found = given or _most_evident(unit, left, weights)
    kernel, mean = TangentKernel(layers, weights, prior * float(scale) ** 2), _NetworkMean(layers, weights, shift, scale)
    with torch.no_grad():
        said = mean(X)[:, None]
    variance = torch.full_like(Y, found * float(scale) ** 2)
    # Values that are the mean itself leave the mean as it is: only the spread is that of data.
    model = SingleTaskGP(X, said, train_Yvar=variance, covar_module=kernel, mean_module=mean, outcome_transform=None)
    return model.eval(), prior, found


def _most_evident(unit: Any, left: Any, weights: Any) -> tuple[float, float]:
    """Variances of prior and noise with the largest evidence of Laplace's approximation, by L-BFGS."""
    values, norm, error = torch.linalg.eigvalsh(unit).clamp_min(0), float((weights**2).sum()), float((left**2).sum())
    logs = torch.tensor([0.0, math.log(0.1)], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logs], max_iter=100, line_search_fn="strong_wolfe")

    def variances() -> tuple[Any, Any]:
        return logs[0].clamp(-12, 12).exp(), logs[1].clamp(math.log(_LEAST_NOISE), 6).exp()

    def unlikely() -> Any:
        optimizer.zero_grad()
        prior, noise = variances()
        # The determinant of the Hessian, over that of the prior, by the eigenvalues of the kernel.
        total = (1 + prior * values / noise).log().sum() + len(left) * noise.log() + error / noise + norm / prior
        total.backward()
        return total

    optimizer.step(unlikely)
    prior, noise = (float(one.detach()) for one in variances())
    return prior, noise
