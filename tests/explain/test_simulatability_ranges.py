"""Numbers cut into named ranges for readers: what the model is asked, and that nothing else of it changes."""

from __future__ import annotations

import numpy as np
import pytest

from locum.core.domain import Domain
from locum.core.errors import InvalidData
from locum.core.target import Target
from locum.explain.simulatability import AdditiveStudent, Lime, SimulationTest, in_ranges


def test_the_model_is_asked_the_median_of_each_range_and_categories_stay():
    seen = []

    def model(X):
        seen.append(np.array(X, dtype=object))
        return np.where([row[0] > 0 for row in X], "up", "down")

    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=300), rng.choice(["red", "blue"], 300)]).astype(object)
    X[:, 0] = X[:, 0].astype(float)
    target, rows = in_ranges(Target(model, name="m", output="class"), X)
    names = {name: X[rows[:, 0] == name, 0].astype(float) for name in set(rows[:, 0])}
    assert len(names) == 3
    assert (rows[:, 1] == X[:, 1]).all()
    assert sorted(len(values) for values in names.values()) == [100, 100, 100]
    target.query(rows, "use")
    asked = np.concatenate(seen)
    assert {(float(a), b) for a, b in asked} == {(float(np.median(v)), c) for v in names.values() for c in ("red", "blue")}
    for name, values in names.items():  # a name says what is in its range
        if name.startswith("above") and "up to" in name:
            low, high = (float(part) for part in name.removeprefix("above ").split(" up to "))
            assert low < values.min() + 1e-3
            assert values.max() <= high + 1e-3


def test_missing_values_stay_missing_and_close_edges_keep_names_of_their_own():
    X = np.repeat([[1.00001, 0.0], [1.00002, 0.0], [1.00003, 1.0], [np.nan, 1.0]], 5, axis=0)
    asked = []

    def model(rows):
        asked.append(rows)
        return np.isnan(rows[:, 0]).astype(int)

    target, rows = in_ranges(Target(model, name="m", output="class"), X)
    assert len(set(rows[:15, 0])) == 3
    assert set(rows[15:, 0]) == {None}
    assert target.query(rows, "use").tolist() == [0] * 15 + [1] * 5


def test_a_table_of_numbers_is_tested_through_its_ranges():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(1200, 4))
    inner = Target(lambda X: np.where(2 * X[:, 0] - X[:, 1] > 0, "yes", "no"), name="bank", output="class")
    answers = np.where(2 * X[:, 0] - X[:, 1] > 0, "yes", "no")
    truth = np.where(rng.random(1200) < 0.7, answers, np.where(answers == "yes", "no", "yes"))
    with pytest.raises(InvalidData, match=r"cut them into named ranges with in_ranges"):
        SimulationTest.build(inner, X[:600], truth[:600], X[600:], truth[600:])
    target, rows = in_ranges(inner, X, domain=Domain.of(X, names=("income", "debt", "age", "rooms")), ranges=4)
    test = SimulationTest.build(target, rows[:600], truth[:600], rows[600:], truth[600:], n_learn=8, n_test=8)
    assert "income = " in test.learn[0].shown
    assert test.run({"lime": Lime(k=2, samples=400)}, [AdditiveStudent()], seeds=range(2)).responses
    assert inner.account().paid <= 4**4 + 1


def test_fewer_than_two_ranges_are_refused():
    with pytest.raises(InvalidData, match="ranges= to be a whole number of 2 or more"):
        in_ranges(Target(lambda X: X[:, 0], name="m"), np.ones((3, 1)), ranges=1)
