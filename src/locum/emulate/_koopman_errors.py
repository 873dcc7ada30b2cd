"""Errors of forecasts at some horizons, of a model and its rivals on the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locum.core.bounds import bootstrap_mean
from locum.core.errors import InvalidData, require_whole
from locum.core.fidelity import Fidelity
from locum.emulate.stepper import Forecasts, forecast_of
from locum.emulate.trajectories import Trajectories

__all__ = ["errors_by_horizon"]

Array = NDArray[np.float64]
_WORST = 1e12  # of a square, in variances: what a forecast that diverged has


def errors_by_horizon(
    models: Mapping[str, Forecasts],
    runs: Trajectories,
    horizons: Sequence[int],
    origins: int,
    spread: Array,
    level: float,
    random_state: int,
) -> dict[int, dict[str, Fidelity]]:
    """Root mean squared errors, in units of `spread` (d,), with intervals over runs, or over origins of a single run."""
    wanted = sorted({int(h) for h in horizons})
    if not wanted:
        raise InvalidData("expected at least one of horizons=, got none")
    require_whole(1, origins=origins, horizons=wanted[0])
    if min(runs.lengths) <= wanted[-1] + 1:
        raise InvalidData(f"expected runs of more than {wanted[-1] + 1} rows, got {min(runs.lengths)}")
    scale = np.where(spread > 0, spread, 1.0)
    squares = {name: _squares(model, runs, wanted, origins, scale) for name, model in models.items()}
    return {h: {name: _error(h, one[i], level, random_state) for name, one in squares.items()} for i, h in enumerate(wanted)}


def _squares(model: Forecasts, runs: Trajectories, horizons: list[int], origins: int, scale: Array) -> list[list[Array]]:
    """By horizon and run, the mean square of each origin's forecast, in variances."""
    found: list[list[Array]] = [[] for _ in horizons]
    for run in runs.states:
        starts = np.unique(np.linspace(0, len(run) - horizons[-1] - 1, origins).round().astype(int))
        with np.errstate(over="ignore", invalid="ignore"):
            said = np.stack([forecast_of(model, run[: at + 1], horizons[-1]) for at in starts])
            for i, h in enumerate(horizons):
                away = ((said[:, h - 1] - run[starts + h]) / scale) ** 2
                found[i].append(np.minimum(np.nan_to_num(away, nan=_WORST, posinf=_WORST), _WORST).mean(axis=1))
    return found


def _error(horizon: int, squares: list[Array], level: float, random_state: int) -> Fidelity:
    several = len(squares) > 1
    values = np.array([one.mean() for one in squares]) if several else squares[0]
    ends: Any = bootstrap_mean(values, level, random_state=random_state)
    low, value, high = (float(np.sqrt(max(one, 0.0))) for one in (ends.lower, values.mean(), ends.upper))
    how = "test runs" if several else "origins along one run"
    return Fidelity(
        f"NRMSE({horizon})", value, min(low, value), max(value, high), level, len(values), how=how, method=ends.method,
        greater_is_better=False,
    )  # fmt: skip
