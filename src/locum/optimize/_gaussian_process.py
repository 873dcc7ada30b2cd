"""Gaussian processes in BoTorch, and the acquisition functions that the loop starts from."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from botorch.exceptions.errors import ModelFittingError
from botorch.exceptions.warnings import OptimizationWarning
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.transforms import Standardize
from gpytorch.kernels import MaternKernel, RBFKernel
from gpytorch.mlls import ExactMarginalLogLikelihood
from gpytorch.priors import LogNormalPrior
from numpy.typing import NDArray

__all__ = ["fitted"]

_LEAST_NOISE = 2e-6  # of the variance of the values: less leaves the kernel matrix singular


def fitted(rows: NDArray[np.float64], values: NDArray[np.float64], kernel: str, noise: float | None) -> SingleTaskGP:
    """A process with settings at the mode of their posterior."""
    X, Y = torch.as_tensor(rows), torch.as_tensor(values)[:, None]
    spread = float(values.std())
    if spread <= 1e-12 * (1 + abs(float(values.mean()))):  # nothing to learn: any scale will do
        spread, Y = 1.0, Y + 1e-9 * torch.linspace(-1, 1, len(Y), dtype=Y.dtype)[:, None]
    d = rows.shape[1]
    lengths = LogNormalPrior(loc=np.sqrt(2) + 0.5 * np.log(d), scale=np.sqrt(3))
    base = RBFKernel if kernel == "rbf" else MaternKernel
    smooth = {} if kernel == "rbf" else {"nu": 2.5 if kernel == "matern52" else 1.5}
    covariance = base(ard_num_dims=d, lengthscale_prior=lengths, **smooth)
    covariance.lengthscale = lengths.mode.expand(1, d)
    # Given noise is in the unit of the values; the model takes it before they are standardised.
    known = None if noise is None else torch.full_like(Y, max(noise, _LEAST_NOISE * spread**2))
    model = SingleTaskGP(X, Y, train_Yvar=known, covar_module=covariance, outcome_transform=Standardize(1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OptimizationWarning)  # where it stops early, where it stands is good enough
        try:
            fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        except ModelFittingError:
            model.eval()  # the settings of the priors stand
    return model
