"""Steppers: rollouts by hand, parameters that stay or change, and exponents of a map that is known."""

from __future__ import annotations

import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.emulate import Differentiates


class Linear(Differentiates):
    """z goes to A z + p."""

    def __init__(self, A):
        self.A = np.asarray(A, dtype=float)

    def step(self, z, p=None):
        return np.asarray(z) @ self.A.T + (0.0 if p is None else np.asarray(p))

    def jacobian(self, z, p=None):
        return np.broadcast_to(self.A, (*np.shape(z)[:-1], *self.A.shape))


def test_a_rollout_is_a_power():
    A = np.array([[0.5, 0.2], [0.0, 0.9]])
    z = np.array([1.0, -1.0])
    path = Linear(A).rollout(z, 3)
    np.testing.assert_allclose(path, [A @ z, A @ A @ z, A @ A @ A @ z])
    many = Linear(A).rollout(np.stack([z, 2 * z]), 3)
    np.testing.assert_allclose(many[:, 1], 2 * path)


def test_parameters_stay_or_come_one_a_step():
    identity = Linear(np.eye(1))
    np.testing.assert_allclose(identity.rollout([0.0], 3, [2.0])[:, 0], [2, 4, 6])
    np.testing.assert_allclose(identity.rollout([0.0], 3, [[1.0], [2.0], [3.0]])[:, 0], [1, 3, 6])
    with pytest.raises(InvalidData, match="a row of p for each of 3 steps, got 2"):
        identity.rollout([0.0], 3, [[1.0], [2.0]])


def test_exponents_of_a_linear_map():
    found = Linear(np.diag([0.5, 0.9])).spectrum(np.ones(2), 300, time_step=0.1, transient=10)
    np.testing.assert_allclose(found, np.log([0.9, 0.5]) / 0.1, atol=1e-6)


def test_steps_are_counted():
    with pytest.raises(InvalidData, match="n_steps= to be a whole number of 1"):
        Linear(np.eye(1)).rollout([0.0], 0)
