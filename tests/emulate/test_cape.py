"""Neural solvers guided by parameters: learned equations, curriculum, symmetries, units, files, and what is refused."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone

from locum.core.errors import FormatError, InvalidData, OutsideRegion
from locum.emulate import CAPE, Conditional, Curriculum, NeuralPDESolver, _cape_training
from locum.problems.pde import Advection, RandomWaves

SPEEDS = np.geomspace(0.25, 1.0, 5)
SMALL = {"width": 8, "epochs": 12, "batch_size": 15, "warmup_epochs": 2, "window": 3, "lr": 1e-2}
GUIDE = CAPE(width=8, modes=4)


def runs(n, seed, n_steps=6, grid=16, dt=0.1, values=SPEEDS):
    """n runs for each speed."""
    states = RandomWaves.draw(n * len(values), highest=2, bent=0.0, random_state=seed)
    speeds = np.repeat(values, n)
    return Advection().solve(states, speeds, n_steps=n_steps, dt=dt, n_grid=grid), speeds[:, None]


def solver(**changes):
    return NeuralPDESolver(**{**SMALL, "parameters": GUIDE, **changes})


def errors(model, **settings):
    """Mean error of roll-outs of a fitted solver on fresh runs."""
    return model.fidelity(*runs(10, 9, **settings)).by_run["nRMSE"].mean()


@pytest.fixture(scope="module")
def fitted():
    return solver(epochs=40).fit(*runs(20, 0))


# ---------------------------------------------------------------------- learning
def test_a_network_that_knows_the_speed_beats_one_that_does_not(fitted):
    told = solver(parameters=Conditional(), epochs=40).fit(*runs(20, 0))
    plain = solver(parameters=None, epochs=40).fit(*runs(20, 0))
    assert errors(fitted) < 0.5 * errors(plain)
    assert errors(told) < 0.5 * errors(plain)
    assert errors(fitted, values=np.array([0.42, 0.6])) < 0.7 * errors(plain, values=np.array([0.42, 0.6])), "unseen speeds"


def test_two_frames_tell_the_speed_as_well():
    plain = solver(parameters=None, history=2, window=4, epochs=30).fit(*runs(12, 0))
    one = solver(parameters=None, window=4, epochs=30).fit(*runs(12, 0))
    assert errors(plain) < 0.7 * errors(one)
    U, P = runs(1, 3)
    said = plain.rollout(U[:, :2, 0], 4, P)
    assert said.shape == (4, 5, 1, 16)
    np.testing.assert_allclose(plain.step(U[:, :2, 0], P), np.stack([U[:, 1, 0], said[0, :, 0]], axis=1), atol=1e-5)


def test_the_first_guess_is_a_derivative_weighed_by_the_speed():
    """Trained alone, on short steps: the change is -speed times slope times step."""
    U, P = runs(30, 0, n_steps=3, dt=0.02)
    model = solver(warmup_epochs=40, epochs=40).fit(U, P)
    V, Q = runs(12, 5, n_steps=1, dt=0.02)
    u = V[:, 0]
    guess = model.first_guess(u, Q)
    change = (guess.fields[:, 0] - u)[:, 0]
    slope = np.fft.irfft(np.fft.rfft(u[:, 0]) * 2j * np.pi * np.arange(9), n=16)
    known = -Q * slope * 0.02
    per_run = [np.corrcoef(a, b)[0, 1] for a, b in zip(change, known, strict=True)]
    assert np.median(per_run) > 0.9
    assert {name: one.shape for name, one in guess.attention.items()} == dict.fromkeys(
        ("spectral", "pointwise", "depthwise"), (60, 8)
    )


@pytest.mark.parametrize("base", ["unet", "message-passing"])
def test_other_operators_learn_it_too(base):
    model = solver(base=base, epochs=25, lr=3e-3).fit(*runs(12, 0))
    assert errors(model) < 0.8 * model.fidelity(*runs(10, 9)).by_run["nRMSE persistence"].mean()


def test_a_module_of_your_own_is_an_operator_and_is_not_touched():
    module = torch.nn.Conv1d(2, 2, 5, padding=2)
    before = module.weight.detach().clone()
    model = solver(base=module).fit(*runs(5, 0))
    assert (module.weight == before).all()
    assert not torch.equal(model.network_.operator.weight, before)
    with pytest.raises(InvalidData, match="a file holds no code"):
        model.to_state()
    with pytest.raises(InvalidData, match=r"expected base= to take fields of shape \(n, 2"):
        solver(base=torch.nn.Conv1d(3, 2, 1)).fit(*runs(5, 0))
    with pytest.raises(InvalidData, match=r"expected base= to make \(2, 2, 16\)"):
        solver(base=torch.nn.Conv1d(2, 3, 1)).fit(*runs(5, 0))


def test_fields_on_a_plane():
    """Two fields on 8 by 8 cells that move along one axis, at a speed that the parameter gives."""
    rng = np.random.default_rng(0)
    speed = rng.integers(0, 3, 40)
    x = 2 * np.pi * np.arange(8) / 8
    start = np.stack([np.sin(x)[:, None] + np.cos(x + s) for s in rng.uniform(0, 6, 80)]).reshape(40, 2, 8, 8)
    U = np.stack([np.stack([np.roll(u, t * s, axis=-1) for t in range(4)]) for u, s in zip(start, speed, strict=True)])
    P = speed[:, None].astype(float)
    guide = CAPE(width=8, modes=4, scale="standard")
    for base, lr in (("fno", 1e-2), ("unet", 5e-3)):
        model = solver(base=base, parameters=guide, epochs=50, batch_size=10, lr=lr).fit(U, P)
        still = model.fidelity(U, P)
        assert still.by_run["nRMSE"].mean() < 0.6 * still.by_run["nRMSE persistence"].mean(), base


# ---------------------------------------------------------------------- how it is trained
def test_the_curriculum_goes_from_true_fields_to_its_own():
    tanh = [Curriculum().own_steps(p, 20) for p in np.linspace(0, 1, 11)]
    assert tanh[0] == 1
    assert tanh[5] == 10
    assert tanh[-1] == 20
    assert np.all(np.diff(tanh) >= 0)
    assert Curriculum("teacher-forcing").own_steps(1.0, 20) == 1
    assert Curriculum("rollout").own_steps(0.0, 20) == Curriculum("push-forward").own_steps(0.0, 20) == 20


def test_schedules_differ_and_push_forward_has_no_gradient_through_time():
    U, P = runs(5, 0)

    def lift(name, epochs):
        model = solver(curriculum=Curriculum(name), epochs=epochs, warmup_epochs=0, noise=0.0, clip=None).fit(U, P)
        return model.network_.operator.lift.weight.detach()

    for a, b in [("teacher-forcing", "rollout"), ("rollout", "push-forward")]:
        assert (lift(a, 1) - lift(b, 1)).abs().max() > 1e-4, (a, b)
    torch.testing.assert_close(lift("tanh", 1), lift("teacher-forcing", 1), msg="which is how it begins")
    assert (lift("tanh", 4) - lift("teacher-forcing", 4)).abs().max() > 1e-3


def test_warm_up_trains_the_first_guess_alone():
    from locum.emulate import _cape_training as training
    from locum.nets import seeded

    model = solver(warmup_epochs=4, epochs=4).fit(*runs(5, 0))
    with seeded(0):
        fresh = training.network_of("fno", {"width": 8, "kernel": 5, "frames": 1, "modes": 4, "norm": "none"}, False,
                                    width=8, channels=1, history=1, parameters=1, grid=(16,))  # fmt: skip
    assert torch.equal(model.network_.operator.lift.weight, fresh.operator.lift.weight)
    assert not torch.equal(model.network_.guiding.read.weight, fresh.guiding.read.weight)


def test_a_residual_of_the_equation_is_brought_to_zero():
    def residual(now, later, p):  # central differences, half way between two frames
        middle = 0.5 * (now + later)
        slope = 16 * 0.5 * (middle.roll(-1, -1) - middle.roll(1, -1))
        return (later - now) / 0.02 + p[..., None] * slope

    U, P = runs(12, 0, n_steps=3, dt=0.02)
    left = []
    for weight in (0.0, 0.1):
        model = solver(residual=residual, residual_weight=weight, epochs=20).fit(U, P)
        said = model.rollout(U[:, 0], 1, P)[0]
        left.append(residual(*(torch.from_numpy(one) for one in (U[:, 0], said, P))).square().mean())
    assert left[1] < 0.9 * left[0]
    with pytest.raises(InvalidData, match="no residual="):
        model.to_state()


def test_the_same_seed_gives_the_same_numbers_and_a_checkpoint_goes_on_to_them(tmp_path):
    U, P = runs(5, 0)
    before = torch.get_rng_state()
    whole, other = solver(epochs=6).fit(U, P), solver(epochs=6, random_state=1).fit(U, P)
    assert (torch.get_rng_state() == before).all()

    class Stopped(Exception):
        pass

    def stop(done, total, words):
        if done == 4:
            raise Stopped

    with pytest.raises(Stopped):
        solver(epochs=6).fit(U, P, checkpoint=tmp_path / "half", progress=stop)
    again = solver(epochs=6).fit(U, P, checkpoint=tmp_path / "half")
    u = U[:3, 0]
    np.testing.assert_array_equal(again.rollout(u, 3, P[:3]), whole.rollout(u, 3, P[:3]))
    assert np.abs(other.rollout(u, 3, P[:3]) - whole.rollout(u, 3, P[:3])).max() > 1e-3


# ---------------------------------------------------------------------- symmetries and units
@pytest.mark.parametrize("base", ["fno", "unet", "message-passing"])
def test_a_shifted_field_gives_a_shifted_answer(base):
    model = solver(base=base, epochs=2, warmup_epochs=0).fit(*runs(5, 0))
    U, P = runs(1, 3)
    said = model.rollout(U[:, 0], 2, P)
    np.testing.assert_allclose(model.rollout(np.roll(U[:, 0], 4, axis=-1), 2, P), np.roll(said, 4, axis=-1), atol=1e-4)


def test_a_finer_grid_gives_the_same_answer_where_nothing_ties_to_one(fitted):
    """The spectral parts know no grid; the others see cells, so that this holds on another grid only for the shape of it."""
    U, P = runs(2, 3, grid=32)
    assert fitted.rollout(U[:, 0], 2, P).shape == (2, 10, 1, 32)
    tied = solver(parameters=CAPE(width=8, modes=4, norm="layer"), epochs=2).fit(*runs(5, 0))
    with pytest.raises(InvalidData, match=r"expected states of shape \(1, 16\)"):
        tied.rollout(U[:, 0], 2, P)


def test_fields_come_back_in_their_units():
    U, P = runs(5, 0)
    one, two = (solver(loss="mse", epochs=4).fit(fields, P) for fields in (U, 300 + 50 * U))
    said = one.rollout(U[:4, 0], 3, P[:4])
    np.testing.assert_allclose(two.rollout(300 + 50 * U[:4, 0], 3, P[:4]), 300 + 50 * said, rtol=1e-3)


@pytest.mark.parametrize("floor", [0.0, 0.1, 2.0])
def test_errors_are_relative_to_the_size_of_a_frame_and_a_floor(floor):
    settings = dict.fromkeys(("history", "warmup", "epochs", "window", "own", "through_time", "noise", "aux_weight"))
    more = {"relative": True, "floor": floor, "offset": torch.zeros(1, 1), "residual": None, "residual_weight": 0.0}
    true = torch.stack([torch.full((1, 16), 3.0), torch.full((1, 16), 1e-4)])[None]  # a frame, and what is left of it
    found = _cape_training.Objective(**settings, **more)._off(true + 0.3, true)
    by_hand = np.mean([0.3 / (3.0 + floor), 0.3 / (1e-4 + floor)])
    assert float(found) == pytest.approx(by_hand, rel=1e-5)


def test_rollouts_are_steps_one_after_the_other_for_one_state_and_many(fitted):
    U, P = runs(1, 3)
    many = fitted.rollout(U[:, 0], 3, P)
    z = U[0, 0]
    for t in range(3):
        z = fitted.step(z, P[0])
        np.testing.assert_allclose(z, many[t, 0], atol=1e-4)
    np.testing.assert_allclose(fitted.rollout(U[0, 0], 3, P[0]), many[:, 0], atol=1e-4)
    np.testing.assert_allclose(fitted.rollout(U[0, 0], 3, np.repeat(P[:1], 3, axis=0)), many[:, 0], atol=1e-4)
    changing = fitted.rollout(U[0, 0], 2, [[0.25], [1.0]])
    np.testing.assert_allclose(changing[1], fitted.step(changing[0], [1.0]), atol=1e-4)
    with pytest.raises(InvalidData, match="a row of p for each of 3 steps, got 2"):
        fitted.rollout(U[0, 0], 3, P[:2])


# ---------------------------------------------------------------------- parameters
def test_parameters_outside_those_trained_on_warn(fitted):
    U, _ = runs(1, 3)
    with pytest.warns(OutsideRegion, match="p0 = 4 is above 1"):
        fitted.rollout(U[0, 0], 1, [4.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted.rollout(U[0, 0], 1, [0.6])


@pytest.mark.parametrize("scale", ["log", "standard", "none"])
def test_scales_of_parameters(scale):
    U, P = runs(5, 0)
    plain, unit = (solver(parameters=Conditional(scale), epochs=3).fit(U, p) for p in (P, 1000 * P))
    same = np.allclose(plain.rollout(U[:2, 0], 1, P[:2]), unit.rollout(U[:2, 0], 1, 1000 * P[:2]), atol=1e-3)
    assert same is (scale != "none"), "units of a parameter do not matter where it is standardised"


# ---------------------------------------------------------------------- keeping
@pytest.mark.parametrize("parameters", [GUIDE, Conditional("standard"), None])
def test_a_solver_comes_back_from_its_file(parameters, tmp_path):
    U, P = runs(5, 0)
    model = solver(parameters=parameters, curriculum=Curriculum("rollout"), epochs=2).fit(U, P)
    model.save(tmp_path / "solver.npz")
    back = NeuralPDESolver.load(tmp_path / "solver.npz")
    np.testing.assert_array_equal(back.rollout(U[:3, 0], 4, P[:3]), model.rollout(U[:3, 0], 4, P[:3]))
    assert back.get_params() == model.get_params()
    assert str(back.region_) == str(model.region_)


def test_files_of_something_else_are_refused(tmp_path):
    (tmp_path / "text").write_text("no solver")
    with pytest.raises(FormatError, match="is no saved solver"):
        NeuralPDESolver.load(tmp_path / "text")
    model = solver(epochs=2).fit(*runs(5, 0))
    record, arrays = model.to_state()
    with pytest.raises(RuntimeError, match="Missing key"):
        NeuralPDESolver.from_state(record, {k: v for k, v in arrays.items() if "lift" not in k})


# ---------------------------------------------------------------------- refused
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base": "transformer"}, "base= to be one of fno, unet"),
        ({"parameters": "cape"}, "to be a CAPE, a Conditional or None"),
        ({"curriculum": "tanh"}, "to be a Curriculum or None"),
        ({"loss": "l1"}, "loss= to be one of rel-l2, mse"),
        ({"window": 2}, "window= to be a whole number of 3"),
        ({"noise": -1.0}, "noise= of 0 or more"),
        ({"floor": -0.1}, "floor= of 0 or more"),
        ({"lr": 0.0}, "lr= above 0"),
        ({"warmup_epochs": 13}, "at most epochs=12, got 13"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(changes, message):
    with pytest.raises(InvalidData, match=message):
        solver(**changes).fit(*runs(3, 0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda U, P: (U[:, :, 0], P), r"runs of shape \(n, T, fields, \*grid\)"),
        (lambda U, P: (U, P[:-1]), r"parameters of shape \(15, k\)"),
        (lambda U, P: (U, P[:, 0]), r"parameters of shape \(15, k\)"),
        (lambda U, P: (U, P - 0.25), "above 0 for scale='log', got 0"),
        (lambda U, P: (U[:, :2], P), "3 frames or more for history=1, got 2"),
        (lambda U, P: (U[..., :15], P), r"whose sides 4 divides, got \(15,\)"),
        (lambda U, P: (U * np.nan, P), "got NaN or infinity"),
        (lambda U, P: (U * 0, P), "a constant in field 0"),
    ],
)
def test_runs_that_cannot_be_used_are_refused(change, message):
    with pytest.raises(InvalidData, match=message):
        solver().fit(*change(*runs(3, 0)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CAPE(kernel=4), "an odd kernel="),
        (lambda: CAPE(scale="sqrt"), "scale= to be one of"),
        (lambda: CAPE(norm="batch"), "norm= to be one of"),
        (lambda: Curriculum("cosine"), "schedule= to be one of"),
        (lambda: Curriculum(width=0.0), "width= above 0"),
    ],
)
def test_settings_of_parts_are_checked_at_once(call, message):
    with pytest.raises(InvalidData, match=message):
        call()


def test_states_and_parameters_in_use_are_checked(fitted):
    U, P = runs(1, 3)
    with pytest.raises(InvalidData, match=r"expected states of shape \(1, 16\)"):
        fitted.rollout(U[:, :, 0], 1, P)
    with pytest.raises(InvalidData, match="expected 1 finite parameters"):
        fitted.rollout(U[:, 0], 1, P[:2])
    with pytest.raises(InvalidData, match="expected 1 finite parameters"):
        fitted.step(U[0, 0])
    with pytest.raises(InvalidData, match="to read a first guess of"):
        clone(fitted).set_params(parameters=None).first_guess(U[:, 0], P)
