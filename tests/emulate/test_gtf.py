"""Generalized teacher forcing: learned dynamics, forcing that bounds gradients, linear regions, and what is refused."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from locum.core.errors import FormatError, InvalidData
from locum.emulate import DynamicsReconstructor, Trajectories

TIME = np.arange(0, 60, 0.1)
CIRCLE = np.stack([np.sin(TIME), np.cos(TIME)], axis=1)
SMALL = {"latent_dim": 2, "hidden_dim": 10, "sequence_length": 20, "max_updates": 600, "lr": (1e-2, 1e-3)}
CELLS = ("clipped-shplrnn", "shplrnn", "plrnn", "mean-centred-plrnn", "dendritic-plrnn")


def model(**changes):
    return DynamicsReconstructor(**{**SMALL, **changes})


@pytest.fixture(scope="module")
def fitted():
    return model().fit(Trajectories.of(CIRCLE, dt=0.1))


def off(found, horizon=10):
    said = found.predict(CIRCLE[:100], horizon=horizon)[:, -1]
    return float(np.abs(said - CIRCLE[horizon : horizon + 100]).max())


# ---------------------------------------------------------------------- learning
def test_a_rotation_is_learned_and_goes_on_forever(fitted):
    assert off(fitted) < 0.1
    free = fitted.generate(CIRCLE[0], 3000)
    assert 0.8 < np.linalg.norm(free[-600:], axis=1).mean() < 1.2
    report = fitted.fidelity([CIRCLE[:250], CIRCLE[300:550]], origins=5)
    assert report["D_H"].values[0] < 0.3
    assert report["PE(20)"].values[0] < 0.1 * report["PE(20)"].floor[0]
    assert report["D_stsp"].fidelity().n == 2
    assert len(report["D_stsp"].floor) == 2


@pytest.mark.parametrize("cell", CELLS[1:])
def test_other_cells_learn_it_too(cell):
    settings = {"latent_dim": 6, "hidden_dim": 20, "partial_forcing": True, "max_updates": 1500, "lr": (2e-2, 1e-3)}
    found = model(cell=cell, forcing="constant", alpha=0.2, **settings).fit(CIRCLE)
    assert off(found) < 0.2
    if "shplrnn" not in cell:
        assert (np.diag(found.parameters_["W"]) == 0).all()


def test_fewer_latent_states_than_columns_through_an_affine_map():
    B = np.random.default_rng(0).normal(size=(5, 2))
    seen = CIRCLE @ B.T + 7.0
    settings = {"forcing": "constant", "alpha": 0.2, "max_updates": 1500}
    found = model(observation="affine", observation_bias=True, observation_penalty=1e-4, **settings).fit(seen)
    said = found.predict(seen[:100], horizon=10)[:, -1]
    assert np.abs(said - seen[10:110]).max() < 0.1
    np.testing.assert_allclose(found.decode(found.encode(seen[3])), seen[3], atol=1e-3)
    assert np.linalg.cond(found.parameters_["B"]) < 3


def test_inputs_drive_the_state():
    """A leaking integrator of its input: known at once from the weights of any cell."""
    rng = np.random.default_rng(0)
    s = rng.normal(size=(2000, 1))
    x = np.zeros((2000, 1))
    for t in range(1, 2000):
        x[t] = 0.8 * x[t - 1] + 0.5 * s[t]
    found = model(latent_dim=1, forcing="constant", alpha=0.5, lr=(5e-2, 1e-3), standardize=False).fit(x, s)
    assert found.parameters_["C"][0, 0] == pytest.approx(0.5, abs=0.02)
    said = found.generate(x[100], 50, s[101:151])
    np.testing.assert_allclose(said, x[101:151], atol=0.15)
    with pytest.raises(InvalidData, match="expected 1 external inputs a step"):
        found.generate(x[0], 3)


def test_the_same_seed_gives_the_same_numbers_and_another_others(fitted):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    again, other = clone(fitted).fit(Trajectories.of(CIRCLE, dt=0.1)), model(random_state=1).fit(CIRCLE)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    np.testing.assert_array_equal(again.parameters_["W2"], fitted.parameters_["W2"])
    assert np.abs(other.parameters_["W2"] - fitted.parameters_["W2"]).max() > 0.01


def test_windows_do_not_cross_runs():
    """Jumps between runs, if they were learned from, would cost far more than the loss that is left."""
    parts = [CIRCLE[k : k + 40] for k in range(0, 560, 40)]
    shuffled = [parts[i] for i in np.random.default_rng(0).permutation(len(parts))]
    assert model(forcing="full").fit(shuffled).loss_history_[-1] < 1e-3
    assert model(forcing="full").fit(np.concatenate(shuffled)).loss_history_[-1] > 1e-2


def test_noise_and_clipping_and_partial_forcing_are_used():
    plain = model(max_updates=100, latent_dim=3).fit(CIRCLE).parameters_["A"]
    for change in ({"input_noise": 0.3}, {"clip": 1e-3}, {"partial_forcing": True}, {"latent_penalty": 1.0}):
        assert np.abs(model(max_updates=100, latent_dim=3, **change).fit(CIRCLE).parameters_["A"] - plain).max() > 1e-5, change


# ---------------------------------------------------------------------- forcing
def test_adaptive_forcing_relaxes_and_ends_where_the_jacobians_say():
    found = model(alpha_decay=0.9, max_updates=1000).fit(CIRCLE)
    assert found.alpha_history_[0] < 1.0
    z = found.encode(CIRCLE)
    J = found.jacobian(z)
    norms = np.linalg.norm(J, ord=2, axis=(1, 2))
    assert found.alpha_history_[-1] == pytest.approx(max(0.0, 1 - 1 / np.exp(np.log(norms).mean())), abs=0.1)


@pytest.mark.parametrize(
    ("estimator", "at_least"),
    [("batch_maximum", True), ("jacobian_upper_bound", True), ("explog_approx", False), ("arithmetic_mean", False)],
)
def test_estimates_of_the_size_of_jacobians_are_in_order(estimator, at_least):
    """With one update, each sees the same network on the same batch; norms are at least those of a mean."""
    one = {"max_updates": 1, "updates_per_epoch": 1, "alpha": 0.0, "alpha_decay": 0.0}
    usual, other = (model(alpha_estimator=e, **one).fit(CIRCLE).alpha_history_[0] for e in ("product_upper_bound", estimator))
    assert (other >= usual) if at_least else (other <= usual + 1e-6)


@pytest.mark.parametrize(("forcing", "share"), [("full", 1.0), ("free", 0.0), ("constant", 0.3)])
def test_shares_that_do_not_change(forcing, share):
    assert set(model(forcing=forcing, alpha=0.3, max_updates=100).fit(CIRCLE).alpha_history_) == {share}


def test_forcing_bounds_gradients_that_explode_without():
    """A chaotic map (Henon), windows of 60 steps."""
    x = np.zeros((3000, 2))
    for t in range(1, 3000):
        x[t] = 1 - 1.4 * x[t - 1, 0] ** 2 + x[t - 1, 1], 0.3 * x[t - 1, 0]
    settings = {"sequence_length": 60, "hidden_dim": 20, "max_updates": 1500, "lr": (5e-3, 1e-3)}
    forced, free = (model(forcing=f, **settings).fit(x[500:]) for f in ("adaptive", "sparse"))
    assert forced.grad_norm_history_.max() < 2
    assert free.grad_norm_history_.max() > 3 * forced.grad_norm_history_.max()
    sensitive = forced.lyapunov_spectrum(5000)
    assert sensitive[0] > 0.1
    assert sensitive.sum() < 0


# ---------------------------------------------------------------------- reading
def test_jacobians_are_the_derivatives_of_a_step(fitted):
    z = np.random.default_rng(0).normal(size=(5, 2))
    J = fitted.jacobian(z)
    for k in range(5):
        for i, e in enumerate(1e-6 * np.eye(2)):
            np.testing.assert_allclose((fitted.step(z[k] + e) - fitted.step(z[k] - e)) / 2e-6, J[k, :, i], atol=1e-6)


def test_a_limit_cycle_has_one_exponent_of_zero(fitted):
    found = fitted.lyapunov_spectrum(5000)
    assert found.shape == (2,)
    assert found[0] == pytest.approx(0.0, abs=0.05)


def test_fixed_points_and_cycles_are_exact(fitted):
    points = fitted.fixed_points()
    assert points, "an orbit round the plane has a point in its middle"
    for one in points:
        np.testing.assert_allclose(fitted.step(one.states[0]), one.states[0], atol=1e-8)
        J = fitted.jacobian(one.states[0])
        np.testing.assert_allclose(np.sort(np.abs(one.eigenvalues)), np.sort(np.abs(np.linalg.eigvals(J))), atol=1e-8)
    assert not points[-1].stable


def test_a_cycle_of_two_is_found():
    """x goes to -x + noise: learned with slope -1, which has a cycle for each x; and with -0.5, which has none."""
    x = np.where(np.arange(400) % 2, 1.0, -1.0)[:, None] + 0.05 * np.random.default_rng(0).normal(size=(400, 1))
    found = model(latent_dim=1, sequence_length=5, max_updates=800, latent_penalty=0.0).fit(x)
    for one in found.cycles(2):
        there_and_back = found.rollout(one.states[0], 2)
        np.testing.assert_allclose(there_and_back, [one.states[1], one.states[0]], atol=1e-8)
        assert np.abs(one.states[0] - one.states[1]).max() > 1e-4, "a fixed point is no cycle of two"
    assert len(found.cycles(2)) >= 1


# ---------------------------------------------------------------------- failing, keeping
def test_a_training_that_fails_keeps_the_last_finite_model():
    with pytest.warns(ConvergenceWarning, match="last parameters that were finite"):
        found = model(cell="shplrnn", forcing="free", lr=(1e3, 1e3), sequence_length=200).fit(CIRCLE)
    assert all(np.isfinite(one).all() for one in found.parameters_.values())
    assert not found.loss_history_.size


def test_a_free_run_that_diverges_is_counted(fitted):
    wild = clone(fitted).fit(CIRCLE)
    wild.parameters_["A"][:] = 5.0
    report = wild.fidelity(CIRCLE, origins=3)
    assert report.n_diverged == 1
    assert report["D_H"].values == (1.0,)


def test_a_model_comes_back_from_its_file(fitted, tmp_path):
    fitted.save(tmp_path / "model.npz")
    back = DynamicsReconstructor.load(tmp_path / "model.npz")
    np.testing.assert_array_equal(back.generate(CIRCLE[0], 50), fitted.generate(CIRCLE[0], 50))
    assert back.get_params() == fitted.get_params()
    assert back.dt_ == 0.1
    np.testing.assert_array_equal(back.lyapunov_spectrum(100), fitted.lyapunov_spectrum(100))
    (tmp_path / "other").write_bytes(b"no archive")
    with pytest.raises(FormatError, match="no saved model of dynamics"):
        DynamicsReconstructor.load(tmp_path / "other")


@pytest.mark.parametrize("changes", [{}, {"cell": "dendritic-plrnn", "observation": "affine", "observation_bias": True}])
def test_the_graph_steps_as_the_model_does(changes):
    runtime = pytest.importorskip("onnxruntime")
    s = np.sin(TIME)[:, None]
    found = model(max_updates=50, **changes).fit(3 * CIRCLE + 5, s)
    session = runtime.InferenceSession(found.to_onnx())
    z = found.encode(3 * CIRCLE[:7] + 5)
    after, seen = session.run(["next", "observed"], {"state": z, "inputs": s[:7]})
    np.testing.assert_allclose(after, found.step(z, s[:7]), atol=1e-10)
    np.testing.assert_allclose(seen, found.decode(found.step(z, s[:7])), atol=1e-10)


def test_an_interrupted_training_goes_on_to_the_same_numbers(tmp_path):
    class Stop(Exception):
        pass

    def stop(done, total, words):
        if done == 3:
            raise Stop

    whole = model(max_updates=300).fit(CIRCLE)
    with pytest.raises(Stop):
        model(max_updates=300).fit(CIRCLE, checkpoint=tmp_path / "c.pt", progress=stop)
    resumed = model(max_updates=300).fit(CIRCLE, checkpoint=tmp_path / "c.pt")
    np.testing.assert_array_equal(resumed.parameters_["W2"], whole.parameters_["W2"])
    np.testing.assert_array_equal(resumed.alpha_history_, whole.alpha_history_)


GAPS = CIRCLE.copy()
GAPS[5] = np.nan


@pytest.mark.parametrize(
    ("settings", "X", "message"),
    [
        ({}, GAPS, "rows 5 to 5 of run 0"),
        ({}, CIRCLE[:, 0], "one column of shape"),
        ({}, CIRCLE[:21], "a run of 22 rows or more for sequence_length=20, got at most 21"),
        ({"latent_dim": 1}, CIRCLE, "latent_dim= of 2 or more"),
        ({"alpha_estimator": "norm"}, CIRCLE, "alpha_estimator= to be one of"),
        ({"alpha": 1.5}, CIRCLE, "alpha= between 0 and 1"),
        ({"cell": "lstm"}, CIRCLE, "cell= to be one of"),
        ({"forcing": "none"}, CIRCLE, "forcing= to be one of"),
        ({"lr": 0.1}, CIRCLE, "lr= as two positive numbers"),
        ({"latent_penalty": -1.0}, CIRCLE, "latent_penalty= of 0 or more"),
        ({"observation": "affine", "partial_forcing": True}, CIRCLE, "observation='identity' with partial_forcing"),
        ({"max_updates": 0}, CIRCLE, "max_updates= to be a whole number of 1"),
        ({}, np.column_stack([CIRCLE[:, 0], np.ones(len(CIRCLE))]), "a constant in column 1"),
    ],
)
def test_what_cannot_be_learned_is_refused(settings, X, message):
    with pytest.raises(InvalidData, match=message):
        model(**settings).fit(X)


def test_inputs_of_another_length_are_refused():
    with pytest.raises(InvalidData, match=r"inputs of shape \(T, K\) for runs of"):
        model().fit(CIRCLE, np.zeros((5, 1)))


def test_no_warning_is_raised_on_the_way(fitted):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted.fidelity(CIRCLE, exponent=0.5, origins=3)
