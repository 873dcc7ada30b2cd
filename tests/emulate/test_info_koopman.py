"""Koopman representations: known spectra come back, information has its closed form, entropy keeps latent states apart."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from locum.core.errors import FormatError, InvalidData  # noqa: E402
from locum.emulate import KoopmanEmulator, KoopmanWarning, Modes, Trajectories  # noqa: E402
from locum.emulate._koopman_information import (  # noqa: E402
    entropy,
    gaussian_information,
    neighbour_information,
    ridge_operator,
)
from locum.emulate._koopman_networks import begin_at_unit_variance, convolutional  # noqa: E402
from locum.nets import seeded  # noqa: E402

SMALL = {"hidden": (16,), "neighbours": 2, "window": 8, "batch_size": 16, "lr": (1e-2, 1e-3)}
PLAIN = {"alpha": 0.0, "gamma": 0.0}


def spirals(n_runs=4, length=120, decay=0.0, dt=0.1):
    """Turns of frequency 1 from several starts, seen through a bent map into three columns."""
    t = np.arange(length) * dt
    out = []
    for start in np.random.default_rng(0).uniform(0, 2 * np.pi, n_runs):
        c, s = (np.exp(-decay * t) * f(t + start) for f in (np.cos, np.sin))
        out.append(np.stack([c, s, 0.3 * c * s], axis=1))
    return Trajectories.of(out, dt=dt)


@pytest.fixture(scope="module")
def turning():
    return KoopmanEmulator(8, max_updates=400, rollout_steps=6, largest_modulus=1.0, **SMALL, **PLAIN).fit(spirals())


# ---------------------------------------------------------------------- measures of information
def test_entropy_is_the_logarithm_of_the_directions_that_are_filled():
    z = torch.as_tensor(np.random.default_rng(0).permuted(np.tile(np.linspace(-1, 1, 2001), (3, 1)), axis=1).T)
    assert float(entropy(z).exp()) == pytest.approx(3.0, rel=2e-3)
    assert float(entropy(5.0 * z)) == pytest.approx(float(entropy(z)), abs=1e-6)  # free of scale
    flat = torch.cat([z[:, :1], 0 * z[:, 1:]], dim=1)
    assert float(entropy(flat).exp()) == pytest.approx(1.0, abs=1e-5)


def test_information_of_a_linear_chain_is_the_closed_form():
    rng, a, n = np.random.default_rng(0), 0.8, 200_000
    noise = rng.normal(size=n) * np.sqrt(1 - a**2)
    z = np.empty(n)
    z[0] = rng.normal()
    for t in range(1, n):
        z[t] = a * z[t - 1] + noise[t]
    before, after = (torch.as_tensor(part[:, None]) for part in (z[:-1], z[1:]))
    for lag in (1, 2, 5):
        told = gaussian_information(before, after, torch.tensor([[a]], dtype=torch.float64), lag)
        assert float(told) == pytest.approx(-0.5 * np.log(1 - a ** (2 * lag)), abs=0.01)


def test_neighbour_information_is_that_worked_out_by_hand():
    z = torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pooled, single = [], []
    for window in z.numpy():
        unit = window / np.linalg.norm(window, axis=1, keepdims=True)
        for t in range(2, 5):
            others = [j for j in range(7) if j != t]
            near = [j for j in others if abs(j - t) <= 2]
            for out, rows in ((pooled, unit), (single, window)):
                size = {j: np.exp(rows[t] @ rows[j] / 0.5) for j in others}
                share = [size[j] / sum(size.values()) for j in near]
                out.append(np.log(sum(share)) if out is pooled else np.mean(np.log(share)))
    assert float(neighbour_information(z, 2, 0.5, pooled=True)) == pytest.approx(np.mean(pooled))
    assert float(neighbour_information(z, 2, 0.5, pooled=False)) == pytest.approx(np.mean(single))


def test_ridge_is_that_of_scikit_learn():
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(50, 4)), rng.normal(size=(50, 2))
    found = ridge_operator(torch.as_tensor(X), torch.as_tensor(Y), 0.1).numpy()
    np.testing.assert_allclose(found, Ridge(0.1 * 50, fit_intercept=False).fit(X, Y).coef_.T)


# ---------------------------------------------------------------------- known dynamics
def test_a_turn_is_foretold_and_its_period_found(turning):
    test = spirals(n_runs=3, length=150)
    told = turning.errors(test, (5, 20, 50))
    assert told[20]["Koopman"].value < 0.15 < told[20]["persistence"].value
    assert told[50]["Koopman"].upper < told[50]["linear map"].value
    periods = turning.modes().periods
    kept = np.abs(turning.modes().eigenvalues) > 0.97
    assert np.abs(periods[kept] - 2 * np.pi).min() < 0.1


def test_modes_of_a_map_that_is_known():
    turn = 0.99 * np.array([[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]])
    modes = Modes.of(np.block([[turn, np.zeros((2, 1))], [np.zeros((1, 2)), np.eye(1)]]), dt=0.5)
    np.testing.assert_allclose(np.abs(modes.eigenvalues), [1.0, 0.99, 0.99])
    np.testing.assert_allclose(modes.periods, [np.inf, np.pi / 0.2, np.pi / 0.2])
    np.testing.assert_allclose(modes.decay_times, [np.inf, *[-0.5 / np.log(0.99)] * 2])


def test_entropy_keeps_latent_states_apart():
    found = {}
    for gamma in (0.0, 0.5):
        model = KoopmanEmulator(12, max_updates=150, alpha=0.0, gamma=gamma, **SMALL)
        found[gamma] = model.fit(spirals()).effective_dimension_
    assert found[0.5] > 1.5 * found[0.0]


def identity():
    layer = torch.nn.Linear(3, 3, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(3))
    return layer


def test_of_linear_dynamics_the_eigenvalues_are_theirs_and_can_be_shortened():
    t = np.arange(40)
    up = np.stack([np.exp(0.05 * t), np.cos(0.5 * t), np.sin(0.5 * t)], axis=1)
    own = {"ridge": 1e-9, "max_updates": 1, "lr": (1e-12, 1e-12), "window": 8, **PLAIN}
    with pytest.warns(KoopmanWarning, match=r"modulus 1\.051"):
        free = KoopmanEmulator(3, encoder=identity(), decoder=identity(), **own).fit([up, -up])
    found = np.sort_complex(np.linalg.eigvals(free.operator_))
    np.testing.assert_allclose(found, np.sort_complex([np.exp(0.05), np.exp(0.5j), np.exp(-0.5j)]), atol=1e-4)
    bound = KoopmanEmulator(3, encoder=identity(), decoder=identity(), largest_modulus=1.0, **own).fit([up, -up])
    shortened = np.sort_complex(np.linalg.eigvals(bound.operator_))
    np.testing.assert_allclose(shortened, np.sort_complex([1.0, np.exp(0.5j), np.exp(-0.5j)]), atol=1e-4)
    with pytest.raises(InvalidData, match="one's own"):
        free.save("unused")


def driven(n_runs, seed):
    """A pair of columns that decays and is pushed."""
    rng, runs, pushes = np.random.default_rng(seed), [], []
    A, B = np.array([[0.95, 0.2], [-0.2, 0.95]]), np.array([[0.0], [0.5]])
    for _ in range(n_runs):
        u, x = rng.normal(size=(80, 1)), np.empty((80, 2))
        x[0] = rng.normal(size=2)
        for t in range(79):
            x[t + 1] = A @ x[t] + B @ u[t]
        runs.append(x)
        pushes.append(u)
    return runs, pushes, (A, B)


def test_controls_act_and_the_regulator_reaches_a_goal():
    runs, pushes, (A, B) = driven(6, 0)
    model = KoopmanEmulator(4, max_updates=500, **SMALL, **PLAIN).fit(runs, pushes)
    test, given, _ = driven(1, 9)
    said = model.generate(test[0][0], 20, given[0][:20])
    assert np.abs(said - test[0][1:21]).max() < 0.4 < np.abs(test[0][1:21]).max()
    gain, goal = model.regulator(), model.encode(np.zeros(2))
    assert gain.shape == (1, 4)
    x = np.array([3.0, -3.0])
    for _ in range(60):
        x = A @ x + B @ (gain @ (goal - model.encode(x)))
    assert np.abs(x).max() < 0.5
    with pytest.raises(InvalidData, match="1 controls a step"):
        model.generate(test[0][0], 5)


def test_on_a_graph_the_map_is_a_sum_of_kronecker_products():
    ring = np.roll(np.eye(5), 1, axis=1)
    graph = np.stack([np.eye(5), ring + ring.T])
    heat = np.eye(5) + 0.1 * (ring + ring.T - 2 * np.eye(5))
    starts = np.random.default_rng(0).normal(size=(8, 5))
    runs = [np.stack([np.linalg.matrix_power(heat, t) @ x for t in range(30)]) for x in starts]
    model = KoopmanEmulator(3, adjacency=graph, max_updates=300, **SMALL, **PLAIN).fit(runs)
    assert model.operator_.shape == (15, 15)
    blocks = model.operator_.reshape(5, 3, 5, 3).transpose(0, 2, 1, 3)
    np.testing.assert_allclose(blocks[0, 2], 0.0)  # not neighbours
    np.testing.assert_allclose(blocks[0, 1], blocks[3, 4])
    shifted = np.roll(runs[0][3], 2)
    np.testing.assert_allclose(model.predict(shifted, 4), np.roll(model.predict(runs[0][3], 4), 2, axis=1), atol=1e-5)


@pytest.mark.filterwarnings("ignore::locum.emulate.KoopmanWarning")  # hardly trained
@pytest.mark.filterwarnings("ignore::locum.core.errors.OutsideRegion")  # trained so shortly, it goes anywhere
def test_fields_go_through_convolutions_and_drawn_states_through_their_means():
    t, y = np.meshgrid(np.arange(40) * 0.3, np.linspace(0, 2 * np.pi, 16, endpoint=False), indexing="ij")
    fields = np.repeat(np.sin(y - t)[:, :, None], 16, axis=2).reshape(40, 256)
    settings = {"encoder": "conv", "shape": (1, 16, 16), "width": 0.1, "max_updates": 20, "gamma": 0.5} | SMALL
    for form, operator in (("ae", "ridge"), ("vae", "learned")):
        model = KoopmanEmulator(6, form=form, operator=operator, **settings).fit([fields, fields])
        assert model.predict(fields[:3], 4).shape == (3, 4, 256)
        np.testing.assert_array_equal(model.encode(fields[:3]), model.encode(fields[:3]))


# ---------------------------------------------------------------------- same numbers
def test_same_seed_same_numbers_and_nothing_global_is_drawn(tmp_path):
    state = torch.get_rng_state()
    models = [KoopmanEmulator(4, max_updates=100, random_state=3, **SMALL).fit(spirals()) for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(models[0].operator_, models[1].operator_)
    stopped = KoopmanEmulator(4, max_updates=100, random_state=3, **SMALL)
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(spirals(), checkpoint=tmp_path / "half", progress=_interrupt)
    again = KoopmanEmulator(4, max_updates=100, random_state=3, **SMALL).fit(spirals(), checkpoint=tmp_path / "half")
    np.testing.assert_array_equal(again.operator_, models[0].operator_)


def _interrupt(done, total, words):
    raise KeyboardInterrupt


def test_what_is_saved_comes_back_the_same(turning, tmp_path):
    turning.save(tmp_path / "model.npz")
    back = KoopmanEmulator.load(tmp_path / "model.npz")
    x = spirals(1).states[0]
    np.testing.assert_array_equal(back.forecast(x, 9), turning.forecast(x, 9))
    assert back.get_params()["rollout_steps"] == 6
    assert set(back.errors(spirals(2), (3,))[3]) == {"Koopman", "persistence"}
    (tmp_path / "other").write_bytes(b"none")
    with pytest.raises(FormatError, match="no saved model"):
        KoopmanEmulator.load(tmp_path / "other")


def test_fidelity_stands_beside_its_floor(turning):
    report = turning.fidelity(spirals(3, 150), horizon=10)
    assert report["PE(10)"].values[0] < report["PE(10)"].floor[0]
    assert turning.latent_information() > turning.latent_information(lag=20) > 0


# ---------------------------------------------------------------------- refused
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gamma": -0.1}, "shrinks the entropy"),
        ({"window": 4}, "more than 2 neighbours"),
        ({"rollout_steps": 8}, "below window"),
        ({"encoder": "cnn"}, "encoder"),
        ({"form": "gan"}, "form"),
        ({"encoder": "conv", "shape": (1, 4, 4)}, "divisible by 16"),
        ({"adjacency": np.ones((2, 2))}, "relations, nodes, nodes"),
        ({"adjacency": np.ones((1, 2, 2))}, "as many columns"),
        ({"temperature": 0.0}, "positive number"),
        ({"encoder": object()}, "decoder="),
    ],
)
def test_settings_are_refused_before_training(settings, message):
    with pytest.raises(InvalidData, match=message):
        KoopmanEmulator(4, **SMALL | settings).fit(spirals())


def test_data_are_refused_with_what_is_wrong(turning):
    with pytest.raises(InvalidData, match="of run 1"):
        KoopmanEmulator(4, **SMALL).fit([np.zeros((30, 2)), np.full((30, 2), np.nan)])
    with pytest.raises(InvalidData, match="row"):
        KoopmanEmulator(4, **SMALL).fit([np.zeros((5, 2))])
    with pytest.raises(InvalidData, match="controls of shape"):
        KoopmanEmulator(4, **SMALL).fit([np.random.default_rng(0).normal(size=(30, 2))], np.zeros((29, 1)))
    with pytest.raises(InvalidData, match="3 columns"):
        turning.encode(np.zeros((2, 4)))
    with pytest.raises(InvalidData, match="latent states of 8"):
        turning.step(np.zeros(7))
    with pytest.raises(InvalidData, match="controls="):
        turning.regulator()


@pytest.mark.parametrize("gaussian", [False, True])
def test_latents_begin_with_unit_variance_however_deep_the_encoder(gaussian):
    rows = torch.as_tensor(np.random.default_rng(0).normal(size=(300, 2 * 16 * 16)), dtype=torch.float32)
    with seeded(0):
        coder = convolutional((2, 16, 16), 6, 0.25, gaussian=gaussian)
    assert coder.encode(rows).std(dim=0).max() < 0.5  # which is why
    variances = coder.encoder(rows)[:, 6:]
    begin_at_unit_variance(coder, rows)
    z = coder.encode(rows)
    np.testing.assert_allclose(z.mean(dim=0).detach(), 0.0, atol=1e-3)
    np.testing.assert_allclose(z.std(dim=0).detach(), 1.0, atol=1e-3)
    np.testing.assert_array_equal(coder.encoder(rows)[:, 6:].detach(), variances.detach())
