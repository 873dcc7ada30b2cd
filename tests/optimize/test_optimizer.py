"""The loop: it finds known optima, resumes to the same points, foretells what it proposes, and loses nothing that was paid."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest

pytest.importorskip("botorch")

from locum.core.errors import InvalidData, LedgerError, TargetError
from locum.core.target import Budget
from locum.optimize import (
    Acquisition,
    Categorical,
    ExpectedImprovement,
    GaussianProcess,
    Integer,
    Optimizer,
    Real,
    Space,
    UpperConfidenceBound,
    maximize,
    minimize,
    objective,
    rows_of,
)
from locum.optimize.result import Foretold, deviations
from locum.optimize.warp import Power

SPACE = Space([Real("x", -5.0, 10.0), Real("y", 0.0, 15.0)])
MIXED = Space(
    [
        Real("rate", 1e-4, 1.0, log=True),
        Integer("depth", 1, 8),
        Categorical("kind", ("a", "b", "c")),
        Real("share", 0.0, 1.0, when=("kind", ("b",))),
    ]
)


def branin(point):
    x, y = point["x"], point["y"]
    ridge = y - 5.1 / (4 * np.pi**2) * x**2 + 5 / np.pi * x - 6
    return ridge**2 + 10 * (1 - 1 / (8 * np.pi)) * np.cos(x) + 10  # least: 0.397887


def mixed(point):
    base = (math.log10(point["rate"]) + 2) ** 2 + (point["depth"] - 5) ** 2 / 10
    return base + {"a": 1.0, "b": 0.0, "c": 2.0}[point["kind"]] + abs(point.get("share", 0.0) - 0.3)  # least: 0


# ---------------------------------------------------------------------- what it finds
def test_it_finds_what_random_points_do_not():
    found = [minimize(branin, SPACE, 25, random_state=seed).value for seed in range(2)]
    chance = [min(map(branin, SPACE.sample(25, np.random.default_rng(seed)))) for seed in range(20)]
    assert max(found) < 0.75
    assert np.median(chance) > 1.5


def test_maximising_is_minimising_the_opposite():
    low, high = minimize(branin, SPACE, 12), maximize(lambda point: -branin(point), SPACE, 12)
    assert high.points == low.points
    assert high.value == -low.value
    assert (high.trace == -low.trace).all()
    assert (np.diff(low.trace) <= 0).all()


def test_choices_whole_numbers_and_conditions():
    found = minimize(mixed, MIXED, 26, random_state=1)
    assert found.value < 0.4
    assert (found.best["kind"], found.best["depth"]) == ("b", 5)
    assert all(MIXED.check(point) == point for point in found.points)
    assert len({MIXED.key(point) for point in found.points}) == 26


def test_a_space_of_few_points_is_searched_through_and_left():
    space = Space([Integer("i", 0, 4), Categorical("c", "xy")])
    found = minimize(lambda point: (point["i"] - 3) ** 2 + (point["c"] == "x"), space, 40, initial=4)
    assert found.best == {"i": 3, "c": "y"}
    assert len(found.points) == 10
    assert found.stopped == "every point was evaluated"


def test_a_space_with_conditions_is_searched_through_and_left():
    space = Space([Categorical("kind", ("plain", "bent")), Integer("power", 2, 5, when=("kind", ("bent",)))])
    optimizer = Optimizer(space, direction="maximize", initial=2)
    while points := optimizer.ask():
        optimizer.tell(points, [float(point.get("power", 0)) for point in points])
    assert len(optimizer.points) == space.size == 5
    assert optimizer.recommend() == {"kind": "bent", "power": 5}


def test_the_last_points_of_a_large_finite_space_are_found():
    space = Space([Integer("a", 0, 34), Integer("b", 0, 34)])
    *known, left = space.points()
    optimizer = Optimizer(space, direction="minimize", initial=2)
    optimizer.tell(known, [float(point["a"] + point["b"]) for point in known])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that some are left out of the fit
        assert optimizer.ask(3) == [left]


def test_noise_does_not_decide_which_point_is_recommended():
    space, off = Space([Real("x", 0.0, 1.0)]), []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        optimizer = Optimizer(space, direction="minimize", initial=15)
        for point in space.sobol(60, random_state=seed):
            optimizer.tell([point], [(point["x"] - 0.3) ** 2 + rng.normal(scale=0.06)])
        luckiest = optimizer.points[int(np.argmin(optimizer.values))]["x"]
        off.append([abs(optimizer.recommend()["x"] - 0.3), abs(luckiest - 0.3)])
    recommended, lucky = np.mean(off, axis=0)
    assert recommended < 0.08
    assert recommended < 0.8 * lucky


def test_ten_thousand_evaluations_are_thinned_and_that_is_said():
    optimizer = Optimizer(SPACE, direction="minimize")
    points = SPACE.sample(10_000, np.random.default_rng(0))
    optimizer.tell(points, [branin(point) for point in points])
    with pytest.warns(UserWarning, match="ModelAverage is fitted to 2000 of 10000 evaluations"):
        (point,) = optimizer.ask()
    assert branin(point) < 0.45  # its least value is 0.398
    assert branin(optimizer.recommend()) < 0.45


@pytest.mark.parametrize("acquisition", [ExpectedImprovement(), UpperConfidenceBound(2.0)])
def test_other_acquisitions_and_surrogates(acquisition):
    found = minimize(branin, SPACE, 20, acquisition=acquisition, surrogate=GaussianProcess("rbf", noise=0.0))
    assert found.value < 3


# ---------------------------------------------------------------------- ask and tell
def test_what_is_proposed_depends_on_what_was_told_alone():
    def told(n, seed=0):
        optimizer = Optimizer(SPACE, direction="minimize", initial=4, random_state=seed)
        for point in SPACE.sobol(n, random_state=9):
            optimizer.tell([point], [branin(point)])
        return optimizer

    one, two = told(8), told(8)
    np.random.seed(3)  # noqa: NPY002
    assert one.ask(2) == two.ask(2)
    assert told(8, seed=1).ask(2) != told(8).ask(2)


def test_pending_points_are_not_proposed_twice_and_lie_apart():
    optimizer = Optimizer(SPACE, direction="minimize", initial=6)
    for point in SPACE.sobol(10, random_state=9):
        optimizer.tell([point], [branin(point)])
    points = optimizer.ask(4)
    assert optimizer.pending == points
    rows = SPACE.encode(points)
    apart = np.linalg.norm(rows[:, None] - rows[None], axis=2)[np.triu_indices(4, 1)]
    assert apart.min() > 0.01
    optimizer.tell(points[:1], [branin(points[0])])
    assert optimizer.pending == points[1:]


def test_first_points_fill_the_space_whatever_was_told_before():
    optimizer = Optimizer(SPACE, direction="minimize", initial=8)
    assert optimizer.ask(8) == SPACE.sobol(8, 0)


def test_each_point_is_foretold_before_it_is_evaluated():
    found = minimize(branin, SPACE, 30)
    cover, score = found.fidelity
    assert cover.measure == "coverage of 90% intervals"
    assert cover.n == score.n == 30 - 6
    assert cover.value > 0.6
    assert score.value > 0
    assert minimize(branin, SPACE, 12).fidelity == ()
    assert "fidelity not measured" in minimize(branin, SPACE, 12).text()


# ---------------------------------------------------------------------- paid for
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_intervals_are_as_wide_as_what_was_foretold_shows(direction):
    sign = 1.0 if direction == "minimize" else -1.0
    optimizer = Optimizer(Space.box([(0.0, 1.0)] * 2), direction=direction, initial=5, random_state=0)
    for _ in range(8):
        points = optimizer.ask()
        optimizer.tell(points, [sign * float(np.cos(9 * p["x0"]) + p["x1"] ** 2) for p in points])
    line = [{"x0": x, "x1": 0.3} for x in np.linspace(0, 1, 9)]
    low, middle, high = optimizer.interval(line).T
    assert (low < middle).all()
    assert (middle < high).all()
    narrow = optimizer.interval(line, 0.5)
    assert ((low < narrow[:, 0]) & (narrow[:, 2] < high)).all()
    with pytest.raises(InvalidData, match="level="):
        optimizer.interval(line, 1.0)


def test_intervals_reach_as_far_as_errors_foretold_did():
    def told(errors):
        return [Foretold(0.0, 2.0, 0.0, 1.0, Power(), value=2.0 * one) for one in errors]

    normal = 1.6448536
    assert deviations(told(np.linspace(0.1, 5, 9)), 0.9) == pytest.approx(normal)  # too few to say
    assert deviations(told(np.linspace(0, 1, 40)), 0.9) == pytest.approx(normal)  # never narrower
    errors = np.arange(1.0, 20.0)
    assert deviations(told(np.random.default_rng(0).permutation(errors) * -1), 0.9) == 18.0  # the (19 + 1) 0.9th
    assert deviations([*told(errors), Foretold(0.0, 1.0, 0.0, 1.0, Power())], 0.9) == 18.0  # one is not evaluated yet
    assert deviations(told(errors), 0.99) == 19.0


def test_a_run_that_was_killed_goes_on_with_the_same_points_and_pays_for_none_twice(tmp_path):
    calls = []

    def dear(point):
        if len(calls) == 11 and not resumed:
            raise KeyboardInterrupt
        calls.append(point)
        return branin(point)

    resumed = False
    with pytest.raises(KeyboardInterrupt):
        minimize(objective(dear, SPACE, name="branin", ledger=tmp_path / "ledger.db"), SPACE, 15)
    resumed = True
    found = minimize(objective(dear, SPACE, name="branin", ledger=tmp_path / "ledger.db"), SPACE, 15)
    assert len(calls) == 15
    assert list(found.points) == calls
    assert found.points == minimize(branin, SPACE, 15).points
    with pytest.raises(LedgerError):
        objective(dear, Space.box([(0, 1)]), name="branin", ledger=tmp_path / "ledger.db")


def test_a_budget_of_money_ends_the_run():
    target = objective(branin, SPACE, name="branin", price=2.0)
    found = minimize(target, SPACE, Budget(money=21.0))
    assert len(found.points) == 10
    assert found.stopped == "the budget ended"
    assert "20.00" in found.account


def test_no_more_is_asked_where_no_gain_is_expected():
    space, exact = Space([Real("x", -3.0, 3.0)]), GaussianProcess(noise=0.0)
    found = minimize(lambda point: (point["x"] - 1) ** 2, space, 60, least_gain=1e-3, surrogate=exact)
    assert len(found.points) < 25
    assert found.stopped == "no improvement of 0.001 is expected"
    assert found.value < 1e-2


def test_progress_is_told():
    said = []
    minimize(branin, SPACE, 8, progress=lambda *what: said.append(what))
    assert [done for done, _, _ in said] == list(range(1, 9))
    assert said[-1][1] == 8
    assert said[-1][2].startswith("best ")


# ---------------------------------------------------------------------- what fails
def test_evaluations_that_fail_are_kept_and_avoided():
    def fails(point):
        if point["x"] > 2:
            raise RuntimeError("diverged")
        return float("nan") if point["y"] > 12 else branin(point)

    found = minimize(fails, SPACE, 28, random_state=2)
    failed = np.isnan(found.values)
    assert failed[:6].any()
    assert failed[16:].mean() < failed[:6].mean()
    assert found.best["x"] <= 2
    assert f"{failed.sum()} of them failed" in found.text()
    assert json.loads(json.dumps(found.to_dict()))["values"].count(None) == failed.sum()


def test_where_everything_fails_it_says_so():
    with pytest.raises(TargetError, match="all 8 evaluations failed"):
        minimize(lambda point: float("nan"), SPACE, 8)


def test_a_constant_objective_is_no_error():
    found = minimize(lambda point: 3.0, SPACE, 10)
    assert found.value == 3.0
    assert len({SPACE.key(point) for point in found.points}) == 10


# ---------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Optimizer([(0, 1)], direction="minimize"), "expected a Space"),
        (lambda: Optimizer(SPACE, direction="min"), "minimize, maximize, got 'min'"),
        (lambda: Optimizer(SPACE, "gp", direction="minimize"), "to be a Surrogate"),
        (lambda: Optimizer(SPACE, None, "ei", direction="minimize"), "to be an Acquisition"),
        (lambda: Optimizer(SPACE, direction="minimize", initial=1), "initial= to be a whole number of 2 or more"),
        (lambda: minimize(branin, SPACE, 3), "at least the 6 first points, got 3"),
        (lambda: minimize(branin, SPACE, 9, batch=0), "batch= to be a whole number"),
        (lambda: minimize(7, SPACE, 9), "expected a function of a point"),
        (lambda: UpperConfidenceBound(-1), "beta= of 0 or more"),
        (lambda: minimize(branin, SPACE, 9, surrogate=GaussianProcess("periodic")), "kernel= to be one of"),
        (lambda: minimize(branin, SPACE, 9, surrogate=GaussianProcess(noise=-1.0)), "noise= to be"),
        (lambda: Optimizer(SPACE, direction="minimize").recommend(), "nothing was told yet"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(make, message):
    with pytest.raises(InvalidData, match=message):
        make()


def test_what_is_told_is_checked_as_a_whole():
    optimizer = Optimizer(SPACE, direction="minimize")
    good = {"x": 0.0, "y": 1.0}
    for points, values, message in (
        ([good, {"x": 11.0, "y": 1.0}], [1.0, 2.0], "x between"),
        ([good], [1.0, 2.0], "a value for each of 1 points, got 2"),
        ([good], [math.inf], "got infinity"),
        ([{"x": 0.0}], [1.0], "'y' is missing"),
    ):
        with pytest.raises(InvalidData, match=message):
            optimizer.tell(points, values)
    assert optimizer.points == []


# ---------------------------------------------------------------------- targets and surrogates
def test_rows_and_points_are_the_same_thing():
    seen = []
    target = objective(lambda point: seen.append(point) or 1.0, MIXED, name="m")
    points = MIXED.sample(6, np.random.default_rng(0))
    target.query(rows_of(MIXED, points), "fit")
    assert seen == points
    assert rows_of(SPACE, SPACE.sobol(3)).dtype == float


def test_the_process_interpolates_without_noise_and_covers_with_it():
    rng = np.random.default_rng(0)
    U = rng.random((40, 2))
    y = 3 + np.sin(5 * U[:, 0]) * 10 + U[:, 1]
    exact = GaussianProcess(noise=0.0).fit(U, y)
    np.testing.assert_allclose(exact.predict(U), y, atol=0.05)
    noisy = GaussianProcess().fit(U, y + rng.normal(scale=2.0, size=40))
    V = rng.random((400, 2))
    mean, sd = noisy.predict(V, return_std=True)
    fresh = 3 + np.sin(5 * V[:, 0]) * 10 + V[:, 1] + rng.normal(scale=2.0, size=400)
    assert 0.85 < (np.abs(fresh - mean) < 1.96 * sd).mean() <= 1
    assert sd.min() > 1


def test_surrogates_refuse_what_they_cannot_use():
    for U, y, message in (
        (np.ones((1, 2)), [1.0], "two or more rows"),
        (np.ones((3, 2)), [1.0, 2.0], "one value each"),
        (np.ones((3, 2)), [1.0, 2.0, np.nan], "NaN or infinity"),
    ):
        with pytest.raises(InvalidData, match=message):
            GaussianProcess().fit(U, y)
    with pytest.raises(InvalidData, match=r"rows of shape \(m, 2\)"):
        GaussianProcess().fit(np.random.default_rng(0).random((5, 2)), np.arange(5.0)).predict(np.ones((3, 4)))


@pytest.mark.parametrize("n", [20, 450])
def test_few_evaluations_are_worked_on_by_one_thread(n):
    import torch

    seen = []

    class Watched(Acquisition):
        """The mean, and how many threads there were."""

        def of(self, model, known):
            def value(X):
                seen.append(torch.get_num_threads())
                return model.posterior(X).mean[:, 0, 0]

            return value

    threads = torch.get_num_threads()
    optimizer = Optimizer(SPACE, acquisition=Watched(), direction="minimize")
    points = SPACE.sample(n, np.random.default_rng(0))
    optimizer.tell(points, [branin(point) for point in points])
    optimizer.ask()
    assert set(seen) == {1 if n == 20 else threads}
    assert torch.get_num_threads() == threads
