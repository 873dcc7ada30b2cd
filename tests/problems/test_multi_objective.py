"""Problems of several objectives: against a peer, against their own fronts, and against what is known by hand."""

from __future__ import annotations

import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.problems.multi_objective import dtlz2, f2, re21, re33, re36, re37, vlmop2, zdt1, zdt2, zdt3

EVERY = [zdt1, zdt2, zdt3, vlmop2, f2, dtlz2, re21, re33, re36, re37]
CLOSED = [one for one in EVERY if one not in (re33, re37)]
every = pytest.mark.parametrize("make", EVERY)


@pytest.mark.parametrize("make", [zdt1, zdt2, zdt3])
def test_zdt_is_that_of_pymoo(make):
    peer = pytest.importorskip("pymoo.problems").get_problem(make.__name__, n_var=20)
    problem = make(20)
    X = problem.sample(200)
    assert np.allclose(problem.answer(X), peer.evaluate(X), rtol=1e-12)
    theirs = peer.pareto_front()
    away = np.linalg.norm(problem.front(5000)[:, None] - theirs[None], axis=2)
    assert away.min(axis=0).max() < 1e-2
    assert away.min(axis=1).max() < 0.06  # theirs has 100 points, a tenth apart where it is steep


@pytest.mark.parametrize("m", [2, 3, 4])
def test_dtlz2_is_that_of_pymoo(m):
    peer = pytest.importorskip("pymoo.problems").get_problem("dtlz2", n_var=7, n_obj=m)
    problem = dtlz2(7, m)
    X = problem.sample(200)
    assert np.allclose(problem.answer(X), peer.evaluate(X), rtol=1e-12)
    assert np.allclose(np.linalg.norm(problem.front(300), axis=1), 1)


@pytest.mark.parametrize("make", CLOSED)
def test_nothing_dominates_a_closed_front(make):
    problem = make()
    front = problem.front(400)
    assert (front[:, None] <= front[None] - 1e-9).all(axis=2).sum() == 0
    rng = np.random.default_rng(0)
    low, high = np.array(problem.bounds).T
    X = problem.sample(4000)
    corners = np.where(rng.random(X.shape) < 0.3, np.where(rng.random(X.shape) < 0.5, low, high), X)
    Y = problem.answer(np.vstack([X, corners]))
    assert not (Y[:, None] < front[None] - 1e-9).all(axis=2).any()


@pytest.mark.parametrize(
    ("make", "designs"),
    [
        (vlmop2, np.linspace(-1, 1, 9)[:, None] / np.sqrt(6) * np.ones(6)),
        (f2, np.linspace(0, 1, 9)[:, None] ** (0.5 * np.array([2.0, 1.0, 1.75, 2.5, 3.25, 4.0]))),
        (zdt1, np.column_stack([np.linspace(0, 1, 9), np.zeros((9, 19))])),
        (re36, np.column_stack([np.full((9, 2), 12.0), np.linspace(12, 31, 9), np.linspace(12, 31, 9)])),
    ],
)
def test_designs_known_to_be_best_lie_on_the_front(make, designs):
    problem = make()
    Y = problem.answer(designs)
    front = problem.front(4000)
    assert np.abs(Y[:, None] - front[None]).max(axis=2).min(axis=1).max() < 0.02


def test_the_truss_has_the_extremes_of_its_reference_point():
    problem = re21()
    root = np.sqrt(2)
    Y = problem.answer([[3, 3, root, 3], [1, root, root, 1]])
    assert Y[0, 0] == pytest.approx(problem.reference_point[0], rel=1e-12)
    assert Y[1, 1] == pytest.approx(problem.reference_point[1], rel=1e-12)
    assert np.allclose(problem.front(50)[[0, -1]], Y[[1, 0]])
    # A single bar twice as thick: volume and displacement by hand.
    assert problem.answer([[2, root, root, 1]])[0].tolist() == pytest.approx([200 * (4 + 2 + 2**0.25 + 1), 0.01 * (1 + 2)])


def test_the_brake_by_hand_and_its_limits():
    problem = re33()
    a, b, f, s = 60.0, 90.0, 2500.0, 15.0
    cubes, squares = b**3 - a**3, b**2 - a**2
    mass, time = 4.9e-5 * squares * (s - 1), 9.82e6 * squares / (f * s * cubes)
    assert problem.answer([[a, b, f, s]])[0].tolist() == pytest.approx([mass, time, 0.0])
    # Radii 10 apart, where 20 is the least; and a torque below 900.
    narrow = problem.answer([[75.0, 85.0, 2500.0, 15.0]])[0, 2]
    assert narrow == pytest.approx(10 + max(0, 2500 / (3.14 * (85**2 - 75**2)) - 0.4)
                                   + max(0, 2.22e-3 * 2500 * (85**3 - 75**3) / (85**2 - 75**2) ** 2 - 1))  # fmt: skip
    weak = problem.answer([[60.0, 90.0, 1000.0, 11.0]])[0, 2]
    assert weak == pytest.approx(max(0.0, 900 - 2.66e-2 * 11000 * cubes / squares))
    with pytest.raises(InvalidData, match="RE33 has no finite answer for row 1; move it a little"):
        problem.answer([[60, 90, 2000, 15], [80, 80, 2000, 15]])


def test_the_limit_of_the_gears_follows_from_their_error():
    problem = re36()
    Y = problem.answer(problem.sample(500))
    assert np.allclose(Y[:, 2], np.maximum(Y[:, 0] / 6.931 - 0.5, 0))
    assert problem.answer([[12, 12, 12, 12]])[0].tolist() == pytest.approx([5.931, 12.0, 5.931 / 6.931 - 0.5])


def test_the_injector_at_its_corners():
    Y = re37().answer([[0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 1, 1, 1]])
    assert np.allclose(Y[0], [0.692, 0.153, 0.370])
    assert np.allclose(Y[1], [0.692 + 0.477 - 0.167, 0.153 - 0.322 + 0.175, 0.370 - 0.205 - 0.135])
    assert np.allclose(Y[2], [0.692 - 0.687 + 0.0796, 0.153 + 0.396 - 0.0701, 0.370 + 0.0307 + 0.0998])
    assert np.allclose(Y[3], [0.692 - 0.080 + 0.0877, 0.153 + 0.424 + 0.0150, 0.370 + 0.108 - 0.226])
    assert np.allclose(Y[4], [0.692 - 0.0650 + 0.0184, 0.153 + 0.0226 + 0.0192, 0.370 + 1.019 - 0.423])
    # All ones: the coefficients add up.
    first = 0.370 - 0.205 + 0.0307 + 0.108 + 1.019 - 0.135 + 0.0141 + 0.0998 + 0.208 - 0.0301 - 0.226
    rest = 0.353 - 0.0497 - 0.423 + 0.202 - 0.281 - 0.342 - 0.245 + 0.281 - 0.184 - 0.281
    assert Y[5, 2] == pytest.approx(first + rest)


@pytest.mark.parametrize("make", [re33, re37])
def test_a_hypervolume_that_was_searched_for_is_above_one_found_at_random(make):
    peer = pytest.importorskip("pymoo.indicators.hv").HV
    problem = make()
    reached = peer(ref_point=np.array(problem.reference_point))(problem.answer(problem.sample(4000)))
    assert 0.8 * problem.best_hypervolume < reached < problem.best_hypervolume
    with pytest.raises(InvalidData, match=f"the front of {problem.name} has no closed form; best_hypervolume was got by three"):
        problem.front()


@every
def test_rows_fill_the_box_and_have_finite_answers(make):
    problem = make()
    X = problem.sample(2000)
    low, high = np.array(problem.bounds).T
    assert ((low <= X) & (high >= X)).all()
    assert np.allclose(X.mean(axis=0), (low + high) / 2, atol=0.03 * (high - low).max())
    assert problem.answer(X).shape == (2000, len(problem.objectives)) == (2000, len(problem.reference_point))
    assert np.array_equal(problem.sample(5, seed=3), problem.sample(5, seed=3))


@every
def test_other_rows_are_refused(make):
    problem = make()
    with pytest.raises(InvalidData, match=f"expected rows of {len(problem.bounds)} columns for {problem.name}"):
        problem.answer([[0.5]])
    X = problem.sample(3)
    X[2, 0] = problem.bounds[0][1] + 1
    with pytest.raises(InvalidData, match=f"row 2 lies outside the box of {problem.name}"):
        problem.answer(X)
