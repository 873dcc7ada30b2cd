"""A hidden cause that is known is found again, and with it the outcome of actions that were never tried."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LinearRegression

from locum.infer.rep4ex import (
    ConvolutionalAutoencoder,
    DenseAutoencoder,
    InterventionExtrapolator,
    LinearInvarianceWarning,
    ReconstructionWarning,
    VariationalAutoencoder,
)

torch = pytest.importorskip("torch")
STRENGTH = 1.5


def outcome(Z):
    return (2 * np.sin(1.1 * Z) + 0.5 * np.abs(Z)).sum(axis=1)


def world(n, seed=0):
    """Actions, inputs, outcomes, the hidden cause and the part of it that actions did not set."""
    rng = np.random.default_rng(seed)
    weights = [rng.normal(size=(a, b)) / np.sqrt(a) for a, b in ((2, 16), (16, 16), (16, 10))]
    A, V = rng.uniform(-1, 1, (n, 2)), rng.normal(size=(n, 2))
    Z = STRENGTH * A + V
    X = Z
    for layer in weights[:-1]:
        X = X @ layer
        X = np.where(X > 0, X, 0.2 * X)
    U = 0.8 * V.sum(axis=1) / np.sqrt(2) + 0.6 * rng.normal(size=n)
    return A, X @ weights[-1], outcome(Z) + U, Z, V


def truth(actions):
    V = np.random.default_rng(1).normal(size=(50_000, 2))
    return np.array([outcome(STRENGTH * a + V).mean() for a in np.asarray(actions)])


def fit(X, A, Y, **settings):
    """A fit whose warnings are not asked about."""
    given = {"latent_dim": 2, "lam": 10.0, "epochs": 60, "batch_size": 300, "n_resamples": 20} | settings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return InterventionExtrapolator(**given).fit(X, A, Y)


def affine_r2(code, Z):
    return LinearRegression().fit(code, Z).score(code, Z)


@pytest.fixture(scope="module")
def rows():
    return world(3000)


@pytest.fixture(scope="module")
def found(rows):
    A, X, Y, *_ = rows
    return fit(X, A, Y)


@pytest.fixture(scope="module")
def plain(rows):
    A, X, Y, *_ = rows
    return fit(X, A, Y, lam=0.0)


def test_the_hidden_cause_is_found_up_to_an_affine_map_and_not_by_an_autoencoder_alone(rows, found, plain):
    _, X, _, Z, _ = rows
    assert affine_r2(found.transform(X), Z) > 0.96
    assert affine_r2(found.transform(X), Z) > affine_r2(plain.transform(X), Z) + 0.02
    assert found.agreement_ > plain.agreement_


def test_the_code_is_white(rows, found):
    np.testing.assert_allclose(np.cov(found.transform(rows[1]).T), np.eye(2), atol=0.15)


def test_outcomes_of_actions_never_tried(found):
    outside = np.array([[1.4, 0.0], [0.0, -1.4], [1.3, 1.3], [-1.3, -1.3], [-1.4, 0.5]])
    error = found.predict_do(outside) - truth(outside)
    assert np.sqrt(np.mean(error**2)) < 0.4 * truth(outside).std()
    inside = np.array([[0.0, 0.0], [0.6, -0.4], [-0.7, 0.7]])
    assert np.abs(found.predict_do(inside) - truth(inside)).max() < 0.25


def test_outcome_given_what_is_seen_and_done(rows, found):
    A, X, _, Z, V = rows
    expected = outcome(Z) + 0.8 * V.sum(axis=1) / np.sqrt(2)
    assert np.corrcoef(found.predict(X, A), expected)[0, 1] > 0.97
    assert abs((found.predict(X, A) - expected).mean()) < 0.1
    other = A + np.array([0.5, 0.0])  # the same X after a stronger push must have had a smaller V
    shift = found.predict(X, other) - found.predict(X, A)
    assert shift.mean() == pytest.approx(-0.8 * 0.5 * STRENGTH / np.sqrt(2), abs=0.12)


def test_the_moment_test_tells_a_code_that_is_linear_in_the_action(rows, found, plain):
    assert found.moment_test_.statistic < plain.moment_test_.statistic / 3
    assert plain.moment_test_.pvalue < 0.05
    assert found.moment_test_.n == 3000
    assert found.reconstruction_r2_ > 0.98


def test_strength_is_the_share_that_actions_set(found):
    share = STRENGTH**2 / 3 / (STRENGTH**2 / 3 + 1)
    np.testing.assert_allclose(found.strength_, share, atol=0.05)


def test_units_of_the_outcome_and_of_actions_and_inputs_do_not_matter(rows, found):
    A, X, Y, *_ = rows
    asked = np.array([[0.5, 0.5], [1.2, -1.2]])
    other = fit(4 * X, 2 * A, 3 * Y + 5)
    np.testing.assert_allclose(other.predict_do(2 * asked), 3 * found.predict_do(asked) + 5, rtol=1e-6)
    np.testing.assert_allclose(other.predict(4 * X[:5], 2 * A[:5]), 3 * found.predict(X[:5], A[:5]) + 5, rtol=1e-5)


def test_same_seed_same_numbers_and_global_generators_untouched(rows, found):
    A, X, Y, *_ = rows
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    again = fit(X, A, Y)  # the fixture was fitted with the same settings
    asked = [[0.5, 0.5], [1.2, -1.2]]
    for one, other in zip(again.predict_do(asked, return_std=True), found.predict_do(asked, return_std=True), strict=True):
        np.testing.assert_array_equal(one, other)
    assert again.moment_test_ == found.moment_test_
    assert torch.equal(before, torch.get_rng_state())
    assert (numpy_before == np.random.get_state()[1]).all()  # noqa: NPY002
    assert not np.array_equal(fit(X, A, Y, random_state=1, epochs=2).predict_do(asked), found.predict_do(asked))


def test_one_action_alone_is_answered_as_among_others(found):
    asked = np.array([[0.5, 0.5], [1.2, -1.2], [0.0, 0.0]])
    alone = np.concatenate([found.predict_do(asked[[i]]) for i in range(3)])
    np.testing.assert_allclose(alone, found.predict_do(asked), rtol=1e-9)


def test_standard_errors_grow_outside(found):
    asked = np.array([[0.0, 0.0], [2.0, 2.0]])
    said, errors = found.predict_do(asked, return_std=True)
    np.testing.assert_array_equal(said, found.predict_do(asked))
    assert 0 < errors[0] < 0.2
    assert errors[1] > 2 * errors[0]


def test_audit_flags_what_is_beyond_the_data(rows, found):
    audit = found.audit(np.vstack([rows[0][:3], [[1.2, 0.0], [4.0, 4.0], [8.0, 8.0]]]))
    np.testing.assert_allclose(audit.distance[:3], 0, atol=1e-9)
    assert np.all(np.diff(audit.distance[2:]) > 0)
    corner = STRENGTH * np.linalg.norm([3.0, 3.0])  # V has standard deviation 1
    assert audit.distance[4] == pytest.approx(corner, rel=0.15)
    near = found.audit([[0.0, 0.0], [0.4, -0.4], [2.0, 2.0]])
    assert near.flagged.tolist() == [False, False, True]
    assert near.distance[2] == pytest.approx(STRENGTH * np.sqrt(2), rel=0.15)
    assert near.covered[0] > 0.96
    assert 0.2 < near.covered[2] < 0.6
    assert audit.flagged[4:].all()
    assert audit.covered[5] < 0.05
    assert "2 of 6" in str(audit) or "3 of 6" in str(audit)
    assert audit.to_dict()["flagged"][5] is True


def test_fidelity_beside_rivals_on_actions_left_out(found):
    rng = np.random.default_rng(3)
    A = rng.uniform(-1.6, 1.6, (400, 2))
    A = A[np.abs(A).max(axis=1) > 1]
    Y = truth(A) + rng.normal(size=len(A))
    scores = found.fidelity(A, Y)
    assert set(scores) == {"extrapolator", "constant", "linear", "network", "gain"}
    assert scores["extrapolator"].value == pytest.approx(np.mean((found.predict_do(A) - Y) ** 2))
    assert 0.8 < scores["extrapolator"].value < 1.4  # the noise alone is 1
    assert scores["gain"].lower > 0
    best = min(scores[name].value for name in ("constant", "linear", "network"))
    assert scores["gain"].value == pytest.approx(best - scores["extrapolator"].value)
    repeated = found.fidelity(np.repeat(A[:20], 5, axis=0), np.repeat(Y[:20], 5))
    assert repeated["extrapolator"].groups == 20


def test_lam_is_chosen_by_the_moment_statistic_among_those_that_reconstruct(rows):
    A, X, Y, Z, _ = (part[:2000] for part in rows)
    found = fit(X, A, Y, lam="auto", batch_size=200, epochs=50)
    assert [one.lam for one in found.path_] == [0, 1, 10, 100]
    best = max(one.reconstruction_r2 for one in found.path_)
    able = [one for one in found.path_ if one.reconstruction_r2 >= best - 0.01]
    assert found.lam_ == min(able, key=lambda one: one.moment_test.statistic).lam
    assert found.lam_ >= 10
    assert affine_r2(found.transform(X), Z) > 0.94
    given = fit(X, A, Y, lam=found.lam_, batch_size=200, epochs=50)
    assert given.path_ == ()
    np.testing.assert_array_equal(given.predict_do(A[:5]), found.predict_do(A[:5]))


def test_a_variance_that_depends_on_the_action_shows_in_the_test_of_independence():
    rng = np.random.default_rng(0)
    A = rng.uniform(-1, 1, (2000, 1))
    pvalues = []
    for spread in (1.0, np.exp(A)):
        Z = A + spread * rng.normal(size=(2000, 1))
        pvalues.append(fit(np.hstack([Z, 2 * Z]), A, Z[:, 0], latent_dim=1, epochs=20).independence_test_.pvalue)
    assert pvalues[0] > 0.05 > pvalues[1]


def pictures(n=800):
    """A blob whose place an action sets, up to jitter, on images with sides that cannot be halved."""
    rng = np.random.default_rng(0)
    A = rng.uniform(-1, 1, (n, 2))
    Z = A + 0.4 * rng.normal(size=(n, 2))
    y, x = np.mgrid[:9, :7]
    X = np.exp(-((y - 4 - 1.5 * Z[:, :1, None]) ** 2 + (x - 3 - 1.5 * Z[:, 1:, None]) ** 2) / 6)
    return A, X[:, None], Z.sum(axis=1), Z


@pytest.mark.parametrize("encoder", [None, DenseAutoencoder((48,)), VariationalAutoencoder(ConvolutionalAutoencoder((8, 16)))])
def test_images(encoder):
    A, X, Y, Z = pictures()
    found = fit(X, A, Y, encoder=encoder, lam=1.0, epochs=40, batch_size=80)
    assert found.reconstruction_r2_ > 0.85
    assert affine_r2(found.transform(X), Z) > 0.85
    assert found.predict(X[:4], A[:4]).shape == (4,)


def test_a_variational_code_is_the_mean_and_repeats(rows):
    A, X, Y, Z, _ = rows
    found = fit(X, A, Y, encoder=VariationalAutoencoder(), epochs=30)
    np.testing.assert_array_equal(found.transform(X[:9]), found.transform(X[:9]))
    assert affine_r2(found.transform(X), Z) > 0.9


def test_laplacian_kernel(rows):
    A, X, Y, Z, _ = rows
    assert affine_r2(fit(X, A, Y, kernel="laplacian", epochs=30).transform(X), Z) > 0.93


def test_the_summary_says_what_the_fit_rests_on(found):
    said = str(found.summary())
    for words in ("linear invariance", "independence", "rows: 3000", "lambda: 10", "agreement of halves"):
        assert words in said


def test_a_clone_is_not_fitted(found):
    assert clone(found).get_params() == found.get_params()
    assert not hasattr(clone(found), "lam_")


# ---------------------------------------------------------------------- warnings
def only(category, X, A, Y, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", category)
        InterventionExtrapolator(**{"n_resamples": 40, "batch_size": 200} | settings).fit(X, A, Y)


def test_warns_of_a_mean_that_is_not_linear(rows):
    A, X, Y, *_ = rows
    with pytest.raises(LinearInvarianceWarning, match=r"not linear \(statistic .*, p = .* with lam=0"):
        only(LinearInvarianceWarning, X, A, Y, latent_dim=2, lam=0.0, epochs=20)


def test_warns_of_actions_that_do_nothing(rows):
    A, X, Y, *_ = rows
    idle = np.random.default_rng(0).normal(size=A.shape)
    with pytest.raises(LinearInvarianceWarning, match="which is none: use a smaller latent_dim="):
        only(LinearInvarianceWarning, X, idle, Y, latent_dim=2, lam=0.0, epochs=5)


def test_warns_of_inputs_that_are_not_given_back(rows):
    A, _, Y, *_ = rows
    noise = np.random.default_rng(0).normal(size=(len(A), 6))
    with pytest.raises(ReconstructionWarning, match="expected inputs that a code of 2 numbers gives back, got R² 0"):
        only(ReconstructionWarning, noise, A, Y, latent_dim=2, lam=0.0, epochs=5)


def test_warns_of_few_rows(rows):
    A, X, Y, *_ = rows
    with pytest.raises(UserWarning, match="expected 5000 rows or more for batches of 1000, got 3000"):
        only(UserWarning, X, A, Y, latent_dim=2, lam=0.0, epochs=5, batch_size=1000)


def test_a_good_fit_warns_of_nothing():
    rng = np.random.default_rng(1)
    A, V = rng.uniform(-1, 1, (1000, 1)), rng.normal(size=(1000, 1))
    Z = 2 * A + V
    only(Warning, np.hstack([Z, -Z, 0.5 * Z]), A, Z[:, 0], latent_dim=1, lam=10.0, epochs=50, batch_size=100)


def test_the_room_does_not_need_torch():
    code = "import sys, locum.infer.rep4ex; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
