"""Objectives at several levels: parity with a published collection, known optima, and what the solvers must obey."""

from __future__ import annotations

import sys
import types
import warnings

import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.problems import multi_fidelity as levels
from locum.problems.cantilever import cantilever
from locum.problems.training import training_curve

PAIRS = [
    levels.forrester_pair, levels.branin_pair, levels.currin_pair, levels.park_pair, levels.hartmann_pair, levels.borehole_pair,
]  # fmt: skip


def designs(problem, n, seed=0):
    low, high = problem.bounds.T
    return low + (high - low) * np.random.default_rng(seed).random((n, len(low)))


@pytest.mark.parametrize("make", PAIRS)
def test_the_optimum_is_where_it_is_said_to_be(make):
    problem = make()
    assert problem.evaluate(problem.optimum[None])[0] == pytest.approx(problem.least, rel=1e-12)
    assert problem.evaluate(designs(problem, 5000)).min() >= problem.least - 1e-9
    steps = np.random.default_rng(1).normal(size=(500, len(problem.bounds)))
    near = np.clip(problem.optimum + 1e-3 * np.ptp(problem.bounds, axis=1) * steps, *problem.bounds.T)
    assert problem.evaluate(near).min() >= problem.least - 1e-6 * abs(problem.least)


@pytest.fixture
def mf2(monkeypatch):
    """The package reads its own version by a module that is no longer shipped."""
    monkeypatch.setitem(
        sys.modules, "pkg_resources", types.SimpleNamespace(get_distribution=lambda name: types.SimpleNamespace(version="0"))
    )
    return pytest.importorskip("mf2")


@pytest.mark.parametrize(
    ("make", "name", "sign"),
    [
        (levels.forrester_pair, "forrester", 1), (levels.branin_pair, "branin", 1), (levels.currin_pair, "currin", -1),
        (levels.park_pair, "park91a", 1), (levels.hartmann_pair, "hartmann6", 1), (levels.borehole_pair, "borehole", 1),
    ],
)  # fmt: skip
def test_values_are_those_of_the_published_collection(mf2, make, name, sign):
    problem, peer = make(), getattr(mf2, name)
    X = designs(problem, 200)
    assert np.allclose(problem.bounds, np.column_stack([peer.l_bound, peer.u_bound]))
    for level, function in enumerate(reversed(peer.functions)):
        assert np.allclose(problem.evaluate(X, level), sign * np.ravel(function(X)), rtol=1e-9, atol=1e-9)


def test_a_level_is_a_function_of_a_point():
    problem = levels.branin_pair()
    low, high = problem.functions()
    point = {"x0": 1.0, "x1": 2.0}
    assert high(point) == problem.evaluate([[1.0, 2.0]])[0]
    assert low(point) == problem.evaluate([[1.0, 2.0]], 0)[0]


def test_strange_designs_are_refused():
    problem = levels.branin_pair()
    with pytest.raises(InvalidData, match=r"expected designs of shape \(n, 2\)"):
        problem.evaluate([[1.0]])
    with pytest.raises(InvalidData, match="within the box of branin"):
        problem.evaluate([[99.0, 1.0]])
    with pytest.raises(InvalidData, match="from 1 to 16"):
        levels.airfoil_levels(width=17)


def simulators():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of casadi, when it is imported
        pytest.importorskip("aerosandbox")
        pytest.importorskip("neuralfoil")


def test_finer_meshes_of_the_wing_agree_better_with_the_finest():
    simulators()
    problem = levels.wing_levels()
    X = designs(problem, 8)
    coarse, middle, fine = (problem.evaluate(X, level) for level in range(3))
    assert (fine < -15).all()
    assert (fine > -40).all()
    assert np.abs(middle - fine).mean() < np.abs(coarse - fine).mean()
    told = levels.wing_levels(trimmed=True).evaluate(X[:2])
    assert told.shape == (2, 2)
    assert np.allclose(told[:, 0], fine[:2])
    assert (told[:, 1] <= 0.05).all()


def test_larger_networks_agree_better_about_airfoils():
    simulators()
    problem = levels.airfoil_levels()
    X = designs(problem, 12)
    values = np.array([problem.evaluate(X, level) for level in range(4)])
    alike = np.corrcoef(values)[-1]
    assert alike[0] < alike[2] < 1
    assert (values[-1] < -20).all()
    # Weights of upper and lower side come in turn: those that do not move are those of NACA 2412.
    assert problem.evaluate(np.zeros((1, 8)))[0] == pytest.approx(levels.airfoil_levels(width=2).evaluate([[0.0, 0.0]])[0])


# ---------------------------------------------------------------------- meshes and epochs
def test_finer_meshes_of_the_cantilever_converge_at_the_known_order():
    pytest.importorskip("skfem")
    hole = [[1.2, 0.5, 0.2, 0.2]]

    def order(poisson):
        steps = np.diff([cantilever(hole, n, poisson)[0] for n in (16, 32, 64)])
        assert (steps > 0).all()  # elements are never softer than the plate
        return np.log2(steps[0] / steps[1])

    assert order(0.0) == pytest.approx(2.0, abs=0.1)
    assert 1.52 < order(0.3) < order(0.0)


def test_a_cantilever_with_hardly_a_hole_is_a_beam():
    pytest.importorskip("skfem")
    # Timoshenko's beam: bending, and shear over a modulus of 1 / 2.6 with the factor 6 / 5, over bending alone.
    beam = 1 + 1.2 * 2.0 * 2.6 / 32
    assert cantilever([[1.0, 0.5, 0.02, 0.02]], 32)[0] == pytest.approx(beam, rel=0.03)
    up, down = cantilever([[1.2, 0.4, 0.3, 0.2], [1.2, 0.6, 0.3, 0.2]], 8)
    assert up == pytest.approx(down, rel=1e-9)


def test_meshes_of_the_cantilever_agree_better_the_finer_they_are():
    pytest.importorskip("skfem")
    problem = levels.cantilever_levels((4, 8, 16))
    values = np.array([problem.evaluate(designs(problem, 12), level) for level in range(3)])
    alike = np.corrcoef(values)[-1]
    assert alike[0] < alike[1] < 1
    assert alike[1] > 0.6
    assert problem.cost == (1.0, 4.0, 16.0)
    for holes, message in (([[1.2, 0.5, 1.0, 0.2]], "within the plate"), ([[1.0]], r"shape \(n, 4\)")):
        with pytest.raises(InvalidData, match=message):
            cantilever(holes, 4)
    with pytest.raises(InvalidData, match="poisson="):
        cantilever([[1.2, 0.5, 0.2, 0.2]], 4, poisson=0.7)
    with pytest.raises(InvalidData, match="cells= that rise"):
        levels.cantilever_levels((6, 3))


def test_a_short_training_is_the_beginning_of_a_long_one():
    x = [-1.5, -4.0, 0.5, 6.0]
    whole = training_curve(x, 4)
    assert np.array_equal(training_curve(x, 2), whole[:2])
    assert whole[-1] < whole[0] < np.log(10) + 0.5
    problem = levels.training_levels((1, 2, 4))
    assert [problem.evaluate([x], level)[0] for level in range(3)] == whole[[0, 1, 3]].tolist()
    assert problem.cost == (1.0, 2.0, 4.0)
    # A network that does not learn says that all ten digits are as likely.
    assert training_curve([-8.0, -6.0, 0.0, 8.0], 1)[0] == pytest.approx(np.log(10), abs=0.25)
    assert not np.array_equal(training_curve(x, 2, random_state=1), whole[:2])


def test_longer_trainings_agree_better_with_the_longest():
    problem = levels.training_levels((1, 2, 5))
    alike = np.corrcoef([problem.evaluate(designs(problem, 12), level) for level in range(3)])[-1]
    assert alike[0] < alike[1] < 1


def test_trainings_that_diverge_say_so():
    curve = training_curve([6.0, 3.0, 0.98, 4.0], 3)
    assert np.isnan(curve[-1])
    with pytest.raises(InvalidData, match="four finite numbers"):
        training_curve([0.0], 3)
    with pytest.raises(InvalidData, match="epochs= that rise"):
        levels.training_levels((3, 1))
