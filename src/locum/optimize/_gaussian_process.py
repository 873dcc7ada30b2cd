"""Gaussian processes in BoTorch: kernels, means, and settings that are fitted or sampled."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable
from typing import Any, cast

import gpytorch
import numpy as np
import torch
from botorch.exceptions.errors import ModelFittingError
from botorch.exceptions.warnings import OptimizationWarning
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.transforms import Standardize
from gpytorch.constraints import GreaterThan, Interval
from gpytorch.kernels import Kernel, MaternKernel, RBFKernel, ScaleKernel
from gpytorch.likelihoods import GaussianLikelihood
from gpytorch.means import ConstantMean, Mean
from gpytorch.mlls import ExactMarginalLogLikelihood
from gpytorch.priors import LogNormalPrior, NormalPrior
from gpytorch.utils.warnings import NumericalWarning
from numpy.typing import NDArray

from locum.optimize._likelihood import CORRELATIONS, Priors, Settings, likeliest
from locum.optimize._process import WarpedKernel
from locum.optimize.surrogate import evenly

__all__ = ["fitted", "sampled"]

_LEAST_NOISE = 2e-6  # of the variance of the values: less leaves the kernel matrix singular
_NOISE = (-4.0, 3.0)  # prior of its logarithm, for standardised values: wide, as an objective is often without any
_WEIGHTS = 10.0  # deviation of the prior of weights of the mean
# Logarithms of lengths less the centre of their prior, and noise: short lengths with little noise, longer ones with much.
_STARTS = ((-3.0, 0.01), (-1.5, 0.3))
_ROWS = 400  # that the settings are found from, where there are more
_SMOOTH = {"matern52": 2.5, "matern32": 1.5, "matern12": 0.5}
_BURN, _APART, _SAMPLES = 16, 2, 8  # sweeps before the first sample, sweeps from one to the next, and samples
_WIDE, _OUT = 1.0, 4  # first width of a slice, and how often either end may step out


class PowerExponentialKernel(Kernel):
    """exp(-Σ |x - x'|^p) of scaled rows, with p between 1 and 2."""

    has_lengthscale = True

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.register_parameter("raw_power", torch.nn.Parameter(torch.zeros(1)))
        self.register_constraint("raw_power", Interval(1.0, 2.0))

    @property
    def power(self) -> Any:
        return self.raw_power_constraint.transform(self.raw_power)

    def forward(self, x1: Any, x2: Any, diag: bool = False, **params: Any) -> Any:
        one, two = x1 / self.lengthscale, x2 / self.lengthscale
        apart = (one - two) if diag else one.unsqueeze(-2) - two.unsqueeze(-3)
        # Powers of 0 have no slope in the power.
        return (-(apart.abs().clamp_min(1e-10) ** self.power).sum(dim=-1)).exp()


class FeatureMean(Mean):
    """A constant and a weighted sum of features of the rows."""

    def __init__(self, features: Callable[[Any], Any], width: int, prior: Any) -> None:
        super().__init__()
        self.features = features
        self.register_parameter("constant", torch.nn.Parameter(torch.zeros(1)))
        self.register_parameter("weights", torch.nn.Parameter(torch.zeros(features(torch.zeros(1, width)).shape[-1])))
        if prior is not None:
            self.register_prior("weights_prior", prior, "weights")

    def forward(self, x: Any) -> Any:
        return self.constant + self.features(x) @ self.weights


def _mean(mean: str | Callable[[Any], Any], width: int, priors: bool) -> Mean:
    if mean == "constant":
        return ConstantMean()
    known: dict[Any, Callable[[Any], Any]] = {
        "linear": lambda rows: rows - 0.5,
        "quadratic": lambda rows: torch.cat([rows - 0.5, (rows - 0.5) ** 2], dim=-1),
    }
    features = mean if callable(mean) else known[mean]
    return FeatureMean(features, width, NormalPrior(0.0, _WEIGHTS) if priors else None)


def _kernel(kernel: str, d: int, priors: bool) -> Kernel:
    lengths = LogNormalPrior(*_length_prior(d))
    given: dict[str, Any] = {"ard_num_dims": d}
    if priors:
        given["lengthscale_prior"] = lengths
    if kernel in _SMOOTH:
        out: Kernel = MaternKernel(nu=_SMOOTH[kernel], **given)
    else:
        out = RBFKernel(**given) if kernel == "rbf" else PowerExponentialKernel(**given)
    out.lengthscale = lengths.mode.expand(1, d)
    return out if priors else ScaleKernel(out)


def _length_prior(d: int) -> tuple[float, float]:
    return math.sqrt(2) + 0.5 * math.log(d), math.sqrt(3)


def _likelihood(priors: bool) -> GaussianLikelihood:
    prior = LogNormalPrior(*_NOISE) if priors else None
    return GaussianLikelihood(noise_prior=prior, noise_constraint=GreaterThan(_LEAST_NOISE))


def fitted(
    rows: NDArray[np.float64],
    values: NDArray[np.float64],
    kernel: str,
    noise: float | None,
    mean: str | Callable[[Any], Any] = "constant",
    *,
    priors: bool = True,
    warped: bool = False,
) -> SingleTaskGP:
    """A process with settings at the mode of their posterior, or of the likelihood."""
    X, Y = torch.as_tensor(rows), torch.as_tensor(values)[:, None]
    spread = float(values.std())
    if spread <= 1e-12 * (1 + abs(float(values.mean()))):  # nothing to learn: any scale will do
        spread, Y = 1.0, Y + 1e-9 * torch.linspace(-1, 1, len(Y), dtype=Y.dtype)[:, None]
    d = rows.shape[1]
    # Given noise is in the unit of the values; the model takes it before they are standardised.
    known = None if noise is None else torch.full_like(Y, max(noise, _LEAST_NOISE * spread**2))
    model = SingleTaskGP(
        X, Y, train_Yvar=known, likelihood=_likelihood(priors) if known is None else None,
        covar_module=_kernel(kernel, d, priors), mean_module=_mean(mean, d, priors), outcome_transform=Standardize(1),
    )  # fmt: skip
    if kernel in CORRELATIONS:
        (told, heights, features), given = _told(model), None if known is None else _noise_of(model)
        ends = np.minimum(rows.min(axis=0), 0.0), np.maximum(rows.max(axis=0), 1.0)  # rows of a space lie in between already
        told = (told - ends[0]) / (ends[1] - ends[0]) if warped else told
        found = likeliest(told, heights, features, kernel, given, *_search(d, priors, model), warped)
        _set(model, found)
        if found.powers is not None:
            model.covar_module = WarpedKernel(model.covar_module, *map(torch.as_tensor, (found.powers, *ends)))
        return model.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OptimizationWarning)  # where it stops early, where it stands is good enough
        warnings.simplefilter("ignore", NumericalWarning)  # settings on the way may need jitter
        try:
            fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        except ModelFittingError:
            model.eval()  # the settings of the priors stand
    return model


# ---------------------------------------------------------------------- the usual kernels, without a graph
def _some(model: SingleTaskGP) -> NDArray[np.intp]:
    """Rows that the settings are found from: all, or as many as tell them well, spread over the order they came in."""
    return evenly(len(model.train_targets), _ROWS)


def _told(model: SingleTaskGP) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Rows, standardised values, and a column of ones with the features of the mean."""
    some = torch.as_tensor(_some(model))
    rows, values = model.train_inputs[0][some], model.train_targets[some]
    features = torch.ones(len(rows), 1, dtype=rows.dtype)
    if isinstance(model.mean_module, FeatureMean):
        with torch.no_grad():
            features = torch.cat([features, model.mean_module.features(rows)], dim=-1)
    return rows.numpy(), values.numpy(), features.numpy()


def _noise_of(model: SingleTaskGP) -> NDArray[np.float64]:
    """Given variances of standardised values."""
    noise: Any = model.likelihood.noise
    return np.asarray(noise.detach().reshape(-1).numpy()[_some(model)])


def _search(d: int, priors: bool, model: SingleTaskGP) -> tuple[Priors | None, list[Settings], float]:
    """Priors, where the search starts, and the least noise."""
    centre, width = _length_prior(d)
    beliefs = Priors((centre, width), _NOISE, _WEIGHTS) if priors else None
    features = model.mean_module.weights.numel() if isinstance(model.mean_module, FeatureMean) else 0
    mean = np.zeros(1 + features)
    starts = [Settings(np.full(d, math.exp(centre + at)), 1.0, noise, mean) for at, noise in _STARTS]
    return beliefs, starts, _LEAST_NOISE


def _set(model: SingleTaskGP, found: Settings) -> None:
    kernel: Any = model.covar_module
    base = kernel.base_kernel if isinstance(kernel, ScaleKernel) else kernel
    base.lengthscale = torch.as_tensor(found.lengths)[None]
    if isinstance(kernel, ScaleKernel):
        kernel.outputscale = torch.tensor(found.scale)
    if found.noise is not None:
        model.likelihood.noise = torch.tensor([max(found.noise, 1.000001 * _LEAST_NOISE)])
    mean: Any = model.mean_module
    with torch.no_grad():
        mean.constant.fill_(float(found.mean[0]))
        if isinstance(mean, FeatureMean):
            mean.weights.copy_(torch.as_tensor(found.mean[1:]))


# ---------------------------------------------------------------------- settings drawn from their posterior
def sampled(model: SingleTaskGP, rng: np.random.Generator) -> tuple[SingleTaskGP, ...]:
    """Copies of a process with settings drawn from their posterior, by slice sampling one setting after another.

    Neal, *Slice sampling*, 2003. Settings that are positive are sampled as logarithms.
    """
    density = _Density(model)
    at, out = density.start, []
    height = density(at)
    for sweep in range(_BURN + _APART * _SAMPLES):
        for j in range(len(at)):
            at, height = _slice(density, at, height, j, rng)
        if sweep >= _BURN and (sweep - _BURN) % _APART == _APART - 1:
            density(at)
            out.append(copy.deepcopy(model).eval())
    return tuple(out)


class _Density:
    """Logarithm of the posterior of a model's settings, as a function of one vector; it leaves them in the model."""

    def __init__(self, model: SingleTaskGP) -> None:
        self.model, whole = model.train(), cast(Any, model)
        self.mll = ExactMarginalLogLikelihood(model.likelihood, model)
        self.parts = [(raw, limit) for _, raw, limit in whole.named_parameters_and_constraints() if raw.requires_grad]
        first: list[Any] = [raw if limit is None else limit.transform(raw).log() for raw, limit in self.parts]
        self.start = torch.cat([one.detach().reshape(-1) for one in first]).double().numpy()

    def __call__(self, at: NDArray[np.float64]) -> float:
        jacobian, place = 0.0, 0
        for raw, limit in self.parts:
            given = torch.as_tensor(at[place : place + raw.numel()]).reshape(raw.shape).to(raw.dtype)
            place += raw.numel()
            if limit is not None:
                jacobian += float(given.sum())
                given = limit.inverse_transform(given.exp())
                if not (torch.isfinite(given).all() and limit.check_raw(given)):
                    return -math.inf
            raw.data = given
        with torch.no_grad(), gpytorch.settings.cholesky_max_tries(1):
            try:
                value = self.mll(self.model(*self.model.train_inputs), self.model.train_targets)
            except (RuntimeError, ValueError):  # a matrix that is not positive definite
                return -math.inf
        found = float(value) * len(self.model.train_targets) + jacobian
        return found if math.isfinite(found) else -math.inf


def _slice(
    density: _Density, at: NDArray[np.float64], height: float, j: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], float]:
    level = height + math.log(rng.random() + 1e-300)
    low = at[j] - _WIDE * rng.random()
    high = low + _WIDE

    def moved(to: float) -> NDArray[np.float64]:
        out = at.copy()
        out[j] = to
        return out

    for _ in range(_OUT):
        if density(moved(low)) <= level:
            break
        low -= _WIDE
    for _ in range(_OUT):
        if density(moved(high)) <= level:
            break
        high += _WIDE
    while True:
        to = low + (high - low) * rng.random()
        found = density(moved(to))
        if found > level or high - low < 1e-9:
            return moved(to), found
        low, high = (to, high) if to < at[j] else (low, to)
