"""The solver at coarser settings: order of its errors, which of them is as fast or as good, and what is refused."""

from __future__ import annotations

import time

import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.emulate import CoarseSolver, CoarseSolvers, RolloutErrors, coarse_solvers, rollout_errors
from locum.emulate.stepper import Steps
from locum.problems.pde import Burgers, RandomWaves

STATES, NU = RandomWaves.draw(6, bent=0.0, random_state=1), np.repeat([0.05, 0.5, 1.0], 2)


def solve(cells):
    return Burgers(cells).solve(STATES, NU, n_steps=4, dt=0.05, n_grid=16)


def test_finer_settings_are_nearer_by_the_order_of_the_solver():
    found = coarse_solvers(solve, [32, 64, 128], solve(512), NU[:, None], repeats=1)
    errors = np.array([one.error("RMSE") for one in found.solvers])
    assert (errors[:-1] / errors[1:] > 2.5).all()  # of second order, less a little at the limiter
    assert [one.setting for one in found.solvers] == [32, 64, 128]
    assert str(found).count("nRMSE") == 3


def test_errors_are_those_of_a_stepper_that_answers_the_same():
    truth = solve(256)
    said = solve(32)

    class Replays(Steps):
        def step(self, z, p=None):
            raise NotImplementedError

        def rollout(self, z0, n_steps, p=None):
            return np.moveaxis(said[:, -n_steps:], 1, 0)

    mine = coarse_solvers(lambda cells: said, ["one"], truth, NU[:, None], history=2, repeats=1).solvers[0].errors
    its = rollout_errors(Replays(), truth, NU[:, None], history=2)
    for name, values in its.by_run.items():
        np.testing.assert_array_equal(mine.by_run[name], values)


def made(setting, seconds, error):
    errors = RolloutErrors(np.zeros((1, 1)), np.zeros(2, dtype=int), {"nRMSE": np.full(2, error)}, np.zeros(2, dtype=bool))
    return CoarseSolver(setting, seconds, errors)


def test_the_best_that_is_as_fast_and_the_fastest_that_is_as_good():
    solvers = CoarseSolvers((made("a", 1.0, 0.5), made("b", 2.0, 0.1), made("c", 3.0, 0.2), made("d", 9.0, 0.01)))
    assert solvers.within(3.5).setting == "b"
    assert solvers.within(1.0).setting == "a"
    assert solvers.within(0.5) is None
    assert solvers.as_good_as(0.3).setting == "b"
    assert solvers.as_good_as(0.05).setting == "d"
    assert solvers.as_good_as(0.001) is None
    with pytest.raises(InvalidData, match="seconds"):
        solvers.within(0.0)
    with pytest.raises(InvalidData, match="measure= to be one of nRMSE"):
        solvers.within(1.0, "distance")


def test_seconds_are_the_median_of_repeats():
    waits = iter([0.0, 0.05, 0.0])

    def slow(setting):
        time.sleep(next(waits))
        return solve(16)

    (one,) = coarse_solvers(slow, ["a"], solve(32), NU[:, None], repeats=3).solvers
    assert 0 < one.seconds < 0.05


def test_a_solver_that_blows_up_has_the_worst_error():
    (one,) = coarse_solvers(lambda _: np.full((6, 5, 1, 16), np.nan), ["a"], solve(32), NU[:, None], repeats=1).solvers
    assert one.error("nRMSE") == 10.0
    assert one.errors.diverged.all()


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(InvalidData, match=r"expected runs of shape \(6, 5, 1, 16\) from solve\(8\), got \(6, 5, 1, 8\)"):
        coarse_solvers(lambda cells: solve(32)[..., :cells], [8], solve(32), NU[:, None])
    with pytest.raises(InvalidData, match="at least one setting"):
        coarse_solvers(solve, [], solve(32), NU[:, None])
    with pytest.raises(InvalidData, match="two runs or more at each value"):
        coarse_solvers(lambda cells: pytest.fail("solved before it was refused"), [16], solve(32), np.arange(6.0)[:, None])
