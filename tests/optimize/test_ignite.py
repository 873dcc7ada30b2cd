"""Steps that keep the gradient of the mean prediction short, and what old evaluations alone can find."""

from __future__ import annotations

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from locum.core.errors import InvalidData  # noqa: E402
from locum.nets import seeded  # noqa: E402
from locum.optimize._offline_codes import DesignCode  # noqa: E402
from locum.optimize.ignite import FixedGradientNorm, GradientNormRegularizer, mean_gradient_norm  # noqa: E402
from locum.optimize.offline import (  # noqa: E402
    ConservativeObjective,
    CovarianceAdaptation,
    EnsembleMean,
    EnsembleMin,
    GradientAscent,
    OfflineOptimizer,
)

QUICK = {"hidden": 24, "epochs": 15, "steps": 30}
X = np.random.default_rng(0).normal(size=(300, 3))
Y = 5 - ((X - 0.5) ** 2).sum(axis=1)


def network(seed=0):
    with seeded(seed):
        return torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()


def batch():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(30, width, generator=generator, dtype=torch.float64) for width in (3, 1)]


def flat(tensors):
    return torch.cat([one.detach().reshape(-1) for one in tensors])


# ---------------------------------------------------------------------- the step
def test_the_finite_difference_is_the_product_with_the_hessian():
    """A step of plain gradient descent, less the gradient of the loss, is the gradient of the norm."""
    A, B = batch()
    model = network()
    weights = list(model.parameters())
    slopes = torch.autograd.grad(model(A).mean(), weights, create_graph=True)
    norm = torch.cat([one.reshape(-1) for one in slopes]).norm()
    exact = flat(torch.autograd.grad(norm, weights, allow_unused=True, materialize_grads=True))
    plain = flat(torch.autograd.grad(((model(A) - B) ** 2).mean(), weights))
    stepped = copy.deepcopy(model)
    optimizer, regularizer = torch.optim.SGD(stepped.parameters(), lr=1.0), FixedGradientNorm(weight=2.0, rho=0.3, r=1e-3)
    regularizer.step(stepped, optimizer, lambda: ((stepped(A) - B) ** 2).mean(), lambda: stepped(A).mean())
    found = flat(model.parameters()) - flat(stepped.parameters()) - plain
    assert torch.cosine_similarity(found, 2.0 * 0.3 * exact, dim=0) > 0.999
    assert float(found.norm()) == pytest.approx(0.6 * float(exact.norm()), rel=0.02)
    assert regularizer.norm == pytest.approx(float(norm.detach()))
    assert mean_gradient_norm(model, A) == pytest.approx(float(norm.detach()))


def test_without_weight_it_is_the_step_of_the_loss():
    A, B = batch()
    ours, plain = network(), network()
    regularizer = GradientNormRegularizer(start=0.0, eps=1e6)  # a limit that is never reached
    for model in (ours, plain):
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(5):
            if model is ours:
                regularizer.step(model, optimizer, lambda: ((ours(A) - B) ** 2).mean(), lambda: ours(A).mean())
            else:
                optimizer.zero_grad()
                ((plain(A) - B) ** 2).mean().backward()
                optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), plain.parameters(), strict=True))
    assert regularizer.weight == 0.0  # it never rewards sharpness


def test_the_weight_rises_while_the_limit_is_broken():
    A, B = batch()
    model, regularizer = network(), GradientNormRegularizer(eps=1e-3, lr_dual=1.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    first = mean_gradient_norm(model, A)
    weights = []
    for _ in range(200):
        regularizer.step(model, optimizer, lambda: ((model(A) - B) ** 2).mean(), lambda: model(A).mean())
        weights.append(regularizer.weight)
    assert weights[0] < weights[10] < weights[-1]
    assert mean_gradient_norm(model, A) < first


def test_weights_that_the_mean_does_not_depend_on_are_left_to_the_loss():
    A, B = batch()
    model = torch.nn.ModuleList([network(), torch.nn.Linear(3, 1).double()])
    before = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    FixedGradientNorm(weight=10.0).step(model, optimizer, lambda: ((model[0](A) - B) ** 2).mean(), lambda: model[0](A).mean())
    assert all(torch.equal(a, b) for a, b in zip(before[1].parameters(), model[1].parameters(), strict=True))


@pytest.mark.parametrize("wrong", [{"rho": 0.0}, {"r": -1.0}, {"eps": 0}, {"lr_dual": float("nan")}, {"start": -1.0}])
def test_settings_of_steps(wrong):
    with pytest.raises(InvalidData):
        GradientNormRegularizer(**wrong)
    with pytest.raises(InvalidData):
        FixedGradientNorm(weight=0.0)


# ---------------------------------------------------------------------- codes
@pytest.mark.parametrize("choices", [4, (2, 3, 5)])
def test_categories_come_back(choices):
    sizes = [choices] * 3 if isinstance(choices, int) else choices
    designs = np.column_stack([np.random.default_rng(j).integers(0, k, 60) for j, k in enumerate(sizes)])
    code = DesignCode(choices).fit(designs)
    rows = code.encode(designs)
    assert rows.shape == (60, sum(sizes) - 3)
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_array_equal(code.decode(rows), designs)
    with pytest.raises(InvalidData, match="whole numbers from 0 to"):
        code.encode(designs + 9)


def test_numbers_come_back():
    code = DesignCode(None).fit(X, Y)
    np.testing.assert_allclose(code.decode(code.encode(X)), X)
    assert code.value_middle_ == pytest.approx(Y.mean())
    for wrong, message in (((X, np.ones(300)), "all the same"), ((X, Y[:9]), "one finite value"), ((X[:1],), "two or more")):
        with pytest.raises(InvalidData, match=message):
            DesignCode(None).fit(*wrong)


# ---------------------------------------------------------------------- hosts
HOSTS = [
    GradientAscent(**QUICK, step_size=0.02), EnsembleMean(**QUICK, step_size=0.02), EnsembleMin(**QUICK, step_size=0.02),
    ConservativeObjective(hidden=24, epochs=15, steps=10, step_size=0.02), CovarianceAdaptation(hidden=24, epochs=15, steps=15),
]  # fmt: skip


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: type(host).__name__)
@pytest.mark.parametrize("regularizer", [None, GradientNormRegularizer(), FixedGradientNorm()], ids=("plain", "limit", "fixed"))
def test_hosts_find_designs_that_are_better_than_the_data(host, regularizer):
    if isinstance(host, CovarianceAdaptation):
        pytest.importorskip("cma")
    half = np.median(Y) >= Y  # the better half is kept back
    made = OfflineOptimizer(host, regularizer, n_designs=20).fit(X[half], Y[half])
    found = made.propose()
    truth = 5 - ((found.X - 0.5) ** 2).sum(axis=1)
    if not isinstance(host, CovarianceAdaptation):  # which goes as far as the network promises more, and that is too far
        assert np.median(truth) > np.median(np.sort(Y[half])[-20:]) - 0.05
    assert found.best_visible == pytest.approx(Y[half].max())
    assert found.X.shape == (20, 3)
    assert {one.measure for one in found.fidelity} == {"r2", "spearman_correlation"}
    assert "beside it, a linear model" in found.text()
    again = OfflineOptimizer(host, regularizer, n_designs=20).fit(X[half], Y[half]).propose()
    np.testing.assert_array_equal(found.X, again.X)


def test_every_member_of_an_ensemble_has_a_weight_of_its_own():
    regularizer = GradientNormRegularizer(eps=1e-3, lr_dual=1.0)
    OfflineOptimizer(EnsembleMean(**QUICK), regularizer, n_designs=20).fit(X, Y)
    assert regularizer.weight == regularizer.start  # what was given is only a pattern


def test_designs_of_categories():
    designs = np.random.default_rng(0).integers(0, 3, (200, 4))
    values = (designs == 2).sum(axis=1) + 0.1 * np.random.default_rng(1).normal(size=200)
    shown = (designs == 2).sum(axis=1) <= 2
    host = GradientAscent(**QUICK, step_size=0.5)
    made = OfflineOptimizer(host, n_designs=10, n_choices=3).fit(designs[shown], values[shown])
    found = made.propose()
    assert ((found.X == 2).sum(axis=1) >= 3).mean() >= 0.4  # of which the data had none
    assert found.unseen >= 1
    assert found.X.dtype.kind == "i"
    assert made.sharpness(found.X) > 0


def test_the_limit_makes_the_surrogate_flatter():
    host, regularizer = GradientAscent(hidden=64, epochs=40, learning_rate=3e-3), GradientNormRegularizer(lr_dual=1.0, eps=0.02)
    for seed in range(3):
        plain, limited = (OfflineOptimizer(host, one, n_designs=20, random_state=seed).fit(X, Y) for one in (None, regularizer))
        assert limited.sharpness(X) < 0.75 * plain.sharpness(X)
        assert limited.fidelity_[0].value > plain.fidelity_[0].value - 0.1


@pytest.mark.parametrize(
    ("settings", "data", "message"),
    [
        ({"host": "ga"}, (X, Y), "expected host= to be a Host"),
        ({"regularizer": 0.1}, (X, Y), "expected regularizer="),
        ({"n_designs": 0}, (X, Y), "n_designs"),
        ({"n_designs": 400}, (X, Y), "400 designs or more"),
        ({}, (X, np.ones(300)), "all the same"),
        ({}, (X, np.full(300, np.nan)), "one finite value"),
        ({"host": GradientAscent(learning_rate=0.0)}, (X, Y), "learning_rate= above 0"),
        ({"host": ConservativeObjective(limit=-1.0)}, (X, Y), "limit="),
        ({"n_choices": 3}, (X, Y), "whole numbers from 0 to 2"),
    ],
)
def test_what_cannot_be_used(settings, data, message):
    with pytest.raises(InvalidData, match=message):
        OfflineOptimizer(**{"host": GradientAscent(**QUICK), "n_designs": 20, **settings}).fit(*data)
