"""Tasks of equalities and of indirect objects: base rates, truth, and algorithms that agree with one another."""

from __future__ import annotations

import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.problems import DistributiveLaw, HierarchicalEquality, IndirectObjects


def run(algorithm, X):
    """Nodes of these tasks read the input alone."""
    values = {name: function(X) for name, function in algorithm.nodes.items()}
    code = algorithm.output.__code__
    names = code.co_varnames[: code.co_argcount]
    return algorithm.output(*(X if name == "x" else values[name] for name in names))


@pytest.mark.parametrize("task", [HierarchicalEquality(), HierarchicalEquality(2), DistributiveLaw()])
def test_all_algorithms_of_a_task_give_its_answers_half_of_which_are_yes(task):
    X, y = task.sample(4000, seed=3)
    for algorithm in task.algorithms.values():
        np.testing.assert_array_equal(run(algorithm, X), y)
    assert y.mean() == pytest.approx(0.5, abs=0.03)
    assert np.abs(X).max() <= 0.5
    np.testing.assert_array_equal(task.sample(50, seed=3)[0], task.sample(50, seed=3)[0])


def test_no_vector_of_one_sample_comes_again_in_another():
    task = HierarchicalEquality()
    one, other = (task.sample(300, seed=seed)[0].reshape(-1, 4) for seed in (0, 1))
    assert not (one[:, None] == other[None]).all(axis=2).any()


def test_the_distributive_law_has_all_kinds_of_pairs():
    X, y = DistributiveLaw().sample(4000)
    pairs = X.reshape(-1, 3, 2, 4)
    a, b, c = (pairs[:, :, 0] == pairs[:, :, 1]).all(axis=2).T
    np.testing.assert_array_equal(y, b & (a | c))
    kinds = np.unique(np.column_stack([a, b, c]), axis=0, return_counts=True)
    assert len(kinds[0]) == 8
    assert kinds[1].min() > 200


def words(text):
    """A tokenizer of whole words, a full stop being one; ids are their letters' sum."""
    return [sum(map(ord, word)) * 31 + len(word) for word in text.replace(".", " .").split()]


def test_prompts_hold_two_names_of_which_one_comes_again():
    task = IndirectObjects(words, ("Mary", "John", "Tom", "Anna"))
    X, y = task.sample(500)
    first, second = task.choices
    assert X.shape == (500, 14)
    names = {words(name)[0] for name in task.names}
    assert set(np.unique(X[:, [first, second]])) == names
    assert (X[:, first] != X[:, second]).all()
    again = np.where(y == 1, X[:, first], X[:, second])
    assert (X[:, second + 1 :] == again[:, None]).any(axis=1).all()
    np.testing.assert_array_equal(run(task.algorithm, X), y == 1)
    assert y.mean() == pytest.approx(0.5, abs=0.08)


def test_names_of_several_tokens_are_left_out():
    task = IndirectObjects(words, ("Mary", "John", "Mary Ann"))
    assert task.usable == ("Mary", "John")
    with pytest.raises(InvalidData, match="expected at least two names of one token each, got 1 of 2"):
        IndirectObjects(words, ("Mary", "Mary Ann"))


def test_counts_that_cannot_be_used_are_refused():
    for task in (HierarchicalEquality(), DistributiveLaw(), IndirectObjects(words)):
        with pytest.raises(InvalidData, match="expected n= to be a whole number of 1 or more"):
            task.sample(0)
    with pytest.raises(InvalidData, match="expected size="):
        HierarchicalEquality(0)
