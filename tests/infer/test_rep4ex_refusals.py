"""Rows, actions and settings that cannot be used are refused before anything is trained."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from locum.core.errors import InvalidData
from locum.infer.rep4ex import (
    ConvolutionalAutoencoder,
    DenseAutoencoder,
    InterventionExtrapolator,
    VariationalAutoencoder,
)

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    A = rng.uniform(-1, 1, (1000, 2))
    Z = 2 * A + rng.normal(size=(1000, 2))
    return {"X": np.hstack([Z, -Z]), "A": A, "Y": Z.sum(axis=1)}


@pytest.fixture(scope="module")
def found(rows):
    return InterventionExtrapolator(2, lam=10.0, epochs=40, batch_size=200, n_resamples=20).fit(**rows)


def fit(rows, **settings):
    return InterventionExtrapolator(**{"latent_dim": 2, "epochs": 1} | settings).fit(**rows)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"latent_dim": 3}, "at least as many actions as latent_dim=3, got 2: what no action moves is not identifiable"),
        ({"latent_dim": 0}, "latent_dim= to be a whole number of 1 or more, got 0"),
        ({"latent_dim": 1.5}, "latent_dim= to be a whole number"),
        ({"lam": -1.0}, "lam= 'auto' or a number of 0 or more, got -1.0"),
        ({"lam": "best"}, "lam= 'auto' or a number of 0 or more, got 'best'"),
        ({"lam": np.inf}, "got inf"),
        ({"kernel": "linear"}, "kernel= to be one of rbf, laplacian, got 'linear'"),
        ({"encoder": "mlp"}, "encoder= to be one of DenseAutoencoder, ConvolutionalAutoencoder, VariationalAutoencoder"),
        ({"encoder": ConvolutionalAutoencoder()}, r"images of shape \(n, C, H, W\) for a convolutional encoder"),
        ({"epochs": 0}, "epochs= to be a whole number of 1 or more, got 0"),
        ({"batch_size": True}, "batch_size= to be a whole number of 2 or more, got True"),
        ({"learning_rate": 0.0}, "learning_rate= to be a positive number, got 0.0"),
        ({"n_resamples": 5}, "n_resamples= to be a whole number of 20 or more"),
        ({"random_state": -1}, "random_state= to be a whole number of 0 or more"),
    ],
)
def test_settings(rows, settings, message):
    with pytest.raises(InvalidData, match=message):
        fit(rows, **settings)


def with_cell(array, value):
    array = np.array(array, dtype=float)
    array[3] = value
    return array


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: {"A": r["A"] * [1, 0]}, "got a constant in column 1 of A: leave it out"),
        (lambda r: {"A": r["A"] @ [[1, 2], [1, 2]]}, "vary by themselves, got 2 collinear columns of A"),
        (lambda r: {"A": r["A"][:, 0]}, r"A of shape \(n, k\), got shape \(1000,\); one column is reshape\(-1, 1\)"),
        (lambda r: {"A": r["A"][:-1]}, "one row a unit, got 1000, 999 and 1000 rows"),
        (lambda r: {"A": with_cell(r["A"], np.nan)}, "finite A, got NaN or infinity in row 3"),
        (lambda r: {"X": with_cell(r["X"], np.inf)}, "finite X, got NaN or infinity in row 3"),
        (lambda r: {"X": r["X"][:, :1]}, "at least latent_dim=2 inputs in X, got 1"),
        (lambda r: {"X": r["X"][:, None]}, r"X of shape \(n, k\) or \(n, C, H, W\), got shape \(1000, 1, 4\)"),
        (lambda r: {"Y": with_cell(r["Y"], np.nan)}, "finite Y, got NaN or infinity in row 3"),
        (lambda r: {"Y": np.ones(1000)}, "outcomes that differ, got 1000 that are all 1"),
        (lambda r: {"Y": r["Y"][:, None]}, r"Y of shape \(n,\), got shape \(1000, 1\)"),
        (lambda r: {"Y": ["a"] * 1000}, "Y to be numbers"),
        (lambda r: {name: values[:100] for name, values in r.items()}, "expected 200 rows or more"),
    ],
)
def test_rows(rows, change, message):
    with pytest.raises(InvalidData, match=message):
        fit(rows | change(rows))


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda m, r: m.predict_do(r["A"][:, :1]), "actions of 2 columns, as in fit, got 1"),
        (lambda m, r: m.predict_do([0.0, 1.0]), r"A_star of shape \(n, k\), got shape \(2,\)"),
        (lambda m, r: m.predict_do([[0.0, np.nan]]), "finite A_star"),
        (lambda m, r: m.audit([[0.0]]), "actions of 2 columns, as in fit, got 1"),
        (lambda m, r: m.predict(r["X"][:3], r["A"][:2]), "an action for each of 3 rows of X, got 2"),
        (lambda m, r: m.predict(r["X"][:3, :2], r["A"][:3]), r"rows of X of shape \(4,\), as in fit, got \(2,\)"),
        (lambda m, r: m.transform(r["X"].reshape(-1, 1, 2, 2)), r"rows of X of shape \(4,\), as in fit, got \(1, 2, 2\)"),
        (lambda m, r: m.fidelity(r["A"][:9], r["Y"][:8]), "an outcome for each of 9 actions, got 8"),
        (lambda m, r: m.fidelity(r["A"][:9], r["Y"][:9], level=95), "level between 0 and 1"),
    ],
)
def test_questions(rows, found, ask, message):
    with pytest.raises(InvalidData, match=message):
        ask(found, rows)


@pytest.mark.parametrize("ask", [lambda m: m.predict_do([[0, 0]]), lambda m: m.audit([[0, 0]]), lambda m: m.summary()])
def test_nothing_before_fit(ask):
    with pytest.raises(NotFittedError):
        ask(InterventionExtrapolator(2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DenseAutoencoder(64), r"widths= a tuple of whole numbers of 1 or more, such as \(64, 64\), got 64"),
        (lambda: DenseAutoencoder((0,)), r"widths= a tuple .* got \(0,\)"),
        (lambda: ConvolutionalAutoencoder(()), "channels= a tuple"),
        (lambda: VariationalAutoencoder(base="dense"), "base= a DenseAutoencoder or ConvolutionalAutoencoder, got 'dense'"),
        (lambda: VariationalAutoencoder(noise_variance=0.0), "noise_variance= to be a positive number, got 0.0"),
    ],
)
def test_encoders(make, message):
    with pytest.raises(InvalidData, match=message):
        make()
