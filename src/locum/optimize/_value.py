"""The value of points: an acquisition under a surrogate, with pending points believed and failures foreseen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from locum.optimize._gaussian_process import fitted
from locum.optimize.acquisition import Acquisition
from locum.optimize.surrogate import Surrogate

__all__ = ["value_of"]

_FLOAT = NDArray[np.float64]


def value_of(
    surrogate: Surrogate,
    acquisition: Acquisition,
    rows: _FLOAT,
    believed: _FLOAT | None,
    failures: tuple[_FLOAT, _FLOAT] | None,
) -> Callable[[Any], Any]:
    """Rows of shape (b, 1, width) to values of shape (b,).

    Points whose value is not known yet are taken to have given their mean: the spread near them falls, and the next point is
    another one. Where evaluations failed, the logarithm of the chance that one does not is added.
    """
    model = surrogate.model_
    if believed is not None:
        pending = torch.as_tensor(believed)
        with torch.no_grad():
            found: Any = model.posterior(pending)
            mean = found.mean
        model = _with(model, pending, mean)
        rows = np.vstack([rows, believed])
    value = acquisition.of(model, torch.as_tensor(rows))
    if failures is None:
        return value
    known, worked = failures
    chance = fitted(known, worked, "matern52", None)

    def both(X: Any) -> Any:
        found = chance.posterior(X)
        mean, sd = found.mean.squeeze(-1).squeeze(-1), found.variance.clamp_min(1e-12).sqrt().squeeze(-1).squeeze(-1)
        return value(X) + torch.special.log_ndtr((mean - 0.5) / sd)

    return both


def _with(model: Any, X: Any, Y: Any) -> Any:
    """A model that has seen more, with the settings it has."""
    noise = {}
    if getattr(model.likelihood, "noise", None) is not None and model.likelihood.noise.numel() > 1:
        noise = {"noise": torch.full_like(Y, float(model.likelihood.noise.mean()))}
    model.posterior(X)  # fills the caches that conditioning needs
    return model.condition_on_observations(X, Y, **noise)
