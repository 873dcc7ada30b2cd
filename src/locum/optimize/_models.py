"""What the acquisitions share about models: their linear algebra, fixed normal numbers, and what it is to have seen more."""

from __future__ import annotations

from typing import Any

import torch
from botorch.sampling.qmc import NormalQMCEngine

from locum.optimize._gradient_process import GradientModel
from locum.optimize._process import PlainProcess, Process, Update
from locum.optimize.acquisition import Known

__all__ = ["Lines", "believing", "process_of", "standard_normals"]


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


class Lines:
    """The means of some decisions, and of the points observed, after observations there and at pending points: a + B z.

    Parameters
    ----------
    process : Process
    known : Known
    decisions : torch.Tensor of shape (m, width)
    samples : int
        Normal numbers that stand for z, where it is more than one number.

    Attributes
    ----------
    mean : torch.Tensor of shape (m,)
        Of the decisions, as things are.
    normals : torch.Tensor of shape (samples, r) or None
        None where z is one number, for which there are closed forms.
    """

    def __init__(self, process: Process, known: Known, decisions: Any, samples: int) -> None:
        self._update, self._pending = Update(process, known.aim, decisions), known.pending
        self.mean = self._update.mean
        numbers = process.numbers * (1 + (0 if known.pending is None else len(known.pending)))
        self.normals = None if numbers == 1 else standard_normals(samples, numbers, known.seed)

    def at(self, X: Any) -> tuple[Any, Any]:
        """Heights a of shape (b, m + q) and slopes B of shape (b, m + q, r), for X of shape (b, 1, width) and q - 1 pending."""
        if self._pending is not None:
            X = torch.cat([X, self._pending.expand(len(X), -1, -1)], dim=1)
        B, root = self._update.at(X)
        mean, own = self._update.itself(X, root)
        return torch.cat([self.mean.expand(len(X), -1), mean], dim=-1), torch.cat([B, own], dim=1)


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
