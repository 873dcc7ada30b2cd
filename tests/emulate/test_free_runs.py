"""Free runs warn where they leave the states learned from, and only there."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from locum.core.errors import OutsideRegion
from locum.emulate import DynamicsReconstructor, FreeRuns, KoopmanEmulator


def lorenz(z):
    x, y, w = np.moveaxis(np.asarray(z, dtype=float), -1, 0)
    return np.stack([10 * (y - x), x * (28 - w) - y, x * y - 8 / 3 * w], axis=-1)


class Flow(FreeRuns):
    """The Lorenz system itself, by Runge-Kutta steps of .02, and a push along x."""

    def __init__(self, n=5000, inputs=None):
        path = self.rollout(np.array([1.0, 1.0, 1.0]), n + 500)[500:]
        self._take_region(path, inputs, ())
        self.last = path[-1]

    def step(self, z, p=None):
        z, h = np.asarray(z, dtype=float), 0.02
        a = lorenz(z)
        b = lorenz(z + h / 2 * a)
        c = lorenz(z + h / 2 * b)
        return z + h / 6 * (a + 2 * b + 2 * c + lorenz(z + h * c))

    def encode(self, X):
        return np.asarray(X, dtype=float)

    decode = encode


def quiet(work):
    with warnings.catch_warnings():
        warnings.simplefilter("error", OutsideRegion)
        return work()


def test_a_long_run_of_the_system_itself_stays_within():
    flow = Flow()
    path = quiet(lambda: flow.generate(flow.last, 50_000))
    assert len(path) == 50_000
    assert quiet(lambda: flow.predict(path[::1000], 50)).shape == (50, 50, 3)


def test_a_run_that_begins_elsewhere_warns_from_there():
    flow = Flow()
    with pytest.warns(OutsideRegion, match=r"the run leaves the states learned from after 1 of 20 steps \(x0 = .* is above"):
        flow.forecast(np.array([[60.0, -60.0, 90.0]]), 20)


def test_of_many_runs_those_that_leave_are_counted():
    flow = Flow()
    begin = np.stack([flow.last, [0.0, 0.0, 150.0], [0.0, 0.0, 120.0]])
    with pytest.warns(OutsideRegion, match="2 of 3 runs leave"):
        flow.generate(begin, 5)


def test_between_the_lobes_is_outside_though_every_column_is_in_its_range():
    flow = Flow()
    (where,) = flow.region_.reasons([[-12.0, 14.0, 12.0]])
    assert "unlike the rows seen" in where[0]
    with pytest.warns(OutsideRegion, match="unlike the rows seen"):
        flow.generate(np.array([-14.0, 16.0, 10.0]), 2)


def test_inputs_beyond_those_learned_from_warn():
    rng = np.random.default_rng(0)
    flow = Flow(inputs=rng.uniform(-1, 1, size=(5000, 1)))
    quiet(lambda: flow.generate(flow.last, 100, rng.uniform(-0.99, 0.99, size=(100, 1))))
    with pytest.warns(OutsideRegion, match=r"input 0 = 3 is above"):
        flow.generate(flow.last, 10, [3.0])


def test_a_run_that_is_no_number_has_left():
    flow = Flow()
    with pytest.warns(OutsideRegion, match="not finite"):
        flow.generate(np.full(3, 1e250), 60)


def circle(n=400):
    t = 0.1 * np.arange(n)
    return np.stack([np.sin(t), np.cos(t)], axis=1)


def test_a_growing_linear_map_warns_when_it_has_grown(tmp_path):
    model = KoopmanEmulator(latent_dim=4, hidden=(16,), max_updates=300, alpha=0.0, random_state=0).fit(circle())
    model.operator_ = 1.1 * model.operator_
    with pytest.warns(OutsideRegion, match="after .* of 60 steps"):
        model.forecast(circle(), 60)
    model.save(tmp_path / "model.npz")
    again = KoopmanEmulator.load(tmp_path / "model.npz")
    with pytest.warns(OutsideRegion, match="after .* of 60 steps"):
        again.forecast(circle(), 60)


def test_the_region_is_kept_with_a_reconstructor(tmp_path):
    model = DynamicsReconstructor(latent_dim=2, hidden_dim=10, sequence_length=20, max_updates=500, lr=(1e-2, 1e-3))
    model.fit(circle())
    model.save(tmp_path / "model.npz")
    again = DynamicsReconstructor.load(tmp_path / "model.npz")
    assert again.region_.to_dict() == model.region_.to_dict()
    quiet(lambda: again.forecast(circle(), 20))
    with pytest.warns(OutsideRegion, match="the run leaves"):
        again.forecast(4 * circle(), 20)


def test_judging_does_not_warn():
    model = DynamicsReconstructor(latent_dim=2, hidden_dim=10, sequence_length=20, max_updates=50, lr=(1e-2, 1e-3))
    model.fit(circle())
    away = 3 * circle(300)
    assert np.isfinite(quiet(lambda: model.fidelity(away, horizon=5)).scores["PE(5)"].values).all()
