"""The rival that is always there: the solver itself, at settings so coarse that it is as fast as what stands in for it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locum.core.errors import InvalidData, require_one_of, require_positive, require_whole
from locum.emulate._rollout_errors import RolloutErrors, errors_of, grouped

__all__ = ["CoarseSolver", "CoarseSolvers", "coarse_solvers"]

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class CoarseSolver:
    """A solver at one setting.

    Attributes
    ----------
    setting : object
        As it was given.
    seconds : float
        For all runs, median over repeats.
    errors : RolloutErrors
        Beside the true runs.
    """

    setting: Any
    seconds: float
    errors: RolloutErrors

    def error(self, measure: str) -> float:
        """Mean over runs."""
        return float(self.errors.by_run[measure].mean())


@dataclass(frozen=True, eq=False)
class CoarseSolvers:
    """A solver at several settings, in the order given.

    Attributes
    ----------
    solvers : tuple of CoarseSolver
    """

    solvers: tuple[CoarseSolver, ...]

    def within(self, seconds: float, measure: str = "nRMSE") -> CoarseSolver | None:
        """The setting with the least error of those that take no longer; None where all do.

        Parameters
        ----------
        seconds : float
            That the stand-in takes for the same runs, in the same process.
        measure : str, default="nRMSE"
            A key of `RolloutErrors.by_run`.
        """
        require_positive(seconds=seconds)
        require_one_of(tuple(self.solvers[0].errors.by_run), measure=measure)
        able = [one for one in self.solvers if one.seconds <= seconds]
        return min(able, key=lambda one: one.error(measure)) if able else None

    def as_good_as(self, error: float, measure: str = "nRMSE") -> CoarseSolver | None:
        """The fastest setting whose error is no larger; None where there is none.

        Parameters
        ----------
        error : float
            Mean over the same runs, of the stand-in.
        measure : str, default="nRMSE"
        """
        require_one_of(tuple(self.solvers[0].errors.by_run), measure=measure)
        able = [one for one in self.solvers if one.error(measure) <= error]
        return min(able, key=lambda one: one.seconds) if able else None

    def __str__(self) -> str:
        lines = [f"{one.setting}: nRMSE {one.error('nRMSE'):.3g} in {one.seconds:.3g} s" for one in self.solvers]
        return "\n".join(lines)


def coarse_solvers(
    solve: Callable[[Any], ArrayLike],
    settings: Sequence[Any],
    U: ArrayLike,
    P: ArrayLike,
    *,
    history: int = 1,
    repeats: int = 3,
) -> CoarseSolvers:
    """Solve the same runs at several settings, and tell what each costs and how far it is off.

    A stand-in for a solver is worth its training only where the solver itself, made as fast, is less accurate.

    Parameters
    ----------
    solve : callable
        ``solve(setting)``, the runs from the same initial states and parameters, on the grid and at the times of `U`.
    settings : sequence
        Such as numbers of cells, steps in time, or tolerances.
    U : array-like of shape (n, T, C, *grid)
        True runs, two or more at each value of the parameters.
    P : array-like of shape (n, k)
    history : int, default=1
        Frames that the stand-in is given, which are left out here too.
    repeats : int, default=3
        Of the time.

    Raises
    ------
    InvalidData
        No settings, or runs of another shape than `U`.

    Notes
    -----
    Cost: `repeats` solutions at each setting. Compare seconds of one process with as many threads for both.

    Examples
    --------
    >>> from locum.problems.pde import Burgers, RandomWaves
    >>> states, nu = RandomWaves.draw(4, random_state=0), np.repeat([0.02, 0.5], 2)
    >>> def solve(cells):
    ...     return Burgers(cells).solve(states, nu, n_steps=4, dt=0.05, n_grid=16)
    >>> found = coarse_solvers(solve, [16, 64], solve(256), nu[:, None])
    >>> found.solvers[0].error("RMSE") > found.solvers[1].error("RMSE")
    True
    >>> found.within(60.0).setting
    64
    """
    require_whole(1, history=history, repeats=repeats)
    runs, values, of = grouped(U, P, history)
    if not len(settings):
        raise InvalidData("expected at least one setting of the solver, got none")
    found = []
    for setting in settings:
        spent, said = [], np.empty(0)
        for _ in range(repeats):
            began = time.perf_counter()
            said = np.asarray(solve(setting), dtype=float)
            spent.append(time.perf_counter() - began)
        if said.shape != runs.shape:
            raise InvalidData(f"expected runs of shape {runs.shape} from solve({setting!r}), got {said.shape}")
        errors = errors_of(said[:, history:], runs, values, of, history)
        found.append(CoarseSolver(setting, max(float(np.median(spent)), math.ulp(0.0)), errors))
    return CoarseSolvers(tuple(found))
