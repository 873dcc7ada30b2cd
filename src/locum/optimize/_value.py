"""The value of points: an acquisition under a surrogate, with constraints, costs and failures foreseen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from locum.optimize._gaussian_process import fitted
from locum.optimize._models import believing, process_of
from locum.optimize.acquisition import Acquisition, Known, TakesPending
from locum.optimize.goal import Aim
from locum.optimize.noisy_improvement import chance_of_feasibility
from locum.optimize.surrogate import Surrogate

__all__ = ["mean_of", "value_of"]

_FLOAT = NDArray[np.float64]
Value = Callable[[Any], Any]


def value_of(
    surrogate: Surrogate,
    acquisition: Acquisition,
    known: Known,
    limits: list[Surrogate],
    failures: tuple[_FLOAT, _FLOAT] | None,
) -> Value:
    """Rows of shape (b, 1, width) to values of shape (b,).

    Points whose value is not known yet are taken to have given their mean: the spread near them falls, and the next point is
    another one. Chances, of keeping constraints and of not failing, are added as logarithms; that of a cost is taken off.
    """
    parts: list[Value] = []
    if len(known.rows):
        each = [_under(model, acquisition, known) for model in surrogate.models_]
        parts.append(lambda X: acquisition.average(torch.stack([value(X) for value in each])))
    if limits:
        parts.append(lambda X: chance_of_feasibility([one.model_ for one in limits], X))
    if failures is not None:
        chance = fitted(*failures, "matern52", None)
        parts.append(lambda X: _chance_above_half(chance, X))
    if known.aim.cost is not None:
        cost = known.aim.cost
        parts.append(lambda X: -torch.as_tensor(cost(X.detach()[:, 0].numpy())).log())
    return parts[0] if len(parts) == 1 else lambda X: sum(part(X) for part in parts)


def _under(model: Any, acquisition: Acquisition, known: Known) -> Value:
    """The acquisition under one model."""
    if known.pending is not None and not isinstance(acquisition, TakesPending):
        with torch.no_grad():
            mean = model.posterior(known.pending).mean[:, 0]
        model = believing(model, known.pending)
        rows, values = torch.cat([known.rows, known.pending]), torch.cat([known.values, mean])
        known = replace(known, rows=rows, values=values, pending=None)
    return acquisition.of(model, known)


def _chance_above_half(model: Any, X: Any) -> Any:
    found = model.posterior(X)
    mean, sd = found.mean.squeeze(-1).squeeze(-1), found.variance.clamp_min(1e-12).sqrt().squeeze(-1).squeeze(-1)
    return torch.special.log_ndtr((mean - 0.5) / sd)


def mean_of(surrogate: Surrogate, limits: list[Surrogate], aim: Aim, spread: float) -> Value:
    """Mean of the goal, less ten spreads for each standard deviation by which the mean of a constraint misses."""
    processes = [process_of(model) for model in surrogate.models_]

    def value(X: Any) -> Any:
        out = torch.stack([one.goal_mean(aim, X)[:, 0] for one in processes]).mean(dim=0)
        for one in limits:
            model: Any = one.model_
            scale = model.outcome_transform.stdvs.reshape(())
            out = out - 10 * spread * (-model.posterior(X).mean.reshape(len(X)) / scale).clamp_min(0)
        return out

    return value
