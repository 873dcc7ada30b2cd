"""Hosts that draw designs, and one that may not promise much: known answers, limits, seeds, refusals."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from locum.core.errors import InvalidData  # noqa: E402
from locum.optimize.ignite import GradientNormRegularizer  # noqa: E402
from locum.optimize.offline import (  # noqa: E402
    AdaptiveSampling,
    BatchImprovement,
    ConservativeObjective,
    EnsembleMean,
    ModelInversion,
    OfflineOptimizer,
    Reinforce,
)

SIZES = {"hidden": 48, "epochs": 40, "learning_rate": 3e-3}
X = np.random.default_rng(0).normal(size=(300, 3))
Y = 5 - ((X - 0.5) ** 2).sum(axis=1)
HALF = np.median(Y) >= Y  # the better half is kept back
HOSTS = [
    Reinforce(**SIZES, steps=60, step_size=0.02), AdaptiveSampling(**SIZES, steps=5, latent=3),
    ModelInversion(**SIZES, latent=3), BatchImprovement(**SIZES, steps=3, q=6),
]  # fmt: skip
named = pytest.mark.parametrize("host", HOSTS, ids=lambda host: type(host).__name__)


def truth(designs):
    return 5 - ((designs - 0.5) ** 2).sum(axis=1)


@named
def test_designs_are_better_than_the_data(host):
    if isinstance(host, BatchImprovement):
        pytest.importorskip("botorch")
    state = torch.get_rng_state()
    made = OfflineOptimizer(host, GradientNormRegularizer(), n_designs=20).fit(X[HALF], Y[HALF])
    found = made.propose()
    assert torch.equal(torch.get_rng_state(), state)
    assert len(made.models_) == 5
    assert found.X.shape == (20, 3)
    assert np.median(truth(found.X)) > np.median(np.sort(Y[HALF])[-20:])
    np.testing.assert_array_equal(made.propose().X, found.X)
    other = OfflineOptimizer(host, n_designs=20, random_state=1).fit(X[HALF], Y[HALF]).propose()
    assert not np.array_equal(other.X, found.X)


@named
def test_categories(host):
    if isinstance(host, BatchImprovement):
        pytest.importorskip("botorch")
    designs = np.random.default_rng(0).integers(0, 3, (200, 4))
    found = OfflineOptimizer(host, n_designs=10, n_choices=3).fit(designs, (designs == 2).sum(axis=1)).propose()
    assert found.X.dtype.kind == "i"
    assert set(np.unique(found.X)) <= {0, 1, 2}
    assert (found.X == 2).mean() > 0.5  # a third in the data


def plane(slope):
    """Five models that are one plane."""
    return [lambda rows: rows @ torch.tensor(slope)] * 5


def test_reinforce_moves_the_distribution_along_the_slope_alone():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(400, 3))
    values = rows @ [1.0, 0.0, -2.0]
    start = rows[np.argsort(-values)[:300]].mean(axis=0)
    found = Reinforce(steps=100, step_size=0.01).designs(plane([1.0, 0.0, -2.0]), rows, values, 300, rng)
    moved = found.mean(axis=0) - start
    assert moved[0] > 0.5
    assert moved[2] < -0.5
    assert abs(moved[1]) < 0.3


def test_batches_of_improvement_go_to_the_corner_that_a_plane_rises_to():
    pytest.importorskip("botorch")
    rng = np.random.default_rng(0)
    rows = rng.uniform(-1, 1, (60, 2))
    found = BatchImprovement(steps=2, q=4).designs(plane([1.0, -1.0]), rows, rows @ [1.0, -1.0], 1, rng)
    corner = [rows[:, 0].max(), rows[:, 1].min()]
    np.testing.assert_allclose(found[0], corner, atol=0.02)


def promised(limit):
    """How much more the designs promise than the best of the data, in deviations."""
    host = ConservativeObjective(**SIZES, batch_size=16, steps=20, step_size=0.05, limit=limit)
    found = OfflineOptimizer(host, n_designs=40).fit(X[HALF], Y[HALF]).propose()
    return (np.median(found.predicted) - found.best_visible) / Y[HALF].std()


def test_a_limit_on_promises_is_kept():
    """The multiplier must move: one that stays near its start makes all limits alike."""
    assert promised(0.1) < promised(5.0) - 0.4


def test_an_ensemble_climbs_the_mean():
    models = [lambda rows, k=k: rows[:, 0] + k for k in range(5)]
    assert EnsembleMean().value(models)(torch.zeros(1, 1)).item() == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("host", "message"),
    [
        (AdaptiveSampling(quantile=1.0), "quantile= of 0 or more and below 1"),
        (AdaptiveSampling(latent=0), "latent="),
        (ModelInversion(latent=0), "latent="),
        (BatchImprovement(q=0), "q="),
        (Reinforce(step_size=0.0), "step_size= above 0"),
    ],
)
def test_settings_that_cannot_be_used(host, message):
    with pytest.raises(InvalidData, match=message):
        OfflineOptimizer(host, n_designs=20).fit(X, Y)


def test_values_that_are_not_finite_are_named():
    with pytest.raises(InvalidData, match="one finite value for each of 300 designs, got NaN or infinity"):
        OfflineOptimizer(Reinforce(**SIZES)).fit(X, np.where(Y > 4, np.nan, Y))


def test_a_map_from_values_is_asked_for_more_than_the_best():
    """One step asks for hardly more than the best value of the data."""
    values, told = X @ [1.0, 0.0, -2.0], []
    for steps in (1, 100):
        host = ModelInversion(**SIZES, latent=3, steps=steps)
        told.append(OfflineOptimizer(host, n_designs=20).fit(X, values).propose())
    assert np.median(told[1].predicted) > np.median(told[0].predicted) + 2
    assert np.median(told[1].X @ [1.0, 0.0, -2.0]) > told[1].best_visible + 2
