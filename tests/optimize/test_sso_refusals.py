"""What the target-space optimizer refuses, and that nothing was changed then."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import locum.optimize.sso  # noqa: E402
from locum.core.errors import InvalidData  # noqa: E402
from locum.nets import seeded  # noqa: E402
from locum.optimize.sso import NonFiniteGradient, TargetSurrogate  # noqa: E402


def parameter(n=3, k=2):
    return torch.zeros(n, k, requires_grad=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, 'eta="1/L" needs the smoothness of the loss: .* or L itself'),
        ({"loss": "hinge"}, "loss= to be one of squared, logistic, cross-entropy or a number L, got 'hinge'"),
        ({"loss": -1.0}, "loss= to be a positive number"),
        ({"eta": 0.0}, "eta= to be a positive number, got 0.0"),
        ({"eta": float("nan")}, "eta= to be a positive number"),
        ({"eta": "sgd"}, "eta= to be a number or one of 1/L, armijo"),
        ({"loss": 1.0, "m": 0}, "m= to be a whole number of 1 or more, got 0"),
        ({"loss": 1.0, "inner": "newton"}, "inner= to be one of armijo-gd, gd"),
        ({"loss": 1.0, "inner": "gd"}, "inner_step= with inner=\"gd\""),
        ({"loss": 1.0, "inner_step": 0}, "inner_step= to be a positive number"),
        ({"loss": 1.0, "eta0": True}, "eta0= to be a positive number"),
        ({"loss": 1.0, "schedule": "linear"}, "schedule= to be one of constant, sqrt, exponential"),
        ({"loss": 1.0, "schedule": "exponential"}, "horizon= with the exponential schedule"),
        ({"loss": 1.0, "horizon": 0}, "horizon= to be a whole number"),
        ({"loss": 1.0, "divergence": "cosine"}, "divergence= to be one of euclidean, logistic, softmax"),
        ({"eta": "newton", "loss": 1.0}, "needs the second derivative"),
        ({"eta": "armijo", "divergence": "softmax"}, "the softmax divergence goes with eta= a number, 1/L or adagrad"),
        ({"loss": "squared", "divergence": "softmax"}, 'needs loss="cross-entropy", got \'squared\''),
        ({"eta": 1.0, "divergence": "logistic", "inner": "exact"}, "the logistic divergence is none"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_used(settings, message):
    with pytest.raises(InvalidData, match=message):
        TargetSurrogate([parameter()], **settings)


def test_parameters_that_cannot_be_used():
    with pytest.raises(InvalidData, match="one group of parameters, got 2"):
        TargetSurrogate([{"params": [parameter()]}, {"params": [parameter()]}], eta=1.0)
    with pytest.raises(InvalidData, match="at least one needs a gradient"):
        TargetSurrogate([torch.zeros(2)], eta=1.0)


def never(_):
    raise AssertionError("the oracle was asked")


@pytest.mark.parametrize(
    ("forward", "settings", "more", "message"),
    [
        (lambda z: z.sum(), {}, {}, r"outputs of shape \(n, \.\.\.\), a row each, got torch.float32 of shape \(\)"),
        (lambda z: z.tolist(), {}, {}, "a row each, got list"),
        (lambda z: z.long(), {}, {}, "got torch.int64"),
        (lambda z: z[:0], {}, {}, r"of shape \(0, 2\)"),
        (lambda z: z / 0, {}, {}, "finite outputs"),
        (lambda z: z[:, 0], {"divergence": "softmax"}, {}, "two or more outputs a row"),
        (lambda z: z, {"eta": "armijo"}, {}, "expected target_loss="),
        (lambda z: z, {"eta": "adam"}, {}, "expected rows= with this eta"),
        (lambda z: z, {"eta": "adam"}, {"rows": [0, 1]}, "3 different whole numbers"),
        (lambda z: z, {"eta": "adam"}, {"rows": [0, 1, 1]}, "3 different whole numbers"),
        (lambda z: z, {"eta": "adam"}, {"rows": [0, 1, -1]}, "3 different whole numbers"),
        (lambda z: z, {"eta": "adam"}, {"rows": [0, 1, 0.5]}, "3 different whole numbers"),
        (lambda z: z, {}, {"target_loss": lambda z: z.mean()}, r"the loss of each row, shape \(3,\), got \(\)"),
        (lambda z: z, {}, {"target_loss": lambda z: 1.0}, "got float"),
    ],
)
def test_what_is_refused_before_the_oracle_is_asked(forward, settings, more, message):
    z = parameter()
    optimizer = TargetSurrogate([z], **{"eta": 1.0, **settings})
    with pytest.raises(InvalidData, match=message):
        optimizer.step(forward=lambda: forward(z), target_grad=never, **more)
    assert optimizer.oracle_calls == 0


@pytest.mark.parametrize(
    ("gradient", "kind", "message"),
    [
        (lambda z: z.sum(1), InvalidData, r"of the outputs' shape \(3, 2\), got \(3,\)"),
        (lambda z: [0.0], InvalidData, "got list"),
        (lambda z: z + float("nan"), NonFiniteGradient, "finite gradient"),
        (lambda z: z + float("inf"), FloatingPointError, "no parameter was changed"),
    ],
)
def test_gradients_that_cannot_be_used_cost_a_call_and_change_nothing(gradient, kind, message):
    z = parameter()
    optimizer = TargetSurrogate([z], eta=1.0)
    with pytest.raises(kind, match=message):
        optimizer.step(forward=lambda: z, target_grad=gradient)
    assert torch.equal(z, parameter())
    assert optimizer.oracle_calls == 1


def test_outputs_that_are_not_linear_have_no_closed_form():
    z = parameter()
    optimizer = TargetSurrogate([z], eta=3.0, inner="exact")
    with pytest.raises(InvalidData, match="linear in the parameters"):
        optimizer.step(forward=lambda: z.exp(), target_grad=torch.ones_like)
    assert torch.equal(z, parameter())


def test_rows_whose_outputs_change_their_shape():
    z, wide = parameter(), parameter(3, 4)
    optimizer = TargetSurrogate([z, wide], eta="adam")
    optimizer.step(forward=lambda: z, target_grad=torch.ones_like, rows=range(3))
    with pytest.raises(InvalidData, match=r"of the shape before, \(n, 2\), got \(n, 4\)"):
        optimizer.step(forward=lambda: wide, target_grad=torch.ones_like, rows=range(3))


def test_dropout_in_training_mode_is_told():
    with seeded(0):
        net = torch.nn.Sequential(torch.nn.Linear(3, 20), torch.nn.Dropout(0.5), torch.nn.Linear(20, 1))
        x = torch.randn(10, 3)
    with seeded(1), pytest.warns(UserWarning, match="eval mode"):
        TargetSurrogate(net.parameters(), eta=1.0).step(forward=lambda: net(x), target_grad=torch.ones_like)
    net.eval()
    TargetSurrogate(net.parameters(), eta=1.0).step(forward=lambda: net(x), target_grad=torch.ones_like)


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="no attribute 'Surrogates'"):
        locum.optimize.sso.Surrogates
