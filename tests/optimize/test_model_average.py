"""Several surrogates believed equally: what they say together, and what the loop makes of it."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone

pytest.importorskip("torch")
pytest.importorskip("botorch")

from locum.core.errors import InvalidData
from locum.optimize import GaussianProcess, ModelAverage, Optimizer, Space
from locum.optimize.bnn_surrogates import DeepEnsemble

RNG = np.random.default_rng(0)
ROWS = RNG.random((14, 2))
VALUES = np.sin(5 * ROWS[:, 0]) + ROWS[:, 1] ** 2
FRESH = RNG.random((7, 2))


def test_it_says_what_the_mixture_of_its_parts_says():
    parts = [GaussianProcess(), GaussianProcess(kernel="rbf"), GaussianProcess(input_warping=True)]
    mean, sd = ModelAverage(parts).fit(ROWS, VALUES).predict(FRESH, return_std=True)
    each = [clone(part).fit(ROWS, VALUES).predict(FRESH, return_std=True) for part in parts]
    means, spreads = np.array([one[0] for one in each]), np.array([one[1] for one in each])
    np.testing.assert_allclose(mean, means.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(sd**2, (spreads**2 + means**2).mean(axis=0) - mean**2, atol=1e-10)


def test_one_alone_changes_nothing():
    alone = GaussianProcess(noise=0.0).fit(ROWS, VALUES).predict(FRESH, return_std=True)
    np.testing.assert_array_equal(ModelAverage([GaussianProcess(noise=0.0)]).fit(ROWS, VALUES).predict(FRESH, True), alone)
    space = Space.box([(0.0, 1.0)] * 2)
    runs = []
    for surrogate in (GaussianProcess(), ModelAverage((GaussianProcess(),))):
        optimizer = Optimizer(space, surrogate, direction="minimize", initial=4)
        for _ in range(7):
            points = optimizer.ask()
            optimizer.tell(points, [(point["x0"] - 0.3) ** 2 + point["x1"] for point in points])
        runs.append(optimizer.points)
    assert runs[0] == runs[1]


def test_copies_are_fitted_and_those_given_are_left_alone():
    part = GaussianProcess()
    average = ModelAverage([part]).fit(ROWS, VALUES)
    assert not hasattr(part, "models_")
    assert average.surrogates_[0].models_ == average.models_


def test_it_takes_no_more_than_its_parts_do():
    assert ModelAverage().most == GaussianProcess.most
    small = type("Small", (DeepEnsemble,), {"most": 50})
    assert ModelAverage([GaussianProcess(), small()]).most == 50
    assert ModelAverage([GaussianProcess(noise=0.0)]).exact
    assert not ModelAverage([GaussianProcess(noise=0.0), GaussianProcess()]).exact
    assert not ModelAverage([GaussianProcess(), GaussianProcess(noise=0.5)]).warps


def test_pending_points_and_failures_are_heeded_under_bent_columns_too():
    space = Space.box([(0.0, 1.0)] * 2)
    optimizer = Optimizer(space, direction="maximize", initial=4)
    for point in optimizer.ask(6):
        optimizer.tell([point], [np.nan if point["x0"] > 0.8 else -((point["x0"] - 0.4) ** 2) - point["x1"]])
    points = optimizer.ask(4)  # each taken to have given its mean before the next is chosen
    assert len({tuple(point.values()) for point in points}) == 4


def test_what_is_no_surrogate_is_refused():
    with pytest.raises(InvalidData, match="to hold a Surrogate each, got str"):
        ModelAverage(["process"]).fit(ROWS, VALUES)
