"""What the acquisitions share about models: their linear algebra, fixed normal numbers, and what it is to have seen more."""

from __future__ import annotations

from typing import Any

import torch
from botorch.sampling.qmc import NormalQMCEngine

from locum.optimize._gradient_process import GradientModel
from locum.optimize._process import PlainProcess, Process

__all__ = ["believing", "process_of", "standard_normals"]


def process_of(model: Any) -> Process:
    """The linear algebra of a model.

    Parameters
    ----------
    model : botorch SingleTaskGP or GradientModel
    """
    return model.process if isinstance(model, GradientModel) else PlainProcess(model)


def standard_normals(n: int, width: int, seed: int) -> Any:
    """Normal numbers that fill their space evenly, shape (n, width), with a mean of zero."""
    Z: Any = NormalQMCEngine(width, seed=seed, inv_transform=True).draw(n, dtype=torch.float64)
    return Z - Z.mean(dim=0)


def believing(model: Any, X: Any) -> Any:
    """A model that has seen its own means at X, with the settings it has."""
    if isinstance(model, GradientModel):
        return model.believing(X)
    with torch.no_grad():
        Y = model.posterior(X).mean  # which also fills the caches that conditioning needs
    noise = {}
    if getattr(model.likelihood, "noise", None) is not None and model.likelihood.noise.numel() > 1:
        noise = {"noise": torch.full_like(Y, float(model.likelihood.noise.mean()))}
    return model.condition_on_observations(X, Y, **noise)
