"""Several objectives at several levels: known fronts, and what one preference alone finds."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("botorch")

from locum.core.errors import InvalidData, TargetError
from locum.optimize import Space
from locum.optimize.mfbo import Fidelities
from locum.optimize.mfbo_front import MultiFidelityParetoOptimizer

BOX = Space.box([(-2, 2), (-2, 2)])


def dear(point):
    """Two bowls: the front is the line between their centres, (-1, 0) and (1, 0)."""
    x, y = point["x0"], point["x1"]
    return [(x + 1) ** 2 + y**2, (x - 1) ** 2 + y**2]


def cheap(point):
    return [0.8 * one + 0.2 * point["x0"] + 0.3 for one in dear(point)]


def optimizer(levels=None, **settings):
    settings = {"direction": "minimize", "initial": (10, 5), **settings}
    return MultiFidelityParetoOptimizer(BOX, levels or Fidelities([cheap, dear], [1.0, 10.0]), **settings)


def test_the_front_of_two_bowls_is_found():
    found = optimizer().run(budget=180)
    assert (np.abs([point["x1"] for point in found.x]) < 0.35).mean() > 0.7
    assert found.fun.tolist() == [dear(point) for point in found.x]
    assert found.cost_trace[-1] <= 180
    # Against as many random designs of the truth as the whole budget buys.
    rng = np.random.default_rng(0)
    volumes = []
    for _ in range(40):
        blind = optimizer()
        points = BOX.sample(18, rng)
        blind.tell([(point, 1) for point in points], [dear(point) for point in points])
        volumes.append(blind.result().hypervolume([4.0, 4.0]))
    assert found.hypervolume([4.0, 4.0]) > np.quantile(volumes, 0.9)


def test_a_front_holds_what_nothing_is_better_than_and_its_volume_is_known():
    one = optimizer()
    told = {(0.0, 0.0): [1.0, 3.0], (0.5, 0.0): [2.0, 2.0], (1.0, 0.0): [3.0, 3.0], (-1.0, 0.0): [np.nan, 0.0]}
    one.tell([({"x0": a, "x1": b}, 1) for a, b in told], told.values())
    one.tell([({"x0": 1.5, "x1": 0.0}, 0)], [[0.0, 0.0]])  # a cheap level never stands in the front
    found = one.result()
    assert sorted(found.fun.tolist()) == [[1.0, 3.0], [2.0, 2.0]]
    assert found.hypervolume([4.0, 4.0]) == pytest.approx(3 * 1 + 2 * 1)
    with pytest.raises(InvalidData, match="2 finite numbers"):
        found.hypervolume([1.0])


def test_large_objectives_are_small_ones_upside_down():
    up = Fidelities([lambda p: [-v for v in cheap(p)], lambda p: [-v for v in dear(p)]], [1.0, 10.0])
    a, b = optimizer().run(budget=85), optimizer(up, direction="maximize").run(budget=85)
    assert a.x == b.x
    assert np.array_equal(a.fun, -b.fun)
    assert a.hypervolume([4.0, 4.0]) == b.hypervolume([-4.0, -4.0])


def test_constraints_are_kept_and_failures_left_out():
    def level(function):
        def one(point):
            if point["x1"] > 1.5:
                raise RuntimeError("no mesh")
            return [*function(point), point["x0"] - 0.2]

        return one

    found = optimizer(Fidelities([level(cheap), level(dear)], [1.0, 10.0])).run(budget=110)
    assert all(point["x0"] >= 0.2 for point in found.x)
    one = optimizer()
    one.tell([({"x0": 0.0, "x1": 0.0}, 1)], [[np.nan, np.nan]])
    with pytest.raises(TargetError, match="there is no front"):
        one.result()


def test_strange_tellings_are_refused():
    one = optimizer()
    with pytest.raises(InvalidData, match="2 numbers for each of 1"):
        one.tell([({"x0": 0.0, "x1": 0.0}, 1)], [[1.0]])
    with pytest.raises(InvalidData, match="a level from 0 to 1"):
        one.tell([({"x0": 0.0, "x1": 0.0}, 2)], [[1.0, 2.0]])
    assert one.evaluations == []
    with pytest.raises(InvalidData, match="at least 60"):
        one.run(budget=10)
    with pytest.raises(InvalidData, match="objectives"):
        optimizer(objectives=1)
