"""Algorithms as graphs: their order, what interventions should bring about, and the control that makes no sense."""

from __future__ import annotations

import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.inside import CausalModel
from locum.problems import DistributiveLaw, HierarchicalEquality


@pytest.fixture(scope="module")
def task():
    return HierarchicalEquality()


@pytest.fixture(scope="module")
def both(task):
    return CausalModel(*task.algorithms["both equalities"])


def test_nodes_are_put_in_an_order_in_which_they_can_be_computed():
    chain = CausalModel({"c": lambda a, b: a & b, "b": lambda x, a: a | (x[:, 1] > 0), "a": lambda x: x[:, 0] > 0}, lambda c: c)
    assert chain.nodes == ("a", "b", "c")
    X = np.array([[1, 0], [0, 1], [0, 0]])
    assert chain.outputs(X).tolist() == [1, 0, 0]
    assert chain.outputs(X, {"a": np.ones(3, dtype=bool)}).tolist() == [1, 1, 1]
    assert chain.outputs(X, {"b": np.zeros(3, dtype=bool)}).tolist() == [0, 0, 0]


def test_an_intervention_upstream_reaches_what_is_computed_from_it_but_not_a_node_that_is_set():
    """Worked by hand: a = x0, b = a + 1, output b; a set from a source with x0 = 5."""
    chain = CausalModel({"a": lambda x: x[:, 0], "b": lambda a: a + 1}, lambda b: b)
    X = np.array([[1], [5]])
    made = chain.interventions(X, 400, balanced=False, random_state=3)
    values = X[:, 0]
    a, b = (made.nodes.index(one) for one in "ab")
    expected = np.where(
        made.swapped[:, b],
        values[made.sources[:, b]] + 1,
        np.where(made.swapped[:, a], values[made.sources[:, a]], values[made.base]) + 1,
    )
    np.testing.assert_array_equal(made.labels, expected)
    assert {tuple(one) for one in made.swapped.tolist()} == {(True, False), (False, True), (True, True)}


def test_labels_of_interventions_are_those_of_the_definition(task, both):
    X, y = task.sample(500)
    np.testing.assert_array_equal(both.outputs(X), y)
    made = both.interventions(X, 1000)
    v = both.values(X)
    sides = []
    for j, node in enumerate(made.nodes):
        sides.append(np.where(made.swapped[:, j], v[node][made.sources[:, j]], v[node][made.base]))
    np.testing.assert_array_equal(made.labels, sides[0] == sides[1])


@pytest.mark.parametrize("name", ["and-or-and", "and-or"])
def test_balanced_interventions_change_half_of_the_answers_and_have_both_equally_often(name):
    task = DistributiveLaw()
    algorithm = CausalModel(*task.algorithms[name])
    X, y = task.sample(3000)
    np.testing.assert_array_equal(algorithm.outputs(X), y)
    made = algorithm.interventions(X, 2000)
    changed = made.labels != y[made.base]
    assert changed.mean() == pytest.approx(0.5, abs=0.01)
    assert made.labels.mean() == pytest.approx(0.5, abs=0.01)
    assert len(made) == 2000
    plain = algorithm.interventions(X, 2000, balanced=False)
    assert (plain.labels != y[plain.base]).mean() < 0.47


def test_the_same_seed_gives_the_same_interventions_and_another_others(task, both):
    X, _ = task.sample(200)
    one, same, other = (both.interventions(X, 100, random_state=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.sources, same.sources)
    np.testing.assert_array_equal(one.base, same.base)
    assert (one.base != other.base).any()


def test_sets_say_which_nodes_go_together(task, both):
    X, _ = task.sample(200)
    made = both.interventions(X, 100, sets=[("right",)])
    assert made.swapped[:, made.nodes.index("right")].all()
    assert not made.swapped[:, made.nodes.index("left")].any()


@pytest.mark.parametrize("name", ["both equalities", "left equality"])
def test_the_shuffled_control_agrees_with_the_algorithm_by_chance_and_keeps_its_functions(task, name):
    algorithm = CausalModel(*task.algorithms[name])
    X, _ = task.sample(2000)
    made = algorithm.interventions(X, 4000)
    for seed in range(3):
        control = algorithm.shuffled(X, made, random_state=seed)
        np.testing.assert_array_equal(control.sources, made.sources)
        assert (control.labels == made.labels).mean() == pytest.approx(0.5, abs=0.05)
    fresh = algorithm.interventions(task.sample(2000, seed=9)[0], 1000)
    again = algorithm.shuffled(X, fresh, random_state=0)
    values, classes = algorithm.values(fresh.inputs), algorithm.outputs(fresh.inputs)
    alone = fresh.swapped.sum(axis=1) == 1
    rows = np.flatnonzero(alone & fresh.swapped[:, 0])
    told = {}
    for row in rows:  # what comes out is a function of the source's class and the base's
        source, base = fresh.sources[row, 0], fresh.base[row]
        key = tuple(int(values[one][at]) for one in algorithm.nodes for at in (source, base))
        key += (int(classes[source]), int(classes[base]))
        assert told.setdefault(key, again.labels[row]) == again.labels[row]


@pytest.mark.parametrize(
    ("nodes", "output", "message"),
    [
        ({}, lambda x: x, "expected at least one node, got none"),
        ({"x": lambda x: x}, lambda x: x, "a node cannot be called 'x'"),
        ({"a": lambda b: b, "b": lambda a: a}, lambda a: a, "expected an algorithm without cycles, got"),
        ({"a": lambda z: z}, lambda a: a, r"expected the parameters of a to be 'x' or nodes \(a\), got z"),
        ({"a": lambda x: x}, lambda: 1, "parameters of the output to be 'x' or nodes .* got none"),
        ({"a": 3}, lambda a: a, "expected a as a callable, got int"),
    ],
)
def test_graphs_that_cannot_be_computed_are_refused(nodes, output, message):
    with pytest.raises(InvalidData, match=message):
        CausalModel(nodes, output)


def test_values_that_cannot_be_used_are_refused(task, both):
    X, _ = task.sample(10)
    with pytest.raises(InvalidData, match="left cannot be computed from these inputs: expected inputs with at least 8 numbers"):
        both.outputs(X[:, :5])
    with pytest.raises(InvalidData, match=r"expected 10 whole numbers or truth values from a, got float32 of shape \(10,\)"):
        CausalModel({"a": lambda x: x[:, 0]}, lambda a: a).outputs(X)
    with pytest.raises(InvalidData, match="expected labels of 0 or more from the output, got -1"):
        CausalModel({"a": lambda x: x[:, 0] > 0}, lambda a: a - np.int64(1)).outputs(X)
    with pytest.raises(InvalidData, match="there is no node 'middle'; there is left, right"):
        both.interventions(X, 5, sets=[("middle",)])
    with pytest.raises(InvalidData, match="at least one node in each, got an empty one"):
        both.interventions(X, 5, sets=[()])
    with pytest.raises(InvalidData, match="expected at least two inputs to pair"):
        both.interventions(X[:1], 5)
    with pytest.raises(InvalidData, match="expected n= to be a whole number of 1 or more"):
        both.interventions(X, 0)
