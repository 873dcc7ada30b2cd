"""Surrogates of several levels: identities, planted relations of levels, and what they refuse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("botorch")

from locum.core.errors import InvalidData  # noqa: E402
from locum.optimize.mfbo import (  # noqa: E402
    AutoregressiveProcess,
    ContinuousFidelityProcess,
    CoregionalizedProcess,
    NonlinearAutoregressiveProcess,
    RecursiveAutoregressiveProcess,
)

EVERY = [
    AutoregressiveProcess(noise=0.0), AutoregressiveProcess("linear", "rbf", noise=0.0), RecursiveAutoregressiveProcess(),
    NonlinearAutoregressiveProcess(noise=0.0), CoregionalizedProcess(noise=0.0),
    ContinuousFidelityProcess((0.4, 1.0), noise=0.0), ContinuousFidelityProcess((0.4, 1.0), "exponential_decay", 0.0),
    ContinuousFidelityProcess((0.4, 1.0), "rbf", 0.0),
]  # fmt: skip
every = pytest.mark.parametrize("surrogate", EVERY, ids=lambda one: type(one).__name__)


def low(X):
    return np.sin(9 * X[:, 0]) + X[:, -1]


def high(X):
    return 2 * low(X) - X[:, 0] + 5


def nested(many=15, few=5):
    X = np.linspace(0, 1, many)[:, None]
    some = X[:: many // few][:few]
    return [X, some], [low(X), high(some)]


def three():
    X = np.random.default_rng(3).random((24, 2))
    middle = high(X) + 0.3 * np.sin(6 * X[:, 0] * X[:, 1])  # a plane alone would leave nothing to the process of the level
    return [X, X[:12], X[:6]], [low(X), middle[:12], middle[:6] + 0.3 * np.cos(4 * X[:6, 1])]


# ---------------------------------------------------------------------- what all share
@every
def test_what_was_seen_is_known_and_the_rest_foretold(surrogate):
    designs, values = nested()
    fitted = surrogate.fit(designs, values)
    for level in (0, 1):
        assert np.allclose(fitted.predict(designs[level], level), values[level], atol=0.05)
    fresh = np.linspace(0, 1, 40)[:, None]
    mean, sd = fitted.predict(fresh, return_std=True)
    assert np.sqrt(np.mean((mean - high(fresh)) ** 2)) < high(fresh).std()
    assert (sd > 0).all()


@every
def test_moments_of_all_levels_are_one_covariance(surrogate):
    designs, values = nested()
    fitted = surrogate.fit(designs, values)
    found = fitted.moments(torch.linspace(0, 1, 7, dtype=torch.float64)[:, None])
    assert found.mean.shape == (7, 2)
    assert torch.allclose(found.covariance, found.covariance.mT)
    assert (torch.linalg.eigvalsh(found.covariance) > -1e-6 * found.covariance.abs().max()).all()
    mean, sd = fitted.predict(np.linspace(0, 1, 7)[:, None], 0, return_std=True)
    assert np.allclose(mean, found.mean[:, 0].detach())
    assert np.allclose(sd**2, found.variance[:, 0].detach() + fitted.noise_[0])


@every
def test_same_data_same_numbers_and_believing_keeps_settings(surrogate):
    designs, values = nested()
    values[1] = values[1] + 0.3 * np.cos(9 * designs[1][:, 0])  # else a plane is all that the truth adds, which nothing bends
    fresh = np.array([[0.13], [0.77]])
    one = surrogate.fit(designs, values)
    before = one.predict(fresh)
    more = [np.array([[0.13]]), np.array([[0.13]])]
    told = [low(more[0]), before[:1] + 0.2]
    believing = one.believing(more, told)
    assert abs(believing.predict(more[1])[0] - told[1][0]) < abs(before[0] - told[1][0]) / 2
    assert np.array_equal(believing.noise_, one.noise_)
    assert np.array_equal(one.predict(fresh), before)
    assert np.array_equal(type(surrogate)(**surrogate.get_params()).fit(designs, values).predict(fresh), before)


# ---------------------------------------------------------------------- what each is for
@pytest.mark.parametrize("ratio", ["constant", "linear"])
@pytest.mark.parametrize("make", [nested, three])
def test_recursive_and_joint_agree_on_nested_designs(make, ratio):
    designs, values = make()
    joint = AutoregressiveProcess(ratio, noise=0.0).fit(designs, values)
    each = RecursiveAutoregressiveProcess(ratio, settings=joint.settings_).fit(designs, values)
    fresh = np.random.default_rng(5).random((50, designs[0].shape[1]))
    for level in range(len(designs)):
        scale = values[level].std()
        a, b = joint.predict(fresh, level, return_std=True), each.predict(fresh, level, return_std=True)
        assert np.allclose(a[0] / scale, b[0] / scale, atol=1e-6)
        assert np.allclose((a[1] / scale) ** 2, (b[1] / scale) ** 2, atol=1e-6)


def test_covariances_of_levels_are_those_of_the_formula():
    # Three levels at one design, nothing near: ρ² s² of the level below, s² of what each adds, and what is left of its plane.
    designs, values = three()
    settings = AutoregressiveProcess(noise=0.0).fit(designs, values).settings_
    settings = replace(settings, lengths=np.full((3, 2), 1e-3), variances=np.array([2.0, 0.5, 0.25]),
                       ratios=np.array([[1.5], [-0.5]]), spreads=np.ones(3))  # fmt: skip
    fitted = AutoregressiveProcess(noise=0.0, settings=settings).fit(designs, values)
    found = fitted.moments(torch.tensor([[0.501, 0.502]]).double())

    def plane_left(X, noise):  # of a Bayesian linear regression, height 1 and slopes 4 / d
        rows, at = np.column_stack([np.ones(len(X)), X - 0.5]), np.array([1, 0.001, 0.002])
        return at @ np.linalg.solve(np.diag([1, 0.5, 0.5]) + rows.T @ rows / noise, at)

    second = 1.5**2 * 2 + 0.5 + plane_left(designs[1], 0.5)
    third = 0.25 * second + 0.25 + plane_left(designs[2], 0.25)
    expected = [[2, 3, -1.5], [3, second, -0.5 * second], [-1.5, -0.5 * second, third]]
    assert np.allclose(found.covariance[0].detach(), expected, atol=1e-6)


def test_the_model_is_one_of_botorch_with_the_same_posterior():
    designs, values = three()
    fitted = AutoregressiveProcess(noise=0.0).fit(designs, values)
    rows = torch.tensor([[0.3, 0.6, 2.0], [0.8, 0.1, 2.0]]).double()
    posterior = fitted.model_.posterior(rows)
    mean, sd = fitted.predict(rows[:, :2].numpy(), return_std=True)
    center, spread = fitted.settings_.centres[2], fitted.settings_.spreads[2]
    assert np.allclose(posterior.mean.detach()[:, 0] * spread + center, mean, atol=1e-5)
    assert np.allclose(posterior.variance.detach()[:, 0].sqrt() * spread, sd, atol=1e-4)


def test_the_ratio_of_levels_is_found():
    X = np.random.default_rng(0).random((40, 2))
    fitted = AutoregressiveProcess(noise=0.0).fit([X, X[:20]], [low(X), 3 * low(X[:20])])
    ratio = fitted.settings_.ratios[0, 0] * fitted.settings_.spreads[1] / fitted.settings_.spreads[0]
    assert ratio == pytest.approx(3.0, abs=0.05)


def test_a_cheap_level_helps_and_noise_does_little_harm():
    X, fresh = np.random.default_rng(1).random((40, 2)), np.random.default_rng(2).random((200, 2))

    def error(designs, values):
        return np.sqrt(np.mean((AutoregressiveProcess(noise=0.0).fit(designs, values).predict(fresh) - high(fresh)) ** 2))

    alone = error([X[:10]], [high(X[:10])])
    assert error([X, X[:10]], [low(X), high(X[:10])]) < 0.5 * alone
    noise = np.random.default_rng(3).normal(size=40)
    assert error([X, X[:10]], [noise, high(X[:10])]) < 1.5 * alone


def test_a_square_of_the_level_below_needs_a_non_linear_surrogate():
    many = np.linspace(0, 1, 50)[:, None]
    few = many[np.sort(np.random.default_rng(4).choice(50, 14, replace=False))]
    fresh = np.linspace(0, 1, 200)[:, None]

    def wave(X):
        return np.sin(8 * np.pi * X[:, 0])

    def square(X):
        return (X[:, 0] - np.sqrt(2)) * wave(X) ** 2

    errors = [
        np.sqrt(np.mean((one.fit([many, few], [wave(many), square(few)]).predict(fresh) - square(fresh)) ** 2))
        for one in (AutoregressiveProcess(noise=0.0), NonlinearAutoregressiveProcess(noise=0.0))
    ]
    assert errors[1] < errors[0] / 4


def test_spread_of_the_level_below_goes_through_the_one_above():
    # Where level 0 is unknown, the truth is unknown, however well the relation of the two is known.
    X = np.linspace(0, 0.5, 12)[:, None]
    fitted = NonlinearAutoregressiveProcess(noise=0.0).fit([X, X[::2]], [np.sin(9 * X[:, 0]), np.sin(9 * X[::2, 0]) ** 2])
    _, near = fitted.predict([[0.25]], return_std=True)
    _, far = fitted.predict([[0.95]], return_std=True)
    assert far[0] > 5 * near[0]
    assert far[0] > 0.25


def test_a_level_upside_down_is_recognised():
    X, fresh = np.random.default_rng(0).random((25, 2)), np.random.default_rng(1).random((50, 2))
    fitted = CoregionalizedProcess(noise=0.0).fit([X, X[:10]], [-high(X), high(X[:10])])
    assert fitted.covariance_[0, 1] < -0.3
    assert np.sqrt(np.mean((fitted.predict(fresh) - high(fresh)) ** 2)) < 0.1 * high(fresh).std()


def test_noise_is_learnt_level_by_level():
    rng = np.random.default_rng(0)
    X = rng.random((60, 1))
    fitted = AutoregressiveProcess().fit([X, X[:30]], [low(X) + rng.normal(0, 0.3, 60), high(X[:30])])
    assert fitted.noise_[0] > 0.03
    assert fitted.noise_[1] < 0.02


# ---------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("designs", "values", "message"),
    [
        ([[[0.1]], [[0.1]]], [[1.0], [1.0]], "two designs at the truth"),
        ([[], [[0.1], [0.2]]], [[], [1.0, 2.0]], r"got \(0,\)"),
        ([[[0.1], [0.2]]], [[1.0, np.nan]], "NaN or infinity at level 0"),
        ([[[0.1], [0.2]]], [], "designs and values for each level"),
        ([[[0.1, 0.2]], [[0.1], [0.2]]], [[1.0], [1.0, 2.0]], "at level 0"),
    ],
)
def test_strange_data_are_refused(designs, values, message):
    with pytest.raises(InvalidData, match=message):
        AutoregressiveProcess().fit(designs, values)


def test_designs_that_are_not_nested_are_named():
    with pytest.raises(InvalidData, match=r"\[0\.35\]; evaluate them there"):
        RecursiveAutoregressiveProcess().fit([[[0.1], [0.2]], [[0.1], [0.35]]], [[1.0, 2.0], [1.0, 2.0]])


@pytest.mark.parametrize(
    ("surrogate", "message"),
    [
        (AutoregressiveProcess(ratio="cubic"), "ratio="), (AutoregressiveProcess(kernel="cosine"), "kernel="),
        (AutoregressiveProcess(noise=-1.0), "noise="), (NonlinearAutoregressiveProcess(draws=1), "draws="),
        (CoregionalizedProcess(rank=0), "rank="), (ContinuousFidelityProcess((0.5, 0.9)), "the last of them 1"),
        (ContinuousFidelityProcess((0.2, 0.5, 1.0)), "each of 3 positions"),
        (ContinuousFidelityProcess((0.5, 1.0), "cubic"), "weighting="),
    ],
)  # fmt: skip
def test_strange_settings_are_refused(surrogate, message):
    with pytest.raises(InvalidData, match=message):
        surrogate.fit(*nested())


def test_levels_that_there_are_not_cannot_be_asked():
    fitted = AutoregressiveProcess(noise=0.0).fit(*nested())
    with pytest.raises(InvalidData, match="level from 0 to 1, got 2"):
        fitted.predict([[0.5]], 2)
    with pytest.raises(InvalidData, match=r"shape \(m, 1\)"):
        fitted.predict([[0.5, 0.5]])


# ---------------------------------------------------------------------- many parameters
def ridge(n, seed, some, d=20):
    """A cheap level and the truth along one direction of twenty inputs, of which some matter."""
    X = np.random.default_rng(seed).random((n, d))
    t = (X - 0.5) @ (np.arange(d) < some) / np.sqrt(some)
    return X, np.sin(3 * t), 1.5 * np.sin(3 * t) + 0.5 * t


def test_few_directions_foretell_better_where_all_inputs_matter():
    X, low_values, high_values = ridge(30, 0, 20)
    fresh, _, truth = ridge(400, 1, 20)
    wrong = []
    for components in (2, None):
        process = AutoregressiveProcess(noise=0.0, components=components)
        process.fit([X, X[:10]], [low_values, high_values[:10]])
        wrong.append(np.sqrt(np.mean((process.predict(fresh) - truth) ** 2)) / truth.std())
    assert wrong[0] < 0.85 * wrong[1]


def test_lengths_follow_from_the_directions():
    # Inputs that no value depends on have no weight in the first direction, so their lengths are long.
    X, low_values, high_values = ridge(150, 0, 4)
    process = AutoregressiveProcess(noise=0.0, components=1).fit([X, X[:40]], [low_values, high_values[:40]])
    lengths = process.settings_.lengths[0]
    assert lengths[:4].max() < 0.5 * lengths[4:].min()
    again = AutoregressiveProcess(noise=0.0, settings=process.settings_).fit(process._X, process._y)
    assert np.allclose(again.predict(X[:5]), process.predict(X[:5]))
    with pytest.raises(InvalidData, match="components="):
        AutoregressiveProcess(components=0).fit(*nested())


@pytest.mark.parametrize("components", [None, 2])
def test_slopes_of_the_likelihood_are_those_of_differences(components):
    # No answer shows a wrong slope: settings would only be found less well.
    from locum.optimize._mfbo_likelihood import LevelLikelihood
    from locum.optimize._mfbo_reduced import Reduced, directions

    X, low_values, high_values = ridge(14, 0, 3, d=3)
    rows = np.concatenate([np.column_stack([X, np.zeros(14)]), np.column_stack([X[:6], np.ones(6)])])
    values, rng = np.concatenate([low_values, high_values[:6]]), np.random.default_rng(0)
    falls = LevelLikelihood(rows, values, 2, "matern52", None, 1e-10)
    if components is not None:
        falls = Reduced(falls, directions(rows, values, 2, components))
    shapes = {"lengths": (2, components or 3), "whole": 1, "rest": 1, "ratio": (1, 1), "slopes": (1, 3), "mean": 1, "noise": 2}
    parts = {name: 0.3 * rng.normal(size=shape) - (2.0 if name == "noise" else 0.0) for name, shape in shapes.items()}
    _, slopes = falls(parts)
    for name, part in parts.items():
        for at in np.ndindex(part.shape):
            ends = []
            for step in (1e-6, -1e-6):
                moved = {key: value.copy() for key, value in parts.items()}
                moved[name][at] += step
                ends.append(falls(moved)[0])
            assert slopes[name][at] == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-4, abs=1e-5), name
